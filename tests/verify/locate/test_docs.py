"""The example of docs/locate.md runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "locate.md"


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    [example] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), flags=re.M | re.S)
    script = tmp_path / "net.py"
    script.write_text(example)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "first: exp (exp; net.py:15): overflow" in done.stdout


def test_every_cause_stands_in_the_table() -> None:
    from coremlops.verify.locate.location import ADVICE

    text = PAGE.read_text("utf-8")
    assert all(f"| {kind} |" in text for kind in ADVICE if kind != "unknown")
