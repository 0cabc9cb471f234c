"""The commands about lessons, as a student types them: each in a process, in an empty folder."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scratchlm.cli import COMMANDS, main
from scratchlm.cli.screen import console, errors

SAMPLE = Path(__file__).parents[1] / "lessons" / "sample"
SOLUTION = (SAMPLE / "01_scale" / "solution.py").read_text(encoding="utf-8")


class Student:
    """A student's folder and terminal."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "scratchlm-exercises" / "01_scale" / "exercise.py"
        self.record = folder / "home" / "progress.json"
        self.environment = {
            **os.environ,
            "SCRATCHLM_LESSONS": str(SAMPLE),
            "SCRATCHLM_HOME": str(folder / "home"),
            "SCRATCHLM_CACHE": str(folder / "cache"),
            "COLUMNS": "100",
            "PYTHONIOENCODING": "utf-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_COLOR": "1",
        }

    def open(self, *words, **options):
        command = [sys.executable, "-m", "scratchlm", *map(str, words)]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
        )  # fmt: skip

    def type(self, *words, answer="", code=0):
        """Run a command in this process, which is quicker than a new one for each."""
        screen = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "stdin", io.StringIO(answer))
            for each in (console, errors):
                patch.setattr(each, "width", 100)
            with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
                try:
                    main([str(word) for word in words])
                    ended = 0
                except SystemExit as error:
                    ended = error.code or 0
        assert ended == code, screen.getvalue()
        return screen.getvalue()


@pytest.fixture
def student(tmp_path):
    folder = tmp_path / "学生 one"  # a space and Chinese characters, as in many homes
    folder.mkdir()
    return Student(folder)


def test_the_whole_path(student):
    assert "scratchlm read 1" in student.type("lessons")
    assert "yours: write linear, mean, descend and total" in student.type("start", 1)
    screen = student.type("check", 1, code=1)
    assert "linear  still the stub" in screen
    assert "raise NotImplementedError" in screen
    assert "✗" not in screen

    wrong = SOLUTION.replace("rows.sum(0)", "rows")
    student.file.write_text(wrong, encoding="utf-8")
    screen = student.type("check", 1, code=1)
    assert "scratchlm-exercises/01_scale/exercise.py" in screen.replace("\\", "/")
    told = [screen.index(word) for word in ("what ", "where ", "looks like ", "try ")]
    assert told == sorted(told)
    assert "the gradient of bias is not right" in screen
    assert "should be (" in screen
    assert "the bias gradient is not summed over the batch" in screen
    assert len(screen.splitlines()) <= 24  # one screen
    assert "started" in student.type("progress")

    assert "a nudge about x²" in student.type("hint", 1)
    assert "nearly the answer" in student.type("hint", 1, "--level", 3, "-e", "linear")
    assert "opens when yours is right" in student.type("solution", 1, code=1)
    assert "def linear" not in student.type("solution", 1, "--peek", answer="n\n", code=1)
    assert "def linear" in student.type("solution", 1, "--peek", answer="y\n")

    student.file.write_text(SOLUTION, encoding="utf-8")
    screen = student.type("check", 1)
    assert "linear  right on 42 inputs, gradients within" in screen
    assert "Lesson 1 is done." in screen
    assert "scratchlm read 4" in screen
    assert "def linear" in student.type("solution", 1)
    assert "1 of 2 lessons done" in student.type("progress")


def test_a_value_that_is_wrong_is_shown_beside_the_right_one(student):
    file = student.folder / "mine.py"
    file.write_text(SOLUTION.replace("/ len(values)", "/ (len(values) + 1)"), encoding="utf-8")
    screen = student.type("check", 1, "mine.py", code=1)
    assert "mine.py" in screen
    assert "yours is 1, it should be 1.5" in screen
    assert "in the call mean(values [1.0, 2.0])" in screen
    assert "looks like" not in screen


def test_an_unknown_mistake_gets_the_diagnosis_of_the_gradient_check(student):
    file = student.folder / "mine.py"
    file.write_text(SOLUTION.replace("dx = dy @ weight", "dx = -dy @ weight"), encoding="utf-8")
    screen = student.type("check", 1, "mine.py", code=1)
    assert "the gradient of x is not right" in screen
    assert "minus the gradient" in screen


def test_check_runs_the_named_file_and_no_other(student):
    student.type("start", 1)
    student.file.write_text("raise SystemExit('the wrong file ran')", encoding="utf-8")
    (student.folder / "other.py").write_text(SOLUTION, encoding="utf-8")
    screen = student.type("check", 1, "other.py")
    assert "other.py" in screen
    assert "the wrong file ran" not in screen
    assert "the wrong file ran" in student.type("check", 1, code=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def linear(x:\n    pass\n", ["SyntaxError", "line 1", "def linear(x:"]),
        ("import nonsense_package\n", ["ModuleNotFoundError", "line 1: import nonsense_package"]),
        ("x = 1\ny = x / 0\n", ["ZeroDivisionError", "line 2: y = x / 0"]),
        ("", ["there is no linear in the file", "it defines nothing"]),
        ("def linaer(): ...\n", ["there is no linear in the file", "it defines linaer"]),
        ("linear = 3\n", ["linear is no function", "it is 3"]),
        (
            "def linear(x, weight, bias=None):\n    return x\n",
            ["must return two things", "returned an array of shape"],
        ),
        ("\0", ["SyntaxError", "null bytes", "mine.py"]),
        (
            "def linear(x, weight, bias=None):\n    return x @ weight\n",
            ["line 2: return x @ weight"],
        ),
        ("def linear(x, w, b=None):\n    return x, lambda dy: dy\n", ["one gradient for each"]),
        (
            "import os\ndef linear(x, weight, bias=None):\n    os._exit(3)\n",
            ["exit code 3", "linear"],
        ),
        ("def linear(x, weight, bias=None):\n    exit()\n", ["SystemExit"]),
        ("def linear(x, weight, bias=None):\n    return linear(x, weight)\n", ["RecursionError"]),
    ],
)
def test_what_a_file_can_do_wrong(student, text, words):
    (student.folder / "mine.py").write_text(text, encoding="utf-8")
    screen = student.type("check", 1, "mine.py", code=1)
    screen = re.sub(r"[\s│]+", " ", screen)  # lines may be broken anywhere
    for word in words:
        assert word in screen


def test_a_loop_without_end_is_stopped_and_its_line_named(student):
    text = "def linear(x, weight, bias=None):\n    while True:\n        x = x + 1\n"
    (student.folder / "mine.py").write_text(text, encoding="utf-8")
    screen = student.type("check", 1, "mine.py", "--limit", 2, code=1)
    assert "linear was still running after 2 s" in screen
    assert "mine.py, line" in screen


def test_prints_are_those_of_the_call_that_failed(student):
    text = SOLUTION.replace("y = x @ weight.T", "print('shape', x.shape)\n    y = x @ weight.T")
    text = text.replace("rows.sum(0)", "rows")
    (student.folder / "mine.py").write_text(text, encoding="utf-8")
    screen = student.type("check", 1, "mine.py", code=1)
    printed = [line.strip() for line in screen.splitlines() if line.strip().startswith("shape")]
    assert 1 <= len(printed) <= 2
    assert printed[0].removeprefix("shape ") in screen[screen.index("in the call") :]


def test_start_never_overwrites(student):
    student.type("start", 1)
    student.file.write_text("my work", encoding="utf-8")
    assert "left as it is" in student.type("start", 1)
    assert student.file.read_text(encoding="utf-8") == "my work"
    for number in (1, 2):
        assert f"exercise.backup{number}.py" in student.type("start", 1, "--force")
        assert (student.file.with_name("exercise.backup1.py")).read_text("utf-8") == "my work"
        assert "NotImplementedError" in student.file.read_text(encoding="utf-8")


def test_start_elsewhere_and_check_from_anywhere(student):
    elsewhere = student.folder / "some where"
    student.type("start", 1, "--dir", elsewhere)
    assert (elsewhere / "01_scale" / "exercise.py").exists()
    assert "still the stub" in student.type("check", 1, code=1)


def test_a_folder_that_cannot_be_written(student):
    (student.folder / "file").write_text("in the way", encoding="utf-8")
    screen = student.type("start", 1, "--dir", student.folder / "file", code=1)
    assert "can't be written" in screen
    assert "--dir DIR" in screen


@pytest.mark.parametrize("command", ["read", "start", "check", "hint", "solution", "formulas"])
def test_an_unknown_lesson_names_the_nearest(student, command):
    screen = student.type(command, 3, code=1)
    assert "there is no lesson 3" in screen
    assert "the nearest is 4, Later" in screen


def test_a_lesson_that_lacks_its_files(student):
    assert "lesson.py, exercise.py, solution.py, check.py" in student.type("read", 4, code=1)


def test_check_before_start(student):
    screen = student.type("check", 1, code=1)
    assert "there is no file of yours" in screen
    assert "scratchlm start 1" in screen
    assert "is no file" in student.type("check", 1, "nowhere.py", code=1)


@pytest.mark.parametrize("text", ["{", "[]", '{"lessons": {"1": 3}}', '{"lessons": []}', "\x00"])
def test_a_damaged_record_is_set_aside(student, text):
    student.record.parent.mkdir()
    student.record.write_text(text, encoding="utf-8")
    assert "set aside" in student.type("progress")
    assert student.record.with_suffix(".damaged.json").read_text(encoding="utf-8") == text
    assert "set aside" not in student.type("progress")


def test_a_record_that_cannot_be_written_is_no_misfortune(student):
    (student.folder / "home").write_text("a file, not a folder", encoding="utf-8")
    screen = student.type("start", 1)
    assert "your progress was not recorded" in screen
    assert student.file.exists()


def test_checking_the_lessons_own_solution_is_no_progress(student):
    student.type("check", 1, SAMPLE / "01_scale" / "solution.py")
    assert not student.record.exists()


def test_a_pass_is_remembered_when_the_file_breaks_again(student):
    student.type("start", 1)
    student.file.write_text(SOLUTION, encoding="utf-8")
    student.type("check", 1)
    done = json.loads(student.record.read_text(encoding="utf-8"))["lessons"]["1"]["done"]
    student.file.write_text("", encoding="utf-8")
    student.type("check", 1, code=1)
    entry = json.loads(student.record.read_text(encoding="utf-8"))["lessons"]["1"]
    assert entry["done"] == done


def test_read_shows_math_code_and_results(student):
    screen = student.type("read", 1)
    for words in ("yᵢ = xᵢ/2", "─── + b", "costs $3 and $4", "the hook is 0.5", "def halves(x):",
                  "[figure] a line that rises to two", "13. Recap"):  # fmt: skip
        assert words in screen
    assert "running the page" not in screen.splitlines()[0]
    assert len(list((student.folder / "cache").glob("01_scale-*.json"))) == 1
    assert student.type("read", 1) == screen
    assert "the hook is" not in student.type("read", 1, "--no-run").replace(
        'print("the hook is', ""
    )


def test_read_html_needs_nothing_from_elsewhere(student):
    target = student.folder / "page.html"
    assert "page.html" in student.type("read", 1, "--html", "--out", target)
    text = target.read_text(encoding="utf-8")
    for piece in ("<mfrac>", 'class="math block"', "costs $3 and $4", '<img class="figure"',
                  'alt="a line that rises to two"', "data:image/png;base64,", "<th>symbol</th>",
                  'class="highlight"'):  # fmt: skip
        assert piece in text
    assert "<script" not in text
    assert 'src="http' not in text
    assert "href=" not in text


def test_a_page_that_fails_is_still_shown(student, tmp_path):
    lessons = tmp_path / "lessons"
    shutil.copytree(SAMPLE, lessons)
    page = lessons / "01_scale" / "lesson.py"
    page.write_text(page.read_text("utf-8").replace("1 + 1", "1 / 0"), encoding="utf-8")
    student.environment["SCRATCHLM_LESSONS"] = str(lessons)
    screen = student.type("read", 1)
    lines = page.read_text("utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("1 / 0"))
    assert f"line {line}: ZeroDivisionError" in " ".join(screen.split())
    assert "13. Recap" in screen


def test_formulas(student):
    screen = student.type("formulas")
    for words in ("y = x Wᵀ + b", "D5 §4.1", "misprinted", "Rosenblatt 1958", "folklore"):
        assert words in screen
    assert "folklore" not in student.type("formulas", 1)


def _lines(process, until, seconds=60):
    """What the process prints until a line holds ``until``."""
    seen = []
    timer = __import__("threading").Timer(seconds, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            seen.append(line)
            if until in line:
                return "".join(seen)
    finally:
        timer.cancel()
    raise AssertionError(f"{until!r} was never printed: {''.join(seen)}")


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C as POSIX does")
def test_watch_checks_again_on_save_and_ends_on_ctrl_c(student):
    student.type("start", 1)
    student.environment["PYTHONUNBUFFERED"] = "1"
    process = student.open("check", 1, "--watch")
    try:
        assert "still the stub" in _lines(process, "Ctrl-C ends")
        student.file.write_text(SOLUTION, encoding="utf-8")
        assert "Lesson 1 is done" in _lines(process, "Ctrl-C ends")
        process.send_signal(signal.SIGINT)
        screen, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "stopped" in screen
    assert "Traceback" not in screen


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C as POSIX does")
def test_ctrl_c_during_a_check_leaves_no_process_behind(student):
    begun = student.folder / "begun"
    text = f"import os, time\nopen({str(begun)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    (student.folder / "mine.py").write_text(text, encoding="utf-8")
    process = student.open("check", 1, "mine.py", "--limit", 600)
    try:
        while not (begun.exists() and begun.read_text()):
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        screen, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in screen
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)


def test_help_and_no_dead_command(student):
    screen = student.type("--help")
    for name in [*COMMANDS, "lessons", "read", "start", "check", "hint", "solution", "progress"]:
        assert f" {name} " in screen
    for name in COMMANDS:
        assert importlib.util.find_spec(f"scratchlm.cli.{name}") is not None
        assert f"usage: scratchlm {name}" in student.type(name, "--help").lower()


def test_python_m_scratchlm(student):
    process = student.open("lessons")
    screen, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Scaling" in screen


def test_an_unknown_command_names_the_nearest(student):
    assert "Did you mean 'check'" in student.type("chek", code=2)
