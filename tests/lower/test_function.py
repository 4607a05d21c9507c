"""Rounding, naming, and what is refused."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import BlobRef, Block, Operation, Ref
from coremlops.errors import ModelFormatError, UnsupportedOpsError
from coremlops.lower import embed_weights, lower_function
from coremlops.lower.onnx_graph import OnnxGraph
from tests.lower.programs import Array, function, lower, one, onnx_ops, operation, run, typed

RNG = np.random.default_rng(1)


def awkward() -> Array:
    """Float32 values around what fp16 can hold: every fp16 value, its neighbours, midpoints, overflow."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = every[np.isfinite(every)]
    with np.errstate(over="ignore"):
        above = np.nextafter(finite.astype(np.float16), np.float16(np.inf)).astype(np.float32)
    middle = (finite + above) / 2
    edges = np.array(
        [65504, 65519.996, 65520, 65520.004, 1e30, -65520, -1e30, np.inf, -np.inf, 1e-30, -1e-30], np.float32
    )
    return np.concatenate([finite, middle[np.isfinite(middle)], np.nextafter(finite, np.float32(9e9)), edges])


def halves(*shape: int, scale: float = 1.0) -> Array:
    """Random values that fp16 holds exactly, as float32."""
    return (RNG.standard_normal(shape) * scale).astype(np.float16).astype(np.float32)


def rounded(array: Array) -> Array:
    """The oracle: once to fp16 and back."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


BINARY: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@pytest.mark.parametrize("op", BINARY)
def test_fp16_elementwise_ops_round_once_bit_for_bit(op: str) -> None:
    # scale 300: sums and products pass 65504 and must become infinite
    x, y = halves(64, 512, scale=300), halves(64, 512, scale=300)
    x[0, :4], y[0, :4] = [65504, -65504, 60000, 0], [65504, -65504, 6000, 0.5]
    type_ = typed("fp16", 64, 512)
    program = function({"x": type_, "y": type_}, [operation(op, "z", type_, x=Ref("x"), y=Ref("y"))])
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        expected = rounded(BINARY[op](x, y))
    found = run(program, x=x, y=y)["z"]
    assert found.tobytes() == expected.tobytes()
    if op in ("add", "mul"):
        assert np.isinf(found).any()


def test_a_chain_of_fp16_ops_rounds_after_each() -> None:
    x, y = halves(4096, scale=3), halves(4096, scale=3)
    type_ = typed("fp16", 4096)
    program = function(
        {"x": type_, "y": type_},
        [
            operation("mul", "a", type_, x=Ref("x"), y=Ref("y")),
            operation("add", "b", type_, x=Ref("a"), y=Ref("x")),
            operation("mul", "c", type_, x=Ref("b"), y=Ref("a")),
        ],
    )
    product = rounded(x * y)
    expected = rounded(rounded(product + x) * product)
    assert run(program, x=x, y=y)["c"].tobytes() == expected.tobytes()
    # and it differs from what no rounding gives, so the test can fail
    assert (run(program, "float32", x=x, y=y)["c"] != expected).mean() > 0.5


def test_fp32_types_are_not_rounded_unless_forced() -> None:
    x = RNG.standard_normal(1000).astype(np.float32)
    type_ = typed("fp32", 1000)
    assert (one("add", type_, x, y=x) == x + x).all()
    assert (one("add", type_, x, precision="float16", y=x) == rounded(rounded(x) + rounded(x))).all()


def test_float32_mode_leaves_fp16_types_alone() -> None:
    x = RNG.standard_normal(1000).astype(np.float32)
    assert (one("add", typed("fp16", 1000), x, precision="float32", y=x) == x + x).all()


def test_an_fp16_input_is_rounded_on_its_way_in() -> None:
    x = awkward()
    found = one("identity", typed("fp16", x.size), x)
    assert found.tobytes() == rounded(x).tobytes()


def test_a_cast_to_fp16_rounds_and_overflows() -> None:
    x = awkward()
    found = one("cast", typed("fp16", x.size), x, x_type=typed("fp32", x.size), dtype="fp16")
    assert found.tobytes() == rounded(x).tobytes()


def test_an_integer_that_becomes_fp16_is_rounded() -> None:
    x = np.array([1, 2047, 2049, 65504, 65519, 65520, 70000, -70000], np.int32)
    found = one("cast", typed("fp16", x.size), x, x_type=typed("int32", x.size), dtype="fp16")
    assert found.tobytes() == rounded(x.astype(np.float32)).tobytes()


MOVING: dict[str, dict[str, Any]] = {
    "relu": {},
    "relu6": {},
    "clip": {"alpha": -2.0, "beta": 60000.0},
    "maximum": {"y": np.float16(0.5)},
    "minimum": {"y": np.float16(-3)},
}


@pytest.mark.parametrize("op", MOVING)
def test_rounding_may_follow_an_op_that_picks_values(op: str) -> None:
    # for every fp16 value, its float32 neighbours, midpoints and overflow: round(op(x)) == op(round(x))
    x = awkward()
    wide, half = typed("fp32", x.size), typed("fp16", x.size)
    ops = [
        operation("cast", "h", half, x=Ref("x"), dtype="fp16"),
        operation(op, "y", half, x=Ref("h"), **MOVING[op]),
    ]
    moved = function({"x": wide}, ops)
    kept = function({"x": wide}, ops, "y", "h")  # another use of h pins its rounding before the op
    after, before = onnx_ops(moved), onnx_ops(kept)
    assert after[-2:] == ["Cast", "Cast"]
    assert before[:2] == ["Cast", "Cast"]
    np.testing.assert_array_equal(run(moved, x=x)["y"], run(kept, x=x)["y"])


def test_rounding_does_not_follow_a_clip_whose_bound_fp16_cannot_hold() -> None:
    x = awkward()
    half = typed("fp16", x.size)
    ops = [
        operation("cast", "h", half, x=Ref("x"), dtype="fp16"),
        operation("clip", "y", half, x=Ref("h"), alpha=-0.1, beta=0.1),
    ]
    found = run(function({"x": typed("fp32", x.size)}, ops), x=x)["y"]
    low, high = np.float32(-0.1), np.float32(0.1)
    assert found.tobytes() == rounded(np.clip(rounded(x), low, high)).tobytes()


def test_a_convolution_and_its_clip_stay_neighbours() -> None:
    half = typed("fp16", 1, 2, 4, 4)
    weight = halves(2, 2, 3, 3).astype(np.float16)
    program = function(
        {"x": half},
        [
            operation("conv", "a", half, x=Ref("x"), weight=weight, pad_type="same"),
            operation("clip", "b", half, x=Ref("a"), alpha=np.float16(0), beta=np.float16(6)),
            operation("add", "c", half, x=Ref("b"), y=Ref("b")),
        ],
    )
    assert onnx_ops(program) == ["Cast", "Cast", "Conv", "Clip", "Cast", "Cast", "Add", "Cast", "Cast"]


def test_a_value_that_is_used_twice_is_rounded_once() -> None:
    half = typed("fp16", 3)
    program = function(
        {"x": typed("fp32", 3)},
        [
            operation("cast", "h", half, x=Ref("x"), dtype="fp16"),
            operation("relu", "a", half, x=Ref("h")),
            operation("tanh", "b", half, x=Ref("h")),
            operation("add", "c", half, x=Ref("a"), y=Ref("b")),
        ],
    )
    assert onnx_ops(program).count("Cast") == 6  # h, b and c; a is picked from h and needs none


def test_everything_that_is_not_supported_is_listed_at_once() -> None:
    type_ = typed("fp32", 3)
    inner = Operation("inner_mystery", "deep", {}, (), (), {})
    loop = Operation("mystery_loop", "loop", {}, (), (Block((), (), (inner,)),), {})
    program = function(
        {"x": type_},
        [
            operation("mystery", "a", type_, x=Ref("x")),
            operation("relu", "b", type_, x=Ref("a")),
            operation("riddle", "c", type_, x=Ref("b")),
            operation("pad", "d", type_, x=Ref("c"), pad=[0, 0], mode="backwards"),
            operation("relu", "e", type_, x=Ref("d"), colour=3),
            loop,
        ],
        "e",
    )
    with pytest.raises(UnsupportedOpsError) as caught:
        lower(program)
    assert caught.value.unsupported == (
        "mystery (a_op)",
        "riddle (c_op)",
        "pad (d_op): mode 'backwards'",
        "relu (e_op): input colour",
        "mystery_loop (loop)",
        "inner_mystery (deep)",
    )
    for line in ("main", "mystery (a_op)", "riddle (c_op)", "(6):"):
        assert line in caught.value.message


def test_a_value_that_nothing_defines() -> None:
    program = function({}, [operation("relu", "y", typed("fp32", 3), x=Ref("ghost"))])
    with pytest.raises(ModelFormatError, match="'ghost' is used before it is defined"):
        lower(program)


def test_a_value_that_is_defined_twice() -> None:
    type_ = typed("fp32", 3)
    relu = operation("relu", "y", type_, x=Ref("x"))
    with pytest.raises(ModelFormatError, match="'y' is defined twice"):
        lower(function({"x": type_}, [relu, relu]))


def test_a_missing_input_and_one_of_a_wrong_kind() -> None:
    type_ = typed("fp32", 3)
    with pytest.raises(ModelFormatError, match=r"clip \(y_op\) has no input 'alpha'"):
        lower(function({"x": type_}, [operation("clip", "y", type_, x=Ref("x"), beta=1.0)]))
    with pytest.raises(ModelFormatError, match="input 'alpha' is no float; got str"):
        lower(function({"x": type_}, [operation("clip", "y", type_, x=Ref("x"), alpha="a", beta=1.0)]))


def test_results_keep_their_names_and_steps_are_numbered() -> None:
    type_ = typed("fp32", 3)
    ops = [operation("silu", "y", type_, x=Ref("x")), operation("tanh", "z", type_, x=Ref("y"))]
    lowered = lower(function({"x": type_}, ops, "y", "z"))
    assert [entry.name for entry in lowered.outputs] == ["y", "z"]
    assert [entry.name for entry in lowered.model.graph.output] == ["y", "z"]
    names = [node.output[0] for node in lowered.model.graph.node]
    assert len(set(names)) == len(names)


def test_big_constants_stay_beside_the_graph_until_they_are_embedded() -> None:
    import onnx

    for dtype, kind in (("fp32", np.float32), ("fp16", np.float16)):
        data = RNG.standard_normal((100, 100)).astype(kind)
        type_ = typed(dtype, 100, 100)
        lowered = lower(function({"x": type_}, [operation("add", "y", type_, x=Ref("x"), y=data)]))
        ((name, array),) = lowered.weights.items()
        assert array.dtype == kind  # as it is stored
        assert len(lowered.model.SerializeToString()) < 1000
        whole = embed_weights(lowered.model, lowered.weights)
        onnx.checker.check_model(whole, full_check=True)
        (tensor,) = (entry for entry in whole.graph.initializer if entry.name == name)
        found = onnx.numpy_helper.to_array(tensor)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, data)


def test_a_blob_that_does_not_fit_its_type() -> None:
    type_ = typed("fp32", 3)
    program = function({"x": type_}, [operation("add", "y", type_, x=Ref("x"), y=Ref("w"))])
    const = Operation(
        "const", "w", {}, (operation("const", "w", type_).outputs), (), {"val": BlobRef(type_, "f", 64)}
    )
    program = function({"x": type_}, [const, *program.block.operations])
    with pytest.raises(
        ModelFormatError, match=r"the blob at 64 of f holds 2 values of float32; .* fp32\[3\]"
    ):
        lower_function(program, lambda _: np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("transpose", {"perm": [0, 5]}),
        ("squeeze", {"axes": [3]}),
        ("concat", {"axis": 7, "interleave": True}),
    ],
)
def test_inputs_that_do_not_fit_each_other(kind: str, inputs: dict[str, Any]) -> None:
    type_ = typed("fp32", 2, 3)
    x = {"values": (Ref("x"), Ref("x"))} if kind == "concat" else {"x": Ref("x")}
    with pytest.raises(
        ModelFormatError, match=r"_op\): its inputs do not fit each other: axis \d of a tensor of rank 2"
    ):
        lower(function({"x": type_}, [operation(kind, "y", type_, **x, **inputs)]))


def test_a_constants_type_is_no_inputs() -> None:
    """Below a byte there are constants alone: nobody could give such an input."""
    program = function(
        {"x": typed("uint4", 3)}, [operation("cast", "y", typed("fp32", 3), x=Ref("x"), dtype="fp32")]
    )
    with pytest.raises(UnsupportedOpsError, match=r"input .x.: uint4"):
        lower(program)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32"])
def test_an_output_that_is_an_input_itself(dtype: str) -> None:
    """A conversion that leaves nothing to do makes such programs, and Apple runs them."""
    type_ = typed(dtype, 2, 3)
    program = function({"x": type_}, [operation("add", "y", type_, x=Ref("x"), y=Ref("x"))], "x", "y", "x")
    lowered = lower(program)
    assert [entry.name for entry in lowered.outputs] == ["x", "y"]
    x = np.arange(6).reshape(2, 3)
    found = run(program, x=x.astype(np.int32 if dtype == "int32" else np.float32))
    np.testing.assert_array_equal(found[lowered.renamed["x"]], x)
    np.testing.assert_array_equal(found["y"], 2 * x)


def test_names_are_free_ones_also_where_a_file_has_numbered_its_own() -> None:
    graph = OnnxGraph("main")
    assert [graph.reserve(name) for name in ("x", "x.2", "x", "x", "x.2")] == [
        "x",
        "x.2",
        "x.3",
        "x.4",
        "x.2.2",
    ]
