"""Any pairing on arrays: a small fp16 network made by hand, against other models and recorded answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.errors import DataError, GateError, InputError, UsageError
from coremlops.model import model_digest
from coremlops.pipeline.components.proven import check_report
from coremlops.source import Reference, Sample, Samples, Tensor
from coremlops.verify import Gates, VerifyOptions, verify
from tests.compress.fixtures import network, weights
from tests.verify.fixtures import keeps, valid


class Net(Reference):
    """The same network in NumPy and float64."""

    def __call__(self, inputs: Any) -> dict[str, Any]:
        held = {name: value.astype(np.float64) for name, value in weights().items()}
        hidden = held["first"] @ np.asarray(inputs["x"], np.float64)[0] + held["bias"]
        return {"output_0": (held["second"] @ np.maximum(hidden, 0))[None]}


NET = Net("numpy", "net", "0" * 64, (Tensor("x", (1, 48)),), None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("pairings") / "net.mlpackage")


def _data(count: int = 12, *, truth: bool = True) -> Samples:
    rng = np.random.default_rng(4)
    samples = [
        Sample(f"{'night' if i % 3 == 0 else 'day'}_{i}", {"x": rng.normal(0, 1, (1, 48)).astype(np.float32)})
        for i in range(count)
    ]
    if truth:
        samples = [Sample(s.name, s.inputs, NET(s.inputs)["output_0"]) for s in samples]
    return Samples(f"{count} samples", count, lambda: iter(samples))


def test_arrays_against_a_source(model: Path) -> None:
    """The numbers by a plain loop."""
    import coremlops

    found = valid(verify(model, NET, _data()))
    loaded = coremlops.load(model)
    pairs = [(NET(s.inputs)["output_0"], loaded.predict(s.inputs)["y"]) for s in _data()]
    power = sum(float((a**2).sum()) for a, _ in pairs)
    noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    assert found["snr_db"] == pytest.approx(10 * np.log10(power / noise))
    assert found["outputs"]["y"]["max_abs"] == pytest.approx(max(np.abs(a - b).max() for a, b in pairs))
    low, high = found["intervals"]["snr_db"]
    assert low < found["snr_db"] < high
    assert "top1_agreement" not in found
    assert found["ok"]


def test_one_file_in_two_numeric_modes_and_what_may_not_be_published_for_it(
    model: Path, tmp_path: Path
) -> None:
    found = verify(model, model, _data(), VerifyOptions(against_precision="float32"))
    value = valid(found)
    assert value["source"]["kind"] == "coreml"
    assert value["source"]["precision"] == "float32"
    assert 50 < found.snr_db < 90
    assert verify(model, model, _data()).snr_db == 200.0
    assert any("same file" in note for note in found.notes)
    (tmp_path / "report.json").write_text(json.dumps(value))
    with pytest.raises(GateError, match="against itself"):
        check_report(tmp_path / "report.json", model_digest(model), done="registered")


def test_a_changed_weight_shows_and_its_slice_is_named(model: Path, tmp_path: Path) -> None:
    held = weights()
    held["second"] = (held["second"] * np.float16(1.5)).astype(np.float16)
    other = network(tmp_path / "other.mlpackage", values=held)
    gates = Gates().changed(["slice.snr_db=30", "y.max_abs=0.001"])
    options = VerifyOptions(slices=("name:^([a-z]+)_",), gates=gates)
    found = valid(verify(other, model, _data(), options))
    assert not found["ok"]
    assert {item["name"]: item["examples"] for item in found["slices"]} == {"day": 8, "night": 4}
    said = {gate["name"]: gate for gate in found["gates"]}
    assert said["slice.snr_db"]["slice"] == found["slices"][0]["name"]
    assert not said["y.max_abs"]["ok"]
    assert found["snr_db"] == pytest.approx(20 * np.log10(1 / 0.5), abs=0.1)


def test_metrics_of_both_sides_with_intervals_and_gates_at_their_ends(model: Path) -> None:
    gates = Gates().changed(["correlation.least=0.99", "correlation.drop=0.001"])
    options = VerifyOptions(metrics=("correlation", "tests.verify.test_pairings:near"), gates=gates)
    found = valid(verify(model, NET, _data(), options))
    correlation, near = found["metrics"]
    assert correlation["source"] == pytest.approx(1.0)
    assert near["model"] == 1.0
    assert near["model_interval"][0] == pytest.approx(0.7575, abs=1e-3)  # Wilson, 12 of 12
    assert found["ok"]
    strict = VerifyOptions(metrics=options.metrics, gates=Gates().changed(["near.least=0.9"]))
    report = verify(model, NET, _data(), strict)
    assert report.failed == ("near.least: at least 0.9 expected, got 1 (0.7575 to 1)",)


def near(outputs: list[dict[str, Any]], truths: list[Any]) -> list[bool]:
    return [bool(np.abs(o["y"] - t).max() < 0.01) for o, t in zip(outputs, truths, strict=True)]


def raises(outputs: list[Any], truths: list[Any]) -> None:
    raise KeyError("logits")


def too_many(outputs: list[Any], truths: list[Any]) -> list[int]:
    return [1] * (len(outputs) + 1)


def words(outputs: list[Any], truths: list[Any]) -> str:
    return "many"


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("raises", "raised KeyError"),
        ("too_many", r"a number an example expected, \[3\] or \[3, 2\], got \[4\]"),
        ("words", "got str"),
    ],
)
def test_a_metric_that_fails_says_so(model: Path, metric: str, said: str) -> None:
    options = VerifyOptions(metrics=(f"tests.verify.test_pairings:{metric}",))
    with pytest.raises(UsageError, match=said):
        verify(model, NET, _data(3), options)


def _recorded(package: Path, path: Path, **changed: Any) -> Path:
    examples = [{"name": s.name, "outputs": {"y": s.truth.tolist()}} for s in _data(3)]
    about = {"format": 0, "model": model_digest(package), "rests_on": "device", "by": "iPhone 15, iOS 18.1"}
    path.write_text(json.dumps(about | {"examples": examples} | changed))
    return path


def test_a_devices_answers_take_the_models_place(model: Path, tmp_path: Path) -> None:
    options = VerifyOptions(recorded=_recorded(model, tmp_path / "device.json"))
    found = verify(model, NET, _data(3), options)
    assert valid(found)["proof"] == "device"
    assert found.snr_db == 200.0
    assert any("iPhone 15" in note for note in found.notes)
    with pytest.raises(DataError, match="an answer for night_3 expected"):
        verify(model, NET, _data(6), options)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "0" * 64}, "answers of the model"),
        ({"rests_on": "hope"}, "device or mac"),
        ({"more": 1}, "exactly format"),
        ({"examples": [{"name": "a", "outputs": {"y": [[1], [2, 3]]}}]}, "numbers, a label"),
        ({"examples": []}, "1 to"),
    ],
)
def test_answers_that_cannot_be(model: Path, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    options = VerifyOptions(recorded=_recorded(model, tmp_path / "device.json", **changed))
    with pytest.raises(DataError, match=said):
        verify(model, NET, _data(3), options)


class Wide(Net):
    def __call__(self, inputs: Any) -> dict[str, Any]:
        return {"output_0": np.zeros((1, 49))}


class Two(Net):
    def __call__(self, inputs: Any) -> dict[str, Any]:
        return {"a": np.zeros((1, 48)), "b": super().__call__(inputs)["output_0"]}


class Lost(Net):
    def __call__(self, inputs: Any) -> dict[str, Any]:
        return {"output_0": np.full((1, 48), np.nan)}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Wide, r"output y: the shape \[1, 49\] expected, as on the other side, got \[1, 48\]"),
        (Two, "outputs that belong together expected"),
        (Lost, "not finite"),
    ],
)
def test_outputs_that_do_not_belong_together(model: Path, kind: type[Net], said: str) -> None:
    other = kind("numpy", "net", "0" * 64, (Tensor("x", (1, 48)),), None)
    with pytest.raises(InputError, match=said):
        verify(model, other, _data(2))


def test_a_pair_can_be_said(model: Path) -> None:
    other = Two("numpy", "net", "0" * 64, (Tensor("x", (1, 48)),), None)
    assert verify(model, other, _data(2), VerifyOptions(pairs=(("y", "b"),))).ok


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (VerifyOptions(gates=Gates(max_abs=1e-3)), UsageError, "OUTPUT.max_abs|for a classifier"),
        (VerifyOptions(gates=Gates().changed(["wer.most=0.1"])), UsageError, "'wer' is not measured"),
        (VerifyOptions(gates=Gates().changed(["slice.snr_db=1"])), UsageError, "slices expected"),
        (VerifyOptions(slices=("name:(",)), UsageError, "regular expression"),
        (VerifyOptions(slices=("name:^(z)",)), DataError, "no example is in any slice"),
        (VerifyOptions(engine="coreml"), UsageError, "on a Mac"),
        (VerifyOptions(confidence=1.0), UsageError, "0.5 to less than 1"),
        (VerifyOptions(metrics=("acuracy",)), UsageError, "no metric"),
    ],
)
def test_what_cannot_be_asked(model: Path, options: VerifyOptions, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        verify(model, NET, _data(2), options)


def test_a_metric_without_truths(model: Path) -> None:
    with pytest.raises(DataError, match="needs the truth"):
        verify(model, NET, _data(2, truth=False), VerifyOptions(metrics=("snr",)))


def test_random_data_and_shapes_through_the_command(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", str(model), "--against", str(model), "--against-precision", "float32", "--json"]
    assert main([*command, "--data", "random"]) == 0
    value = json.loads(capsys.readouterr().out)
    keeps(value, "report")
    assert any("random" in note for note in value["notes"])
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 1, 47), np.float32))
    assert main([*command, "--data", str(tmp_path / "d.npz")]) == 1
    assert "[1, 48]" in capsys.readouterr().err
    np.savez(tmp_path / "d.npz", x=np.full((3, 1, 48), np.nan, np.float32))
    assert main([*command, "--data", str(tmp_path / "d.npz")]) == 1
    assert "NaN" in capsys.readouterr().err
