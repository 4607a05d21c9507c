"""What a run records: one JSON line an event, appended at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import TrackingError
from coremlops.tracking.record import RunRecorder, process_identity


def recorder(project: Path, run_id: str = "run-1") -> RunRecorder:
    return RunRecorder(
        project, run_id, name="faces main", tracking_uri="sqlite:///mlflow.db", experiment="faces"
    )


def lines(project: Path, run_id: str = "run-1") -> list[dict[str, Any]]:
    text = (project / ".coremlops" / "outbox" / f"{run_id}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_is_four_kinds_of_line_with_numbers_and_times(tmp_path: Path) -> None:
    run = recorder(tmp_path)
    run.run_started({"epochs": "3"}, {"coremlops.pipeline": "main"})
    run.step_started("train", {"epochs": "3"}, {})
    dataset = {"name": "photos", "digest": "a" * 64, "source": "photos", "counts": {"ada": 5}}
    run.step_finished(
        "train",
        status="FINISHED",
        metrics={"loss": 0.5},
        dataset=dataset,
        artifacts=[tmp_path / "report.html"],
    )
    run.run_finished("FINISHED", metrics={"accuracy": 1.0}, datasets=[dataset])
    said = lines(tmp_path)
    assert [line["event"] for line in said] == [
        "run_started",
        "step_started",
        "step_finished",
        "run_finished",
    ]
    assert [line["seq"] for line in said] == [0, 1, 2, 3]
    assert sorted(line["time_ms"] for line in said) == [line["time_ms"] for line in said]
    assert said[0]["tracking_uri"] == "sqlite:///mlflow.db"
    assert said[0]["process"] == process_identity(os.getpid())
    assert said[2]["dataset"] == dataset
    assert said[2]["artifacts"] == [str(tmp_path / "report.html")]
    assert said[3]["datasets"] == [dataset]


def test_a_torn_last_line_is_closed_by_the_next_writer(tmp_path: Path) -> None:
    recorder(tmp_path).run_started({}, {})
    path = tmp_path / ".coremlops" / "outbox" / "run-1.jsonl"
    with path.open("a") as file:
        file.write('{"seq":1,"event":"step_st')
    recorder(tmp_path).step_started("train", {}, {})
    first, torn, last = path.read_text().splitlines()
    assert json.loads(first)["event"] == "run_started"
    assert torn == '{"seq":1,"event":"step_st'
    assert json.loads(last)["event"] == "step_started"


def test_a_recorder_made_again_goes_on_counting(tmp_path: Path) -> None:
    recorder(tmp_path).run_started({}, {})
    recorder(tmp_path).run_finished("KILLED", metrics={}, datasets=[])
    assert [line["seq"] for line in lines(tmp_path)] == [0, 1]


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    run = recorder(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: run.step_started(f"step-{n}", {"p": "x" * 2000}, {}), range(64)))
    said = lines(tmp_path)
    assert sorted(line["seq"] for line in said) == list(range(64))
    assert {line["step"] for line in said} == {f"step-{n}" for n in range(64)}


@pytest.mark.parametrize("run_id", ["", "../up", ".hidden", "a/b", "a b", "x" * 101])
def test_a_run_id_that_is_no_file_name_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(TrackingError, match="a run id is 1 to 100"):
        recorder(tmp_path, run_id)


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="FAILED, FINISHED, KILLED, got 'DONE'"):
        recorder(tmp_path).run_finished("DONE", metrics={}, datasets=[])


def test_an_outbox_that_cannot_be_written_is_our_error(tmp_path: Path) -> None:
    (tmp_path / ".coremlops").write_text("a file where the folder should be")
    with pytest.raises(TrackingError, match="cannot record the run"):
        recorder(tmp_path).run_started({}, {})


def test_what_may_hold_a_password_is_for_its_owner_alone(tmp_path: Path) -> None:
    run = recorder(tmp_path)
    run.run_started({}, {})
    assert run.path.stat().st_mode & 0o077 == 0


def test_a_disk_that_takes_half_a_line_gets_the_rest_or_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:10]))
    recorder(tmp_path).run_started({}, {})
    assert [line["event"] for line in lines(tmp_path)] == ["run_started"]


def test_a_process_is_told_from_one_that_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(child.pid)
    assert identity is not None
    assert identity["pid"] == child.pid
    child.communicate(b"\n")
    assert process_identity(child.pid) != identity


def test_recording_imports_nothing_heavy() -> None:
    code = (
        "import sys; import coremlops.tracking.record; import coremlops.tracking.peek\n"
        "bad = {'mlflow', 'numpy', 'yaml', 'sqlite3', 'urllib.request', 'subprocess', 'dataclasses'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
