"""Running a pipeline: what runs, what does not, and what is left when something goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import ConfigError, GateError, InputError, StepError, StoreError, UsageError
from coremlops.pipeline import RunResult, lock, process, run, runner
from tests.pipeline.conftest import Tiny


@pytest.fixture(autouse=True)
def signals_end_processes() -> Iterator[None]:
    """They do not where the tests run under `nohup` or behind `&`, and a run heeds what it finds."""
    before = {
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def statuses(result: RunResult) -> dict[str, str]:
    return {step.name: step.status for step in result.steps}


def snapshot(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def events(root: Path, run_id: str) -> list[dict[str, object]]:
    lines = (root / ".coremlops" / "outbox" / f"{run_id}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_first_all_steps_run_then_none(tiny: Tiny) -> None:
    first = run(tiny.root)
    assert statuses(first) == {"a": "ran", "b": "ran", "c": "ran"}
    assert first.ok
    assert first.work
    output = first.step("c").output
    assert output is not None
    assert (output / "copy.txt").read_text() == "onehello\n"
    second = run(tiny.root)
    assert statuses(second) == {"a": "cached", "b": "cached", "c": "cached"}
    assert (second.cached_steps, second.ran_steps, second.work) == (3, 0, False)
    assert second.step("c").output == output


def test_a_run_without_work_leaves_no_record(tiny: Tiny) -> None:
    first = run(tiny.root)
    before = snapshot(tiny.root)
    second = run(tiny.root)
    after = snapshot(tiny.root)
    assert (tiny.root / ".coremlops" / "outbox" / f"{first.run_id}.jsonl").exists()
    assert not (tiny.root / ".coremlops" / "outbox" / f"{second.run_id}.jsonl").exists()
    assert not second.log.exists()
    assert before.keys() - after.keys() == set()
    changed = {name for name in after if before.get(name) != after[name]}
    assert {name for name in changed if "/cache/" not in name and not name.endswith("/lock")} == set()


def test_outputs_are_read_only_and_named_by_content(tiny: Tiny) -> None:
    output = run(tiny.root).step("a").output
    assert output is not None
    assert (output / "ada" / "1.txt").stat().st_mode & 0o222 == 0
    assert output.parent == tiny.root / ".coremlops" / "store" / "objects"


def test_a_changed_input_runs_what_depends_on_it(tiny: Tiny) -> None:
    run(tiny.root)
    (tiny.root / "data" / "ada" / "2.txt").write_text("two")
    assert statuses(run(tiny.root)) == {"a": "ran", "b": "ran", "c": "ran"}
    (tiny.root / "data" / "ada" / "2.txt").unlink()
    assert statuses(run(tiny.root)) == {"a": "cached", "b": "cached", "c": "cached"}


def test_an_equal_output_stops_the_wave(tiny: Tiny) -> None:
    run(tiny.root)
    (tiny.root / "a" / "note.txt").write_text("changes the code, not the output")
    assert statuses(run(tiny.root)) == {"a": "ran", "b": "cached", "c": "cached"}


def test_parameters_override_for_all_steps_or_one(tiny: Tiny) -> None:
    run(tiny.root)
    first = run(tiny.root, overrides={"word": "bye"})
    assert statuses(first) == {"a": "cached", "b": "ran", "c": "ran"}
    assert not run(tiny.root, overrides={"b.word": "bye"}).work
    output = first.step("b").output
    assert output is not None
    assert (output / "all.txt").read_text() == "onebye\n"


def test_an_unused_parameter_is_an_ingredient_too(tiny: Tiny) -> None:
    run(tiny.root)
    assert statuses(run(tiny.root, overrides={"epochs": "3"})) == {"a": "cached", "b": "ran", "c": "cached"}


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ({"wrd": "x"}, "-P wrd: no step has this parameter", "'word'"),
        ({"c.word": "x"}, "-P c.word: no step has this parameter", "'b.word'"),
        ({"epochs": "many"}, "-P epochs: parameter epochs is of type float, got 'many'", ""),
        ({"upstream": "x"}, "-P upstream: no step has this parameter", ""),
        ({"downstream": "x"}, "-P downstream: no step has this parameter", ""),
    ],
)
def test_a_wrong_override_runs_nothing(
    tiny: Tiny, overrides: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tiny.root, overrides=overrides)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert not (tiny.root / ".coremlops" / "store").exists()


@pytest.mark.parametrize(
    ("there", "hint"), [("data-", "did you mean './data-'?"), ("databases", ""), ("date", "")]
)
def test_a_missing_folder_names_one_that_is_called_nearly_so(tiny: Tiny, there: str, hint: str) -> None:
    (tiny.root / "data").rename(tiny.root / there)
    if there == "date":  # called nearly so, and no folder
        (tiny.root / there).rename(tiny.root / "elsewhere")
        (tiny.root / there).write_text("")
    with pytest.raises(InputError) as caught:
        run(tiny.root)
    assert caught.value.hint == hint


def test_a_parameter_cannot_break_out_of_the_shell(tiny: Tiny) -> None:
    run(tiny.root, overrides={"word": f"$(touch {tiny.root}/hacked); 'x"})
    assert not (tiny.root / "hacked").exists()


def test_to_and_force(tiny: Tiny) -> None:
    assert list(statuses(run(tiny.root, to="b"))) == ["a", "b"]
    assert statuses(run(tiny.root, force=["a"])) == {"a": "ran", "b": "cached", "c": "ran"}
    with pytest.raises(ConfigError, match="no step 'd'"):
        run(tiny.root, force=["d"])
    with pytest.raises(ConfigError, match="no step 'd'"):
        run(tiny.root, to="d")


def test_a_missing_input_names_the_nearest(tiny: Tiny) -> None:
    (tiny.root / "data").rename(tiny.root / "data2")
    with pytest.raises(InputError) as caught:
        run(tiny.root)
    assert "step a, input data: there is no ./data" in caught.value.message
    assert "./data2" in caught.value.hint


def test_a_missing_part_of_an_output_names_what_is_there(tiny: Tiny) -> None:
    tiny.step("d", "cp {x} {downstream}", {"x": "b/nothing"})
    tiny.save()
    with pytest.raises(InputError, match=r"the output of b has no nothing; it has all\.txt, count\.txt"):
        run(tiny.root)


def test_an_input_that_the_step_does_not_declare(tiny: Tiny) -> None:
    path = tiny.root / "b" / "MLproject"
    path.write_text(path.read_text().replace("upstream: path", "upstreem: path").replace("{upstream}", "x"))
    with pytest.raises(ConfigError, match="declares no parameter 'upstream'") as caught:
        run(tiny.root)
    assert "did you mean 'upstreem'?" in caught.value.hint


def test_a_required_parameter_without_a_value(tiny: Tiny) -> None:
    path = tiny.root / "b" / "MLproject"
    path.write_text(path.read_text().replace("{type: float, default: 20}", "float"))
    with pytest.raises(ConfigError, match="step b: no value for parameter 'epochs'"):
        run(tiny.root)


def test_a_failed_step_shows_its_last_lines_and_leaves_the_store(tiny: Tiny) -> None:
    run(tiny.root)
    before = snapshot(tiny.root / ".coremlops" / "store" / "objects")
    steps = snapshot(tiny.root / ".coremlops" / "store" / "steps")
    (tiny.root / "b" / "count.sh").write_text(
        'for i in $(seq 40); do echo "line $i"; done; touch "$1/half"; exit 7\n'
    )
    with pytest.raises(StepError) as caught:
        run(tiny.root)
    assert caught.value.message == "step b failed with exit status 7"
    assert caught.value.log_tail == tuple(f"line {number}" for number in range(21, 41))
    assert caught.value.step == "b"
    assert caught.value.exit_code == 1
    assert snapshot(tiny.root / ".coremlops" / "store" / "objects") == before
    assert snapshot(tiny.root / ".coremlops" / "store" / "steps") == steps
    assert list((tiny.root / ".coremlops" / "work").iterdir()) == []


def test_a_failed_run_is_recorded_as_failed_and_stops(tiny: Tiny) -> None:
    (tiny.root / "b" / "count.sh").write_text("exit 1\n")
    result = run(tiny.root, check=False)
    assert statuses(result) == {"a": "ran", "b": "failed"}
    assert not result.ok
    record = events(tiny.root, result.run_id)
    seen = [(event["event"], event.get("step"), event.get("status")) for event in record]
    assert seen == [
        ("run_started", None, None),
        ("step_started", "a", None),
        ("step_finished", "a", "FINISHED"),
        ("step_started", "b", None),
        ("step_finished", "b", "FAILED"),
        ("run_finished", None, "FAILED"),
    ]


def test_exit_3_is_a_gate_that_said_no_and_keeps_the_report(tiny: Tiny) -> None:
    report = {"gates": [{"name": "snr_db", "limit": 40, "value": 3.5, "ok": False}]}
    (tiny.root / "b" / "count.sh").write_text(
        f"echo '{json.dumps(report)}' > \"$1/report.json\"; echo no; exit 3\n"
    )
    result = run(tiny.root, check=False)
    error = result.error
    assert isinstance(error, GateError)
    assert error.exit_code == 3
    assert error.failed == ("snr_db: limit 40, got 3.5",)  # a report that does not say which way
    kept = result.log / "b.output" / "report.json"
    assert json.loads(kept.read_text()) == report
    finished = [event for event in events(tiny.root, result.run_id) if event["event"] == "step_finished"]
    assert finished[-1]["artifacts"] == [str(kept)]


def test_a_gate_without_a_report_shows_its_last_lines(tiny: Tiny) -> None:
    (tiny.root / "b" / "count.sh").write_text("echo accuracy is too low; exit 3\n")
    with pytest.raises(GateError) as caught:
        run(tiny.root)
    assert caught.value.failed == ("accuracy is too low",)


def test_an_empty_output_is_an_error(tiny: Tiny) -> None:
    tiny.step("d", "true {x} {downstream}", {"x": "b"})
    tiny.save()
    with pytest.raises(StepError, match="step d ended well and left nothing in downstream"):
        run(tiny.root)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.json", '{"a": "b"}', 'metrics.json holds numbers, got a: "b"'),
        ("metrics.json", "{", "metrics.json is not valid JSON"),
        ("dataset.json", "[]", "dataset.json must hold an object, got list"),
        ("dataset.json", '{"name": "x"}', "dataset.json needs 'digest' as text"),
    ],
)
def test_a_malformed_finding_is_the_steps_failure(tiny: Tiny, name: str, text: str, message: str) -> None:
    (tiny.root / "b" / "count.sh").write_text(f"echo '{text}' > $1/{name}\n")
    with pytest.raises(StepError) as caught:
        run(tiny.root)
    assert message in caught.value.message


def test_metrics_and_datasets_of_cached_steps_are_in_the_runs_record(tiny: Tiny) -> None:
    (tiny.root / "b" / "count.sh").write_text(
        "echo '{\"accuracy\": 0.5}' > $1/metrics.json\n"
        'echo \'{"name": "people", "digest": "d1", "source": "x", "counts": {}}\' > $1/dataset.json\n'
    )
    first = run(tiny.root)
    finished = [event for event in events(tiny.root, first.run_id) if event["event"] == "step_finished"]
    assert [event["step"] for event in finished] == ["a", "b", "c"]
    assert finished[1]["metrics"] == {"accuracy": 0.5}
    (tiny.root / "c" / "note").write_text("run c again")
    second = run(tiny.root)
    assert statuses(second) == {"a": "cached", "b": "cached", "c": "ran"}
    record = events(tiny.root, second.run_id)
    assert record[0]["params"] == {"b.word": "hello", "b.epochs": "20"}
    assert record[-1]["metrics"] == {"b.accuracy": 0.5}
    assert record[-1]["datasets"] == [{"name": "people", "digest": "d1", "source": "x", "counts": {}}]
    assert [event.get("step") for event in record] == [None, "c", "c", None]


def test_what_a_step_finds_in_its_environment(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    monkeypatch.setenv("COREMLOPS_KEY_STAGING", "a key")
    (tiny.root / "b" / "count.sh").write_text('echo \'{"name": "n", "digest": "d1"}\' > $1/dataset.json\n')
    tiny.step("d", "env > {downstream}/env.txt && pwd >> {downstream}/env.txt", {"x": "c"})
    tiny.step("e", "command -v python > {downstream}/python.txt", {})
    tiny.save()
    result = run(tiny.root)
    output = result.step("d").output
    assert output is not None
    lines = (output / "env.txt").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    assert found["COREMLOPS_PROJECT"] == str(tiny.root)
    assert found["COREMLOPS_RUN_ID"] == result.run_id
    assert found["COREMLOPS_STEP"] == "d"
    assert found["COREMLOPS_DATA_DIGEST"] == "d1"
    assert len(found["COREMLOPS_CODE_DIGEST"]) == 64
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{tiny.root}/mlflow.db"
    assert found["MLFLOW_EXPERIMENT_NAME"] == "tiny"
    assert "MLFLOW_RUN_ID" not in found
    assert "COREMLOPS_KEY_STAGING" not in found
    assert lines[-1] == str(tiny.root / "d")
    python = result.step("e").output
    assert python is not None
    assert Path((python / "python.txt").read_text().strip()).parent == Path(sys.executable).parent
    tags = events(tiny.root, result.run_id)[0]["tags"]
    assert isinstance(tags, dict)
    assert tags["coremlops.mlflow_run_id"] == "abc"


@pytest.mark.parametrize(
    ("file", "environment", "flag", "expected"),
    [
        ("", "", None, "sqlite:///{root}/mlflow.db"),
        ("sqlite:///other.db", "", None, "sqlite:///{root}/other.db"),
        ("sqlite:////abs.db", "http://e", None, "http://e"),
        ("sqlite:///other.db", "http://e", "http://f", "http://f"),
    ],
)
def test_tracking_uri_precedence(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, file: str, environment: str, flag: str | None, expected: str
) -> None:
    if file:
        tiny.head = f"tracking: {{uri: '{file}', experiment: people}}\n"
        tiny.save()
    if environment:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    first = events(tiny.root, run(tiny.root, tracking_uri=flag).run_id)[0]
    assert first["tracking_uri"] == expected.format(root=tiny.root)
    assert first["experiment"] == ("people" if file else "tiny")


def test_a_path_parameter_is_resolved_and_its_content_does_not_count(tiny: Tiny) -> None:
    (tiny.root / "place").write_text("1")
    tiny.step(
        "d", "echo {where} > {downstream}/where.txt", {"x": "a"}, {"where": "{type: path, default: place}"}
    )
    tiny.save()
    output = run(tiny.root).step("d").output
    assert output is not None
    assert (output / "where.txt").read_text().strip() == str(tiny.root / "place")
    (tiny.root / "place").write_text("2")
    assert run(tiny.root).step("d").status == "cached"


def test_shared_code_is_part_of_every_key(tiny: Tiny) -> None:
    (tiny.root / "shared").mkdir()
    (tiny.root / "shared" / "helper.sh").write_text("1")
    tiny.head = "code: [shared]\n"
    tiny.save()
    run(tiny.root)
    (tiny.root / "shared" / "helper.sh").write_text("2")
    assert statuses(run(tiny.root))["a"] == "ran"


def test_an_input_that_changes_while_it_is_read_is_not_kept(tiny: Tiny) -> None:
    tiny.step(
        "d", "cp -r {x}/. {downstream} && echo more >> {x}/ada/1.txt", {"x": "./data"}, extra=", after: [c]"
    )
    tiny.save()
    with pytest.raises(InputError, match=r"\./data changed while step d was reading it"):
        run(tiny.root)
    records = (tiny.root / ".coremlops" / "store" / "steps").glob("*.json")
    assert "d" not in {json.loads(path.read_text())["step"] for path in records}


def test_code_that_changes_while_it_runs_is_used_and_not_remembered(tiny: Tiny) -> None:
    tiny.step("d", "cp -r {x}/. {downstream} && echo more >> note.txt", {"x": "a"})
    tiny.save()
    assert run(tiny.root).step("d").status == "ran"
    assert run(tiny.root).step("d").status == "ran"


# the store


def test_a_damaged_object_is_rebuilt(tiny: Tiny) -> None:
    output = run(tiny.root).step("b").output
    assert output is not None
    (output / "all.txt").chmod(0o644)
    (output / "all.txt").write_text("tampered")
    result = run(tiny.root)
    assert statuses(result) == {"a": "cached", "b": "ran", "c": "cached"}
    assert (output / "all.txt").read_text() == "onehello\n"


def test_damage_that_keeps_size_and_mtime_is_found(tiny: Tiny) -> None:
    output = run(tiny.root).step("b").output
    assert output is not None
    path = output / "all.txt"
    times = path.stat()
    path.chmod(0o644)
    path.write_text("ONEHELLO\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(tiny.root).step("b").status == "ran"


@pytest.mark.parametrize("damage", ["object", "extra", "manifest", "record"])
def test_what_is_missing_or_more_in_the_store_is_repaired(tiny: Tiny, damage: str) -> None:
    import shutil

    result = run(tiny.root)
    output = result.step("b").output
    assert output is not None
    store = tiny.root / ".coremlops" / "store"
    if damage == "object":
        shutil.rmtree(output)
    elif damage == "extra":
        (output / "more.txt").write_text("x")
    elif damage == "manifest":
        (store / "manifests" / f"{output.name}.json").write_text('{"format": 1')
    else:
        (store / "steps" / f"{result.step('b').key}.json").write_bytes(b"\0" * 10)
    expected = "cached" if damage == "manifest" else "ran"
    assert run(tiny.root).step("b").status == expected
    assert sorted(path.name for path in output.iterdir()) == ["all.txt", "count.txt"]
    assert run(tiny.root).step("b").status == "cached"


def test_a_copied_project_is_still_cached(tiny: Tiny, quiet: Callable[[Path], None]) -> None:
    import shutil

    run(tiny.root)
    other = tiny.root.parent / "elsewhere"
    shutil.copytree(tiny.root, other)
    quiet(other)
    assert not run(other).work


def test_links_inside_an_output_become_files_and_others_are_refused(tiny: Tiny) -> None:
    tiny.step("d", "echo x > {downstream}/f && ln -s f {downstream}/link", {"x": "a"})
    tiny.step("e", "echo x > {downstream}/f && ln -s /etc/hostname {downstream}/link", {"x": "a"})
    tiny.save()
    result = run(tiny.root, check=False)
    output = result.step("d").output
    assert output is not None
    assert not (output / "link").is_symlink()
    assert (output / "link").read_text() == "x\n"
    assert isinstance(result.error, StepError)
    assert "step e left a link in its output, link -> /etc/hostname" in result.error.message


def test_a_full_disk_leaves_the_store_as_it_was(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    run(tiny.root)
    store = tiny.root / ".coremlops" / "store"
    before = snapshot(store / "steps"), snapshot(store / "objects")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tiny.root / "data" / "ada" / "2.txt").write_text("two")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            run(tiny.root)
    assert "free some space" in caught.value.hint
    assert (snapshot(store / "steps"), snapshot(store / "objects")) == before
    assert not list(tiny.root.rglob("*.tmp"))
    assert statuses(run(tiny.root)) == {"a": "ran", "b": "ran", "c": "ran"}


# ends


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited a minute"
        time.sleep(0.02)


def slow(tiny: Tiny) -> Path:
    """Make step c wait until a file is there; returns that file. Its process id is in `pid`."""
    gate = tiny.root / "gate"
    tiny.step(
        "d",
        "echo $$ > {root}/pid && echo half > {downstream}/half && "
        "while [ ! -e {root}/gate ]; do sleep 0.02; done && cp {x}/copy.txt {downstream}",
        {"x": "c"},
        {"root": f"{{type: string, default: {tiny.root}}}"},
    )
    tiny.save()
    return gate


def start(tiny: Tiny) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "coremlops", "run"],
        cwd=tiny.root / "a",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_killed_run_resumes_and_ends_its_orphan(tiny: Tiny) -> None:
    gate = slow(tiny)
    process = start(tiny)
    wait_for(lambda: (tiny.root / "pid").exists() and (tiny.root / "pid").read_text() != "")
    orphan = int((tiny.root / "pid").read_text())
    wait_for(lambda: any((tiny.root / ".coremlops" / "work").glob("*/owner.json")))
    process.kill()
    process.communicate()
    assert alive(orphan)
    work = tiny.root / ".coremlops" / "work"
    assert len(list(work.iterdir())) == 1
    told: list[str] = []

    class Ears:
        def started(self, step: str, index: int, total: int, log: Path) -> None:
            gate.touch()  # the new d may go on

        def finished(self, result: object, index: int, total: int) -> None:
            pass

        def tell(self, text: str) -> None:
            told.append(text)

    result = run(tiny.root, progress=Ears())
    assert statuses(result) == {"a": "cached", "b": "cached", "c": "cached", "d": "ran"}
    assert list(work.iterdir()) == []
    wait_for(lambda: not alive(orphan))
    assert any("ending the step that a killed run left behind" in text for text in told)
    output = result.step("d").output
    assert output is not None
    assert sorted(path.name for path in output.iterdir()) == ["copy.txt", "half"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_the_step_and_is_exit_130(tiny: Tiny, number: signal.Signals) -> None:
    slow(tiny)
    process = start(tiny)
    wait_for(lambda: (tiny.root / "pid").exists() and (tiny.root / "pid").read_text() != "")
    step = int((tiny.root / "pid").read_text())
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert not alive(step)
    assert list((tiny.root / ".coremlops" / "work").iterdir()) == []
    (record,) = (tiny.root / ".coremlops" / "outbox").glob("*.jsonl")
    assert json.loads(record.read_text().splitlines()[-1])["status"] == "KILLED"


@pytest.mark.parametrize("moment", ["starting", "claiming", "ending"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_while_a_step_starts_or_ends_leaves_none_alive(
    tiny: Tiny, number: signal.Signals, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when a process exists that nobody could name yet, or when its run is ending it."""
    tiny.steps.clear()
    tiny.step("d", "sleep 1000", {"x": "./data"})
    tiny.save()
    pids: list[int] = []
    real_popen, real_cancel = subprocess.Popen, process.Job.cancel

    def popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started: subprocess.Popen[bytes] = real_popen(*args, **options)
        pids.append(started.pid)
        if moment == "starting":
            os.kill(os.getpid(), number)
        return started

    def claim(work: Path, pid: int) -> None:
        if moment != "starting":
            os.kill(os.getpid(), number)
        lock.claim(work, pid)

    def cancel(job: process.Job) -> None:
        if moment == "ending":
            os.kill(os.getpid(), number)
        real_cancel(job)

    class Popen:
        Popen, DEVNULL, STDOUT = staticmethod(popen), subprocess.DEVNULL, subprocess.STDOUT

    monkeypatch.setattr(process, "subprocess", Popen)
    monkeypatch.setattr(process.Job, "cancel", cancel)
    monkeypatch.setattr(runner, "claim", claim)
    with pytest.raises(KeyboardInterrupt):
        run(tiny.root)
    (pid,) = pids
    try:
        assert not alive(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    assert list((tiny.root / ".coremlops" / "work").iterdir()) == []


def test_two_runs_at_once_wait_for_each_other(tiny: Tiny) -> None:
    gate = slow(tiny)
    first = start(tiny)
    wait_for(lambda: (tiny.root / "pid").exists())
    second = start(tiny)
    assert second.stderr is not None
    line = second.stderr.readline()
    assert line == f"another run (process {first.pid}) is working in this project; waiting for it\n"
    gate.touch()
    first.communicate(timeout=60)
    out, _ = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "ran" not in out


def test_a_step_cannot_run_its_own_pipeline(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREMLOPS_PROJECT", str(tiny.root))
    monkeypatch.setenv("COREMLOPS_STEP", "b")
    with pytest.raises(UsageError, match="step b runs the pipeline that it is part of"):
        run(tiny.root)


def test_what_a_step_leaves_running_is_ended(tiny: Tiny) -> None:
    tiny.step(
        "d",
        "(echo $BASHPID > {downstream}/pid; sleep 1000) & "
        "while [ ! -s {downstream}/pid ]; do sleep 0.02; done",
        {"x": "a"},
    )
    tiny.save()
    output = run(tiny.root).step("d").output
    assert output is not None
    wait_for(lambda: not alive(int((output / "pid").read_text())))


def test_steps_that_do_not_need_each_other_run_at_once(tiny: Tiny) -> None:
    tiny.steps.clear()
    meet = "touch {here} && for i in $(seq 500); do test -e {there} && break; sleep 0.02; done"
    for here, there in (("d", "e"), ("e", "d")):
        marks = {"here": str(tiny.root / f"{here}.mark"), "there": str(tiny.root / f"{there}.mark")}
        command = meet.format(**marks) + f" && test -e {marks['there']} && cp {marks['here']} {{downstream}}/"
        tiny.step(here, command, {"x": "./data"})
    tiny.save()
    result = run(tiny.root, jobs=2)
    assert statuses(result) == {"d": "ran", "e": "ran"}
    assert [step.name for step in result.steps] == ["d", "e"]


def test_one_job_runs_one_step_at_a_time(tiny: Tiny) -> None:
    tiny.steps.clear()
    alone = "mkdir {lock} && sleep 0.1 && rmdir {lock} && touch {{downstream}}/done"
    for name in ("d", "e"):
        tiny.step(name, alone.format(lock=tiny.root / "lock"), {"x": "./data"})
    tiny.save()
    assert run(tiny.root, jobs=1).ok


def test_when_a_step_fails_the_others_that_run_are_kept_and_none_starts(tiny: Tiny) -> None:
    tiny.steps.clear()
    started = tiny.root / "started"
    wait = f"for i in $(seq 500); do test -e {started} && break; sleep 0.02; done"
    tiny.step("bad", f"{wait}; exit 1", {"x": "./data"})
    tiny.step("slow", f"touch {started} && sleep 0.3 && touch {{downstream}}/done", {"x": "./data"})
    tiny.step("after", "touch {downstream}/done", {"x": "slow"})
    tiny.save()
    result = run(tiny.root, jobs=2, check=False)
    assert statuses(result) == {"bad": "failed", "slow": "ran"}
    assert isinstance(result.error, StepError)
    started.unlink()
    tiny.step("bad", "touch {downstream}/done", {"x": "./data"})
    tiny.steps.pop(0)
    tiny.save()
    again = run(tiny.root, jobs=2)
    assert statuses(again) == {"slow": "cached", "after": "ran", "bad": "ran"}
