"""`typed` mode against the interpreter in NumPy, op by op.

Where float32 arithmetic determines the result (one operation an element, values moved, picked or cast),
every bit must agree. Where something is summed or a function approximated, the engine's float32 value may
differ from the float64 one in its last digits, so that a rounding falls to a neighbour now and then: at most
one fp16 step, and in at most one value in fifty.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import BlobRef, Function, Ref, read_program
from coremlops.lower import lower_function
from coremlops.model import ModelAsset
from coremlops.runtime.session import Session
from tests.lower.programs import Array, function, operation, typed
from tests.reference import interpreter

RNG = np.random.default_rng(7)
ReadBlob = Callable[[BlobRef], Array]


def no_blobs(_: BlobRef) -> Array:
    raise AssertionError("no blob expected")


def engine(
    program: Function, feeds: dict[str, Array], read_blob: ReadBlob, *, every: bool
) -> dict[str, Array]:
    """The results in typed mode; `every`: of all operations, each rounded where it is made."""
    names = [
        output.name for entry in program.block.operations for output in entry.outputs if entry.type != "const"
    ]
    if every:
        program = replace(program, block=replace(program.block, outputs=tuple(names)))
    return Session(lower_function(program, read_blob)).run(feeds)


def steps(found: Array, expected: Array) -> Array:
    """How many fp16 values apart two arrays of such values are."""

    def ordered(array: Array) -> Array:
        bits = array.astype(np.float16).view(np.int16).astype(np.int32)
        return np.where(bits < 0, -(bits & 0x7FFF), bits)

    apart: Array = np.abs(ordered(found) - ordered(expected))
    return apart


def check(program: Function, feeds: dict[str, Array], read_blob: ReadBlob = no_blobs) -> dict[str, str]:
    """Each operation on the values that the engine itself gave it; returns what was compared how."""
    found = engine(program, feeds, read_blob, every=True)
    values: dict[str, Any] = {
        entry.name: interpreter.rounded(feeds[entry.name], entry.type) for entry in program.inputs
    }
    compared = {}
    for step in program.block.operations:
        if step.type == "const":
            values[step.outputs[0].name] = interpreter.constant(step.attributes["val"], read_blob)
            continue
        expected = interpreter.evaluate(step, interpreter.bound(step, values, read_blob))
        for output, want in zip(step.outputs, expected, strict=True):
            got = found[output.name]
            assert got.shape == want.shape, step.name
            compared[step.name] = agree(step.type, output.type, got, want)
            values[output.name] = got
    # Roundings that pass other ops, which all results as outputs forbid, change nothing.
    final = engine(program, feeds, read_blob, every=False)
    for name in program.block.outputs:
        assert np.array_equal(final[name], found[name], equal_nan=True), name
    return compared


def agree(kind: str, type_: Any, got: Array, want: Array) -> str:
    """How two results of an op were compared; AssertionError when they differ."""
    if kind in interpreter.EXACT or want.dtype.kind != "f":
        assert np.array_equal(got, want, equal_nan=True), kind
        return "exact"
    assert np.array_equal(np.isnan(got), np.isnan(want)), kind
    got, want = got[~np.isnan(want)], want[~np.isnan(want)]
    # What is left of a sum that cancels is as far off as its terms are; a function of one value is not.
    top = 1.0 if kind in interpreter.FUNCTIONS else float(np.abs(want[np.isfinite(want)]).max(initial=0))
    if type_.dtype == "fp32":
        # float32 sums of at most a few thousand terms against float64
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6 * top)
        return "close"
    apart = steps(got, want)
    small = np.abs(want) < 2e-3 * top
    assert apart[~small].max(initial=0) <= 1, kind
    often = 0.1 if kind in interpreter.BETWEEN else 0.02
    assert (apart[~small] > 0).sum() <= max(1, often * apart.size), kind
    np.testing.assert_allclose(got[small], want[small], atol=1e-5 * top)
    return "a step"


def halves(*shape: int, scale: float = 1.0) -> Array:
    return (RNG.standard_normal(shape) * scale).astype(np.float16).astype(np.float32)


def weights(*shape: int, scale: float = 1.0) -> Array:
    return (RNG.standard_normal(shape) * scale).astype(np.float16)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_a_block_of_a_convolutional_net(dtype: str) -> None:
    kind = np.float16 if dtype == "fp16" else np.float32
    wide, narrow = typed(dtype, 1, 8, 9, 11), typed(dtype, 1, 4, 9, 11)
    ops = [
        operation(
            "conv",
            "a",
            wide,
            x=Ref("x"),
            weight=weights(8, 4, 1, 1).astype(kind),
            bias=weights(8).astype(kind),
        ),
        operation("clip", "b", wide, x=Ref("a"), alpha=kind(0), beta=kind(6)),
        operation(
            "conv", "c", wide, x=Ref("b"), weight=weights(8, 1, 3, 3).astype(kind), groups=8, pad_type="same"
        ),
        operation("relu", "d", wide, x=Ref("c")),
        operation("conv", "e", narrow, x=Ref("d"), weight=weights(4, 8, 1, 1).astype(kind)),
        operation("add", "f", narrow, x=Ref("x"), y=Ref("e")),
        operation("max_pool", "g", typed(dtype, 1, 4, 4, 5), x=Ref("f"), kernel_sizes=[2, 2], strides=[2, 2]),
        operation("reduce_mean", "h", typed(dtype, 1, 4), x=Ref("g"), axes=[2, 3], keep_dims=False),
        operation("linear", "i", typed(dtype, 1, 3), x=Ref("h"), weight=weights(3, 4).astype(kind)),
        operation("softmax", "j", typed(dtype, 1, 3), x=Ref("i"), axis=-1),
    ]
    compared = check(function({"x": narrow}, ops), {"x": halves(1, 4, 9, 11)})
    assert {compared[f"{name}_op"] for name in "bdfg"} == {"exact"}
    assert len(compared) == len(ops)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_a_block_of_a_transformer(dtype: str) -> None:
    kind = np.float16 if dtype == "fp16" else np.float32
    flat, heads = typed(dtype, 1, 7, 16), typed(dtype, 1, 2, 7, 8)
    square = typed(dtype, 1, 2, 7, 7)
    if not lowered("layer_norm", "gelu"):
        pytest.skip("not lowered yet")
    ops = [
        operation(
            "layer_norm", "n", flat, x=Ref("x"), axes=[-1], gamma=weights(16).astype(kind), epsilon=kind(1e-3)
        ),
        operation("linear", "q", flat, x=Ref("n"), weight=weights(16, 16, scale=0.3).astype(kind)),
        operation("reshape", "r", typed(dtype, 1, 7, 2, 8), x=Ref("q"), shape=[1, 7, 2, 8]),
        operation("transpose", "t", heads, x=Ref("r"), perm=[0, 2, 1, 3]),
        operation("matmul", "s", square, x=Ref("t"), y=Ref("t"), transpose_y=True),
        operation("mul", "u", square, x=Ref("s"), y=kind(0.3)),
        operation("softmax", "v", square, x=Ref("u"), axis=-1),
        operation("matmul", "w", heads, x=Ref("v"), y=Ref("t")),
        operation("transpose", "y", typed(dtype, 1, 7, 2, 8), x=Ref("w"), perm=[0, 2, 1, 3]),
        operation("reshape", "z", flat, x=Ref("y"), shape=[1, 7, 16]),
        operation("add", "o", flat, x=Ref("x"), y=Ref("z")),
        operation("gelu", "g", flat, x=Ref("o"), mode="EXACT"),
    ]
    compared = check(function({"x": flat}, ops), {"x": halves(1, 7, 16)})
    assert {compared[f"{name}_op"] for name in "rtuyzo"} == {"exact"}


EXACT_CASES: dict[str, dict[str, Any]] = {
    "add": {"y": Ref("y")},
    "sub": {"y": Ref("y")},
    "mul": {"y": Ref("y")},
    "real_div": {"y": Ref("y")},
    "maximum": {"y": Ref("y")},
    "minimum": {"y": Ref("y")},
    "relu": {},
    "relu6": {},
    "leaky_relu": {"alpha": np.float16(0.1)},
    "abs": {},
    "sign": {},
    "floor": {},
    "ceil": {},
    "square": {},
    "sqrt": {},
    "tile": {"reps": [1]},
}


@pytest.mark.parametrize("op", EXACT_CASES)
def test_every_fp16_value_through_an_exact_op(op: str) -> None:
    if not lowered(op):
        pytest.skip("not lowered yet")
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    y = RNG.permutation(x)
    type_ = typed("fp16", x.size)
    program = function({"x": type_, "y": type_}, [operation(op, "z", type_, x=Ref("x"), **EXACT_CASES[op])])
    assert check(program, {"x": x, "y": y}) == {"z_op": "exact"}


@pytest.mark.parametrize("op", ["exp", "tanh", "erf", "sigmoid", "silu", "sin", "cos", "softsign", "gelu"])
def test_a_function_is_a_step_away_at_most(op: str) -> None:
    if not lowered(op):
        pytest.skip("not lowered yet")
    x = np.linspace(-6, 6, 5000).astype(np.float16).astype(np.float32)
    type_ = typed("fp16", x.size)
    assert check(function({"x": type_}, [operation(op, "z", type_, x=Ref("x"))]), {"x": x}) == {
        "z_op": "a step"
    }


def test_the_oracle_can_fail() -> None:
    type_ = typed("fp16", 1000)
    program = function({"x": type_}, [operation("mul", "z", type_, x=Ref("x"), y=np.float16(1.1))])
    x = halves(1000)
    values = interpreter.run(program, {"x": x}, no_blobs)
    assert agree("mul", type_, values["z"], values["z"]) == "exact"
    with pytest.raises(AssertionError):
        agree("mul", type_, x * np.float32(np.float16(1.1)), values["z"])  # not rounded
    with pytest.raises(AssertionError):
        agree("softmax", type_, values["z"] * np.float32(1.004), values["z"])


def test_a_real_package(tiny_classifier: Path) -> None:
    asset = ModelAsset.open(tiny_classifier)
    program = read_program(asset.spec.mlProgram, where="tiny").functions["main"]
    kept = tuple(entry for entry in program.block.operations if entry.type != "classify")
    program = replace(
        program, block=replace(program.block, operations=kept, outputs=(kept[-1].outputs[0].name,))
    )

    def read_blob(reference: BlobRef) -> Array:
        return asset.blobs(reference.file).read(reference.offset)

    pixels = RNG.integers(0, 256, (1, 3, 16, 16)).astype(np.float32)
    compared = check(program, {"image": pixels}, read_blob)
    assert len(compared) == len([entry for entry in kept if entry.type != "const"])
    assert sorted(set(compared.values())) == ["a step", "exact"]


def lowered(*ops: str) -> bool:
    from coremlops.lower.registry import rule_for

    return all(rule_for(op) is not None for op in ops)
