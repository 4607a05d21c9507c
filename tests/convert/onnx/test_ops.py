"""Each ONNX op as a torch function, against ONNX Runtime on random values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper

from coremlops.convert.onnx import RULES
from coremlops.convert.onnx.graph import Graph, read

X = (2, 3, 4, 5)
I64 = np.int64


def normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def floats(values: list[float]) -> Any:
    return np.array(values, np.float32)


def ints(*values: int) -> Any:
    return np.array(values, I64)


def case(op: str, *inputs: Any, opset: int = 20, outputs: int = 1, data: int = 1, **attributes: Any) -> Any:
    """`data`: how many of the inputs are the model's, the others are constants of the file."""
    mark = f"{op}-{opset}-{'-'.join(f'{k}={v}' for k, v in attributes.items())}"[:70]
    return pytest.param(op, inputs, opset, outputs, data, attributes, id=mark)


TWO = (normal(*X), normal(1, 4, 1))
BITS = (normal(*X) > 0, normal(4, 5) > 0)
WHOLE = ((normal(*X) * 9).astype(I64), ints(2, -3, 1, 4, 5))
CASES = [
    *(
        case(op, normal(*X))
        for op in [
            "Abs",
            "Ceil",
            "Cos",
            "Erf",
            "Exp",
            "Floor",
            "Neg",
            "Relu",
            "Round",
            "Sigmoid",
            "Sign",
            "Sin",
        ]
    ),
    *(
        case(op, normal(*X))
        for op in ["Softplus", "Softsign", "Tanh", "Identity", "HardSwish", "Selu", "Elu", "LeakyRelu"]
    ),
    *(case(op, np.abs(normal(*X)) + 0.1) for op in ("Log", "Sqrt", "Reciprocal")),
    *(case(op, *TWO, data=2) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")),
    *(case(op, *TWO, data=2) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    *(case(op, *BITS, data=2) for op in ("And", "Or")),
    *(case(op, *WHOLE, data=2) for op in ("Div", "Mod", "Mul")),
    *(
        case(op, normal(*X), ints(1, -1), keepdims=0)
        for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")
    ),
    *(
        case(op, normal(*X), ints(2))
        for op in ("ReduceL1", "ReduceProd", "ReduceLogSumExp", "ReduceSumSquare")
    ),
    case("Not", BITS[0]),
    case("Mish", normal(*X)),
    case("IsNaN", np.array([1, np.nan], np.float32)),
    case("Pow", np.abs(normal(*X)), np.float32(2.5)),
    case("Where", BITS[0], *TWO, data=3),
    case("Dropout", normal(*X)),
    case("Clip", normal(*X), np.float32(-0.5), np.float32(0.5)),
    case("Clip", normal(*X), None, np.float32(0.5)),
    case("Clip", normal(*X), opset=10, min=-0.5, max=0.25),
    case("HardSigmoid", normal(*X), alpha=0.3, beta=0.4),
    case("Gelu", normal(*X)),
    case("Gelu", normal(*X), approximate="tanh"),
    case("PRelu", normal(*X), normal(3, 1, 1)),
    case("PRelu", normal(2, 3), normal(3)),
    case("PRelu", normal(*X), normal(4, 1)),
    case("Softmax", normal(*X)),
    case("Softmax", normal(*X), opset=11),
    case("LogSoftmax", normal(*X), axis=1),
    case("Cast", normal(*X), to=7),
    case("ReduceSum", normal(*X)),
    case("ReduceSum", normal(*X), noop_with_empty_axes=1),
    case("ReduceMean", normal(*X), opset=13, axes=[1, 2]),
    case("ArgMax", normal(*X), axis=2),
    case("ArgMin", normal(*X), axis=-1, keepdims=0),
    case("CumSum", normal(*X), np.array(1, I64)),
    case(
        "Conv", normal(1, 4, 9, 8), normal(6, 2, 3, 2), normal(6), group=2, strides=[2, 1], pads=[1, 0, 1, 0]
    ),
    case("Conv", normal(1, 4, 9, 8), normal(6, 4, 3, 2), pads=[0, 1, 2, 0], dilations=[2, 1]),
    case("Conv", normal(1, 4, 9, 8), normal(6, 4, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", normal(1, 4, 9, 8), normal(6, 4, 3, 2), auto_pad="SAME_LOWER"),
    case("Conv", normal(1, 4, 9), normal(6, 4, 3), data=2),
    case(
        "ConvTranspose",
        normal(1, 4, 5, 5),
        normal(4, 3, 3, 3),
        normal(6),
        group=2,
        strides=[2, 2],
        pads=[1] * 4,
    ),
    case("ConvTranspose", normal(1, 4, 5), normal(4, 3, 2), strides=[2], output_padding=[1]),
    case("MaxPool", normal(*X), kernel_shape=[2, 3], pads=[1, 1, 0, 1], strides=[2, 2]),
    case("MaxPool", normal(1, 2, 7, 7), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("AveragePool", normal(*X), kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    case("AveragePool", normal(*X), kernel_shape=[3, 3], pads=[1] * 4),
    case("GlobalAveragePool", normal(*X)),
    case("GlobalMaxPool", normal(*X)),
    case("Gemm", normal(2, 3), normal(3, 4), normal(4)),
    case("Gemm", normal(3, 2), normal(4, 3), normal(2, 4), alpha=0.5, beta=2.0, transA=1, transB=1),
    case("MatMul", normal(2, 3, 4), normal(4, 5), data=2),
    case("BatchNormalization", normal(*X), *(np.abs(normal(3)) + i for i in range(4)), epsilon=1e-3),
    case("InstanceNormalization", normal(*X), normal(3), normal(3) + 1),
    case("LayerNormalization", normal(*X), normal(5), normal(5) + 1),
    case("LayerNormalization", normal(*X), normal(4, 5), axis=-2),
    case(
        "LSTM", normal(4, 2, 3), normal(1, 20, 3), normal(1, 20, 5), normal(1, 40), hidden_size=5, outputs=3
    ),
    case(
        "LSTM",
        normal(4, 1, 3),
        normal(2, 20, 3),
        normal(2, 20, 5),
        hidden_size=5,
        direction="bidirectional",
        outputs=3,
    ),
    case("Reshape", normal(*X), ints(0, -1, 5)),
    case("Flatten", normal(*X), axis=2),
    case("Flatten", normal(*X)),
    case("Transpose", normal(*X), perm=[0, 2, 3, 1]),
    case("Transpose", normal(*X)),
    case("Squeeze", normal(2, 1, 3, 1), ints(1, -1)),
    case("Squeeze", normal(2, 1, 3, 1)),
    case("Unsqueeze", normal(2, 3), ints(0, -1)),
    case("Unsqueeze", normal(2, 3), opset=11, axes=[1]),
    case("Concat", normal(*X), normal(2, 3, 1, 5), data=2, axis=2),
    case("Split", normal(*X), ints(1, 3), axis=2, outputs=2),
    case("Split", normal(*X), axis=3, num_outputs=2, outputs=2),
    case("Slice", normal(*X), ints(1, -3), ints(9, -1), ints(2, 3), ints(1, 1)),
    case("Slice", normal(*X), ints(-1), ints(-99), ints(3), ints(-2)),
    case("Slice", normal(*X), opset=9, starts=[1], ends=[3], axes=[-1]),
    case("Gather", normal(*X), ints(2, -1), axis=2),
    case("Gather", normal(*X), np.array(1, I64), axis=1),
    case("Gather", normal(6, 4), np.array([[1, -2], [0, 5]], I64), data=2),
    case("Expand", normal(3, 1), ints(2, 1, 4)),
    case("Tile", normal(2, 3), ints(2, 1)),
    case("Pad", normal(*X), ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5)),
    case("Pad", normal(*X), ints(0, 0, 1, 2, 0, 0, 0, 1), mode="reflect"),
    case("Pad", normal(*X), ints(0, 0, 1, 2, 0, 0, 0, 1), mode="edge"),
    case("Pad", normal(*X), ints(1, 2), None, ints(3)),
    case(
        "Resize",
        normal(*X),
        None,
        floats([1, 1, 2, 3]),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    case("Resize", normal(*X), None, floats([1, 1, 2, 2])),
    case("Resize", normal(*X), None, None, ints(2, 3, 7, 9), mode="linear"),
    case(
        "Resize",
        normal(*X),
        None,
        None,
        ints(2, 3, 7, 9),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    case("Shape", normal(*X), start=1),
    case("Size", normal(*X)),
    case("ConstantOfShape", ints(2, 3), data=0, value=helper.make_tensor("v", 1, [1], [2.5])),
    case("Constant", data=0, value_floats=[1.0, 2.0]),
    case("Range", np.int64(3), np.int64(11), np.int64(2), data=0),
]


def model(op: str, inputs: Any, opset: int, outputs: int, data: int, attributes: Any) -> onnx.ModelProto:
    names = ["" if value is None else f"i{i}" for i, value in enumerate(inputs)]
    made = [f"o{i}" for i in range(outputs)]
    node = helper.make_node(op, names, made, name="the node", **attributes)
    given = [
        helper.make_tensor_value_info(
            names[i], helper.np_dtype_to_tensor_dtype(inputs[i].dtype), inputs[i].shape
        )
        for i in range(data)
    ]
    held = [
        onnx.numpy_helper.from_array(np.asarray(value), names[i])
        for i, value in enumerate(inputs)
        if i >= data and value is not None
    ]
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in made]
    graph = helper.make_graph([node], "g", given, ends, held)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(("op", "inputs", "opset", "outputs", "data", "attributes"), CASES)
def test_an_op_answers_as_onnx_runtime(
    op: str, inputs: Any, opset: int, outputs: int, data: int, attributes: Any, tmp_path: Path
) -> None:
    made = model(op, inputs, opset, outputs, data, attributes)
    onnx.save(made, tmp_path / "n.onnx")
    names, values = [f"i{i}" for i in range(data)], inputs[:data]
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, dict(zip(names, values, strict=True)))
    tensors = [torch.from_numpy(np.array(value)) for value in values]
    net = Graph(read(tmp_path / "n.onnx"), names, [torch.ones_like(value) for value in tensors])
    with torch.no_grad():
        got = net(*tensors)
    assert list(got) == [f"o{i}" for i in range(outputs)]
    for a, b in zip(want, got.values(), strict=True):
        assert (a.shape, a.dtype) == (tuple(b.shape), b.numpy().dtype)
        np.testing.assert_allclose(b.numpy(), a, rtol=2e-5, atol=2e-6)


def test_every_op_has_a_case() -> None:
    assert set(RULES) == {item.values[0] for item in CASES}
