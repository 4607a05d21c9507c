"""Inner values, states, pictures that come out, functions, time limits: by models made by hand."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coremlops
from coremlops.errors import InputError, ModelError, ModelFormatError, UsageError
from coremlops.model import ArrayFeature
from coremlops.runtime.memory import LIMIT_VARIABLE
from coremlops.runtime.state import new_state
from tests.handmade import add_operation, adder, program_spec, tensor_type, write_package

X = np.array([[-1.5, 0.1, 2], [3.3, -4, 5]], np.float32)


def half(array: Any) -> Any:
    return np.asarray(array).astype(np.float16).astype(np.float32)


def chain(path: Path) -> Path:
    """c = relu(b), b = a * a, a = fp16(x); y = fp32(c): relu takes b before it is rounded."""
    spec, block = program_spec()
    add_cast(block, "a", "x", "fp16")
    add_operation(block, "mul", "b", (2, 3), {"x": "a", "y": "a"}, "fp16")
    add_operation(block, "relu", "c", (2, 3), {"x": "b"}, "fp16")
    add_cast(block, "y", "c", "fp32")
    return write_package(path, spec)


def add_text(operation: Any, name: str, text: str) -> None:
    value = operation.inputs[name].arguments.add().value
    value.type.tensorType.dataType = 2
    value.immediateValue.tensor.strings.values.append(text)


def add_cast(block: Any, output: str, source: str, dtype: str) -> None:
    add_text(add_operation(block, "cast", output, (2, 3), {"x": source}, dtype), "dtype", dtype)


def test_inner_values_are_rounded_as_the_program_says(tmp_path: Path) -> None:
    model = coremlops.load(chain(tmp_path / "a.mlpackage"))
    assert model.inner_names == ("x", "a", "b", "c", "y")
    found = model.predict({"x": X}, intermediates=["b", "a", "x", "c"])
    assert set(found) == {"x", "a", "b", "c", "y"}
    square = half(half(X) * half(X))
    assert (square != half(X) * half(X)).any()  # so that a missing rounding shows
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["a"], half(X))
    np.testing.assert_array_equal(found["b"], square)
    np.testing.assert_array_equal(found["c"], square)
    np.testing.assert_array_equal(found["y"], model.predict({"x": X})["y"])
    plain = coremlops.load(tmp_path / "a.mlpackage", precision="float32")
    np.testing.assert_array_equal(plain.predict({"x": X}, intermediates=("b",))["b"], X * X)


def test_an_inner_value_that_is_not_there(tmp_path: Path) -> None:
    model = coremlops.load(chain(tmp_path / "a.mlpackage"))
    with pytest.raises(UsageError, match="no inner value 'bb'") as caught:
        model.predict({"x": X}, intermediates=["bb"])
    assert caught.value.hint == "did you mean 'b'?"


def test_several_threads_may_look_inside(tmp_path: Path) -> None:
    model = coremlops.load(chain(tmp_path / "a.mlpackage"))
    expected = model.predict({"x": X}, intermediates=["a", "b", "c"])
    failed: list[str] = []

    def look(names: tuple[str, ...]) -> None:
        for _ in range(10):
            found = model.predict({"x": X}, intermediates=names)
            failed.extend(name for name in names if (found[name] != expected[name]).any())

    sets = [("a",), ("b",), ("c",), ("a", "b"), ("b", "c"), ("a", "b", "c")]  # more than are kept
    threads = [threading.Thread(target=look, args=(names,)) for names in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def counter(path: Path, dtype: str = "fp32") -> Path:
    """A state `sum` [2, 3] to which x is added; y is the state before, z after."""
    spec, block = program_spec(9)
    code = {"fp16": 65552, "fp32": 65568}[dtype]
    state = spec.description.state.add(name="sum").type.stateType.arrayType
    state.shape.extend((2, 3))
    state.dataType = code
    entry = spec.mlProgram.functions["main"].inputs.add(name="sum")
    tensor_type(entry.type.stateType.wrappedType, dtype, (2, 3))
    add_operation(block, "read_state", "before", (2, 3), {"input": "sum"}, dtype)
    add_cast(block, "h", "x", dtype)
    add_operation(block, "add", "after", (2, 3), {"x": "before", "y": "h"}, dtype)
    write = block.operations.add(type="write_state")
    for name, value in (("input", "sum"), ("data", "after")):
        write.inputs[name].arguments.add().name = value
    add_operation(block, "read_state", "again", (2, 3), {"input": "sum"}, dtype)
    add_cast(block, "y", "before", "fp32")
    add_cast(block, "z", "again", "fp32")
    block.outputs.append("z")
    z = spec.description.output.add()
    z.CopyFrom(spec.description.output[0])
    z.name = "z"
    return write_package(path, spec)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_state_is_updated_in_place(tmp_path: Path, dtype: str) -> None:
    model = coremlops.load(counter(tmp_path / "a.mlpackage", dtype))
    kind: Any = np.float16 if dtype == "fp16" else np.float32
    state, other = model.make_state(), model.make_state()
    array = state["sum"]
    expected = np.zeros((2, 3), kind)
    for _ in range(3):
        found = model.predict({"x": X}, state=state)
        np.testing.assert_array_equal(found["y"], expected)
        expected = expected + X.astype(kind)
        np.testing.assert_array_equal(found["z"], expected)
        np.testing.assert_array_equal(array, expected)
    assert array.dtype == kind
    assert state["sum"] is array
    assert not other["sum"].any()
    # an array of another dtype serves, too, and holds what the model's own dtype can hold
    wide = {"sum": np.full((2, 3), 0.1, np.float64)}
    model.predict({"x": X}, state=wide)
    np.testing.assert_array_equal(
        wide["sum"], (np.float32(0.1) if dtype == "fp32" else kind(0.1)) + X.astype(kind)
    )


def test_a_state_that_is_missing_or_does_not_fit(tmp_path: Path) -> None:
    model = coremlops.load(counter(tmp_path / "a.mlpackage"))
    assert [entry.name for entry in model.description.states] == ["sum"]
    with pytest.raises(InputError, match="the model has the state 'sum', and none is given") as caught:
        model.predict({"x": X})
    assert "make_state" in caught.value.hint
    for wrong in ({}, {"sum": np.zeros((3, 2))}, {"sum": [1]}):
        with pytest.raises(InputError, match=r"state 'sum': expected an array of type fp32\[2, 3\]"):
            model.predict({"x": X}, state=wrong)  # type: ignore[arg-type]


def test_a_state_that_cannot_be_updated_in_place(tmp_path: Path) -> None:
    model = coremlops.load(counter(tmp_path / "a.mlpackage"))
    fixed = model.make_state()
    fixed["sum"].flags.writeable = False
    for wrong in (fixed, {"sum": np.zeros((2, 3), np.int32)}):
        with pytest.raises(InputError, match="state 'sum': it is updated in place"):
            model.predict({"x": X}, state=wrong)


@pytest.mark.parametrize("precision", ["typed", "float32"])
def test_inner_values_of_a_model_that_has_a_state(tmp_path: Path, precision: str) -> None:
    model = coremlops.load(counter(tmp_path / "a.mlpackage", "fp16"), precision=precision)
    kind: Any = np.float16 if precision == "typed" else np.float32
    state = model.make_state()
    expected = np.zeros((2, 3), kind)
    for _ in range(3):
        found = model.predict({"x": X}, state=state, intermediates=["before", "after", "h"])
        np.testing.assert_array_equal(found["before"], expected.astype(np.float32))
        expected = expected + X.astype(kind)
        np.testing.assert_array_equal(found["after"], expected.astype(np.float32))
        np.testing.assert_array_equal(found["h"], X.astype(kind).astype(np.float32))
        np.testing.assert_array_equal(state["sum"], expected)


def test_a_model_without_states_has_an_empty_one(tmp_path: Path) -> None:
    model = coremlops.load(chain(tmp_path / "a.mlpackage"))
    assert model.make_state() == {}
    assert set(model.predict({"x": X}, state=model.make_state())) == {"y"}


COLOURS = {"GRAYSCALE": 10, "RGB": 20, "BGR": 30, "GRAYSCALE_FLOAT16": 40}


def pictures(path: Path, colour: str) -> Path:
    """y = x * 2, pictures of 3 x 2 pixels both."""
    spec, block = program_spec()
    shape = (1, 3 if len(colour) == 3 else 1, 2, 3)
    for features, name in ((spec.description.input, "x"), (spec.description.output, "y")):
        del features[:]
        image = features.add(name=name).type.imageType
        image.width, image.height, image.colorSpace = 3, 2, COLOURS[colour]
    entry = spec.mlProgram.functions["main"].inputs[0]
    entry.type.Clear()
    tensor_type(entry.type, "fp32", shape)
    add_operation(block, "add", "y", shape, {"x": "x", "y": "x"})
    return write_package(path, spec)


@pytest.mark.parametrize("colour", COLOURS)
def test_pictures_in_and_out(tmp_path: Path, colour: str) -> None:
    model = coremlops.load(pictures(tmp_path / "a.mlpackage", colour))
    shape = (2, 3, 3) if len(colour) == 3 else (2, 3)
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    found = model.predict({"x": Image.fromarray(pixels)})["y"]
    assert isinstance(found, Image.Image)
    assert (found.size, found.mode) == (
        (3, 2),
        {"GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "F"}.get(colour, "RGB"),
    )
    doubled = pixels.astype(np.int32) * 2
    expected = doubled if colour == "GRAYSCALE_FLOAT16" else np.minimum(doubled, 255)
    np.testing.assert_array_equal(np.asarray(found), expected)
    # inside, BGR stands in that order
    if colour == "BGR":
        inside = model.predict({"x": pixels}, intermediates=["x"])["x"]
        np.testing.assert_array_equal(inside[0], pixels.transpose(2, 0, 1)[::-1])


def test_grey_with_fractions(tmp_path: Path) -> None:
    model = coremlops.load(pictures(tmp_path / "a.mlpackage", "GRAYSCALE_FLOAT16"))
    pixels = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    for value in (pixels, Image.fromarray(pixels)):
        np.testing.assert_array_equal(np.asarray(model.predict({"x": value})["y"]), pixels * 2)
    model = coremlops.load(pictures(tmp_path / "b.mlpackage", "RGB"))
    with pytest.raises(InputError, match="floating-point pixels"):
        model.predict({"x": Image.fromarray(pixels)})


def test_a_picture_that_comes_out_with_the_wrong_channels(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    del spec.description.output[:]
    image = spec.description.output.add(name="y").type.imageType
    image.width, image.height, image.colorSpace = 2, 3, 20
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    with pytest.raises(ModelFormatError, match=r"expected 3 channels .* the model gives \[2, 3\]"):
        model.predict({"x": X})


def test_a_batch(tmp_path: Path) -> None:
    model = coremlops.load(chain(tmp_path / "a.mlpackage"))
    found = model.predict_batch([{"x": X}, {"x": -X}], intermediates=(name for name in ("a",)))
    assert len(found) == 2
    np.testing.assert_array_equal(found[1]["a"], -found[0]["a"])
    assert model.predict_batch([]) == []


@pytest.mark.parametrize("limit", [0, -1, float("nan"), 1e30])
def test_an_impossible_time_limit(tmp_path: Path, limit: float) -> None:
    with pytest.raises(UsageError, match="a time limit of"):
        coremlops.load(chain(tmp_path / "a.mlpackage"), time_limit_s=limit)


def endless(path: Path) -> Path:
    """while True: v = v."""
    spec, block = program_spec()
    loop = add_operation(block, "while_loop", "y", (2, 3), {"loop_vars": "x"})
    for source, dtype in ((None, "bool"), ("v", "fp32")):
        inner = loop.blocks.add()
        entry = inner.inputs.add(name="v")
        tensor_type(entry.type, "fp32", (2, 3))
        if source is None:
            const = add_operation(inner, "const", "go", (), {}, dtype)
            tensor_type(const.attributes["val"].type, dtype, ())
            const.attributes["val"].immediateValue.tensor.bools.values.append(True)
        inner.outputs.append(source or "go")
    return write_package(path, spec)


def test_an_endless_model_is_stopped(tmp_path: Path) -> None:
    model = coremlops.load(endless(tmp_path / "a.mlpackage"), time_limit_s=0.05)
    for _ in range(2):  # a run that was stopped stops no other
        with pytest.raises(ModelError, match=r"the run was stopped: .* time limit of 0\.05 s"):
            model.predict({"x": X})


def test_a_limit_that_is_not_reached_changes_nothing(tmp_path: Path) -> None:
    model = coremlops.load(adder(tmp_path / "a.mlpackage"), time_limit_s=60)
    expected = X + np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(model.predict({"x": X})["y"], expected)


def test_an_inner_value_of_a_block_is_no_value_of_the_prediction(tmp_path: Path) -> None:
    model = coremlops.load(endless(tmp_path / "a.mlpackage"))
    assert model.inner_names == ("x", "y")
    for name in ("v", "go"):
        with pytest.raises(UsageError, match=rf"'{name}' lies in a block of while_loop") as caught:
            model.predict({"x": X}, intermediates=[name])
        assert "what the operation gives" in caught.value.hint


def test_a_function_has_its_own_interface(tmp_path: Path) -> None:
    spec, block = program_spec(9)
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    spec.mlProgram.functions["other"].CopyFrom(spec.mlProgram.functions["main"])
    other = spec.mlProgram.functions["other"].block_specializations["CoreML6"]
    other.operations[0].outputs[0].name = other.outputs[0] = "w"
    for name, result in (("main", "y"), ("other", "w")):
        function = spec.description.functions.add(name=name)
        function.input.add().CopyFrom(spec.description.input[0])
        function.output.add().CopyFrom(spec.description.output[0])
        function.output[0].name = result
    spec.description.defaultFunctionName = "main"
    path = write_package(tmp_path / "a.mlpackage", spec)
    assert [entry.name for entry in coremlops.load(path).description.outputs] == ["y"]
    chosen = coremlops.load(path, function_name="other")
    assert [entry.name for entry in chosen.description.outputs] == ["w"]
    np.testing.assert_array_equal(chosen.predict({"x": X})["w"], np.maximum(X, 0))


def test_loading_in_several_threads(tmp_path: Path) -> None:
    path = chain(tmp_path / "a.mlpackage")
    expected = coremlops.load(path).predict({"x": X})["y"]
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(coremlops.load(path).predict({"x": X})["y"]))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all((entry == expected).all() for entry in found)


def test_states_of_absurd_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, str(1 << 20))
    half = ArrayFeature("a", "float16", (1 << 9, 1 << 10))
    assert new_state((half,), "typed")["a"].nbytes == 1 << 20
    with pytest.raises(ModelFormatError, match="the state 'b' has the shape"):
        new_state((half, replace(half, name="b", shape=(1,))), "typed")
    with pytest.raises(ModelFormatError, match="the state 'a' has the shape"):
        new_state((replace(half, shape=(-1, -1)),), "typed")
