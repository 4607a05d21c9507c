"""One op on given values, over dtypes and edge shapes: what `test_ops` runs and `interpreter` answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import NUMPY_DTYPES
from tests.reference.interpreter import Array

FLOATS = ("fp16", "fp32")
NUMBERS = (*FLOATS, "int32")
PLAIN = (*NUMBERS, "bool")
GATHERED = (*NUMBERS, "int8", "uint8", "int16", "uint16")
EVERY = (*PLAIN, "int8", "uint8", "int16", "uint16")  # since iOS 17, where values are only moved
# scalar, one, odd, ones among five, nothing
EDGES: tuple[tuple[int, ...], ...] = ((), (1,), (7,), (2, 1, 3, 1, 5), (2, 0, 3))
SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 6e-8, -6e-8, 1e-3, 0.5, 1, -1, 1.5, 2.5, -2.5, 11, 6e4, -6e4],
    np.float32,
)


MOVED: dict[str, dict[str, Any]] = {
    "identity": {},
    "reshape": {"shape": [5, -1]},
    "transpose": {"perm": [4, 3, 2, 1, 0]},
    "squeeze": {"axes": [1]},
    "expand_dims": {"axes": [-1]},
    "reverse": {"axes": [2, 4]},
    "slice_by_index": {"begin": [1, 0, 0, 0, 4], "end": [2, 1, 3, 1, 0], "stride": [1, 1, 2, 1, -2]},
    "slice_by_size": {"begin": [0, 0, 1, 0, 0], "size": [-1, 1, 2, 1, -1]},
    "sliding_windows": {"axis": -1, "size": 2, "stride": 2},
    "tile": {"reps": [2, 1, 1, 3, 1]},
    "flatten2d": {"axis": 2},
    "gather": {"indices": [2, 0], "axis": 2},
}


@dataclass(frozen=True)
class Case:
    """`feeds`: shapes to be filled with noise, or values; `attributes`: constants, floats in x's dtype.

    `values.0`, `values.1`, ... together are the variadic `values`.
    `fixed`: the dtype of a feed that is not x's; `out`: those of the results that are not x's.
    """

    op: str
    feeds: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "fp32"
    fixed: dict[str, str] = field(default_factory=dict)
    out: tuple[str | None, ...] = (None,)
    spread: float = 2.0

    def __str__(self) -> str:
        shapes = (np.shape(v) if isinstance(v, np.ndarray) else v for v in self.feeds.values())
        words = (f"{k}={v}" for k, v in self.attributes.items() if not isinstance(v, np.ndarray))
        return " ".join([self.op, self.dtype, *(str(shape).replace(" ", "") for shape in shapes), *words])

    def dtype_of(self, name: str) -> str:
        return self.fixed.get(name, self.dtype)

    def arrays(self, rng: np.random.Generator) -> dict[str, Array]:
        """The values of the feeds, as their dtypes hold them."""
        return {
            name: held(self.dtype_of(name), value)
            if isinstance(value, np.ndarray)
            else noise(rng, self.dtype_of(name), value, self.spread)
            for name, value in self.feeds.items()
        }

    def constants(self) -> dict[str, Any]:
        """The attributes, floats in the case's dtype."""
        kind = np.float16 if self.dtype == "fp16" else np.float32
        return {
            name: kind(value)
            if isinstance(value, float)
            else value.astype(kind)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
            else value
            for name, value in self.attributes.items()
        }


def held(dtype: str, value: Any) -> Array:
    """What the dtype holds of it."""
    with np.errstate(over="ignore"):
        found: Array = np.asarray(value).astype(NUMPY_DTYPES[dtype])
    return found


def noise(rng: np.random.Generator, dtype: str, shape: Sequence[int], spread: float) -> Array:
    """Numbers of the dtype, of both signs where it has them, and some of them equal."""
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape), bool)
    if dtype in FLOATS:
        return held(dtype, rng.standard_normal(shape) * spread)
    low = 0 if dtype.startswith("u") else -9
    return held(dtype, rng.integers(low, 10, shape))


def over(
    dtypes: Iterable[str], op: str, *, fixed: Any = (), out: Any = (None,), spread: Any = 2.0, **given: Any
) -> Iterator[Case]:
    """Cases of one op, a dtype each; what is a shape (a tuple) or an array under a tensor's name is fed."""
    names: tuple[str, ...] = (
        "x",
        "y",
        "a",
        "b",
        "cond",
        "indices",
        "data",
        "updates",
        "update",
        "values",
        "lengths",
    )
    names += ("initial_h", "initial_c", "query", "key", "value", "attn_mask", "input", "ref_tensor", "boxes")
    names += ("box_indices", "coordinates", "transform_matrix")
    feeds = {
        name: value
        for name, value in given.items()
        if name.split(".")[0] in names
        and isinstance(value, tuple | np.ndarray)
        and not (name == "value" and op == "fill")
    }
    rest = {name: value for name, value in given.items() if name not in feeds}
    base = Case(op, feeds, rest, fixed=dict(fixed), out=tuple(out), spread=spread)
    for dtype in dtypes:
        yield replace(base, dtype=dtype)


def _functions() -> Iterator[Case]:
    plain = "atan cos cosh sinh erf exp sin tan tanh sigmoid silu softplus softsign gelu asin acos atanh exp2"
    exact = "abs ceil floor round sign square sqrt relu relu6"
    given: dict[str, dict[str, Any]] = {
        "clip": {"alpha": -0.5, "beta": 1.25},
        "clamped_relu": {"alpha": 0.3, "beta": 1.25},
        "elu": {"alpha": 0.7},
        "inverse": {"epsilon": 0.001},
        "rsqrt": {"epsilon": 0.001},
        "log": {"epsilon": 0.001},
        "leaky_relu": {"alpha": 0.3},
        "linear_activation": {"alpha": 0.3, "beta": -0.7},
        "scaled_tanh": {"alpha": 0.3, "beta": -0.7},
        "sigmoid_hard": {"alpha": 0.3, "beta": 0.4},
        "threshold": {"alpha": 0.3},
        "thresholded_relu": {"alpha": 0.3},
    }
    for op in (*plain.split(), *exact.split(), *given):
        for shape in EDGES:
            yield from over(FLOATS, op, x=shape, **given.get(op, {}))
        if op not in ("silu", "gelu"):  # of -inf they are 0 or NaN, as one multiplies
            yield from over(FLOATS, op, x=SPECIAL, **given.get(op, {}))
    for op in ("abs", "sign", "square", "exp2"):
        yield from over(["int32"], op, x=(3, 5))
    yield from over(["int32"], "threshold", x=(3, 5), alpha=2)
    for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"):
        yield from over(FLOATS, "gelu", x=(3, 5), mode=mode)
    slopes = np.array([0.3, -1.5, 0], np.float32)
    for shape in ((2, 3, 1), (1, 3, 2, 5), (2, 3, 1, 2, 1)):
        yield from over(FLOATS, "prelu", x=shape, alpha=slopes)
        yield from over(FLOATS, "softplus_parametric", x=shape, alpha=slopes, beta=slopes + 1)
    for shape, axis in (((7,), 0), ((7,), -1), ((2, 1, 3, 1, 5), -3), ((2, 1, 3, 1, 5), 1), ((2, 3, 0), 1)):
        yield from over(FLOATS, "softmax", x=shape, axis=axis)
    yield from over(["bool"], "logical_not", x=(2, 0, 3))
    yield from over(["bool"], "logical_not", x=(2, 1, 3, 1, 5))


def _pairs() -> Iterator[Case]:
    shapes = [((), ()), ((7,), ()), ((1,), (7,)), ((2, 1, 3, 1, 5), (4, 1, 2, 1)), ((2, 0, 3), (1, 3))]
    for op in ("add", "sub", "mul", "maximum", "minimum"):
        for x, y in shapes:
            yield from over(NUMBERS, op, x=x, y=y)
    edges = {"x": np.repeat(SPECIAL, len(SPECIAL)), "y": np.tile(SPECIAL, len(SPECIAL))}
    for op in ("add", "sub", "mul", "real_div"):
        yield from over(FLOATS, op, **edges)
    some = np.array([-7, -2, -1, 1, 2, 3, 5], np.float32)
    whole = {"x": np.repeat(np.arange(-9, 10.0), 7), "y": np.tile(some, 19)}
    for op in ("real_div", "floor_div", "mod"):
        yield from over(NUMBERS if op != "real_div" else FLOATS, op, **whole)
        yield from over(FLOATS, op, x=(2, 1, 3, 1, 5), y=(4, 1, 2, 1))
    yield from over(FLOATS, "pow", x=np.linspace(0, 4, 15), y=np.linspace(-2, 3, 15))
    for op in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        for x, y in shapes:
            yield from over(NUMBERS, op, x=x, y=y, out=["bool"])
        yield from over(FLOATS, op, **edges, out=["bool"])
    for op in ("logical_and", "logical_or", "logical_xor"):
        for x, y in shapes:
            yield from over(["bool"], op, x=x, y=y)
    for shape in EDGES:
        yield from over(PLAIN, "select", cond=shape, a=shape, b=shape, fixed={"cond": "bool"})
    yield from over(PLAIN, "select", cond=(3, 1), a=(1, 4), b=(3, 4), fixed={"cond": "bool"})


def _sums() -> Iterator[Case]:
    kinds = ["sum", "mean", "max", "min", "prod", "sum_square"]
    kinds += ["l1_norm", "l2_norm", "log_sum", "log_sum_exp"]
    whole: tuple[tuple[tuple[int, ...], list[int]], ...] = (
        ((7,), [0]),
        ((1,), [-1]),
        ((2, 1, 3, 1, 5), [-1, 0]),
        ((2, 1, 3, 1, 5), [2]),
        ((2, 3, 4), [0, 1, 2]),
    )
    for kind in kinds:
        for shape, axes in whole:
            for keep in (True, False):
                exact = kind in ("sum", "max", "min", "prod", "sum_square", "l1_norm")
                dtypes = NUMBERS if exact else FLOATS
                x: Any = np.random.default_rng(3).uniform(0.5, 3, shape) if kind == "log_sum" else shape
                yield from over(dtypes, f"reduce_{kind}", x=x, axes=axes, keep_dims=keep, spread=1.0)
    for kind in ("sum", "sum_square", "l1_norm", "prod"):
        yield from over(NUMBERS, f"reduce_{kind}", x=(2, 0, 3), axes=[1], keep_dims=False)
    ties = np.array([[1, 3, 3, 2], [2, 2, 2, 2], [-1, -3, -3, 0]], np.float32)
    for op in ("reduce_argmax", "reduce_argmin"):
        for axis in (0, 1, -1):
            yield from over(NUMBERS, op, x=ties, axis=axis, keep_dims=axis == 0, out=["int32"])
        yield from over(NUMBERS, op, x=(2, 1, 3, 1, 5), axis=-3, keep_dims=True, out=["int32"])
    for axis, exclusive, reverse in ((0, False, False), (-1, True, False), (1, False, True), (2, True, True)):
        more = {"axis": axis, "exclusive": exclusive, "reverse": reverse}
        yield from over(NUMBERS, "cumsum", x=(2, 3, 5), **more)
    yield from over(NUMBERS, "cumsum", x=(1,), axis=0)


def _products() -> Iterator[Case]:
    rng = np.random.default_rng(5)

    def weight(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    for shape in ((5,), (1, 5), (3, 5), (2, 1, 5), (2, 1, 3, 2, 5)):
        yield from over(FLOATS, "linear", x=shape, weight=weight(4, 5), bias=weight(4))
    whole = np.arange(-9, 11, dtype=np.int32).reshape(4, 5)
    yield from over(["int32"], "linear", x=(3, 5), weight=whole, bias=whole[:, 0])
    for x, y, turned in (
        ((5,), (5,), ""),
        ((3, 5), (5, 4), ""),
        ((2, 1, 3, 5), (4, 5, 2), ""),
        ((5, 3), (4, 5), "xy"),
        ((2, 3, 1, 2, 5), (4, 5), "y"),
        ((3, 0), (0, 4), ""),
    ):
        how = {"transpose_x": "x" in turned, "transpose_y": "y" in turned}
        yield from over(NUMBERS, "matmul", x=x, y=y, **how)
    conv: list[Any] = [
        ((1, 4, 9), (6, 2, 3), {"groups": 2, "strides": [2], "pad_type": "same"}),
        ((2, 3, 8, 7), (4, 3, 3, 2), {"strides": [2, 1], "dilations": [1, 2], "pad_type": "valid"}),
        ((2, 3, 8, 7), (4, 3, 3, 2), {"pad_type": "same_lower", "strides": [3, 2]}),
        ((1, 6, 5, 5), (6, 1, 3, 3), {"groups": 6, "pad_type": "custom", "pad": [2, 0, 1, 3]}),
        ((1, 2, 4, 3, 5), (3, 2, 2, 1, 3), {"pad_type": "same", "strides": [1, 2, 2]}),
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ]
    for x, kernel, how in conv:
        yield from over(FLOATS, "conv", x=x, weight=weight(*kernel), bias=weight(kernel[0]), **how)
        yield from over(FLOATS, "conv", x=x, weight=weight(*kernel), **how)
    turned_conv: list[Any] = [
        ((1, 4, 5), (4, 3, 3), {"groups": 2, "strides": [2]}),
        ((2, 3, 4, 3), (3, 2, 3, 2), {"strides": [2, 3], "dilations": [2, 1]}),
        ((2, 3, 4, 3), (3, 2, 3, 2), {"pad_type": "custom", "pad": [1, 0, 0, 1]}),
        ((1, 2, 2, 1, 3), (2, 3, 2, 2, 2), {"strides": [1, 2, 1]}),
    ]
    for x, kernel, how in turned_conv:
        more = {"weight": weight(*kernel), "bias": weight(kernel[1] * how.get("groups", 1))}
        yield from over(FLOATS, "conv_transpose", x=x, **more, **how)
    mask = np.tril(np.ones((3, 5), bool))
    for query, key in (((2, 3, 4), (2, 5, 4)), ((1, 2, 3, 4), (1, 2, 5, 4))):
        ways = {"query": query, "key": key, "value": (*key[:-1], 3)}
        yield from over(FLOATS, "scaled_dot_product_attention", **ways)
        yield from over(
            FLOATS, "scaled_dot_product_attention", attn_mask=mask, **ways, fixed={"attn_mask": "bool"}
        )
        yield from over(FLOATS, "scaled_dot_product_attention", attn_mask=(3, 5), **ways)


def _norms() -> Iterator[Case]:
    three = {"gamma": np.array([0.5, 2, -1], np.float32), "beta": np.array([0.1, 0, -3], np.float32)}
    for shape in ((2, 3, 4), (1, 3, 2, 5), (2, 3, 1, 2, 3)):
        known = {"mean": np.array([0.5, 0, -1], np.float32), "variance": np.array([1, 4, 0.3], np.float32)}
        yield from over(FLOATS, "batch_norm", x=shape, epsilon=0.001, **known, **three)
        yield from over(FLOATS, "instance_norm", x=shape, epsilon=0.001, **three)
        yield from over(FLOATS, "l2_norm", x=shape, epsilon=0.001)
        yield from over(FLOATS, "local_response_norm", x=shape, size=3, alpha=0.5, beta=0.75, k=1.5)
    for axes in ([-1], [2, 3], [1, -1], [0]):
        yield from over(FLOATS, "layer_norm", x=(2, 1, 3, 5), axes=axes, epsilon=0.001)
    yield from over(FLOATS, "layer_norm", x=(4, 3), axes=[1], epsilon=0.001, **three)
    windows: list[Any] = [
        ((1, 2, 9), {"kernel_sizes": [3], "strides": [2], "pad_type": "same"}),
        ((2, 3, 8, 7), {"kernel_sizes": [3, 2], "strides": [2, 3], "pad_type": "valid"}),
        (
            (2, 3, 8, 7),
            {"kernel_sizes": [3, 2], "strides": [1, 2], "pad_type": "custom", "pad": [1, 0, 0, 1]},
        ),
        ((1, 1, 4, 3, 5), {"kernel_sizes": [2, 3, 1], "strides": [2, 1, 2], "pad_type": "same_lower"}),
    ]
    for shape, how in windows:
        for op in ("max_pool", "avg_pool", "l2_pool"):
            yield from over(FLOATS, op, x=shape, **how)
        yield from over(FLOATS, "avg_pool", x=shape, exclude_padding_from_average=True, **how)


def _recurrent() -> Iterator[Case]:
    rng = np.random.default_rng(6)
    steps, batch, size, wide = 5, 2, 3, 4
    clips: tuple[dict[str, Any], ...] = ({}, {"clip": 0.25})

    def net(gates: int, *, holes: bool = False, back: str = "") -> dict[str, Array]:
        shapes = {
            "weight_ih": (gates * wide, size),
            "weight_hh": (gates * wide, wide),
            "bias": (gates * wide,),
        }
        shapes |= {"peephole": (3 * wide,)} if holes else {}
        return {k + back: rng.standard_normal(v).astype(np.float32) * 0.7 for k, v in shapes.items()}

    x, state = (steps, batch, size), (batch, wide)
    for sequence in (True, False):
        for direction in ("forward", "reverse"):
            how = {"direction": direction, "output_sequence": sequence}
            for activation in ("tanh", "relu", "sigmoid", "sigmoid_hard", "linear", "scaled_tanh"):
                more = {**net(1), "activation": activation, **how}
                yield from over(FLOATS, "rnn", x=x, initial_h=state, out=[None] * 2, spread=0.7, **more)
            for after in (True, False):
                bias = {"input_bias": rng.standard_normal(3 * wide).astype(np.float32)}
                more = {**net(3), **bias, "reset_after": after, **how}
                yield from over(FLOATS, "gru", x=x, initial_h=state, out=[None] * 2, spread=0.7, **more)
                yield from over(FLOATS, "gru", x=(1, 1, size), initial_h=(1, wide), out=[None] * 2, **more)
            both = {"initial_h": state, "initial_c": state, "out": [None] * 3, "spread": 0.7}
            for clip in clips:
                for holes in (True, False):
                    yield from over(FLOATS, "lstm", x=x, **both, **net(4, holes=holes), **clip, **how)
            words = {
                "recurrent_activation": "sigmoid_hard",
                "cell_activation": "relu",
                "activation": "sigmoid",
            }
            yield from over(FLOATS, "lstm", x=x, **both, **net(4), **words, **how)
        wider = {
            "initial_h": (batch, 2 * wide),
            "initial_c": (batch, 2 * wide),
            "out": [None] * 3,
            "spread": 0.7,
        }
        for clip in clips:
            for holes in (True, False):
                more = {**net(4, holes=holes), **net(4, holes=holes, back="_back"), **clip}
                how = {"direction": "bidirectional", "output_sequence": sequence}
                yield from over(FLOATS, "lstm", x=x, **wider, **more, **how)


def _moves() -> Iterator[Case]:
    five = (2, 1, 3, 1, 5)
    odd = np.resize(SPECIAL, five)  # NaN, infinities and both zeros stay what they are
    for op, how in MOVED.items():
        yield from over(FLOATS, op, x=odd, **how)
    for shape in EDGES:
        yield from over(EVERY, "identity", x=shape)
    for shape, to in (((6,), [2, 3]), (five, [-1, 5]), ((1,), [1, 1, 1, 1, 1]), ((2, 0, 3), [3, 0])):
        yield from over(EVERY, "reshape", x=shape, shape=to)
    for shape, perm in (((7,), [0]), (five, [4, -4, 0, -2, 2]), ((2, 0, 3), [2, 0, 1])):
        yield from over(EVERY, "transpose", x=shape, perm=perm)
    yield from over(EVERY, "squeeze", x=five, axes=[-4, 3])
    yield from over(EVERY, "squeeze", x=five)
    yield from over(EVERY, "expand_dims", x=(2, 3), axes=[0, -1])
    yield from over(EVERY, "expand_dims", x=(), axes=[0])
    for axis in (0, 1, -1):
        yield from over(EVERY, "reverse", x=(2, 3, 5), axes=[axis])
        yield from over(PLAIN, "split", x=(4, 6, 2), num_splits=2, axis=axis, out=[None] * 2)
    yield from over(EVERY, "reverse", x=five)
    yield from over(PLAIN, "split", x=five, split_sizes=[1, 4], axis=-1, out=[None] * 2)
    for lengths in ([1, 3], [5, 2]):
        held_ = np.array(lengths)
        yield from over(
            EVERY,
            "reverse_sequence",
            x=(2, 5, 3),
            lengths=held_,
            seq_axis=1,
            batch_axis=0,
            fixed={"lengths": "int32"},
        )
        yield from over(
            EVERY,
            "reverse_sequence",
            x=(5, 2, 3),
            lengths=held_,
            seq_axis=0,
            batch_axis=-2,
            fixed={"lengths": "int32"},
        )
    cuts: list[dict[str, Any]] = [
        {"begin": [0, 1, 2], "end": [2, 3, 5]},
        {"begin": [-1, 2, -1], "end": [-3, 0, -6], "stride": [-1, -1, -2]},
        {
            "begin": [1, 0, 0],
            "end": [0, 0, 0],
            "squeeze_mask": [True, False, False],
            "begin_mask": [False, True, True],
            "end_mask": [False, True, True],
        },
        {"begin": [0, 2, 1], "end": [2, 2, 4]},  # nothing
        {"begin": [0, 0, 1], "end": [9, 9, 9], "stride": [2, 1, 3]},
    ]
    for cut in cuts:
        yield from over(EVERY, "slice_by_index", x=(2, 3, 5), **cut)
    yield from over(EVERY, "slice_by_index", x=(7,), begin=[-2], end=[0], squeeze_mask=[True])
    yield from over(EVERY, "slice_by_size", x=(2, 3, 5), begin=[1, 0, 2], size=[1, -1, 2])
    for update, cut in (((2, 2, 3), cuts[0]), ((2, 2, 3), {**cuts[1]}), ((1, 3, 2), cuts[4])):
        yield from over(EVERY, "slice_update", x=(2, 3, 5), update=update, **cut)
    for axis, stride in ((0, 1), (1, 2), (-1, 3)):
        yield from over(EVERY, "sliding_windows", x=(4, 5, 7), axis=axis, size=3, stride=stride)
    yield from over(PLAIN, "tile", x=five, reps=[1, 2, 1, 3, 2])
    yield from over(PLAIN, "tile", x=(1,), reps=[4])
    for lower, upper in ((-1, 0), (0, -1), (1, 1), (0, 0), (-1, -1), (9, 1)):
        yield from over(PLAIN, "band_part", x=(2, 4, 5), lower=lower, upper=upper)
    for axis in (0, 1, 2, 4, -1):
        yield from over(PLAIN, "flatten2d", x=five, axis=axis)
    for shape in EDGES[1:]:
        yield from over(PLAIN, "shape", x=shape, out=["int32"])
        yield from over(PLAIN, "non_zero", x=shape, out=["int32"])
    for mode in ("constant", "reflect", "replicate"):
        yield from over(FLOATS, "pad", x=(2, 3, 4, 5), pad=[1, 2, 0, 3], mode=mode, constant_val=1.5)
    yield from over(FLOATS, "pad", x=(5,), pad=[2, 0], mode="constant", constant_val=-0.1)
    yield from over(
        FLOATS, "pad", x=five, pad=[1, 0, 0, 1, 0, 0, 2, 1, 0, 0], mode="constant", constant_val=0.0
    )
    blocks = {"x": (2, 8, 4, 6)}
    yield from over(FLOATS, "depth_to_space", **blocks, block_size=2)
    yield from over(FLOATS, "space_to_depth", **blocks, block_size=2)
    yield from over(FLOATS, "pixel_shuffle", **blocks, upscale_factor=2)
    yield from over(FLOATS, "pixel_unshuffle", **blocks, downscale_factor=2)
    yield from over(
        FLOATS, "space_to_batch", x=(1, 3, 3, 5), block_shape=[2, 3], paddings=np.array([[0, 1], [1, 0]])
    )
    yield from over(
        FLOATS, "batch_to_space", x=(6, 3, 2, 2), block_shape=[2, 3], crops=np.array([[0, 1], [1, 0]])
    )
    yield from over(FLOATS, "crop", x=(1, 3, 5, 7), crop_height=[1, 2], crop_width=[0, 3])


def _places() -> Iterator[Case]:
    whole = {"indices": "int32"}
    some = np.array([[2, 0], [-1, 1]])
    for axis in (0, 1, -1):
        yield from over(
            GATHERED,
            "gather",
            x=(3, 4, 5),
            indices=some,
            axis=axis,
            fixed=whole,
        )
    yield from over(NUMBERS, "gather", x=(7,), indices=np.array(-3), axis=0, fixed=whole)
    yield from over(NUMBERS, "gather", x=(2, 3, 5), indices=some, axis=2, batch_dims=1, fixed=whole)
    one = np.array([[[0, 1, -1]], [[1, 0, 1]]])
    yield from over(GATHERED, "gather_along_axis", x=(2, 2, 3), indices=one, axis=1, fixed=whole)
    pairs = np.array([[[0, 2], [1, -1]], [[-2, 0], [0, 0]]])
    yield from over(GATHERED, "gather_nd", x=(2, 3, 5), indices=pairs, fixed=whole)
    yield from over(NUMBERS, "gather_nd", x=(2, 3, 5), indices=pairs, batch_dims=1, fixed=whole)
    for mode in ("update", "add", "sub", "mul", "max", "min"):
        # an element is hit twice, except by `update`, whose order is not declared
        hit = np.array([2, 0] if mode == "update" else [2, 0, 2])
        yield from over(
            NUMBERS,
            "scatter",
            data=(3, 4),
            indices=hit,
            updates=(len(hit), 4),
            axis=0,
            mode=mode,
            fixed=whole,
        )
        yield from over(
            NUMBERS,
            "scatter",
            data=(2, 3, 1),
            indices=hit,
            updates=(2, len(hit), 1),
            axis=-2,
            mode=mode,
            fixed=whole,
        )
        yield from over(
            NUMBERS,
            "scatter_nd",
            data=(3, 4),
            indices=hit[:, None],
            updates=(len(hit), 4),
            mode=mode,
            fixed=whole,
        )
        yield from over(
            NUMBERS,
            "scatter_along_axis",
            data=(2, 3),
            indices=np.array([[0, -1], [2, 1]]),
            updates=(2, 2),
            axis=-1,
            mode=mode,
            fixed=whole,
        )
    yield from over(FLOATS, "fill", shape=[2, 0, 3], value=1.1)
    yield from over(FLOATS, "fill", shape=[2, 1, 3], value=1.1)
    yield from over(["int32"], "fill", shape=[3], value=-7)
    yield from over(["bool"], "fill", shape=[3], value=True)
    yield from over(["int32"], "fill_like", ref_tensor=(2, 3), value=-7)
    yield from over(["bool"], "fill_like", ref_tensor=(2, 3), value=True)
    yield from over(FLOATS, "fill_like", ref_tensor=(2, 1, 3, 1, 5), value=-1.1)
    hot = np.array([[0, 2], [3, 1]])
    for off, on in ((-0.5, 1.1), (False, True)):
        kinds = ("bool",) if on is True else FLOATS
        yield from over(
            kinds,
            "one_hot",
            indices=hot,
            one_hot_vector_size=5,
            axis=1,
            on_value=on,
            off_value=off,
            fixed={"indices": "int32"},
        )
    for axis in (0, 1, -1):
        yield from over(
            ["int32"], "one_hot", indices=hot, one_hot_vector_size=4, axis=axis, on_value=5, off_value=-1
        )
    ties = np.array([[1, 3, 3, 2], [2, 2, 2, 2], [-1, -3, -3, 0]], np.float32)
    for up in (True, False):
        for axis in (0, 1, -1):
            yield from over(NUMBERS, "argsort", x=ties, axis=axis, ascending=up, out=["int32"])
            yield from over(
                (*NUMBERS, "int8", "int16"), "topk", x=ties, k=2, axis=axis, ascending=up, out=[None, "int32"]
            )
    yield from over(["uint8", "uint16"], "topk", x=(3, 5), k=4, axis=1, out=[None, "int32"])
    yield from over(NUMBERS, "topk", x=(1,), k=1, axis=0, out=[None, "int32"])
    yield from over(NUMBERS, "topk", x=(2, 1, 3, 1, 5), k=-1, axis=2, out=[None, "int32"])
    for dtype in ("int8", "uint8"):
        steps = np.array([-300, -2.5, -1.5, -0.5, 0, 0.5, 1.5, 2.5, 300], np.float32)
        zero = np.array(3, NUMPY_DTYPES[dtype])
        yield from over(
            FLOATS, "quantize", input=steps, scale=0.5, zero_point=zero, output_dtype=dtype, out=[dtype]
        )
        yield from over(
            FLOATS, "dequantize", input=(2, 1, 3, 1, 5), scale=0.3, zero_point=zero, fixed={"input": dtype}
        )


def _images() -> Iterator[Case]:
    modes = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]
    sizes = [(5, 9), (1, 1), (4, 7), (8, 3)]
    for shape in ((2, 3, 4, 7), (1, 1, 2, 1, 6)):
        for height, width in sizes:
            to = {"target_size_height": height, "target_size_width": width}
            yield from over(FLOATS, "resize_nearest_neighbor", x=shape, **to)
            for mode in modes:
                yield from over(FLOATS, "resize_bilinear", x=shape, **to, sampling_mode=mode)
        for first, second in ((2, 3), (1, 1)):
            by = {"scale_factor_height": first, "scale_factor_width": second}
            yield from over(FLOATS, "upsample_nearest_neighbor", x=shape, **by)
            yield from over(FLOATS, "upsample_bilinear", x=shape, **by, align_corners=True)
            yield from over(FLOATS, "upsample_bilinear", x=shape, **by, align_corners=False)
    for mode in modes:
        for kind in ("LINEAR", "NEAREST_NEIGHBOR"):
            how = {"interpolation_mode": kind, "sampling_mode": mode, "resized_dims": 2}
            yield from over(FLOATS, "resize", x=(2, 3, 4, 6), shape=[7, 11], **how)
        boxes = np.array([[0.5, 1, 4.25, 5], [2, 2, 2, 2], [-1.5, 0, 3, 9.75]], np.float32)
        yield from over(
            FLOATS,
            "crop_resize",
            x=(3, 2, 6, 8),
            boxes=boxes,
            box_indices=np.array([2, 0, 1]),
            target_height=3,
            target_width=4,
            normalized_coordinates=False,
            spatial_scale=1.0,
            box_coordinate_mode="CORNERS_HEIGHT_FIRST",
            sampling_mode=mode,
            pad_value=-7.0,
            fixed={"box_indices": "int32"},
        )
    rng = np.random.default_rng(4)
    places = rng.integers(-3, 8, (2, 4, 6, 2)) + rng.choice([0.25, -0.375], (2, 4, 6, 2))
    for kind in ("bilinear", "nearest"):
        for padding in ("constant", "border", "reflection", "symmetric"):
            ways = {"sampling_mode": kind, "padding_mode": padding, "padding_value": 0.0}
            yield from over(
                FLOATS,
                "resample",
                x=(2, 3, 5, 7),
                coordinates=places.astype(np.float32),
                coordinates_mode="unnormalized",
                align_corners=False,
                **ways,
            )
    near = rng.uniform(-1.4, 1.4, (2, 4, 6, 2)).astype(np.float32)
    for padding in ("constant", "border", "reflection", "symmetric"):
        for mode in ("normalized_minus_one_to_one", "normalized_zero_to_one"):
            for align in (False, True):
                yield from over(
                    FLOATS,
                    "resample",
                    x=(2, 3, 5, 7),
                    coordinates=near,
                    coordinates_mode=mode,
                    align_corners=align,
                    sampling_mode="bilinear",
                    padding_mode=padding,
                    padding_value=3.0,
                )
    matrix = rng.uniform(-1, 1, (2, 6)).astype(np.float32)
    for padding in ("constant", "border"):
        yield from over(
            FLOATS,
            "affine",
            x=(2, 3, 5, 7),
            transform_matrix=matrix,
            output_height=4,
            output_width=6,
            sampling_mode="bilinear",
            padding_mode=padding,
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        )


def _several() -> Iterator[Case]:
    """Variadic ops."""
    five = (2, 1, 3, 1, 5)
    for axis in (0, 2, -1):
        wider = tuple(size + (index == axis % 5) for index, size in enumerate(five))
        none = tuple(0 if index == axis % 5 else size for index, size in enumerate(five))
        three = {"values.0": five, "values.1": wider, "values.2": none}
        yield from over(EVERY, "concat", axis=axis, interleave=False, **three)
        yield from over(FLOATS, "concat", axis=axis, interleave=True, **{"values.0": five, "values.1": five})
    for axis in (0, 1, -1):
        yield from over(PLAIN, "stack", axis=axis, **{"values.0": (2, 3), "values.1": (2, 3)})
    yield from over(PLAIN, "stack", axis=0, **{"values.0": (), "values.1": ()})
    for equation, x, y in (
        ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
        ("nchw,nwhr->nchr", (1, 1, 1, 5), (1, 5, 1, 1)),
        ("chw,whr->chr", (3, 4, 5), (5, 4, 2)),
    ):
        yield from over(FLOATS, "einsum", equation=equation, **{"values.0": x, "values.1": y})


def cases() -> list[Case]:
    """All of them."""
    makers = (
        _functions, _pairs, _sums, _products, _norms, _recurrent, _moves, _places, _images, _several,
    )  # fmt: skip
    return [case for maker in makers for case in maker()]
