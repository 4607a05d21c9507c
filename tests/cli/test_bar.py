"""The bar of `coremlops device update`, where stderr is a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from coremlops.cli.device import _shown
from coremlops.client.progress import Step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_path_leaves_room_for_the_bar_and_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    what = "version 3: model.mlpackage/Data/com.apple.CoreML/weights/weight.bin (200000 bytes)"
    with _shown() as show:
        show(Step("download", 100_000, 200_000, what))
    shown = terminal.getvalue()
    assert "version 3: model.mlpackage" in shown
    assert "100.0/200.0 kB" in shown
    assert "━" in shown
