"""ONNX's messages without the package: the same classes, the same nodes."""

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from coremlops.lower import onnx_ml


@pytest.mark.parametrize("order", [("coremlops.lower.onnx_ml", "onnx"), ("onnx", "coremlops.lower.onnx_ml")])
def test_whichever_is_imported_first_there_is_one_set_of_classes(order: tuple[str, str]) -> None:
    code = (
        f"import {order[0]}, {order[1]}, sys, onnx.checker, onnx.helper\n"
        "from coremlops.lower import onnx_ml\n"
        "assert onnx_ml.ModelProto is onnx.ModelProto\n"
        "graph = onnx_ml.make_graph([], 'g', [], [])\n"
        "model = onnx_ml.make_model(graph, ir_version=9, opset_imports=[onnx_ml.make_opsetid('', 18)], "
        "producer_name='p')\n"
        "onnx.checker.check_model(model)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_running_a_model_does_not_import_the_package() -> None:
    rooms = ", ".join(
        f"coremlops.{room}"
        for room in ("runtime.model", "runtime.session", "lower.ops", "lower.classic.trees")
    )
    code = f"import sys, {rooms}; print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "attributes",
    [
        {"axis": -1, "mode": "linear", "epsilon": 1e-5},
        {"pads": (0, 1, 0, 1), "scales": [1.0, 2.0], "names": ["a", "b"], "keep": True},
        {"to": np.int64(7), "alpha": np.float32(0.1), "axes": np.array([1, 2])},
        {"value": helper.make_tensor("t", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])},
        {"body": helper.make_graph([], "inner", [], [])},
    ],
)
def test_nodes_are_those_of_the_package(attributes: dict[str, Any]) -> None:
    made = onnx_ml.make_node("Op", ["x", ""], ["y"], name="n", domain="ai.onnx.ml", **attributes)
    expected = helper.make_node("Op", ["x", ""], ["y"], name="n", domain="ai.onnx.ml", **attributes)
    assert made == expected


def test_an_attribute_that_onnx_cannot_hold() -> None:
    with pytest.raises(TypeError, match="attribute odd"):
        onnx_ml.make_attribute("odd", [object()])


@pytest.mark.parametrize("shape", [None, (), (2, None, 0)])
def test_types_are_those_of_the_package(shape: Any) -> None:
    assert onnx_ml.make_tensor_value_info("x", 1, shape) == helper.make_tensor_value_info("x", 1, shape)


@pytest.mark.parametrize(
    "array", [np.arange(6, dtype=np.float64).reshape(2, 3).T, np.zeros((0, 2), np.uint8), np.array(True)]
)
def test_tensors_are_those_of_the_package(array: Any) -> None:
    assert onnx_ml.from_array(array) == numpy_helper.from_array(array)


@pytest.mark.parametrize("dtype", ["<f4", "f8", "i1", "<i8", "u2", "?"])
def test_dtypes_are_those_of_the_package(dtype: str) -> None:
    assert onnx_ml.np_dtype_to_tensor_dtype(np.dtype(dtype)) == helper.np_dtype_to_tensor_dtype(
        np.dtype(dtype)
    )
