"""Runs a Python script as `python SCRIPT.py ARGS` would, in this process."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from coremlops.errors import UsageError

_INTERRUPTED = 130


def run_script(script: str, arguments: Sequence[str], *, module: bool = False) -> int:
    """Run `script` (a file, or the name of a module) as the main program, and return its exit code.

    What the script does not catch is printed as Python prints it. Processes that the script starts are
    Python's own: only those that are forked inherit what was installed here. Raises UsageError when there is
    no such file.
    """
    source = b"" if module else _read(script)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path.cwd() if module else Path(script).resolve().parent)
    try:
        if module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            _execute(script, source)
    except SystemExit as exit_:
        return _code(exit_.code)
    except KeyboardInterrupt:
        _print_exception()
        return _INTERRUPTED
    except BaseException:
        _print_exception()
        return 1
    return 0


def _read(script: str) -> bytes:
    try:
        return Path(script).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the script {script}: {error.strerror}") from error


def _execute(script: str, source: bytes) -> None:
    main = ModuleType("__main__")
    main.__dict__.update(__file__=script, __builtins__=__builtins__)
    sys.modules["__main__"] = main  # stays: what the script leaves for exit still needs its globals
    exec(compile(source, script, "exec"), main.__dict__)  # noqa: S102  the user's own script


def _code(code: object) -> int:
    """An argument of `sys.exit` as Python makes it a process's exit code."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)
    return 1


def _print_exception() -> None:
    """The traceback, from the script's first line on."""
    error = sys.exception()
    assert error is not None  # noqa: S101  called while handling one
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, "<frozen runpy>"):
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)
