"""Engines: which there are, what they refuse, and that they agree."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import coremlops
from coremlops.dialects.mil import Ref
from coremlops.errors import MissingExtraError, ModelError, UsageError
from coremlops.runtime.engines import open_session, rounds_to_fp16
from tests.handmade import adder
from tests.lower.programs import function, lower, operation, typed

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra `openvino` is not installed"
)


def test_an_engine_that_this_machine_lacks_is_named(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has it")
    with pytest.raises(UsageError, match="no CUDA provider") as caught:
        coremlops.load(adder(tmp_path / "a.mlpackage"), engine="cuda")
    assert "onnxruntime-gpu" in caught.value.hint


def test_openvino_that_is_not_installed_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"coremlops\[openvino\]"):
        coremlops.load(adder(tmp_path / "a.mlpackage"), engine="openvino")


def test_openvino_is_refused_where_fp16_must_be_faithful(tiny_classifier: Path) -> None:
    for precision in ("typed", "float16"):
        with pytest.raises(UsageError, match="does not round fp16 values") as caught:
            coremlops.load(tiny_classifier, engine="openvino", precision=precision)
        assert "float32" in caught.value.hint


def test_a_graph_rounds_where_a_cast_to_fp16_stands() -> None:
    half, wide = typed("fp16", 3), typed("fp32", 3)
    for type_, expected in ((half, True), (wide, False)):
        program = function({"x": type_}, [operation("tanh", "y", type_, x=Ref("x"))])
        assert rounds_to_fp16(lower(program).model) is expected
        assert not rounds_to_fp16(lower(program, "float32").model)


@needs_openvino
def test_openvino_agrees_in_float32(tiny_classifier: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    found = [
        coremlops.load(tiny_classifier, precision="float32", engine=engine, threads=1).predict(
            {"image": pixels}
        )["classLabel_probs"]
        for engine in ("onnxruntime", "openvino")
    ]
    # float32 sums in another order
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@needs_openvino
def test_openvino_takes_a_typed_model_without_fp16_and_its_failures_are_ours(tmp_path: Path) -> None:
    model = coremlops.load(adder(tmp_path / "a.mlpackage"), engine="openvino")
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model.predict({"x": x})["y"], x + np.arange(6).reshape(2, 3))
    session = open_session(model.lowered, engine="openvino")
    with pytest.raises(ModelError, match="OpenVINO failed"):
        session.run({"ghost": x})
