"""`coremlops bridge SCRIPT`: a script runs as `python SCRIPT` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def bridged(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "coremlops", "bridge", *arguments, cwd=cwd)


ECHO = """
import atexit, sys
import beside
atexit.register(lambda: print("bye", beside.NAME, sys.argv[-1]))
print(__name__, __file__ == sys.argv[0], sys.argv[1:], beside.NAME, sys.modules["__main__"].beside is beside)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    (tmp_path / "echo.py").write_text(ECHO)
    return tmp_path


def test_the_script_sees_what_python_would_show_it(folder: Path) -> None:
    arguments = (str(folder / "echo.py"), "--precision", "high", "--", "-m", "x")
    done, plain = bridged(*arguments), run(sys.executable, *arguments)
    assert done.returncode == plain.returncode == 0
    assert done.stdout == plain.stdout
    assert "True ['--precision', 'high', '--', '-m', 'x'] beside True" in done.stdout
    assert done.stderr == ""


def test_a_module_runs_by_its_name(folder: Path) -> None:
    done = bridged("-m", "echo", "one", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "__main__ True ['one'] beside" in done.stdout


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit(True)", 1, ""),
        ("raise SystemExit('no such file')", 1, "no such file\n"),
        ("raise KeyboardInterrupt", 130, None),
        ("open('/nowhere')", 1, None),
        ("import coremlops.errors as e; raise e.UsageError('mine')", 1, None),
        ("def f(: pass", 1, None),
    ],
)
def test_it_ends_as_python_ends_it(tmp_path: Path, line: str, code: int, error: str | None) -> None:
    (tmp_path / "end.py").write_text(line)
    done, plain = bridged(str(tmp_path / "end.py")), run(sys.executable, str(tmp_path / "end.py"))
    assert done.returncode == code
    assert done.stderr == (plain.stderr if error is None else error)


def test_a_script_that_is_missing_is_a_usage_error() -> None:
    done = bridged("/nowhere.py")
    assert (done.returncode, done.stderr) == (
        2,
        "error: cannot read the script /nowhere.py: No such file or directory\n",
    )


def test_coremltools_predicts_in_the_script(tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text(
        "import coremlops.bridge.standin as s, coremltools.libcoremlpython as f; print(s is f, s._precision)"
    )
    done = bridged("--precision", "float32", str(tmp_path / "predict.py"))
    assert done.stdout == "True float32\n", done.stderr
    assert "Failed to load" not in done.stderr
