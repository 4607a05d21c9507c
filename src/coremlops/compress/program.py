"""An encoded weight as operations of a program: `constexpr_*`, in the form of the program's version.

The last operation makes the value of the name that the constant had, so nothing else of the program changes.
Source: coremltools, `ops/defs/iOS16/constexpr_ops.py`, `iOS18/compression.py`; what its compression writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from coremlops.compress.encoding import Encoding, Linear, Table
from coremlops.compress.targets import BLOCKWISE
from coremlops.compress.weights import Found
from coremlops.dialects.mil.reader import DTYPES
from coremlops.model.bits import SUB_BYTE, pack_bits
from coremlops.model.proto import message_class

Array: TypeAlias = np.ndarray[Any, Any]
Store: TypeAlias = Callable[[Array, str], int]  # values and their dtype -> the offset of their record

_CODES = {name: code for code, name in DTYPES.items()}
SMALLEST_BLOB = 10  # values; fewer stand in the program


@dataclass(frozen=True, slots=True)
class Stored:
    """Values in one of the format's dtypes; `dtype` says how many bits each takes."""

    values: Array
    dtype: str


Operand: TypeAlias = Stored | str | None  # values, the name of a value made before, or nothing


@dataclass(slots=True)
class Writer:
    """Makes operations: `store` puts values into the weight file `file`; `taken` are names in use."""

    file: str
    store: Store
    taken: set[str]
    made: list[Any] = field(default_factory=list)

    def free(self, name: str) -> str:
        """The name, or one like it that nothing has."""
        chosen, number = name, 1
        while chosen in self.taken:
            chosen, number = f"{name}_{number}", number + 1
        self.taken.add(chosen)
        return chosen

    def add(
        self,
        kind: str,
        inputs: Mapping[str, Operand],
        outputs: list[tuple[str, str, tuple[int, ...]]],
        *,
        as_attributes: bool = False,
    ) -> None:
        """One operation. inputs: values, or the name of one made before; outputs: name, dtype and shape."""
        operation = message_class("MILSpec.Operation")(type=kind)
        name = operation.attributes["name"]
        name.type.tensorType.dataType = _CODES["string"]
        name.immediateValue.tensor.strings.values.append(outputs[0][0])
        for key, entry in inputs.items():
            if isinstance(entry, str):
                operation.inputs[key].arguments.add().name = entry
            elif entry is not None:
                holder = (
                    operation.attributes[key]
                    if as_attributes
                    else operation.inputs[key].arguments.add().value
                )
                self._fill(holder, entry)
        for output, dtype, shape in outputs:
            made = operation.outputs.add(name=output)
            _type(made.type, dtype, shape)
        self.made.append(operation)

    def _fill(self, message: Any, stored: Stored) -> None:
        values, dtype = stored.values, stored.dtype
        _type(message.type, dtype, values.shape)
        if values.size >= SMALLEST_BLOB and dtype not in ("int32", "uint32"):
            message.blobFileValue.fileName = self.file
            message.blobFileValue.offset = self.store(values, dtype)
            return
        tensor = message.immediateValue.tensor
        if dtype in SUB_BYTE:
            tensor.bytes.values = pack_bits(values, SUB_BYTE[dtype][0]).tobytes()
        elif dtype == "fp32":
            tensor.floats.values.extend(values.astype(np.float64).ravel().tolist())
        elif dtype == "int32":
            tensor.ints.values.extend(values.ravel().tolist())
        else:
            tensor.bytes.values = values.astype(values.dtype.newbyteorder("<")).tobytes()


def _type(message: Any, dtype: str, shape: tuple[int, ...]) -> None:
    message.tensorType.dataType = _CODES[dtype]
    message.tensorType.rank = len(shape)
    for size in shape:
        message.tensorType.dimensions.add().constant.size = size


def encoded_operations(spec: Any, entry: Found, encoding: Encoding, file: str, store: Store) -> list[Any]:
    """The operations that make a weight's value in that model; what they hold goes through `store`."""
    function = spec.mlProgram.functions[entry.function]
    writer = Writer(file, store, names_in(function.block_specializations[function.opset]))
    write = _newer if spec.specificationVersion >= BLOCKWISE else _older
    write(writer, entry.value, encoding, entry.weight.dtype)
    return writer.made


def replace_operations(program: Any, made: dict[tuple[str, str], list[Any]]) -> None:
    """Put operations in the place of the one that makes a value: made[function, value]."""
    for name in program.functions:
        function = program.functions[name]
        mine = {value: entries for (of, value), entries in made.items() if of == name}
        _replace(function.block_specializations[function.opset], mine)


def _replace(block: Any, made: dict[str, list[Any]]) -> None:
    operations: list[Any] = []
    for operation in block.operations:
        for inner in operation.blocks:
            _replace(inner, made)
        name = operation.outputs[0].name if operation.outputs else ""
        operations += made.get(name, [operation])
    fresh = type(block)()
    fresh.operations.extend(operations)
    block.ClearField("operations")
    block.operations.extend(fresh.operations)


def names_in(block: Any) -> set[str]:
    """Every value's name in a block and those inside it."""
    found = {entry.name for entry in block.inputs}
    for operation in block.operations:
        found.update(output.name for output in operation.outputs)
        for inner in operation.blocks:
            found |= names_in(inner)
    return found


def _older(writer: Writer, name: str, encoding: Encoding, dtype: str) -> None:
    """The operations of iOS16 and 17: whole tensors, packed, with their shape."""
    shape = encoding.dense.shape
    output = [(name, dtype, shape)]
    sizes = Stored(np.array(shape, np.uint32), "uint32")
    inputs: dict[str, Operand]
    if encoding.table is not None:
        packed = Stored(pack_bits(encoding.table.indices, encoding.table.bits), "uint8")
        inputs = {
            "indices": packed,
            "lut": Stored(encoding.table.lut.reshape(-1), dtype),
            "shape": sizes,
        }
        writer.add("constexpr_lut_to_dense", inputs, output, as_attributes=True)
    elif encoding.linear is not None:
        linear = encoding.linear
        offset = linear.offset if linear.offset is not None else np.zeros(linear.scale.shape, np.int8)
        axis = max(range(len(shape)), key=lambda index: linear.scale.shape[index])
        flat = () if linear.scale.size == 1 else (linear.scale.size,)
        writer.add(
            "constexpr_affine_dequantize",
            {
                "quantized_data": Stored(linear.data, "int8"),
                "zero_point": Stored(offset.reshape(flat), "int8"),
                "scale": Stored(linear.scale.reshape(flat), dtype),
                "axis": Stored(np.array(axis, np.int32), "int32"),
            },
            output,
            as_attributes=True,
        )
    else:
        mask = _mask(encoding)
        kept = Stored(encoding.dense[mask], dtype)
        inputs = {
            "nonzero_data": kept,
            "mask": Stored(pack_bits(mask.view(np.uint8), 1), "uint8"),
            "shape": sizes,
        }
        writer.add("constexpr_sparse_to_dense", inputs, output, as_attributes=True)


def _newer(writer: Writer, name: str, encoding: Encoding, dtype: str) -> None:
    """The operations of iOS18: blocks, groups, and one compression inside another."""
    shape = encoding.dense.shape
    output = [(name, dtype, shape)]
    table, linear = encoding.table, encoding.linear
    inputs: dict[str, Operand]
    if encoding.mask is None:
        if table is not None:
            inputs = {
                "indices": Stored(table.indices, f"uint{table.bits}"),
                "lut": _lut(writer, name, table, dtype),
            }
            writer.add("constexpr_lut_to_dense", inputs, output)
        elif linear is not None:
            inputs = {
                "data": Stored(linear.data, f"int{linear.bits}"),
                **_scales(linear, dtype),
            }
            writer.add("constexpr_blockwise_shift_scale", inputs, output)
        return
    kept = encoding.mask
    mask = Stored(kept.view(np.uint8), "uint1")
    if table is None and linear is None:
        inputs = {"nonzero_data": Stored(encoding.dense[kept], dtype), "mask": mask}
        writer.add("constexpr_sparse_to_dense", inputs, output)
        return
    inner = [
        (writer.free(f"{name}_mask"), "uint1", shape),
        (writer.free(f"{name}_nonzero"), dtype, (int(np.count_nonzero(kept)),)),
    ]
    if table is not None:
        inputs = {
            "indices_mask": mask,
            "indices_nonzero_data": Stored(table.indices[kept], f"uint{table.bits}"),
            "lut": _lut(writer, name, table, dtype),
        }
        writer.add("constexpr_lut_to_sparse", inputs, inner)
    elif linear is not None:
        data = Stored(linear.data[kept], f"int{linear.bits}")
        inputs = {"data_mask": mask, "nonzero_data": data, **_scales(linear, dtype)}
        writer.add("constexpr_sparse_blockwise_shift_scale", inputs, inner)
    writer.add("constexpr_sparse_to_dense", {"nonzero_data": inner[1][0], "mask": inner[0][0]}, output)


def _mask(encoding: Encoding) -> Array:
    if encoding.mask is None:
        raise AssertionError("an encoding without a table, integers and a mask is none")
    return encoding.mask


def _scales(linear: Linear, dtype: str) -> dict[str, Operand]:
    offset = None if linear.offset is None else Stored(linear.offset, f"int{linear.bits}")
    return {"scale": Stored(linear.scale, dtype), "offset": offset}


def _lut(writer: Writer, name: str, table: Table, dtype: str) -> Stored | str:
    """The tables, or the name of the value that makes them of int8."""
    if table.linear is None:
        return Stored(table.lut, dtype)
    made = writer.free(f"{name}_lut")
    inputs: dict[str, Operand] = {
        "data": Stored(table.linear.data, f"int{table.linear.bits}"),
        **_scales(table.linear, dtype),
    }
    writer.add("constexpr_blockwise_shift_scale", inputs, [(made, dtype, table.lut.shape)])
    return made


def blob_values(program: Any) -> Iterator[Any]:
    """Every value of a program's message that lies in a weight file."""
    for name in sorted(program.functions):
        specializations = program.functions[name].block_specializations
        for opset in sorted(specializations):
            yield from _blob_values(specializations[opset])


def _blob_values(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        for key in sorted(operation.attributes):
            value = operation.attributes[key]
            if value.WhichOneof("value") == "blobFileValue":
                yield value.blobFileValue
        for key in sorted(operation.inputs):
            for argument in operation.inputs[key].arguments:
                # Of a name, `value` is an empty message.
                if argument.value.WhichOneof("value") == "blobFileValue":
                    yield argument.value.blobFileValue
        for inner in operation.blocks:
            yield from _blob_values(inner)
