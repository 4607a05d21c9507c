"""An interpreter of MIL in NumPy: what `typed` means, written a second time and without an engine.

Each op is computed in float32 (sums in float64, as no order of adding is declared) and rounded once to the
type that the program declares. Values are what fp16 or fp32 holds, as float32; integers and booleans as
declared. Slow and small: an oracle, not a runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.mil import BlobRef, Function, Operation, Ref, TensorType
from coremlops.dialects.mil.graph import NUMPY_DTYPES

Array: TypeAlias = np.ndarray[Any, Any]
Inputs: TypeAlias = Mapping[str, Any]

OPS: dict[str, Callable[[Inputs], Any]] = {}
# Ops that are a function of one value each.
FUNCTIONS: set[str] = set()
# Ops whose exact result lies often in the middle between two fp16 values.
BETWEEN = frozenset(["resize_bilinear", "upsample_bilinear", "resize"])
# Ops whose result float32 arithmetic determines to the bit: nothing is summed, no function is approximated.
EXACT = frozenset(
    [
        "add",
        "sub",
        "mul",
        "real_div",
        "maximum",
        "minimum",
        "relu",
        "relu6",
        "leaky_relu",
        "clip",
        "clamped_relu",
        "abs",
        "sign",
        "floor",
        "ceil",
        "square",
        "sqrt",
        "inverse",
        "threshold",
        "cast",
        "identity",
        "reshape",
        "transpose",
        "squeeze",
        "expand_dims",
        "concat",
        "split",
        "slice_by_index",
        "slice_by_size",
        "gather",
        "pad",
        "max_pool",
        "reduce_max",
        "reduce_min",
        "stack",
        "tile",
        "select",
        "equal",
        "not_equal",
        "less",
        "greater",
        "less_equal",
        "greater_equal",
        "logical_and",
        "logical_or",
        "logical_not",
        "logical_xor",
    ]
)


def evaluate(operation: Operation, inputs: Inputs) -> tuple[Array, ...]:
    """The results of one operation on given values, rounded to their declared types.

    Raises KeyError for an op that the interpreter does not have.
    """
    with np.errstate(all="ignore"):
        found = OPS[operation.type](inputs)
    results = found if isinstance(found, tuple) else (found,)
    return tuple(
        rounded(value, output.type) for value, output in zip(results, operation.outputs, strict=True)
    )


def rounded(value: Any, type_: Any) -> Array:
    """A value in the numbers that its declared type holds; fp16 as float32."""
    assert isinstance(type_, TensorType)
    dtype = NUMPY_DTYPES[type_.dtype]
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(value).astype(np.float32) if dtype.kind == "f" else np.asarray(value)
        array = array.astype(dtype)
    return array.astype(np.float32) if dtype == np.float16 else array


def run(
    function: Function, feeds: Mapping[str, Array], read_blob: Callable[[BlobRef], Array]
) -> dict[str, Any]:
    """Every value of a function without nested blocks, by name."""
    values: dict[str, Any] = {}
    for entry in function.inputs:
        values[entry.name] = rounded(feeds[entry.name], entry.type)
    for operation in function.block.operations:
        inputs = bound(operation, values, read_blob)
        if operation.type == "const":
            values[operation.outputs[0].name] = constant(operation.attributes["val"], read_blob)
            continue
        results = evaluate(operation, inputs)
        values.update(zip((output.name for output in operation.outputs), results, strict=True))
    return values


def bound(operation: Operation, values: Mapping[str, Any], read_blob: Callable[[BlobRef], Array]) -> Inputs:
    """The inputs of an operation by name; a variadic one is a list."""

    def one(entry: Any) -> Any:
        return values[entry.name] if isinstance(entry, Ref) else constant(entry, read_blob)

    found = {}
    for name, bindings in operation.inputs.items():
        many = len(bindings) > 1 or name == "values"
        found[name] = [one(entry) for entry in bindings] if many else one(bindings[0])
    return found


def constant(entry: Any, read_blob: Callable[[BlobRef], Array]) -> Any:
    """A constant's value; fp16 as float32."""
    if isinstance(entry, BlobRef):
        array = read_blob(entry).reshape(tuple(axis or 0 for axis in entry.type.shape or ()))
    else:
        array = entry.value
    if isinstance(array, np.ndarray) and array.dtype == np.float16:
        return array.astype(np.float32)
    return array


def op(*names: str) -> Callable[[Callable[[Inputs], Any]], Callable[[Inputs], Any]]:
    """Register a function for ops."""

    def register(function: Callable[[Inputs], Any]) -> Callable[[Inputs], Any]:
        OPS.update(dict.fromkeys(names, function))
        return function

    return register


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x


def wide(x: Any) -> Array:
    """In float64."""
    return np.asarray(x, np.float64)


_SIGMOID: Callable[[Array], Array] = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
_UNARY: dict[str, Callable[[Array], Any]] = {
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "square": lambda x: x * x,
    "sqrt": np.sqrt,
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "relu6": lambda x: np.clip(x, np.float32(0), np.float32(6)),
    "identity": lambda x: x,
    "logical_not": np.logical_not,
    "exp": lambda x: np.exp(wide(x)),
    "tanh": lambda x: np.tanh(wide(x)),
    "erf": lambda x: _erf(wide(x)),
    "sin": lambda x: np.sin(wide(x)),
    "cos": lambda x: np.cos(wide(x)),
    "sigmoid": lambda x: _SIGMOID(wide(x)),
    "silu": lambda x: wide(x) * _SIGMOID(wide(x)),
    "softsign": lambda x: wide(x) / (1 + np.abs(wide(x))),
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "pow": lambda x, y: np.power(wide(x), wide(y)),
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_mean": lambda x, **k: np.mean(wide(x), **k),
    "reduce_sum": lambda x, **k: np.sum(wide(x), **k),
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": lambda x, **k: np.prod(wide(x), **k),
    "reduce_sum_square": lambda x, **k: np.sum(wide(x) ** 2, **k),
    "reduce_l2_norm": lambda x, **k: np.sqrt(np.sum(wide(x) ** 2, **k)),
}
# mypy does not infer a lambda with a default value, which holds the function of this turn.
for _name, _one in _UNARY.items():
    FUNCTIONS.add(_name)
    OPS[_name] = lambda given, call=_one: call(given["x"])  # type: ignore[misc]
for _name, _two in _BINARY.items():
    OPS[_name] = lambda given, call=_two: call(given["x"], given["y"])  # type: ignore[misc]
for _name, _many in _REDUCTIONS.items():
    OPS[_name] = lambda given, call=_many: reduced(call, given)  # type: ignore[misc]


def reduced(call: Callable[..., Any], given: Inputs) -> Any:
    """A reduction over the op's axes."""
    axes = given.get("axes")
    over = None if axes is None else tuple(int(axis) for axis in axes)
    return call(given["x"], axis=over, keepdims=bool(given.get("keep_dims", False)))


@op("clip")
def _clip(given: Inputs) -> Any:
    return np.clip(given["x"], np.float32(given["alpha"]), np.float32(given["beta"]))


@op("leaky_relu")
def _leaky(given: Inputs) -> Any:
    x = given["x"]
    return np.where(x >= 0, x, x * np.float32(given["alpha"]))


@op("gelu")
def _gelu(given: Inputs) -> Any:
    x, mode = wide(given["x"]), given.get("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * _SIGMOID(1.702 * x)
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


@op("softmax")
def _softmax(given: Inputs) -> Any:
    x, axis = wide(given["x"]), int(given.get("axis", -1))
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


@op("cast")
def _cast(given: Inputs) -> Any:
    return np.trunc(given["x"]) if given["x"].dtype.kind == "f" and "int" in given["dtype"] else given["x"]


@op("linear")
def _linear(given: Inputs) -> Any:
    product = wide(given["x"]) @ wide(given["weight"]).T
    return product + wide(given["bias"]) if "bias" in given else product


@op("matmul")
def _matmul(given: Inputs) -> Any:
    x, y = wide(given["x"]), wide(given["y"])
    x = x.swapaxes(-1, -2) if given.get("transpose_x", False) else x
    y = y.swapaxes(-1, -2) if given.get("transpose_y", False) else y
    return x @ y


@op("layer_norm")
def _layer_norm(given: Inputs) -> Any:
    x = wide(given["x"])
    axes = tuple(int(axis) % x.ndim for axis in given.get("axes", range(1, x.ndim)))
    centred = x - x.mean(axis=axes, keepdims=True)
    found = centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + float(given.get("epsilon", 1e-5)))
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    for name, combine in (("gamma", np.multiply), ("beta", np.add)):
        if name in given:
            found = combine(found, wide(given[name]).reshape(shape))
    return found


@op("batch_norm")
def _batch_norm(given: Inputs) -> Any:
    x = wide(given["x"])
    mean, variance, gamma, beta = (
        wide(given.get(name, default)).reshape(-1, *(1,) * (x.ndim - 2))
        for name, default in (("mean", 0), ("variance", 1), ("gamma", 1.0), ("beta", 0.0))
    )
    return (x - mean) / np.sqrt(variance + float(given.get("epsilon", 1e-5))) * gamma + beta


def _padding(
    given: Inputs, size: tuple[int, ...], reach: list[int], strides: list[int]
) -> list[tuple[int, int]]:
    kind = given.get("pad_type", "valid")
    if kind == "custom":
        flat = [int(amount) for amount in given["pad"]]
        return list(zip(flat[0::2], flat[1::2], strict=True))
    if kind == "valid":
        return [(0, 0)] * len(size)
    totals = [
        max(0, (-(-length // stride) - 1) * stride + wide - length)
        for length, stride, wide in zip(size, strides, reach, strict=True)
    ]
    small = [(total // 2, total - total // 2) for total in totals]
    return small if kind == "same" else [(more, less) for less, more in small]


def _windows(x: Array, kernel: list[int], strides: list[int], dilations: list[int]) -> Array:
    """[n, C, *D] -> [n, C, *D_out, *kernel]."""
    reach = [(width - 1) * dilation + 1 for width, dilation in zip(kernel, dilations, strict=True)]
    axes = tuple(range(2, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, tuple(reach), axis=axes)  # type: ignore[call-overload]
    cut = [slice(None, None, step) for step in (*strides, *dilations)]
    found: Array = view[(slice(None), slice(None), *cut)]
    return found


@op("conv")
def _conv(given: Inputs) -> Any:
    x, weight = wide(given["x"]), wide(given["weight"])
    kernel = list(weight.shape[2:])
    strides, dilations = (
        [int(n) for n in given.get(key, [1] * len(kernel))] for key in ("strides", "dilations")
    )
    groups = int(given.get("groups", 1))
    reach = [(width - 1) * dilation + 1 for width, dilation in zip(kernel, dilations, strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *_padding(given, x.shape[2:], reach, strides)])
    windows = _windows(x, kernel, strides, dilations)
    n, channels = windows.shape[:2]
    axes = len(kernel)
    parts = windows.reshape(n, groups, channels // groups, *windows.shape[2:])
    filters = weight.reshape(groups, -1, *weight.shape[1:])
    inner = (2, *range(3 + axes, 3 + 2 * axes))
    found = [
        np.tensordot(parts[:, g], filters[g], ([a - 1 for a in inner], [1, *range(2, 2 + axes)]))
        for g in range(groups)
    ]
    joined = np.moveaxis(np.concatenate(found, axis=-1), -1, 1)
    return joined + wide(given["bias"]).reshape(-1, *(1,) * axes) if "bias" in given else joined


def windows_of(given: Inputs, x: Array, beyond: float) -> tuple[Array, tuple[int, ...]]:
    """What each window of a pooling op sees, and the axes of the window; `beyond`: what padding holds."""
    kernel = [int(n) for n in given["kernel_sizes"]]
    strides = [int(n) for n in given.get("strides", [1] * len(kernel))]
    pads = [(0, 0), (0, 0), *_padding(given, x.shape[2:], kernel, strides)]
    padded = np.pad(x, pads, constant_values=beyond)
    return _windows(padded, kernel, strides, [1] * len(kernel)), tuple(range(-len(kernel), 0))


@op("max_pool")
def _max_pool(given: Inputs) -> Any:
    parts, over = windows_of(given, given["x"], -np.inf)
    return parts.max(axis=over)


@op("avg_pool")
def _avg_pool(given: Inputs) -> Any:
    x = wide(given["x"])
    parts, over = windows_of(given, x, 0.0)
    if not given.get("exclude_padding_from_average", False):
        return parts.mean(axis=over)
    return parts.sum(axis=over) / windows_of(given, np.ones_like(x), 0.0)[0].sum(axis=over)


@op("reshape")
def _reshape(given: Inputs) -> Any:
    return given["x"].reshape([int(size) for size in given["shape"]])


@op("transpose")
def _transpose(given: Inputs) -> Any:
    return given["x"].transpose([int(axis) for axis in given["perm"]])


@op("squeeze")
def _squeeze(given: Inputs) -> Any:
    axes = given.get("axes")
    return np.squeeze(given["x"], None if axes is None else tuple(int(axis) for axis in axes))


@op("expand_dims")
def _expand(given: Inputs) -> Any:
    return np.expand_dims(given["x"], tuple(int(axis) for axis in given["axes"]))


@op("stack")
def _stack(given: Inputs) -> Any:
    return np.stack(given["values"], int(given["axis"]))


@op("split")
def _split(given: Inputs) -> Any:
    axis = int(given["axis"])
    if "split_sizes" in given:
        return tuple(np.split(given["x"], np.cumsum([int(n) for n in given["split_sizes"]])[:-1], axis))
    return tuple(np.split(given["x"], int(given["num_splits"]), axis))


@op("select")
def _select(given: Inputs) -> Any:
    return np.where(given["cond"], given["a"], given["b"])


@op("tile")
def _tile(given: Inputs) -> Any:
    return np.tile(given["x"], [int(count) for count in given["reps"]])


@op("pad")
def _pad(given: Inputs) -> Any:
    x, flat = given["x"], [int(amount) for amount in given["pad"]]
    pairs = list(zip(flat[0::2], flat[1::2], strict=True))
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    mode = given.get("mode", "constant")
    if mode == "constant":
        return np.pad(x, pairs, constant_values=np.asarray(given.get("constant_val", 0)).astype(x.dtype))
    return np.pad(x, pairs, "reflect" if mode == "reflect" else "edge")
