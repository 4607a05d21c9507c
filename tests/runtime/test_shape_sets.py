"""Enumerated shapes of several inputs, by coremltools' own example and by features made by hand."""

from pathlib import Path

import numpy as np
import pytest

import coremlops
from coremlops.errors import InputError, ModelError
from coremlops.model import ArrayFeature, ImageFeature
from coremlops.runtime.shape_sets import check_sets, have_sets
from tests.handmade import add_operation, array_feature, program_spec, write_package

SHORT, LONG = ((1, 2), (1, 3), (1, 3)), ((4, 2), (4, 3), (4, 5))


def adder(path: Path, version: int = 9) -> Path:
    """y = x + other, [1, n] + [4, n]: x and other have three shapes each."""
    spec, block = program_spec(version)
    array_feature(spec.description.input.add(), "other", (4, 2))
    entry = spec.mlProgram.functions["main"].inputs.add(name="other")
    entry.CopyFrom(spec.mlProgram.functions["main"].inputs[0])
    entry.name = "other"
    add_operation(block, "add", "y", (4, 2), {"x": "x", "y": "other"})
    given = spec.mlProgram.functions["main"].inputs
    for message, shapes, function_input in zip(
        spec.description.input, (SHORT, LONG), (given[0], given[1]), strict=True
    ):
        array = message.type.multiArrayType
        array.shape[:] = shapes[0]
        for shape in shapes:
            array.enumeratedShapes.shapes.add().shape.extend(shape)
        function_input.type.tensorType.dimensions[0].constant.size = shapes[0][0]
        function_input.type.tensorType.dimensions[1].unknown.variadic = False
    result = block.operations[0].outputs[0].type.tensorType
    result.dimensions[1].unknown.variadic = False
    return write_package(path, spec)


def test_the_shapes_of_one_place_belong_together(tmp_path: Path) -> None:
    model = coremlops.load(adder(tmp_path / "a.mlpackage"))
    for short, long in ((SHORT[0], LONG[0]), (SHORT[1], LONG[1])):
        found = model.predict({"x": np.full(short, 2.0), "other": np.ones(long)})["y"]
        np.testing.assert_array_equal(found, np.full(long, 3, np.float32))
    words = (
        r"the inputs 'x', 'other' take their shapes together: expected x \[1, 2\], other \[4, 2\] or "
        r"x \[1, 3\], other \[4, 3\] or x \[1, 3\], other \[4, 5\]; got x \[1, 2\], other \[4, 3\]"
    )
    with pytest.raises(InputError, match=words) as caught:
        model.predict({"x": np.ones(SHORT[0]), "other": np.ones(LONG[1])})
    assert "i-th shape" in caught.value.hint


def test_before_ios_18_there_are_no_sets(tmp_path: Path) -> None:
    # Lists of then hold each shape once, so that a place says nothing.
    model = coremlops.load(adder(tmp_path / "a.mlpackage", version=8))
    with pytest.raises(InputError, match=r"input 'x': expected the shape"):
        model.predict({"x": np.ones((1, 4)), "other": np.ones((4, 3))})
    with pytest.raises(ModelError, match="the engine failed"):  # each shape is allowed, but not together
        model.predict({"x": np.ones((1, 2)), "other": np.ones((4, 3))})


def test_a_shape_that_stands_twice_goes_with_both_of_the_other() -> None:
    features = (
        ArrayFeature("a", "float32", (1, 2), shapes=SHORT),
        ArrayFeature("b", "float32", (4, 2), shapes=LONG),
    )
    for other in LONG[1:]:
        check_sets(features, {"a": np.empty((1, 3)), "b": np.empty(other)})
    with pytest.raises(InputError, match=r"got a \[1, 2\], b \[4, 5\]"):
        check_sets(features, {"a": np.empty((1, 2)), "b": np.empty((4, 5))})


def test_one_input_with_a_list_is_free() -> None:
    features = (
        ArrayFeature("a", "float32", (1, 2), shapes=SHORT),
        ArrayFeature("b", "float32", (4, 2), ranges=((4, 4), (1, None))),
    )
    assert not have_sets(features)
    assert have_sets((features[0], features[0]))
    check_sets(features, {"a": np.empty((1, 2)), "b": np.empty((4, 5))})


def test_pictures_have_sets_too_and_the_default_sizes_are_one() -> None:
    features = (
        ImageFeature("a", 1, 2, "RGB", sizes=((8, 4), (16, 4))),
        ImageFeature("b", 3, 4, "GRAYSCALE", sizes=((4, 4), (8, 8))),
    )

    def tensors(*sizes: tuple[int, int]) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        names = ("a", "b")
        return {name: np.empty((1, 1, h, w), np.float32) for name, (w, h) in zip(names, sizes, strict=True)}

    for good in (((1, 2), (3, 4)), ((8, 4), (4, 4)), ((16, 4), (8, 8))):
        check_sets(features, tensors(*good))
    with pytest.raises(
        InputError, match=r"expected a \[8, 4\], b \[4, 4\] or .*; got a \[8, 4\], b \[8, 8\]"
    ):
        check_sets(features, tensors((8, 4), (8, 8)))
