"""Weights that the engine reads and widens itself: where they lie, and that each value stays what it is."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from coremlops.dialects.mil import Ref
from coremlops.lower import Lowered
from coremlops.runtime import initializers
from coremlops.runtime.initializers import give_weights
from coremlops.runtime.session import Session
from tests.lower.programs import Array, constant, function, lower, operation, typed

# Every fp16 there is: subnormals, infinities and NaN among them.
EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
WIDE = np.linspace(-1, 1, 600, dtype=np.float32)


def gathered(weight: Array, precision: str = "typed") -> Lowered:
    """y = weight[x]."""
    kind = constant(weight).type
    program = function(
        {"x": typed("int32", weight.size)},
        [operation("gather", "y", kind, x=constant(weight), indices=Ref("x"), axis=0)],
    )
    return lower(program, precision)


@pytest.mark.parametrize("precision", ["typed", "float32", "float16"])
def test_the_engine_widens_every_fp16_value_as_numpy_does(precision: str) -> None:
    lowered = gathered(EVERY, precision)
    assert [array.dtype for array in give_weights(lowered).arrays.values()] == [np.float16]
    found = Session(lowered).run({"x": np.arange(EVERY.size, dtype=np.int32)})["y"]
    expected = EVERY.astype(np.float32)
    assert found.dtype == np.float32
    numbers = ~np.isnan(expected)
    assert np.array_equal(found.view(np.uint32)[numbers], expected.view(np.uint32)[numbers])
    assert np.isnan(found[~numbers]).all()


def test_a_weight_that_a_mode_rounds_is_kept_as_fp16_too() -> None:
    lowered = gathered(WIDE, "float16")
    assert [array.dtype for array in lowered.weights.values()] == [np.float16]
    found = Session(lowered).run({"x": np.arange(600, dtype=np.int32)})["y"]
    np.testing.assert_array_equal(found, WIDE.astype(np.float16).astype(np.float32))


def test_nothing_of_it_is_left_in_the_graph_that_runs(tmp_path: Path) -> None:
    Session(gathered(EVERY, "float32"), optimised=tmp_path / "graph.onnx")
    graph = onnx.load(tmp_path / "graph.onnx").graph
    assert "Cast" not in [node.op_type for node in graph.node]
    assert onnx.TensorProto.FLOAT16 not in [tensor.data_type for tensor in graph.initializer]


def test_what_the_engine_would_not_fold_is_widened_here(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = gathered(EVERY, "float32")
    for limit, dtype in ((4 * EVERY.size, np.float16), (4 * EVERY.size - 1, np.float32)):
        monkeypatch.setattr(initializers, "MAX_FOLDED_BYTES", limit)
        assert [array.dtype for array in give_weights(lowered).arrays.values()] == [dtype]


def test_files_of_one_folder_are_read_and_the_others_given() -> None:
    one, other = WIDE, WIDE[::-1].copy()
    type_ = typed("fp32", 600)
    ops = [
        operation("add", "h", type_, x=Ref("x"), y=one),
        operation("mul", "y", type_, x=Ref("h"), y=other),
    ]
    lowered = lower(function({"x": type_}, ops))
    first, second = lowered.weights
    places = {id(lowered.weights[first]): (Path("/a/w"), 64), id(lowered.weights[second]): (Path("/b/w"), 0)}
    given = give_weights(lowered, lambda array: places[id(array)])
    assert given.folder == Path("/a")
    assert list(given.arrays) == [second]
    (tensor,) = (entry for entry in given.model.graph.initializer if entry.name == first)
    found = {entry.key: entry.value for entry in tensor.external_data}
    assert found == {"location": "w", "offset": "64", "length": "2400"}
