"""Recorded runs reach a real SQLite store: each thing once, whatever dies on the way."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import TrackingError
from coremlops.tracking import record, store
from coremlops.tracking.outbox import Outbox, alive
from coremlops.tracking.record import RunRecorder, start_sender
from coremlops.tracking.sender import Sender, ensure_parent_run, flush
from coremlops.tracking.sender import main as sender_main
from tests.tracking.conftest import EXPERIMENT, QUICK, Project

PROCESS_IDENTITY = record.process_identity
DATASET = {"name": "photos", "digest": "ab" * 32, "source": "photos", "counts": {"ada": 5, "bob": 5}}


def record_run(run: RunRecorder, folder: Path) -> None:
    report = folder / "report.json"
    report.write_text("{}")
    run.run_started({"train.epochs": "3"}, {"coremlops.pipeline": "main"})
    run.step_started("train", {"epochs": "3"}, {"coremlops.key": "k"})
    run.step_finished(
        "train", status="FINISHED", metrics={"loss": 0.5, "steps": 7}, dataset=DATASET, artifacts=[report]
    )
    run.run_finished("FINISHED", metrics={"evaluate.accuracy": 0.98}, datasets=[DATASET])


def recorded(project: Project, run_id: str = "run-1") -> list[dict[str, Any]]:
    text = (project.root / ".coremlops" / "outbox" / "sent" / f"{run_id}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs recorded now belong to a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = record.process_identity(child.pid)
    child.communicate(b"\n")
    monkeypatch.setattr(record, "process_identity", lambda pid: identity)


def test_a_run_arrives_whole_with_its_recorded_times(project: Project) -> None:
    record_run(project.recorder(), project.root)
    project.send()
    parent, step = project.runs()
    said = recorded(project)
    assert parent.info.run_name == "faces main"
    assert parent.data.params == {"train.epochs": "3"}
    assert parent.data.tags["coremlops.pipeline"] == "main"
    assert parent.data.metrics == {"evaluate.accuracy": 0.98}
    assert (parent.info.status, step.info.status) == ("FINISHED", "FINISHED")
    assert (parent.info.start_time, parent.info.end_time) == (said[0]["time_ms"], said[3]["time_ms"])
    assert (step.info.start_time, step.info.end_time) == (said[1]["time_ms"], said[2]["time_ms"])
    assert step.info.run_name == "train"
    assert step.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert step.data.tags["coremlops.key"] == "k"
    assert step.data.params == {"epochs": "3"}
    assert step.data.metrics == {"loss": 0.5, "steps": 7.0}
    assert [item.path for item in project.client.list_artifacts(step.info.run_id)] == ["report.json"]
    for run in (parent, step):
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("photos", ("ab" * 32)[:36])
        assert {tag.key: tag.value for tag in used.tags}["coremlops.digest"] == "ab" * 32
        assert json.loads(used.dataset.profile)["counts"] == {"ada": 5, "bob": 5}
    assert not list((project.root / ".coremlops" / "outbox").glob("*.jsonl"))


def test_what_is_sent_twice_counts_once(project: Project) -> None:
    record_run(project.recorder(), project.root)
    folder = project.root / ".coremlops" / "outbox"
    before = (folder / "run-1.jsonl").read_bytes()
    project.send()
    # As if the sender had died before it wrote down anything.
    (folder / "sent" / "run-1.jsonl").unlink()
    (folder / "sent" / "run-1.parent.json").unlink()
    (folder / "run-1.jsonl").write_bytes(before)
    project.send()
    parent, step = project.runs()
    assert len(project.client.get_metric_history(step.info.run_id, "loss")) == 1
    assert len(step.inputs.dataset_inputs) == 1
    assert parent.info.status == "FINISHED"


def test_a_crash_between_making_the_run_and_writing_it_down_makes_no_second(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_run(project.recorder(), project.root)
    with monkeypatch.context() as patch:

        def dies(*_: Any) -> None:
            raise RuntimeError("killed here")

        patch.setattr(Outbox, "set_parent", dies)
        project.send()
    assert len(project.runs()) == 1
    project.send()
    assert len(project.runs()) == 2
    assert [run.info.status for run in project.runs()] == ["FINISHED", "FINISHED"]


def test_a_sender_that_dies_between_two_lines_goes_on_at_the_next(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_run(project.recorder(), project.root)
    real, calls = Outbox.set_cursor, [0]

    def dies_at_second(self: Outbox, run_id: str, cursor: Any) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise RuntimeError("killed here")
        real(self, run_id, cursor)

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "set_cursor", dies_at_second)
        project.send()
    assert Outbox(project.root).cursor("run-1")["offset"] > 0
    project.send()
    assert len(project.runs()) == 2
    assert project.runs()[1].data.metrics == {"loss": 0.5, "steps": 7.0}


def test_many_who_need_the_parent_run_make_one(project: Project) -> None:
    project.recorder().run_started({}, {})
    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(lambda _: ensure_parent_run(project.root, "run-1"), range(6)))
    (parent,) = project.runs()
    assert ids == {parent.info.run_id}


def test_the_parent_run_of_a_run_that_nobody_recorded_is_an_error(project: Project) -> None:
    with pytest.raises(TrackingError, match="no run 'run-9' is recorded"):
        ensure_parent_run(project.root, "run-9")


def test_a_run_that_mlflow_run_began_is_adopted_and_left_running(project: Project) -> None:
    experiment = project.client.create_experiment("theirs")
    theirs = project.client.create_run(experiment).info.run_id
    project.client.log_param(theirs, "pipeline", "main")
    run = project.recorder()
    run.run_started({"pipeline": "other", "epochs": "3"}, {"coremlops.mlflow_run_id": theirs})
    run.step_started("train", {}, {})
    run.step_finished("train", status="FINISHED", metrics={}, dataset=None, artifacts=[])
    run.run_finished("FINISHED", metrics={"accuracy": 1.0}, datasets=[])
    project.send()
    assert project.runs() == []
    parent = project.client.get_run(theirs)
    assert parent.info.status == "RUNNING"
    assert parent.data.params == {"pipeline": "main", "epochs": "3"}  # theirs stays, ours is added
    assert parent.data.metrics == {"accuracy": 1.0}
    (step,) = (r for r in project.client.search_runs([experiment]) if r.info.run_id != theirs)
    assert step.data.tags["mlflow.parentRunId"] == theirs
    assert step.info.status == "FINISHED"


def test_a_run_to_adopt_that_does_not_exist_is_replaced_by_our_own(project: Project) -> None:
    run = project.recorder()
    run.run_started({"epochs": "3"}, {"coremlops.mlflow_run_id": "0" * 32})
    run.run_finished("FINISHED", metrics={}, datasets=[])
    project.send()
    (parent,) = project.runs()
    assert parent.data.params == {"epochs": "3"}
    assert parent.info.status == "FINISHED"


@pytest.mark.usefixtures("dead")
def test_a_run_whose_process_died_is_marked_killed(project: Project) -> None:
    run = project.recorder()
    run.run_started({}, {})
    for step in ("prepare", "train"):
        run.step_started(step, {}, {})
    run.step_finished("prepare", status="FINISHED", metrics={}, dataset=None, artifacts=[])
    project.send()
    parent, prepare, train = project.runs()
    assert parent.info.status == "KILLED"
    assert (prepare.info.status, train.info.status) == ("FINISHED", "KILLED")
    assert train.info.end_time == recorded(project)[-1]["time_ms"]
    assert Outbox(project.root).runs() == []


def test_a_run_that_lives_is_followed_and_not_killed(project: Project) -> None:
    run = project.recorder()
    run.run_started({}, {})
    run.step_started("train", {}, {})
    project.send()
    assert [r.info.status for r in project.runs()] == ["RUNNING", "RUNNING"]
    run.step_finished("train", status="FAILED", metrics={}, dataset=None, artifacts=[])
    run.run_finished("FAILED", metrics={}, datasets=[])
    project.send()
    assert [r.info.status for r in project.runs()] == ["FAILED", "FAILED"]


def test_a_run_of_another_machine_is_not_judged(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = {"pid": os.getpid(), "start": "x", "host": "another-machine"}
    monkeypatch.setattr(record, "process_identity", lambda pid: elsewhere)
    project.recorder().run_started({}, {})
    project.send()
    assert [r.info.status for r in project.runs()] == ["RUNNING"]
    assert alive(Outbox(project.root).started("run-1")) is None


def test_a_torn_line_waits_and_a_damaged_one_is_passed_over(project: Project) -> None:
    run = project.recorder()
    run.run_started({}, {})
    path = run.path
    with path.open("a") as file:
        file.write('{"seq":1,"event":"step_st')
    project.send()
    assert len(project.runs()) == 1
    run.run_finished("FINISHED", metrics={"accuracy": 1.0}, datasets=[])
    project.send()
    (parent,) = project.runs()
    assert parent.data.metrics == {"accuracy": 1.0}


def test_values_that_mlflow_would_refuse_are_made_fit_or_left_out(project: Project, tmp_path: Path) -> None:
    run = project.recorder()
    run.run_started({"a(b)": "x" * 9000, "../up": "1"}, {})
    run.step_started("train", {f"p{n}": "1" for n in range(250)}, {})
    run.step_finished(
        "train",
        status="FINISHED",
        metrics={"loss": float("nan"), "ok": 1.0, "per class/ada": 0.5},
        dataset={"name": "no digest"},
        artifacts=[tmp_path / "missing.json"],
    )
    run.run_finished("FINISHED", metrics={}, datasets=[])
    project.send()
    parent, step = project.runs()
    assert parent.data.params == {"a_b_": "x" * 6000, "up": "1"}
    assert len(step.data.params) == 250
    assert step.data.metrics == {"ok": 1.0, "per class/ada": 0.5}
    assert step.inputs.dataset_inputs == []
    assert step.info.status == "FINISHED"


def test_a_step_that_is_tried_again_is_a_run_of_its_own(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project.recorder()
    run.run_started({}, {})
    clock = iter(range(2_000_000_000_000_000_000, 2_000_000_001_000_000_000, 5_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    for status in ("FAILED", "FINISHED"):
        run.step_started("train", {"lr": status}, {})
        run.step_finished("train", status=status, metrics={}, dataset=None, artifacts=[])
    run.run_finished("FINISHED", metrics={}, datasets=[])
    project.send()
    steps = project.runs(**{"coremlops.step": "train"})
    assert [(s.info.status, s.data.params["lr"]) for s in steps] == [("FAILED",) * 2, ("FINISHED",) * 2]


@pytest.mark.usefixtures("dead")
def test_a_killed_run_that_is_taken_up_again_goes_on_in_its_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.recorder().run_started({}, {})
    project.send()
    assert [r.info.status for r in project.runs()] == ["KILLED"]
    monkeypatch.setattr(record, "process_identity", PROCESS_IDENTITY)
    run = project.recorder()
    run.run_started({}, {})
    project.send()
    assert [r.info.status for r in project.runs()] == ["RUNNING"]
    run.run_finished("FINISHED", metrics={}, datasets=[])
    project.send()
    assert [r.info.status for r in project.runs()] == ["FINISHED"]
    assert [line["event"] for line in recorded(project)] == ["run_started", "run_started", "run_finished"]


def test_one_store_that_is_down_does_not_hold_up_another(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    record_run(project.recorder("run-0", f"http://127.0.0.1:{port}"), project.root)
    record_run(project.recorder("run-1"), project.root)
    project.send()
    assert Outbox(project.root).runs() == ["run-0"]
    assert len(project.runs()) == 2


def test_an_experiment_that_was_deleted_keeps_the_run_in_the_outbox(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = project.client.create_experiment(EXPERIMENT)
    project.client.delete_experiment(experiment)
    record_run(project.recorder(), project.root)
    project.send()
    assert Outbox(project.root).runs() == ["run-1"]
    assert "the experiment 'faces' was deleted in MLflow" in capsys.readouterr().out
    project.client.restore_experiment(experiment)
    project.send()
    assert len(project.runs()) == 2


def test_a_sender_whose_project_was_made_anew_ends(project: Project) -> None:
    outbox = Outbox(project.root)
    with outbox.lock("sender", wait=False) as ours:
        assert ours
        lock = outbox.folder / "sender.lock"
        sender = Sender(project.root, QUICK, lock.stat().st_ino)
        assert not sender.orphaned()
        shutil.rmtree(project.root / ".coremlops")
        assert sender.orphaned()
        record_run(project.recorder(), project.root)
        lock.touch()
        assert sender.orphaned()
        sender.run()
    assert project.runs() == []  # the project's own sender sends it


def test_a_project_that_was_deleted_does_not_come_back(project: Project) -> None:
    record_run(project.recorder(), project.root)
    sender = Sender(project.root, QUICK)
    shutil.rmtree(project.root)
    sender.turn()
    with pytest.raises(FileNotFoundError):
        sender._client("sqlite:///" + str(project.root / "mlflow.db"))
    assert sender_main(project.root, QUICK) == 0
    assert not project.root.exists()


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"offset": "x"}', '{"offset": -1, "steps": {}}', '{"offset": 0, "steps": 3}']
)
def test_a_damaged_cursor_sends_again_and_doubles_nothing(project: Project, damage: str) -> None:
    run = project.recorder()
    run.run_started({}, {})
    run.step_started("train", {"epochs": "3"}, {})
    project.send()
    cursor = Outbox(project.root).folder / "run-1.cursor.json"
    assert cursor.exists()
    cursor.write_text(damage)
    assert not flush(project.root, 0)
    project.send()
    assert [r.info.run_name for r in project.runs()] == ["faces main", "train"]


def test_a_line_of_another_shape_stops_nothing(project: Project) -> None:
    run = project.recorder()
    run.run_started({}, {})
    with run.path.open("a") as file:
        file.write('["run_started"]\n7\n{"event": "run_started"}\n')
    outbox = Outbox(project.root)
    started = outbox.started("run-1")
    assert started is not None
    assert alive(started) is None
    project.send()


def test_the_log_holds_no_password(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    run = project.recorder(uri="nonsense://ada:s3cret@mlflow.example")
    run.run_started({}, {})
    project.send()
    said = capsys.readouterr().out
    assert "run-1" in said
    assert "s3cret" not in said


def test_a_store_that_was_exchanged_is_noticed(project: Project, empty_store: Path) -> None:
    assert project.client.search_experiments()
    assert not store.replaced()
    shutil.copyfile(empty_store, project.root / "fresh.db")
    (project.root / "fresh.db").replace(project.root / "mlflow.db")
    assert store.replaced()
    store._opened.clear()


def test_only_one_sender_works_at_a_time(project: Project) -> None:
    record_run(project.recorder(), project.root)
    with Outbox(project.root).lock("sender", wait=False) as ours:
        assert ours
        assert sender_main(project.root, QUICK) == 0
    assert Outbox(project.root).runs() == ["run-1"]


@pytest.mark.slow
def test_the_real_sender_makes_the_store_and_sends_beside_the_run(tmp_path: Path) -> None:
    project = Project(tmp_path)
    run = project.recorder()
    run.run_started({}, {})
    start_sender(tmp_path)
    start_sender(tmp_path)
    run.step_started("train", {}, {})
    run.step_finished("train", status="FINISHED", metrics={"loss": 0.5}, dataset=None, artifacts=[])
    assert flush(tmp_path, 120)
    assert [r.info.status for r in project.runs()] == ["RUNNING", "FINISHED"]
    run.run_finished("FINISHED", metrics={}, datasets=[])
    assert flush(tmp_path, 120)
    assert [r.info.status for r in project.runs()] == ["FINISHED", "FINISHED"]
    assert (tmp_path / ".coremlops" / "outbox" / "sender.log").read_text() == ""


@pytest.mark.slow
def test_a_run_that_was_killed_is_marked_by_the_next_sender(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from coremlops.tracking import RunRecorder\n"
        "run = RunRecorder(pathlib.Path(sys.argv[1]), 'run-1', name='n',\n"
        "    tracking_uri='sqlite:///mlflow.db', experiment='faces')\n"
        "run.run_started({}, {}); run.step_started('train', {}, {}); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert flush(tmp_path, 120)
    assert [r.info.status for r in Project(tmp_path).runs()] == ["KILLED", "KILLED"]
