"""Our client, driven by the vectors that any client can be driven by."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "conformance"


def drive(*client: str, only: str = "") -> tuple[int, dict[str, Any]]:
    command = [sys.executable, str(FOLDER / "run.py"), "--json", "--only", only, "--", *client]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_our_client_passes_every_vector() -> None:
    code, said = drive(sys.executable, str(FOLDER / "ours.py"))
    assert said["failed"] == []
    assert said["passed"] > 150
    assert code == 0


@pytest.mark.parametrize(
    "answer",
    ['{"ok": true, "holds": true, "use": "keep", "bucket": 0}', '{"error": "no"}', '{"unsupported": 1}'],
)
def test_a_client_that_always_says_the_same_fails(answer: str) -> None:
    code, said = drive("sh", "-c", f"while read line; do echo '{answer}'; done")
    assert code == 1
    assert len(said["failed"]) > 60
