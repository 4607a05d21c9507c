"""An ONNX graph under construction: nodes, names, constants.

The package `onnx` is not imported; see `onnx_ml`. (`onnx_ir` would pull in sympy: 0.6 s.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import TensorType
from coremlops.lower import onnx_ml as helper
from coremlops.lower.onnx_ml import TensorProto

IR_VERSION = 9
DEFAULT_OPSET = 18
# Operators of other domains, and the version of each that we speak.
DOMAINS = {"ai.onnx.ml": 5}
# Constants from this size on stay beside the graph, as the arrays that they are, and are handed to the engine
# without a copy through the protobuf.
EXTERNAL_BYTES = 1024
_LOCATION = "weights"

# fp16 is computed in float32 and rounded where MIL says so: as native fp16, ONNX Runtime never overflows.
ONNX_DTYPES: dict[str, int] = {
    "fp16": TensorProto.FLOAT,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
    # Constants alone are of these types.
    "int4": TensorProto.INT8,
    **dict.fromkeys(("uint1", "uint2", "uint3", "uint4", "uint6"), TensorProto.UINT8),
}


class OnnxGraph:
    """Collects nodes and constants; `build` makes the model.

    `weights`: the big constants as they are stored. One of fp16 stands for float32, as its initializer says;
    `widened` gives that.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.weights: dict[str, np.ndarray[Any, Any]] = {}
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._initializers_go_to = self._initializers
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._names: dict[str, int] = {}  # taken names, and the highest number that each has been given
        self._domains: set[str] = set()

    def reserve(self, name: str) -> str:
        """`name`, or `name` with a number when it is taken; taken from now on."""
        free, number = name, self._names.get(name, 1)
        while free in self._names:
            number += 1
            free = f"{name}.{number}"
        self._names[free] = 1
        self._names[name] = number  # so that the next one is found at once
        return free

    def node(self, op: str, inputs: list[str], outputs: list[str], attributes: Mapping[str, Any]) -> None:
        """Append a node, named for its first output; attributes that are None are left out."""
        given = {name: value for name, value in attributes.items() if value is not None}
        self._domains.add(given.get("domain", ""))
        self._nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **given))

    def constant(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """Add an initializer, of float32 for an array of fp16; a big one only by reference."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        computed = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype
        tensor = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(computed))
        if array.nbytes < EXTERNAL_BYTES:
            tensor.raw_data = widened(array).tobytes()
        else:
            self.weights[name] = array
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", _LOCATION),
                ("offset", "0"),
                ("length", str(widened_bytes(array))),
            ):
                tensor.external_data.add(key=key, value=value)
        self._initializers_go_to.append(tensor)

    def adopt(self, node: Any) -> None:
        """Append a node of another graph."""
        self._domains.add(node.domain)
        self._nodes.append(node)

    def adopt_constant(self, tensor: Any, array: np.ndarray[Any, Any] | None) -> None:
        """Add an initializer of another graph; `array` when it is a big one, by reference."""
        if array is not None:
            self.weights[tensor.name] = array
        self._initializers.append(tensor)

    def input(self, name: str, type_: TensorType) -> None:
        """Declare a graph input."""
        self._inputs.append(value_info(name, type_))

    def output(self, name: str, type_: TensorType) -> None:
        """Declare a graph output."""
        self._outputs.append(value_info(name, type_))

    def inner(self, name: str) -> OnnxGraph:
        """An empty graph to stand inside this one, such as the body of a loop: names are shared."""
        inner = OnnxGraph(name)
        inner._names, inner._domains, inner.weights = self._names, self._domains, self.weights
        return inner

    def nested(self, name: str) -> OnnxGraph:
        """An inner graph whose constants stand in the outermost one, where all graphs see them."""
        graph = self.inner(name)
        graph._initializers_go_to = self._initializers_go_to
        return graph

    def body(self) -> Any:
        """The graph alone, as an attribute of a node."""
        return helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, initializer=self._initializers
        )

    def build(self, opset: int) -> Any:
        """The model; its big constants are in `weights`."""
        others = [helper.make_opsetid(name, DOMAINS[name]) for name in sorted(self._domains - {""})]
        return helper.make_model(
            self.body(),
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", opset), *others],
            producer_name="coremlops",
        )


def value_info(name: str, type_: TensorType) -> Any:
    """The declaration of a tensor."""
    return helper.make_tensor_value_info(name, ONNX_DTYPES[type_.dtype], type_.shape)


def embed_weights(model: Any, weights: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """A copy of `model` that holds its big constants itself: what one writes to a file."""
    whole = type(model)()
    whole.CopyFrom(model)
    for tensor in whole.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = widened(weights[tensor.name]).tobytes()
    return whole


def widened(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A stored constant in the dtype that is computed with: fp16 becomes float32, the rest is what it was."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def widened_bytes(array: np.ndarray[Any, Any]) -> int:
    """The size of `widened(array)`."""
    return 4 * array.size if array.dtype == np.float16 else array.nbytes
