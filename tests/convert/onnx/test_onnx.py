"""ONNX files as Core ML packages, against ONNX Runtime; and files that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coremlops
from coremlops.convert import ConvertOptions, convert
from coremlops.convert.interface import Input
from coremlops.errors import ConversionError, InputError
from coremlops.source import open_reference


def save(path: Path, nodes: list[Any], held: dict[str, Any], shape: list[Any], outputs: list[str]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("in:0", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=opsets), path)
    return path


def values(*shape: int) -> Any:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def classifier(path: Path, shape: list[Any]) -> Path:
    nodes = [
        helper.make_node("Conv", ["in:0", "w", "b"], ["c"], "first/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["pool"]),
        helper.make_node("Shape", ["pool"], ["s"], end=1),
        helper.make_node("Concat", ["s", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["pool", "to"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["y:1"], transB=1),
    ]
    held = {
        "w": values(4, 3, 3, 3),
        "b": values(4),
        "rest": np.array([4]),
        "w2": values(2, 4),
        "b2": values(2),
    }
    return save(path, nodes, held, shape, ["y:1", "r"])


def test_a_file_converts_with_its_names(tmp_path: Path) -> None:
    source = classifier(tmp_path / "n.onnx", [1, 3, 8, 8])
    made = convert(source, tmp_path / "n.mlpackage", ConvertOptions(precision="float32"))
    x = values(1, 3, 8, 8)
    got = coremlops.load(made.path, precision="float32").predict({"in_0": x})
    want = open_reference(source)({"in:0": x})
    assert list(got) == ["y_1", "r"]
    np.testing.assert_allclose(got["y_1"], want["y:1"], atol=1e-5)
    np.testing.assert_allclose(got["r"], want["r"], atol=1e-5)
    assert made.source == open_reference(source).digest
    assert "first_conv" in (tmp_path / "n.origins.json").read_text()


def test_a_range_holds_where_no_node_asks_for_a_shape(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["in:0", "w"], ["y"])]
    source = save(tmp_path / "n.onnx", nodes, {"w": values(4, 3, 3, 3)}, [1, 3, "h", "w"], ["y"])
    options = ConvertOptions(precision="float32", inputs=(Input("in_0", shapes=((1, 3, (8, 16), (8, 16)),)),))
    made = convert(source, tmp_path / "n.mlpackage", options)
    x = values(1, 3, 12, 9)
    got = coremlops.load(made.path, precision="float32").predict({"in_0": x})["y"]
    np.testing.assert_allclose(got, open_reference(source)({"in:0": x})["y"], atol=1e-5)
    nodes = [
        helper.make_node("Shape", ["in:0"], ["s"], "asks"),
        helper.make_node("Reshape", ["in:0", "s"], ["y"]),
    ]
    asks = save(tmp_path / "asks.onnx", nodes, {}, [1, 3, "h", "w"], ["y"])
    with pytest.raises(ConversionError, match="asks asks for the shape of its input"):
        convert(asks, tmp_path / "m.mlpackage", options)


def test_all_that_is_not_covered_is_named_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Det", ["in:0"], ["a"], "first"),
        helper.make_node("FastGelu", ["a"], ["b"], "second", domain="com.microsoft"),
        helper.make_node("Cast", ["b"], ["c"], "third", to=16),
        helper.make_node("Cast", ["c"], ["y"], "fourth", to=1),
    ]
    source = save(tmp_path / "n.onnx", nodes, {}, [2, 2, 2], ["y"])
    with pytest.raises(ConversionError) as caught:
        convert(source, tmp_path / "n.mlpackage")
    assert "Det (first); com.microsoft.FastGelu (second); Cast with to=16 (third)" in str(caught.value)
    assert not (tmp_path / "n.mlpackage").exists()


def test_a_shape_that_the_data_decides_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["in:0"], ["n"], to=7),
        helper.make_node("Reshape", ["data", "n"], ["y"], "the reshape"),
    ]
    source = save(tmp_path / "n.onnx", nodes, {"data": values(4)}, [2], ["y"])
    with pytest.raises(ConversionError, match=r"the reshape \(Reshape\): the data decides its input n"):
        convert(source, tmp_path / "n.mlpackage")


def test_a_constant_is_not_blown_up(tmp_path: Path) -> None:
    held = {"big": np.array([1 << 20, 1 << 20])}
    nodes = [
        helper.make_node("ConstantOfShape", ["big"], ["c"], "bomb"),
        helper.make_node("Add", ["in:0", "c"], ["y"]),
    ]
    from coremlops.convert.onnx.graph import Graph, read

    with pytest.raises(ConversionError, match=r"bomb .*at most 268435456 elements"):
        Graph(read(save(tmp_path / "n.onnx", nodes, held, [1], ["y"])), [], [])


@pytest.mark.parametrize("location", ["../secret.bin", "link.bin", "missing.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    from coremlops.convert.onnx.graph import read

    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 16)
    (home / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = save(
        home / "n.onnx", [helper.make_node("Add", ["in:0", "w"], ["y"])], {"w": values(4)}, [4], ["y"]
    )
    model = onnx.load(path)
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="weights in a file of its own folder expected"):
        read(path)


def test_weights_in_the_folder_are_read(tmp_path: Path) -> None:
    from coremlops.convert.onnx.graph import read

    source = classifier(tmp_path / "n.onnx", [1, 3, 8, 8])
    onnx.save(
        onnx.load(source), tmp_path / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=0
    )
    assert (tmp_path / "e.bin").exists()
    held = {item.name: numpy_helper.to_array(item) for item in read(tmp_path / "e.onnx").graph.initializer}
    np.testing.assert_array_equal(held["w"], values(4, 3, 3, 3))
