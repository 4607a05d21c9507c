"""ONNX's protobuf messages and how to make them, without the package around them.

`import onnx` takes 35 ms, most of it for a checker, a parser and converters that running a model needs not.
What stands here is what it keeps in `onnx.onnx_ml_pb2`, and those functions of `onnx.helper` and
`onnx.numpy_helper` that we use, under their names.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_NAME = "onnx.onnx_ml_pb2"


def _messages() -> Any:
    """The module `onnx.onnx_ml_pb2`, executed alone; a later `import onnx` finds and uses the same one."""
    if "onnx" in sys.modules or _NAME in sys.modules:
        return importlib.import_module(_NAME)
    package = importlib.util.find_spec("onnx")
    folders = package.submodule_search_locations if package else None
    spec = folders and importlib.util.spec_from_file_location(_NAME, Path(folders[0]) / "onnx_ml_pb2.py")
    if not spec or not spec.loader:
        return importlib.import_module(_NAME)
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_NAME]
        raise
    return module


_ml = _messages()
TensorProto: Any = _ml.TensorProto
ModelProto: Any = _ml.ModelProto
GraphProto: Any = _ml.GraphProto
_Attribute: Any = _ml.AttributeProto

_DTYPES: dict[np.dtype[Any], int] = {
    np.dtype(name): code
    for name, code in {
        "float32": TensorProto.FLOAT,
        "float64": TensorProto.DOUBLE,
        "float16": TensorProto.FLOAT16,
        "int8": TensorProto.INT8,
        "int16": TensorProto.INT16,
        "int32": TensorProto.INT32,
        "int64": TensorProto.INT64,
        "uint8": TensorProto.UINT8,
        "uint16": TensorProto.UINT16,
        "uint32": TensorProto.UINT32,
        "uint64": TensorProto.UINT64,
        "bool": TensorProto.BOOL,
    }.items()
}


def make_node(op: str, inputs: Sequence[str], outputs: Sequence[str], *, name: str, **attributes: Any) -> Any:
    """A NodeProto; attributes that are None are left out. `domain` is the node's own."""
    node = _ml.NodeProto(
        op_type=op, name=name, domain=attributes.pop("domain", None), input=inputs, output=outputs
    )
    node.attribute.extend(
        make_attribute(key, value) for key, value in sorted(attributes.items()) if value is not None
    )
    return node


def make_attribute(name: str, value: Any) -> Any:
    """An AttributeProto of the type that the Python value has. Raises TypeError for one that ONNX lacks."""
    made = _Attribute(name=name)
    if isinstance(value, bool | int | np.integer | np.bool_):
        made.type, made.i = _Attribute.INT, int(value)
    elif isinstance(value, float | np.floating):
        made.type, made.f = _Attribute.FLOAT, float(value)
    elif isinstance(value, str | bytes):
        made.type, made.s = _Attribute.STRING, value.encode() if isinstance(value, str) else value
    elif isinstance(value, TensorProto):
        made.type = _Attribute.TENSOR
        made.t.CopyFrom(value)
    elif isinstance(value, GraphProto):
        made.type = _Attribute.GRAPH
        made.g.CopyFrom(value)
    else:
        _fill_list(made, list(value))
    return made


def _fill_list(made: Any, values: list[Any]) -> None:
    if all(isinstance(entry, int | np.integer) for entry in values):
        made.type = _Attribute.INTS
        made.ints.extend(int(entry) for entry in values)
    elif all(isinstance(entry, int | float | np.number) for entry in values):
        made.type = _Attribute.FLOATS
        made.floats.extend(float(entry) for entry in values)
    elif all(isinstance(entry, str | bytes) for entry in values):
        made.type = _Attribute.STRINGS
        made.strings.extend(entry.encode() if isinstance(entry, str) else entry for entry in values)
    else:
        raise TypeError(f"attribute {made.name}: {values!r}")


def from_array(array: np.ndarray[Any, Any]) -> Any:
    """The TensorProto of an array of numbers or truth values, as an attribute holds it; it has no name."""
    return TensorProto(
        dims=array.shape, data_type=np_dtype_to_tensor_dtype(array.dtype), raw_data=array.tobytes()
    )


def make_tensor_value_info(name: str, dtype: int, shape: Sequence[int | None] | None) -> Any:
    """A tensor's ValueInfoProto; an axis of None is of any size, a shape of None of any rank."""
    info = _ml.ValueInfoProto(name=name)
    info.type.tensor_type.elem_type = dtype
    if shape is not None:
        info.type.tensor_type.shape.SetInParent()
        for size in shape:
            axis = info.type.tensor_type.shape.dim.add()
            if size is not None:
                axis.dim_value = size
    return info


def make_graph(
    nodes: Sequence[Any],
    name: str,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initializer: Sequence[Any] = (),
) -> Any:
    """A GraphProto."""
    return GraphProto(node=nodes, name=name, input=inputs, output=outputs, initializer=initializer)


def make_opsetid(domain: str, version: int) -> Any:
    """An OperatorSetIdProto."""
    return _ml.OperatorSetIdProto(domain=domain, version=version)


def make_model(graph: Any, *, ir_version: int, opset_imports: Sequence[Any], producer_name: str) -> Any:
    """A ModelProto around a graph."""
    return ModelProto(
        ir_version=ir_version, producer_name=producer_name, graph=graph, opset_import=opset_imports
    )


def np_dtype_to_tensor_dtype(dtype: np.dtype[Any]) -> int:
    """ONNX's code for a NumPy dtype. Raises KeyError for one that we use nowhere."""
    return _DTYPES[dtype.newbyteorder("=")]
