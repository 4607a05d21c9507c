"""The notation of the rules' examples, made into models.

It is Python's syntax, and only parsed: a line defines a value with its type, `name: dtype[axes] =
op(input=...)`. An op of several results is written `a, b = op(...) >> (type, type)`. `dtype[axes]` in the
place of a value is a constant in the weight file, `dtype(number)` one in the program.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import NUMPY_DTYPES
from coremlops.dialects.mil.reader import DTYPES
from coremlops.lint import LintOptions
from coremlops.lint.needs import OPSETS
from coremlops.lint.subject import BITS
from coremlops.lint.target import parse_target
from coremlops.model.proto import message_class
from coremlops.source import open_samples
from tests.handmade import write_package
from tests.networks import fill

CODES = {name: code for code, name in DTYPES.items()}
BLOBS = {"fp16": 1, "fp32": 2, "uint8": 3, "int8": 4, "int16": 6, "int4": 8, "int32": 14}
ARRAYS = {"fp32": 65568, "fp64": 65600, "int32": 131104, "fp16": 65552, "int8": 131080, "bool": 131104}
# A feature has no dtype for whole numbers of 16 bits.
ARRAYS |= {"int16": 131104}


@dataclass
class Example:
    """A model on disk, and what it is linted for."""

    path: Path
    options: LintOptions


@dataclass
class _Model:
    spec: Any
    block: Any
    network: Any = None
    sizes: list[tuple[str, int]] = field(default_factory=list)
    end: int = 64
    asked: dict[str, Any] = field(default_factory=dict)


def make(text: str, path: Path) -> Example:
    """Write the model of an example below `path`."""
    model = _Model(None, None)
    for statement in ast.parse(text).body:
        _statement(model, statement)
    asked = model.asked
    options = LintOptions(
        target=asked.get("target", ""),
        devices=(asked["device"],) if "device" in asked else (),
        max_bytes=asked.get("max_bytes"),
        max_activation_bytes=asked.get("max_activation_bytes"),
    )
    if model.network is not None:
        file = path / "model.mlmodel"
        file.write_bytes(model.spec.SerializeToString())
        return Example(file, options)
    weights = struct.pack("<II", len(model.sizes), 2).ljust(64, b"\0") if model.sizes else None
    package = write_package(path / "model.mlpackage", model.spec, weights)
    if model.sizes:
        _write_blobs(package / "Data/com.apple.CoreML/weights/weight.bin", model)
    if asked.get("ranges"):
        from coremlops.model import ModelAsset

        samples = open_samples(None, ModelAsset.open(package).description.inputs, count=3)
        options = LintOptions(target=options.target, samples=samples)
    return Example(package, options)


def _write_blobs(file: Path, model: _Model) -> None:
    """Records and, as a hole in the file, zeros: gigabytes cost nothing."""
    offset = 64
    with file.open("r+b") as out:
        for dtype, size in model.sizes:
            out.seek(offset)
            out.write(struct.pack("<IIQQQ", 0xDEADBEEF, BLOBS[dtype], size, offset + 64, 0).ljust(64, b"\0"))
            offset += 64 + size + -size % 64
        out.truncate(offset)


def _statement(model: _Model, statement: ast.stmt) -> None:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=args, keywords=keywords)):
            given = {entry.arg or "": _literal(entry.value) for entry in keywords}
            _declaration(model, name, args, given)
        case ast.AnnAssign(target=ast.Name(id=name), annotation=type_, value=ast.Call() as call):
            _value(model, [(name, type_)], call)
        case ast.Assign(
            targets=[ast.Tuple(elts=names)],
            value=ast.BinOp(left=ast.Call() as call, op=ast.RShift(), right=ast.Tuple(elts=types)),
        ):
            _value(model, [(ast.unparse(a), b) for a, b in zip(names, types, strict=True)], call)
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
            _layer(model, name, call)
        case ast.FunctionDef():
            model.asked.setdefault("blocks", {})[statement.name] = statement
        case _:
            raise AssertionError(f"no part of the notation: {ast.unparse(statement)}")


def _declaration(model: _Model, name: str, args: list[ast.expr], given: dict[str, Any]) -> None:
    if name == "lint":
        model.asked |= given
    elif name == "program":
        version = parse_target(_literal(args[0])).specification
        model.spec = message_class("Model")(specificationVersion=version)
        opset = {spec: opset for opset, spec in OPSETS.items()}[version]
        function = model.spec.mlProgram.functions["main"]
        function.opset = opset
        model.block = function.block_specializations[opset]
    elif name == "network":
        model.spec = message_class("Model")(
            specificationVersion=parse_target(_literal(args[0])).specification
        )
        model.spec.isUpdatable = given.get("updatable", False)
        model.network = model.spec.neuralNetwork
        model.network.arrayInputShapeMapping = 1
    elif name == "metadata":
        _metadata(model.spec.description.metadata, given)
    elif name == "output":
        for entry in args:
            assert isinstance(entry, ast.Name)
            _output(model, entry.id, given)
    else:
        raise AssertionError(name)


def _metadata(message: Any, given: dict[str, str]) -> None:
    fields = {
        "about": "shortDescription",
        "version": "versionString",
        "author": "author",
        "license": "license",
    }
    for name, value in given.items():
        if name == "preparation":
            message.userDefined["com.coremlops.preparation"] = value
        else:
            setattr(message, fields[name], value)


def _output(model: _Model, name: str, given: dict[str, Any]) -> None:
    feature = model.spec.description.output.add(name=name, shortDescription=given.get("about", ""))
    if model.network is not None:
        feature.type.multiArrayType.dataType = ARRAYS["fp32"]
        return
    model.block.outputs.append(name)
    made = {entry.name: entry.type for op in model.block.operations for entry in op.outputs}
    type_ = made[name].tensorType
    dtype = DTYPES[type_.dataType]
    if dtype == "string":
        feature.type.stringType.SetInParent()
        model.spec.description.predictedFeatureName = name
        return
    if any(op.type == "classify" and name == op.outputs[1].name for op in model.block.operations):
        feature.type.dictionaryType.stringKeyType.SetInParent()
        model.spec.description.predictedProbabilitiesName = name
        return
    feature.type.multiArrayType.dataType = ARRAYS[dtype]
    feature.type.multiArrayType.shape.extend(
        axis.constant.size for axis in type_.dimensions if axis.constant.size
    )


def _value(model: _Model, results: list[tuple[str, ast.expr]], call: ast.Call) -> None:
    assert isinstance(call.func, ast.Name)
    kind = call.func.id
    if kind in ("input", "image", "state"):
        _input(model, kind, results[0][0], results[0][1], call)
    else:
        _operation(model, model.block, results, call)


def _input(model: _Model, kind: str, name: str, annotation: ast.expr, call: ast.Call) -> None:
    dtype, shape = _type(annotation)
    given = {entry.arg or "": _literal(entry.value) for entry in call.keywords}
    description = model.spec.description
    feature = (description.state if kind == "state" else description.input).add(name=name)
    feature.shortDescription = given.get("about", "")
    if kind == "image":
        picture = feature.type.imageType
        picture.width, picture.height, picture.colorSpace = shape[3] or 0, shape[2] or 0, 20
    else:
        array = feature.type.stateType.arrayType if kind == "state" else feature.type.multiArrayType
        array.dataType = ARRAYS[dtype]
        array.shape.extend(axis or 1 for axis in shape)
        for entry in given.get("shapes", ()):
            array.enumeratedShapes.shapes.add(shape=entry)
        for least, most in given.get("range", ()):
            array.shapeRange.sizeRanges.add(lowerBound=least, upperBound=most)
    if model.network is not None:
        return
    entry = model.spec.mlProgram.functions["main"].inputs.add(name=name)
    type_ = entry.type.stateType.wrappedType if kind == "state" else entry.type
    ranges = given.get("range", [(size, size) for size in shape])
    open_ = bool(given.get("shapes"))
    axes = [
        None if least != most or open_ else size for (least, most), size in zip(ranges, shape, strict=True)
    ]
    _fill_type(type_, dtype, axes)


def _operation(model: _Model, block: Any, results: list[tuple[str, ast.expr]], call: ast.Call) -> None:
    assert isinstance(call.func, ast.Name)
    operation = block.operations.add(type=call.func.id)
    for name, annotation in results:
        result = operation.outputs.add(name=name)
        _fill_type(result.type, *_type(annotation))
    for keyword in call.keywords:
        if keyword.arg == "blocks":
            assert isinstance(keyword.value, ast.List)
            for entry in keyword.value.elts:
                assert isinstance(entry, ast.Name)
                _block(model, operation.blocks.add(), model.asked["blocks"][entry.id])
        else:
            _bind(model, operation.inputs[keyword.arg or ""], keyword.value)


def _block(model: _Model, block: Any, made: ast.FunctionDef) -> None:
    for statement in made.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=type_, value=ast.Call() as call):
                _operation(model, block, [(name, type_)], call)
            case ast.Return(value=ast.Name(id=name)):
                block.outputs.append(name)
            case _:
                raise AssertionError(ast.unparse(statement))


def _bind(model: _Model, message: Any, value: ast.expr) -> None:
    """One argument: a name, a constant in the weight file, or one in the program."""
    binding = message.arguments.add()
    match value:
        case ast.Name(id=name):
            binding.name = name
        case ast.Subscript():
            dtype, shape = _type(value)
            _fill_type(binding.value.type, dtype, shape)
            size = -(-int(np.prod([axis or 1 for axis in shape])) * BITS[dtype] // 8)
            binding.value.blobFileValue.fileName = "@model_path/weights/weight.bin"
            binding.value.blobFileValue.offset = model.end
            model.sizes.append((dtype, size))
            model.end += 64 + size + -size % 64
        case ast.Call(func=ast.Name(id=dtype), args=[number]):
            _immediate(binding.value, dtype, _literal(number))
        case _:
            plain = _literal(value)
            first = plain[0] if isinstance(plain, list) else plain
            names = {bool: "bool", int: "int32", float: "fp32", str: "string"}
            _immediate(binding.value, names[type(first)], plain)


def _immediate(message: Any, dtype: str, value: Any) -> None:
    if dtype == "string" and isinstance(value, list):
        message.type.listType.length.constant.size = len(value)
        _fill_type(message.type.listType.type, "string", ())
        for entry in value:
            _immediate(message.immediateValue.list.values.add(), "string", entry)
        return
    _fill_type(message.type, dtype, np.shape(value) if dtype != "string" else ())
    tensor = message.immediateValue.tensor
    if dtype == "string":
        tensor.strings.values.append(value)
    elif dtype in ("fp16", "int8", "uint8", "int16"):
        tensor.bytes.values = np.asarray(value, NUMPY_DTYPES[dtype]).tobytes()
    else:
        kind = {"fp32": "floats", "int32": "ints", "bool": "bools"}[dtype]
        getattr(tensor, kind).values.extend(np.ravel(value).tolist())


def _layer(model: _Model, name: str, call: ast.Call) -> None:
    """A layer of a network: inputs by position, fields by name."""
    assert isinstance(call.func, ast.Name)
    inputs = [entry.id for entry in call.args if isinstance(entry, ast.Name)]
    layer = model.network.layers.add(name=name, input=inputs, output=[name])
    fields = {}
    for keyword in call.keywords:
        if isinstance(keyword.value, ast.Subscript):
            _, shape = _type(keyword.value)
            fields[keyword.arg or ""] = np.ones([axis or 1 for axis in shape], np.float32)
        else:
            fields[keyword.arg or ""] = _literal(keyword.value)
    getattr(layer, call.func.id).SetInParent()
    fill(getattr(layer, call.func.id), fields)


def _type(annotation: ast.expr) -> tuple[str, tuple[int | None, ...]]:
    """`fp16[1, None, 8]` as a dtype and axes."""
    match annotation:
        case ast.Subscript(value=ast.Name(id=dtype), slice=ast.Tuple(elts=axes)):
            return dtype, tuple(_literal(axis) for axis in axes)
        case ast.Subscript(value=ast.Name(id=dtype), slice=axis):
            return dtype, (_literal(axis),)
        case ast.Name(id=dtype):
            return dtype, ()
    raise AssertionError(ast.unparse(annotation))


def _fill_type(message: Any, dtype: str, shape: Sequence[int | None]) -> None:
    message.tensorType.dataType = CODES[dtype]
    message.tensorType.rank = len(shape)
    for axis in shape:
        dimension = message.tensorType.dimensions.add()
        if axis is None:
            dimension.unknown.SetInParent()
        else:
            dimension.constant.size = axis


def _literal(value: ast.expr) -> Any:
    """A plain value. The examples are our own text, so it may be computed."""
    code = compile(ast.Expression(ast.fix_missing_locations(value)), "example", "eval")
    return eval(code, {"__builtins__": {}, "inf": float("inf"), "nan": float("nan"), "range": range})  # noqa: S307
