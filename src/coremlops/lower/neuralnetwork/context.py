"""What a layer's rule is given: it adds nodes, asks for sizes, and reads ranks off the values.

A network declares no types, so every node's result is typed when it is appended, by ONNX's own inference.
Numbers are float32 everywhere, indices and truth values among them; a rule may use others inside.

Layers of images work on [N, C, H, W], whatever stands before: `merged` gives that view, and `restored` goes
back. A restored value remembers the view that it came from, so that a chain of such layers needs no reshape:
what nobody uses is dropped in the end.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

from coremlops.dialects.mil.graph import TensorType
from coremlops.errors import ModelFormatError
from coremlops.lower.context import Lowering
from coremlops.lower.neuralnetwork.custom import HostStep
from coremlops.lower.neuralnetwork.graph import NetworkGraph
from coremlops.lower.onnx_graph import ONNX_DTYPES
from coremlops.lower.registry import Unsupported, Value

MAX_ELEMENTS = 1 << 28  # of one value: 1 GiB of float32
_KNOWN = 64  # elements of a constant that inference looks at

# A size: known, or a vector of one int64 that is known at run time.
Size: TypeAlias = int | Value

_DTYPES = {code: name for name, code in ONNX_DTYPES.items() if name != "fp16"}


class NetworkLowering(Lowering):
    """The lowering of one network."""

    graph: NetworkGraph

    def __init__(
        self, graph: NetworkGraph, *, precision: str, opset: int, most_bytes: int = sys.maxsize
    ) -> None:
        """`most_bytes`: of constants, as the engine has them."""
        super().__init__(graph, precision=precision, opset=opset, most_bytes=most_bytes)
        self.label = "value"  # what the current layer's values are called
        self.outputs = 1  # of the current layer
        self.stages: list[NetworkGraph | HostStep] = [graph]
        self._home: dict[str, int] = {}  # which stage gives a value
        self._opsets = [helper.make_opsetid("", opset)]
        self._views: dict[tuple[str, int], Value] = {}
        self._origins: dict[str, Value] = {}

    # --- nodes and constants

    def nodes(self, op: str, count: int, *inputs: Value | None, **attributes: Any) -> tuple[Value, ...]:
        """Append an ONNX node that has `count` outputs, and return them with their types."""
        names = [self.use(value) for value in inputs]
        outputs = [self.graph.reserve(self.label) for _ in range(count)]
        while names and not names[-1]:
            names.pop()
        self.graph.node(op, names, outputs, attributes)
        types = self._infer(op, inputs)
        return tuple(self._new(name, types.get(name)) for name in outputs)

    def _new(self, name: str, type_: TensorType | None) -> Value:
        self._home[name] = len(self.stages) - 1
        return Value(name, self.checked(type_))

    def use(self, value: Value | None) -> str:
        """The ONNX name of a value, which an earlier stage hands over when it is not of this one."""
        if value is not None and value.constant is None:
            home = self._home[value.name]
            if home != len(self.stages) - 1 and value.name not in self.graph.received:
                self.graph.receive(value.name, value.type or TensorType("fp32", None))
                source = self.stages[home]
                if isinstance(source, NetworkGraph):
                    source.hand_over(value.name, value.type or TensorType("fp32", None))
        return super().use(value)

    def input(self, name: str, type_: TensorType) -> Value:
        """Declare an input of the network."""
        if self.graph.reserve(name) != name:
            raise ModelFormatError(f"two inputs have the name {name!r}")
        self.graph.input(name, type_)
        return self._new(name, type_)

    def formal(self, *shape: int | None, dtype: str = "fp32") -> Value:
        """An input of a subgraph."""
        return self._new(self.graph.reserve(self.label), TensorType(dtype, shape))

    def untyped(self, dtype: str = "fp32") -> Value:
        """An input of a subgraph of which not even the rank is known."""
        return self._new(self.graph.reserve(self.label), TensorType(dtype, None))

    def info(self, value: Value) -> Any:
        """How a subgraph declares a value that it takes or gives."""
        type_ = value.type or TensorType("fp32", None)
        return helper.make_tensor_value_info(value.name, ONNX_DTYPES[type_.dtype], type_.shape)

    @contextmanager
    def subgraph(self) -> Iterator[list[Any]]:
        """Collect the nodes that are appended meanwhile; views made there are not known outside."""
        views, origins = dict(self._views), dict(self._origins)
        try:
            with self.graph.subgraph() as nodes:
                yield nodes
        finally:
            self._views, self._origins = views, origins

    def host_step(
        self, step: HostStep, inputs: Sequence[Value], types: Sequence[TensorType]
    ) -> tuple[Value, ...]:
        """End this stage: what follows is computed after `step`, which the host does with `inputs`."""
        names = []
        for value in inputs:
            if value.constant is not None or len(self.stages) - 1 != self._home.get(value.name):
                value = self.node("Identity", value)
            self.graph.hand_over(value.name, value.type or TensorType("fp32", None))
            names.append(value.name)
        outputs = tuple(self.graph.reserve(self.label) for _ in types)
        self.stages.append(replace(step, inputs=tuple(names), outputs=outputs))
        values = tuple(self._new(name, type_) for name, type_ in zip(outputs, types, strict=True))
        self.graph = NetworkGraph(self.graph.name, self.graph.names)
        self._emitted.clear()
        self.stages.append(self.graph)
        return values

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """A constant that a rule needs; numbers are float32 unless `dtype` says otherwise."""
        values = np.asarray(
            array, np.float32 if dtype is None and not isinstance(array, np.ndarray) else dtype
        )
        code = helper.np_dtype_to_tensor_dtype(values.dtype)
        self.held(values)
        return Value(
            self.graph.reserve(f"{self.label}.constant"), TensorType(_DTYPES[code], values.shape), values
        )

    def weight(self, array: np.ndarray[Any, Any]) -> Value:
        """A constant of the file: in float16 mode it is rounded."""
        if self.precision == "float16":
            with np.errstate(over="ignore"):
                array = array.astype(np.float16).astype(np.float32)
        return self.constant(array)

    def rounded(self, value: Value) -> Value:
        """`value` as fp16 holds it, computed with as float32."""
        half = self.node("Cast", value, to=TensorProto.FLOAT16)
        return self.node("Cast", half, to=TensorProto.FLOAT)

    def _infer(self, op: str, inputs: Sequence[Value | None]) -> dict[str, TensorType]:
        node = self.graph.last
        if op in ("If", "Loop", "Scan"):
            return {}
        given = [value for value in inputs if value is not None]
        types = {value.name: _type_proto(value.type) for value in given if value.type is not None}
        data = {
            value.name: numpy_helper.from_array(value.constant, value.name)
            for value in given
            if value.constant is not None and value.constant.size <= _KNOWN
        }
        schema = defs.get_schema(op, self.opset, "")
        try:
            found = shape_inference.infer_node_outputs(
                schema, node, types, input_data=data, opset_imports=self._opsets, ir_version=9
            )
        except Exception as error:  # InferenceError, and what the C++ side lets out
            raise ValueError(str(error).strip() or "shapes that do not fit") from error
        return {name: _tensor_type(proto) for name, proto in found.items()}

    def checked(self, type_: TensorType | None) -> TensorType | None:
        """`type_`, which holds a number of elements that can be allocated. Raises ModelFormatError."""
        shape = type_.shape if type_ is not None else None
        if shape is not None and math.prod(size or 1 for size in shape) > MAX_ELEMENTS:
            raise ModelFormatError(f"a value of the shape {list(shape)}; at most {MAX_ELEMENTS} elements")
        return type_

    # --- types

    def retyped(self, value: Value, *shape: int | None, dtype: str | None = None) -> Value:
        """The same value, of which a rule knows more than inference does."""
        return Value(value.name, self.checked(TensorType(dtype or value.dtype, shape)), value.stored)

    def integers(self, value: Value) -> Value:
        """int64 from float32: what the network computes with as indices; a fraction is cut off."""
        if value.constant is not None:
            with np.errstate(invalid="ignore"):
                return self.constant(value.constant.astype(np.int64), np.int64)
        return self.node("Cast", value, to=TensorProto.INT64)

    def numbers(self, value: Value) -> Value:
        """float32 from integers or truth values."""
        if value.constant is not None:
            return self.constant(value.constant.astype(np.float32))
        return self.node("Cast", value, to=TensorProto.FLOAT)

    def truth(self, value: Value) -> Value:
        """bool from float32: what is not zero."""
        return self.node("Cast", value, to=TensorProto.BOOL)

    # --- shapes

    def size(self, x: Value, axis: int) -> Size:
        """The size of an axis: a number, or a vector of one that is known at run time."""
        axis = x.axis(axis)
        known = x.shape[axis]
        return known if known is not None else self.node("Shape", x, start=axis, end=axis + 1)

    def sizes(self, x: Value, start: int = 0, end: int | None = None) -> list[Size]:
        """The sizes of some axes."""
        return [self.size(x, axis) for axis in range(x.rank)[start:end]]

    def vector(self, sizes: Sequence[Size]) -> Value:
        """Sizes as one vector of int64."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints(sizes)
        parts = [self.ints([size]) if isinstance(size, int) else size for size in sizes]
        return self.node("Concat", *parts, axis=0)

    def shape_vector(self, x: Value) -> Value:
        """The shape of a value as a vector of int64; a constant when it is known."""
        if x.type is not None and x.type.shape is not None and None not in x.type.shape:
            return self.ints(x.type.shape)
        return self.node("Shape", x)

    def reshape(self, x: Value, sizes: Sequence[Size]) -> Value:
        """`x` in another shape; one size may be -1."""
        unknown = [index for index, size in enumerate(sizes) if not isinstance(size, int)]
        target = list(sizes)
        if len(unknown) == 1 and -1 not in [size for size in sizes if isinstance(size, int)]:
            target[unknown[0]] = -1
        known = tuple(size if isinstance(size, int) and size >= 0 else None for size in sizes)
        if None not in known and x.type is not None and x.type.shape is not None:
            if x.type.shape == known:
                return x
            have = x.type.shape
            if None not in have and math.prod(map(_known, have)) != math.prod(map(_known, known)):
                raise ValueError(f"the shape {list(have)} has another number of elements than {list(known)}")
        result = self.node("Reshape", x, self.vector(target), allowzero=1 if 0 in target else None)
        found = result.type.shape if result.type is not None and result.type.shape is not None else known
        shape = tuple(a if a is not None else b for a, b in zip(known, found, strict=True))
        return self.retyped(result, *shape, dtype=x.dtype)

    def at_least_1d(self, x: Value) -> Value:
        """A single number as a vector of one."""
        return self.reshape(x, [1]) if x.type is not None and x.type.shape == () else x

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """`x` with its axes in that order. Raises ValueError when it is no order of them."""
        if sorted(axes) != list(range(x.rank)):
            raise ValueError(f"the order {list(axes)} of {x.rank} axes")
        return x if list(axes) == sorted(axes) else self.node("Transpose", x, perm=list(axes))

    def slice(self, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
        """A part of one axis."""
        return self.node(
            "Slice", x, self.ints([start]), self.ints([end]), self.ints([axis]), self.ints([step])
        )

    # --- views

    def merged(self, x: Value, trailing: int = 3) -> Value:
        """`x` as [N, ...] with its last `trailing` axes, all axes before them merged into N."""
        if x.rank == trailing + 1:
            return x
        if x.rank < trailing:
            raise Unsupported(f"a value of rank {x.rank}; expected at least {trailing}")
        if (x.name, trailing) not in self._views:
            view = self.reshape(x, [-1 if x.rank > trailing else 1, *self.sizes(x, x.rank - trailing)])
            lead = x.shape[: x.rank - trailing]
            if None not in lead:
                view = self.retyped(view, math.prod(size or 0 for size in lead), *view.shape[1:])
            self._views[x.name, trailing] = view
        return self._views[x.name, trailing]

    def restored(self, y: Value, like: Value, trailing: int = 3) -> Value:
        """What `merged(like)` became, with the axes of `like` before the last `trailing` ones again."""
        if like.rank == trailing + 1:
            return y
        origin = self._origins.get(like.name, like)
        lead = origin.rank - trailing
        result = self.reshape(y, [*self.sizes(origin, 0, lead), *self.sizes(y, 1)])
        self._views[result.name, trailing] = y
        self._origins[result.name] = origin
        return result

    def on_images(self, x: Value, function: Callable[[Value], Value]) -> Value:
        """Apply a function of [N, C, H, W] to the last three axes."""
        return self.restored(function(self.merged(x)), x)

    def elementwise(self, function: Callable[..., Value], *values: Value) -> Value:
        """Apply a function that keeps shapes, or broadcasts, on the views that all the values have."""
        origin = self._origins.get(values[0].name)
        rank = values[0].rank if origin is not None else None
        if origin is None or any(
            self._origins.get(value.name) is not origin
            or value.rank != rank
            or (value.name, 3) not in self._views
            for value in values
        ):
            return function(*values)
        return self.restored(function(*(self._views[value.name, 3] for value in values)), values[0])


def _known(size: int | None) -> int:
    return size or 0


def _type_proto(type_: TensorType) -> Any:
    return helper.make_tensor_type_proto(ONNX_DTYPES[type_.dtype], type_.shape)


def _tensor_type(proto: Any) -> TensorType:
    tensor = proto.tensor_type
    dtype = _DTYPES.get(tensor.elem_type, "fp32")
    if not tensor.HasField("shape"):
        return TensorType(dtype, None)
    return TensorType(
        dtype,
        tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim),
    )
