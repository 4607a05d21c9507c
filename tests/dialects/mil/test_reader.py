"""Protobuf to graph: what is read, and the limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import (
    BlobRef,
    DictionaryType,
    Immediate,
    ListType,
    Program,
    Ref,
    StateType,
    TensorType,
    TupleType,
    read_program,
)
from coremlops.errors import ModelFormatError
from coremlops.model import ModelAsset
from coremlops.model.proto import message_class
from tests.handmade import add_blob_const, add_operation, program_spec, tensor_type


def read(spec: Any) -> Program:
    return read_program(spec.mlProgram, where="test")


def constant_of(value: Any) -> Any:
    """The constant that a MILSpec.Value message becomes."""
    spec, block = program_spec()
    operation = block.operations.add(type="const")
    operation.attributes["val"].CopyFrom(value)
    return read(spec).functions["main"].block.operations[0].attributes["val"]


def value(dtype: str = "fp32", shape: tuple[int, ...] = ()) -> Any:
    message = message_class("MILSpec.Value")()
    tensor_type(message.type, dtype, shape)
    return message


def test_a_program() -> None:
    spec, block = program_spec()
    add_blob_const(block, "w", (2, 3), 64)
    add_operation(block, "add", "y", (2, 3), {"x": "x", "y": "w"})
    function = read(spec).functions["main"]
    assert (function.opset, function.inputs[0].type) == ("CoreML6", TensorType("fp32", (2, 3)))
    assert function.block.outputs == ("y",)
    const, add = function.block.operations
    assert const.attributes["val"] == BlobRef(
        TensorType("fp32", (2, 3)), "@model_path/weights/weight.bin", 64
    )
    assert add.inputs == {"x": (Ref("x"),), "y": (Ref("w"),)}
    assert add.name == "y"
    assert function.histogram() == {"add": 1}


def test_a_converted_program(tiny_classifier: Path) -> None:
    program = read(ModelAsset.open(tiny_classifier).spec)
    histogram = program.functions["main"].histogram()
    assert histogram["conv"] == 2
    assert list(histogram.values()) == sorted(histogram.values(), reverse=True)
    assert "const" not in histogram
    classify = program.functions["main"].block.operations[-1]
    (classes,) = classify.inputs["classes"]
    assert isinstance(classes, Immediate)
    assert classes.value == ("ada", "bob")


@pytest.mark.parametrize(
    ("dtype", "field", "numbers", "expected"),
    [
        ("fp32", "floats", [1.5, -2.5], np.array([1.5, -2.5], np.float32)),
        ("int32", "ints", [1, -2], np.array([1, -2], np.int32)),
        ("bool", "bools", [True, False], np.array([True, False])),
        ("int32", "longInts", [7, 8], np.array([7, 8], np.int32)),
    ],
)
def test_numbers_in_the_program(dtype: str, field: str, numbers: list[Any], expected: Any) -> None:
    message = value(dtype, (2,))
    getattr(message.immediateValue.tensor, field).values.extend(numbers)
    found = constant_of(message).value
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert not found.flags.writeable


def test_fp16_travels_as_bytes() -> None:
    message = value("fp16", (3,))
    message.immediateValue.tensor.bytes.values = np.array([1, -2, 65504], np.float16).tobytes()
    np.testing.assert_array_equal(constant_of(message).value, np.array([1, -2, 65504], np.float16))


def test_scalars_and_strings() -> None:
    message = value("fp32")
    message.immediateValue.tensor.floats.values.append(0.5)
    assert constant_of(message).value.shape == ()
    message = value("string")
    message.immediateValue.tensor.strings.values.append("same")
    assert constant_of(message).value == "same"


def test_lists_tuples_and_dictionaries() -> None:
    message = message_class("MILSpec.Value")()
    tensor_type(message.type.listType.type, "string", ())
    message.type.listType.length.constant.size = 2
    for text in ("a", "b"):
        entry = message.immediateValue.list.values.add()
        tensor_type(entry.type, "string", ())
        entry.immediateValue.tensor.strings.values.append(text)
    found = constant_of(message)
    assert (found.type, found.value) == (ListType(TensorType("string"), 2), ("a", "b"))

    message = message_class("MILSpec.Value")()
    tensor_type(message.type.dictionaryType.keyType, "string", ())
    tensor_type(message.type.dictionaryType.valueType, "int32", ())
    pair = message.immediateValue.dictionary.values.add()
    pair.key.immediateValue.tensor.strings.values.append("k")
    pair.value.immediateValue.tensor.ints.values.append(3)
    ((key, number),) = constant_of(message).value
    assert (key, int(number)) == ("k", 3)


def test_types_of_every_kind() -> None:
    spec, _ = program_spec()
    inputs = spec.mlProgram.functions["main"].inputs
    del inputs[:]
    open_ = inputs.add(name="open").type.tensorType
    open_.dataType, open_.rank = 10, 2
    open_.dimensions.add().unknown.variadic = False
    open_.dimensions.add().constant.size = 4
    any_ = inputs.add(name="any").type.tensorType
    any_.dataType, any_.rank = 10, -1
    any_.dimensions.add().unknown.variadic = True
    tensor_type(inputs.add(name="state").type.stateType.wrappedType, "fp16", (2,))
    tensor_type(inputs.add(name="tuple").type.tupleType.types.add(), "int32", ())
    tensor_type(inputs.add(name="list").type.listType.type, "int32", ())
    dictionary = inputs.add(name="dictionary").type.dictionaryType
    tensor_type(dictionary.keyType, "string", ())
    tensor_type(dictionary.valueType, "fp32", ())
    types = {entry.name: entry.type for entry in read(spec).functions["main"].inputs}
    assert types == {
        "open": TensorType("fp16", (None, 4)),
        "any": TensorType("fp16", None),
        "state": StateType(TensorType("fp16", (2,))),
        "tuple": TupleType((TensorType("int32"),)),
        "list": ListType(TensorType("int32"), None),
        "dictionary": DictionaryType(TensorType("string"), TensorType("fp32")),
    }
    assert str(types["open"]) == "fp16[?, 4]"


def broken(kind: str) -> Any:
    """A program with one thing wrong."""
    spec, block = program_spec()
    if kind == "opset":
        spec.mlProgram.functions["main"].opset = "CoreML99"
    elif kind == "blocks":
        for _ in range(40):
            block = block.operations.add(type="cond").blocks.add()
    elif kind == "rank":
        add_operation(block, "relu", "y", (2, 3), {"x": "x"}).outputs[0].type.tensorType.rank = 5
    elif kind == "dtype":
        add_operation(block, "relu", "y", (2, 3), {"x": "x"}).outputs[0].type.tensorType.dataType = 0
    elif kind == "type":
        block.operations.add(type="relu").outputs.add(name="y")
    elif kind == "binding":
        block.operations.add(type="relu").inputs["x"].arguments.add()
    elif kind == "axis":
        tensor_type(block.inputs.add(name="b").type, "fp32", (1 << 62,))
    elif kind == "types":
        type_ = block.inputs.add(name="b").type
        for _ in range(30):
            type_ = type_.listType.type
        tensor_type(type_, "fp32", ())
    return spec


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("opset", "no block for its opset 'CoreML99'"),
        ("blocks", "blocks are nested deeper than 32"),
        ("rank", "rank 5 and 2 dimensions"),
        ("dtype", "unknown data type 0"),
        ("type", "a value has no type"),
        ("binding", "neither a name nor a value"),
        ("axis", "an axis of 4611686018427387904 elements"),
        ("types", "types are nested deeper than 16"),
    ],
)
def test_a_broken_program(kind: str, message: str) -> None:
    with pytest.raises(ModelFormatError, match=f"^test: .*{message}"):
        read(broken(kind))


def test_too_many_operations_and_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, block = program_spec()
    for name in ("a", "b"):
        add_operation(block, "relu", name, (2, 3), {"x": "x"})
    monkeypatch.setattr("coremlops.dialects.mil.reader.MAX_OPERATIONS", 1)
    with pytest.raises(ModelFormatError, match="more than 1 operations"):
        read(spec)
    monkeypatch.setattr("coremlops.dialects.mil.reader.MAX_FUNCTIONS", 0)
    with pytest.raises(ModelFormatError, match="1 functions; at most 0"):
        read(spec)


@pytest.mark.parametrize(
    ("dtype", "shape", "field", "numbers", "message"),
    [
        ("fp32", (3,), "floats", [1.0], "holds 1 values; expected 3"),
        ("fp32", (1,), "strings", ["a"], "holds strings; expected numbers"),
        ("string", (), "floats", [1.0], "holds floats; expected 1 strings"),
        ("int32", (1,), "longInts", [1 << 40], "out of range"),
        ("int32", (1,), "floats", [1.5], "holds floats; expected numbers of that type"),
        ("bool", (1,), "doubles", [0.5], "holds doubles; expected numbers of that type"),
        ("fp32", (0, 1 << 40, 1 << 40), "floats", [], "too large to be empty"),
        ("fp16", (0, 1 << 40, 1 << 40), "bytes", b"", "too large to be empty"),
    ],
)
def test_a_constant_that_does_not_fit_its_type(
    dtype: str, shape: tuple[int, ...], field: str, numbers: Any, message: str
) -> None:
    constant = value(dtype, shape)
    entry = getattr(constant.immediateValue.tensor, field)
    entry.SetInParent()
    if field == "bytes":
        entry.values = numbers
    else:
        entry.values.extend(numbers)
    with pytest.raises(ModelFormatError, match=message):
        constant_of(constant)


def test_a_constant_of_too_few_bytes_and_one_without_a_value() -> None:
    constant = value("fp16", (2,))
    constant.immediateValue.tensor.bytes.values = b"abc"
    with pytest.raises(ModelFormatError, match="holds 3 bytes; expected 4"):
        constant_of(constant)
    with pytest.raises(ModelFormatError, match="has no value"):
        constant_of(value("fp16", (2,)))


def test_an_empty_constant() -> None:
    constant = value("fp32", (2, 0))
    constant.immediateValue.tensor.SetInParent()
    assert constant_of(constant).value.shape == (2, 0)
    constant.type.tensorType.dataType = 13  # bf16
    with pytest.raises(ModelFormatError, match="not decoded here"):
        constant_of(constant)


def test_a_constant_below_one_byte() -> None:
    constant = value("fp32", (3,))
    constant.type.tensorType.dataType = 25  # int4
    constant.immediateValue.tensor.bytes.values = bytes([0x8F, 0x07])  # the low half first: -1, -8, 7
    found = constant_of(constant)
    assert found.type == TensorType("int4", (3,))
    assert found.value.dtype == np.int8
    assert found.value.tolist() == [-1, -8, 7]
    constant.immediateValue.tensor.bytes.values = bytes(3)
    with pytest.raises(ModelFormatError, match="holds 3 bytes; expected 2"):
        constant_of(constant)


def test_a_value_has_a_name() -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "", (2, 3), {"x": "x"})
    with pytest.raises(ModelFormatError, match="a value without a name"):
        read(spec)
