"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_MAKE = Path(__file__).with_name("make_tiny_classifier.py")


@pytest.fixture(scope="session", autouse=True)
def _interrupts() -> None:
    """A shell ignores SIGINT for what it puts behind an ampersand; what tests start must not inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real Core ML classifier, converted once a test session: the path of its `.mlpackage`.

    Do not change it; copy it.

    Input `image`: RGB, 16 x 16, scale 1/128, bias -127/128. Labels `ada` (says so to a red picture) and
    `bob` (to a blue one). Outputs `classLabel` and `classLabel_probs`. ML Program, fp16, iOS 16, about 4
    kB; its metadata asks for `centerCrop`. Ops: mul add cast pad conv clip relu max_pool reduce_mean
    reshape linear softmax classify.
    """
    # With xdist every worker has a folder of its own below one that they share; the first one converts.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = shared / "tiny_classifier" / "tiny.mlpackage"
    with (shared / "tiny_classifier.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            making = path.with_name("making.mlpackage")
            making.parent.mkdir(exist_ok=True)
            made = subprocess.run(
                [sys.executable, str(_MAKE), str(making)], capture_output=True, text=True, check=False
            )
            assert made.returncode == 0, made.stderr[-2000:]
            making.rename(path)
    return path
