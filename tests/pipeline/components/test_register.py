"""The step `register`: what it refuses, what it makes, and that it is not done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import GateError, InputError
from coremlops.pipeline.components.proven import read_proven
from coremlops.pipeline.components.register import reconcile
from coremlops.pipeline.components.register.__main__ import main
from coremlops.tracking.record import RunRecorder, process_identity
from coremlops.tracking.store import connect
from tests.pipeline.components.test_bundle import write_model

OK_REPORT = {
    "format": 1,
    "proof": "emulated",
    "ok": True,
    "data": {"digest": "ab" * 32, "examples": 10},
    "top1_agreement": 1.0,
    "accuracy": {"model": 0.9, "source": 0.9},
    "snr_db": 44.5,
    "gates": [],
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("COREMLOPS_", "MLFLOW_")):
            monkeypatch.delenv(name)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    model, report, metrics = (tmp_path / name for name in ("model", "report", "metrics"))
    digest = write_model(model)
    write_report(report, digest)
    metrics.mkdir()
    (metrics / "metrics.json").write_text('{"accuracy": 0.95, "note": "no number"}')
    return {"model": model, "report": report, "metrics": metrics}


def write_report(folder: Path, digest: str, **changes: Any) -> None:
    folder.mkdir(exist_ok=True)
    about = {"digest": digest, "bytes": 1}
    (folder / "report.json").write_text(json.dumps({**OK_REPORT, "model": about, **changes}))


def digest_of(inputs: dict[str, Path]) -> str:
    return str(json.loads((inputs["model"] / "conversion.json").read_text())["digest"])


def arguments(inputs: dict[str, Path], tmp_path: Path) -> list[str]:
    folders = [f"--{name}={path}" for name, path in inputs.items()]
    return [*folders, f"--downstream={tmp_path / 'out'}", "--name=faces"]


def test_a_report_that_says_no_is_a_gate(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = [{"name": "snr_db", "limit": 20, "value": 3.5, "ok": False}, {"name": "accuracy", "ok": True}]
    write_report(inputs["report"], digest_of(inputs), ok=False, gates=gates)
    with pytest.raises(GateError) as caught:
        read_proven(inputs["model"], inputs["report"], done="registered")
    assert caught.value.failed == ("snr_db: 3.5 (limit 20)",)
    assert main(arguments(inputs, tmp_path)) == 3
    assert "snr_db: 3.5 (limit 20)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ok", [None, "yes", 1])
def test_only_true_is_ok(inputs: dict[str, Path], ok: object) -> None:
    write_report(inputs["report"], digest_of(inputs), ok=ok)
    with pytest.raises(GateError):
        read_proven(inputs["model"], inputs["report"], done="registered")


def test_a_report_about_another_model_is_refused(inputs: dict[str, Path]) -> None:
    write_report(inputs["report"], "0" * 64)
    with pytest.raises(InputError, match=f"expected {digest_of(inputs)}, got {'0' * 64}"):
        read_proven(inputs["model"], inputs["report"], done="registered")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"ok": true}', "[" * 100_000])
def test_a_report_that_is_damaged_is_refused(inputs: dict[str, Path], content: str) -> None:
    (inputs["report"] / "report.json").write_text(content)
    with pytest.raises(InputError):
        read_proven(inputs["model"], inputs["report"], done="registered")


@pytest.mark.parametrize("name", ["model", "report"])
def test_an_input_that_is_missing_is_named(inputs: dict[str, Path], tmp_path: Path, name: str) -> None:
    inputs[name] = tmp_path / "nowhere"
    with pytest.raises(InputError, match=r"cannot read .*nowhere/.*\.json: No such file"):
        read_proven(inputs["model"], inputs["report"], done="registered")
    assert main(arguments(inputs, tmp_path)) == 1


def test_a_model_that_was_changed_after_its_conversion_is_refused(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = inputs["model"] / "model.mlpackage" / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    weights.write_bytes(b"other weights")
    assert main(arguments(inputs, tmp_path)) == 1
    assert "is not the model of conversion.json" in capsys.readouterr().err


def test_nothing_is_present_where_there_is_no_store(inputs: dict[str, Path], tmp_path: Path) -> None:
    assert reconcile.present(inputs, {"name": "faces"}, tmp_path) is None
    assert not (tmp_path / "mlflow.db").exists()


def test_the_look_imports_no_mlflow() -> None:
    code = (
        "import sys; import coremlops.pipeline.components.register.reconcile\n"
        "print(sorted({'mlflow', 'numpy', 'onnx', 'sqlalchemy', 'pandas'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.slow
def test_a_proven_model_becomes_a_version_once(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "faces"
    project.mkdir()
    uri = f"sqlite:///{project}/mlflow.db"
    monkeypatch.setenv("COREMLOPS_SENDER_LINGER_S", "5")
    monkeypatch.setenv("COREMLOPS_PROJECT", str(project))
    monkeypatch.setenv("COREMLOPS_RUN_ID", "run-1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    run = RunRecorder(project, "run-1", name="faces main", tracking_uri=uri, experiment="faces")
    run.run_started({}, {})
    assert process_identity(os.getpid()) is not None
    params = {"name": "faces", "tracking_uri": uri}
    assert reconcile.present(inputs, params, project) is None
    assert main(arguments(inputs, tmp_path)) == 0
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    digest = digest_of(inputs)
    assert (receipt["action"], receipt["version"], receipt["digest"]) == ("done", "1", digest)

    client = connect(uri)
    parent = client.get_run(receipt["run_id"])
    assert parent.data.tags["coremlops.run_id"] == "run-1"
    model = client.get_logged_model(parent.outputs.model_outputs[0].model_id)
    assert model.tags["coremlops.digest"] == digest
    assert model.tags["coremlops.data_digest"] == "ab" * 32
    assert model.params["target"] == "iOS16"
    assert {m.key: m.value for m in model.metrics} == {
        "accuracy": 0.95,
        "proof.accuracy": 0.9,
        "proof.snr_db": 44.5,
        "proof.top1_agreement": 1.0,
    }
    assert client.get_registered_model("faces").aliases == {}

    expected = {"action": "present", "name": "faces", "version": "1", "digest": digest}
    assert reconcile.present(inputs, params, project) == expected
    assert main(arguments(inputs, tmp_path)) == 0
    assert json.loads((tmp_path / "out" / "receipt.json").read_text())["action"] == "present"
    client.delete_model_version("faces", "1")
    assert reconcile.present(inputs, params, project) is None
    write_report(inputs["report"], digest, ok=False)
    assert reconcile.present(inputs, params, project) is None


@pytest.mark.slow
def test_the_step_alone_makes_a_run_of_its_own(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "alone")
    assert main(arguments(inputs, tmp_path)) == 0
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    run = connect(f"sqlite:///{tmp_path}/mlflow.db").get_run(receipt["run_id"])
    assert (run.info.run_name, run.info.status) == ("register", "FINISHED")
