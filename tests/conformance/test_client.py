"""Our client, driven by the vectors that any client can be driven by."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import ReportError
from coremlops.telemetry.signing import verify

FOLDER = Path(__file__).parents[2] / "conformance"


def drive(*client: str, only: str = "") -> tuple[int, dict[str, Any]]:
    command = [sys.executable, str(FOLDER / "run.py"), "--json", "--only", only, "--", *client]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_our_client_passes_every_vector() -> None:
    code, said = drive(sys.executable, str(FOLDER / "ours.py"))
    assert said["failed"] == []
    assert said["passed"] > 370
    assert code == 0


@pytest.mark.parametrize(
    "answer",
    ['{"ok": true, "holds": true, "use": "keep", "bucket": 0}', '{"error": "no"}', '{"unsupported": 1}'],
)
def test_a_client_that_always_says_the_same_fails(answer: str) -> None:
    code, said = drive("sh", "-c", f"while read line; do echo '{answer}'; done")
    assert code == 1
    assert len(said["failed"]) > 60


def test_our_signatures_are_over_the_bytes_of_the_vectors() -> None:
    """run.py cannot verify one; here each is, with the key that the vector expects."""
    vectors = json.loads((FOLDER / "vectors/reports.json").read_text())["vectors"]
    asked = [each for each in vectors if "error" not in each["expected"]]
    lines = "".join(json.dumps(each["request"]) + "\n" for each in asked)
    done = subprocess.run(
        [sys.executable, str(FOLDER / "ours.py")], input=lines, capture_output=True, text=True, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(asked) > 8
    for vector, answer in zip(asked, answers, strict=True):
        expected = vector["expected"]
        public, signature = bytes.fromhex(expected["key"]), bytes.fromhex(answer["signature"])
        verify(public, signature, b"", expected["signed"].encode("ascii"))
        with pytest.raises(ReportError):
            verify(public, signature, b"", expected["data"].encode("ascii"))


def test_the_repository_of_the_vectors_is_what_is_made(tmp_path: Path) -> None:
    """Keys and times differ each time; which files there are does not, and all that vectors name is there."""
    made = runpy.run_path(str(FOLDER / "make.py"))
    made["main"].__globals__["REPOSITORY"] = tmp_path / "repository"
    made["main"]()
    served, new = FOLDER / "repository", tmp_path / "repository"
    names: dict[str, str] = json.loads((served / "names.json").read_text())
    assert set(names) == set(json.loads((new / "names.json").read_text()))
    assert {each.name for each in (served / "states").iterdir()} == {
        each.name for each in (new / "states").iterdir()
    }
    devices = json.loads((FOLDER / "vectors/devices.json").read_text())["vectors"]
    asked = [step for vector in devices for step in vector["steps"]]
    files = {file for step in asked for file in (*step.get("unsent", ()), *step.get("sent_at_most", ()))}
    files |= {step["fault"]["file"] for step in asked if "fault" in step}
    assert {step["serve"] for step in asked} == {each.name for each in (served / "states").iterdir()}
    for file in files - {"metadata/timestamp.json"}:
        assert (served / names[file]).is_file(), file
