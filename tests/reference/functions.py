"""Functions of numbers: elementwise, of channels, normalisation, sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference.interpreter import FUNCTIONS, OPS, Array, Inputs, op, reduced, wide, windows_of

F32 = np.float32


def _number(given: Inputs, name: str, default: float = 0.0) -> np.float32:
    return F32(given.get(name, default))


def _channels(values: Any, x: Array) -> Array:
    return np.reshape(values, (-1, *(1,) * (x.ndim - 2)))


_UNARY: dict[str, Callable[[Array], Array]] = {
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "cosh": np.cosh,
    "sinh": np.sinh,
    "tan": np.tan,
    "exp2": np.exp2,
    "softplus": lambda x: np.logaddexp(0, x),
}
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_l1_norm": lambda x, **k: np.abs(x).sum(**k),
    "reduce_log_sum": lambda x, **k: np.log(x.sum(**k)),
}
FUNCTIONS.update(_UNARY)
FUNCTIONS.update(
    ["log", "rsqrt", "elu", "linear_activation", "sigmoid_hard", "scaled_tanh", "gelu", "thresholded_relu"]
)
# mypy does not infer a lambda with a default value, which holds the function of this turn.
for _name, _one in _UNARY.items():
    OPS[_name] = lambda given, call=_one: call(wide(given["x"]))  # type: ignore[misc]
for _name, _many in _REDUCTIONS.items():
    OPS[_name] = lambda given, call=_many: reduced(call, {**given, "x": wide(given["x"])})  # type: ignore[misc]


@op("reduce_log_sum_exp")
def _log_sum_exp(given: Inputs) -> Any:
    def call(x: Array, **how: Any) -> Any:
        top = np.max(x, **{**how, "keepdims": True})
        total = np.log(np.exp(x - top).sum(**how))
        return total + (top if how["keepdims"] else np.squeeze(top, how["axis"]))

    return reduced(call, {**given, "x": wide(given["x"])})


def _arg(pick: Callable[..., Any]) -> Callable[[Inputs], Any]:
    return lambda given: pick(
        given["x"], axis=int(given.get("axis", -1)), keepdims=bool(given.get("keep_dims", False))
    )


OPS["reduce_argmax"], OPS["reduce_argmin"] = _arg(np.argmax), _arg(np.argmin)


@op("inverse")
def _inverse(given: Inputs) -> Any:
    return F32(1) / (given["x"] + _number(given, "epsilon"))


@op("log")
def _log(given: Inputs) -> Any:
    return np.log(wide(given["x"]) + float(given.get("epsilon", 0)))


@op("rsqrt")
def _rsqrt(given: Inputs) -> Any:
    return 1 / np.sqrt(wide(given["x"]) + float(given.get("epsilon", 0)))


@op("threshold")
def _threshold(given: Inputs) -> Any:
    return np.maximum(given["x"], np.asarray(given["alpha"]).astype(given["x"].dtype))


@op("clamped_relu")
def _clamped(given: Inputs) -> Any:
    x = given["x"]
    return np.minimum(np.where(x >= 0, x, x * _number(given, "alpha")), _number(given, "beta"))


@op("thresholded_relu")
def _thresholded(given: Inputs) -> Any:
    x = given["x"]
    return np.where(x >= _number(given, "alpha"), x, F32(0))


@op("elu")
def _elu(given: Inputs) -> Any:
    x = wide(given["x"])
    return np.where(x > 0, x, _number(given, "alpha") * np.expm1(np.minimum(x, 0)))


@op("linear_activation")
def _linear_activation(given: Inputs) -> Any:
    return given["x"] * _number(given, "alpha") + _number(given, "beta")


@op("sigmoid_hard")
def _sigmoid_hard(given: Inputs) -> Any:
    return np.clip(given["x"] * _number(given, "alpha") + _number(given, "beta"), F32(0), F32(1))


@op("scaled_tanh")
def _scaled_tanh(given: Inputs) -> Any:
    return float(given["alpha"]) * np.tanh(float(given["beta"]) * wide(given["x"]))


@op("prelu")
def _prelu(given: Inputs) -> Any:
    x = given["x"]
    return np.where(x > 0, x, x * _channels(given["alpha"], x))


@op("softplus_parametric")
def _softplus_parametric(given: Inputs) -> Any:
    x = wide(given["x"])
    return _channels(given["alpha"], x) * np.logaddexp(0, _channels(given["beta"], x) * x)


@op("floor_div")
def _floor_div(given: Inputs) -> Any:
    x, y = given["x"], given["y"]
    whole = np.asarray(x).dtype.kind != "f"
    return np.floor_divide(x, y) if whole else np.floor_divide(wide(x), wide(y))


@op("mod")
def _mod(given: Inputs) -> Any:
    x, y = given["x"], given["y"]
    return np.mod(x, y) if np.asarray(x).dtype.kind != "f" else np.mod(wide(x), wide(y))


@op("instance_norm")
def _instance_norm(given: Inputs) -> Any:
    x = wide(given["x"])
    axes = tuple(range(2, x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    found = centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + float(given.get("epsilon", 1e-5)))
    return found * _channels(given.get("gamma", 1.0), x) + _channels(given.get("beta", 0.0), x)


@op("l2_norm")
def _l2_norm(given: Inputs) -> Any:
    x = wide(given["x"])
    total = (x**2).sum(axis=(-3, -2, -1), keepdims=True)
    return x / np.sqrt(total + float(given.get("epsilon", 1e-6)))


@op("local_response_norm")
def _local_response_norm(given: Inputs) -> Any:
    x, size = wide(given["x"]), int(given["size"])
    alpha, beta, k = (
        float(given.get(name, default)) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("k", 1.0))
    )
    before = (size - 1) // 2
    total = np.zeros_like(x)
    for channel in range(x.shape[1]):
        part = x[:, max(0, channel - before) : channel - before + size]
        total[:, channel] = (part**2).sum(axis=1)
    return x / (k + alpha / size * total) ** beta


@op("l2_pool")
def _l2_pool(given: Inputs) -> Any:
    parts, over = windows_of(given, wide(given["x"]), 0.0)
    return np.sqrt((parts**2).sum(axis=over))


@op("conv_transpose")
def _conv_transpose(given: Inputs) -> Any:
    x, weight = wide(given["x"]), wide(given["weight"])  # [n, I, *D], [I, O / groups, *K]
    axes = weight.ndim - 2
    strides, dilations = ([int(n) for n in given.get(key, [1] * axes)] for key in ("strides", "dilations"))
    groups = int(given.get("groups", 1))
    reach = [(width - 1) * step + 1 for width, step in zip(weight.shape[2:], dilations, strict=True)]
    whole = [(size - 1) * step + far for size, step, far in zip(x.shape[2:], strides, reach, strict=True)]
    found = np.zeros((x.shape[0], weight.shape[1] * groups, *whole))
    for group in range(groups):
        rows = slice(group * x.shape[1] // groups, (group + 1) * x.shape[1] // groups)
        columns = slice(group * weight.shape[1], (group + 1) * weight.shape[1])
        for place in np.ndindex(*weight.shape[2:]):
            part = np.einsum("ni...,io->no...", x[:, rows], weight[(rows, slice(None), *place)])
            at = [
                slice(offset * dilation, offset * dilation + (size - 1) * step + 1, step)
                for offset, dilation, size, step in zip(place, dilations, x.shape[2:], strides, strict=True)
            ]
            found[(slice(None), columns, *at)] += part
    pads = [int(n) for n in given.get("pad", [0] * 2 * axes)] if given.get("pad_type") == "custom" else []
    cut = [slice(low, size - high) for low, high, size in zip(pads[::2], pads[1::2], whole, strict=False)]
    found = found[(slice(None), slice(None), *cut)]
    return found + _channels(given["bias"], found) if "bias" in given else found


@op("einsum")
def _einsum(given: Inputs) -> Any:
    values = given["values"]
    whole = values[0].dtype.kind != "f"
    return np.einsum(given["equation"], *(values if whole else map(wide, values)))


@op("scaled_dot_product_attention")
def _attention(given: Inputs) -> Any:
    query, key, value = (wide(given[name]) for name in ("query", "key", "value"))
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    mask = given.get("attn_mask")
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True) @ value


@op("cumsum")
def _cumsum(given: Inputs) -> Any:
    x, axis = given["x"], int(given.get("axis", 0))
    x = wide(x) if x.dtype.kind == "f" else x
    x = np.flip(x, axis) if given.get("reverse", False) else x
    total = np.cumsum(x, axis)
    total = total - x if given.get("exclusive", False) else total
    return np.flip(total, axis) if given.get("reverse", False) else total


@op("quantize")
def _quantize(given: Inputs) -> Any:
    x, scale, zero = given["input"], np.asarray(given["scale"], F32), given.get("zero_point", 0)
    if "axis" in given:
        shape = [1] * x.ndim
        shape[int(given["axis"])] = -1
        scale, zero = np.reshape(scale, shape), np.reshape(zero, shape)
    low, high = (-128, 127) if given["output_dtype"] == "int8" else (0, 255)
    return np.clip(np.rint(x / scale) + np.float32(zero), low, high)


@op("dequantize")
def _dequantize(given: Inputs) -> Any:
    x, scale, zero = given["input"], np.asarray(given["scale"], F32), given.get("zero_point", 0)
    if "axis" in given:
        shape = [1] * x.ndim
        shape[int(given["axis"])] = -1
        scale, zero = np.reshape(scale, shape), np.reshape(zero, shape)
    return (F32(x) - F32(zero)) * scale
