"""`coremlops device` on a terminal: the bar of an update, and what others said."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.cli.device import _shown
from coremlops.client.progress import Step
from coremlops.client.state import Check, Refused, Slot, State


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


def test_what_a_server_or_an_app_said_moves_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "\x1b]0;title\x07 \x1b[2J"
    refused = Refused(2, "a" * 64, said, "0.1.0")
    check = Check(datetime(2026, 11, 25, tzinfo=UTC), "refused", said)
    State("file:///none", "faces", "staging", models=(Slot("faces", refused=(refused,)),), last=check).save(
        tmp_path / "state.json"
    )
    assert main(["device", "status", "--device", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "title" in out
    assert "\x1b" not in out
    assert "\x07" not in out
