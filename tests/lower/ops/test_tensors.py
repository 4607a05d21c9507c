"""Ops that move values, against NumPy, exactly; and the classifier's op."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import DictionaryType, NamedType, Operation, Ref, TensorType
from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, constant, function, lower, one, operation, run, typed

RNG = np.random.default_rng(7)


def values(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def moved(kind: str, x: Array, expected: Array, **inputs: Any) -> None:
    """The op gives exactly `expected`, for float32 and, unrounded, for values that fp16 holds."""
    for dtype in ("fp32", "fp16"):
        given = x.astype(np.float16 if dtype == "fp16" else np.float32)
        found = one(kind, typed(dtype, *expected.shape), given, x_type=typed(dtype, *x.shape), **inputs)
        wanted = expected.astype(np.float16) if dtype == "fp16" else expected
        np.testing.assert_array_equal(found, wanted)
        assert found.shape == expected.shape


@pytest.mark.parametrize(
    ("shape", "to"), [((2, 6), [3, 4]), ((2, 6), [-1]), ((1, 5, 1, 1), [1, -1]), ((2, 50), [1, 0, -1, 0])]
)
def test_reshape(shape: tuple[int, ...], to: list[int]) -> None:
    x = values(*shape)
    expected = x.reshape((1, 1, 2, 50) if 0 in to else to)  # iOS 17: zeros are matched from the right
    moved("reshape", x, expected, shape=to)


def test_reshape_of_a_size_known_at_run_time_alone() -> None:
    program = function(
        {"x": typed("fp32", None, 4)},
        [operation("reshape", "y", typed("fp32", None), x=Ref("x"), shape=[-1])],
    )
    x = values(3, 4)
    np.testing.assert_array_equal(run(program, x=x)["y"], x.ravel())


def test_transpose() -> None:
    x = values(2, 3, 4)
    moved("transpose", x, x.transpose(2, 0, 1), perm=[-1, 0, 1])


@pytest.mark.parametrize(("axes", "shape"), [([0], (3, 1)), ([-1], (1, 3)), ([0, 1], (3, 1)), (None, (3,))])
def test_squeeze(axes: list[int] | None, shape: tuple[int, ...]) -> None:
    x = values(1, 3, 1)
    moved("squeeze", x, x.reshape(shape), **({} if axes is None else {"axes": axes}))


@pytest.mark.parametrize(("axes", "shape"), [([0], (1, 2, 3)), ([-1], (2, 3, 1)), ([0, 3], (1, 2, 3, 1))])
def test_expand_dims(axes: list[int], shape: tuple[int, ...]) -> None:
    x = values(2, 3)
    moved("expand_dims", x, x.reshape(shape), axes=axes)


@pytest.mark.parametrize(
    ("mode", "numpy_mode"), [("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge")]
)
def test_pad(mode: str, numpy_mode: Any) -> None:
    x = values(2, 3, 4)
    more = {"constant_values": 2.5} if mode == "constant" else {}
    expected = np.pad(x, ((0, 0), (1, 2), (3, 0)), numpy_mode, **more)
    extra = {"constant_val": 2.5} if mode == "constant" else {}
    moved("pad", x, expected, pad=[1, 2, 3, 0], mode=mode, **extra)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("interleave", [False, True])
def test_concat(axis: int, interleave: bool) -> None:
    x, y = values(2, 3), values(2, 3)
    if interleave:
        shape = [2, 3]
        shape[axis] *= 2
        expected = np.stack([x, y], axis=axis % 2 + 1).reshape(shape)
    else:
        expected = np.concatenate([x, y], axis)
    program = function(
        {"x": typed("fp32", 2, 3), "y": typed("fp32", 2, 3)},
        [
            operation(
                "concat",
                "z",
                typed("fp32", *expected.shape),
                values=(Ref("x"), Ref("y")),
                axis=axis,
                interleave=interleave,
            )
        ],
    )
    np.testing.assert_array_equal(run(program, x=x, y=y)["z"], expected)


def classifier(labels: tuple[str, ...], *shape: int) -> Any:
    outputs = (
        NamedType("label", TensorType("string")),
        NamedType("scores", DictionaryType(TensorType("string"), TensorType("fp64"))),
    )
    classify = Operation(
        "classify",
        "classify",
        {"probabilities": (Ref("x"),), "classes": (constant(labels),)},
        outputs,
        (),
        {},
    )
    return function({"x": typed("fp32", *shape)}, [classify], "label", "scores")


def test_classify_is_left_to_the_host() -> None:
    program = classifier(("a", "b", "c"), 1, 3)
    found = lower(program).classifier
    assert found is not None
    assert (found.label, found.probabilities, found.labels) == ("label", "scores", ("a", "b", "c"))
    x = values(1, 3)
    np.testing.assert_array_equal(run(program, x=x)[found.source], x)


def test_classify_with_another_number_of_classes() -> None:
    with pytest.raises(UnsupportedOpsError, match="2 classes for probabilities of shape"):
        lower(classifier(("a", "b"), 1, 3))
