"""The session: weights that the engine reads from the model's own file."""

from pathlib import Path
from typing import Any

import numpy as np

import coremlops
from coremlops.runtime import session
from tests.handmade import add_blob_const, add_operation, blob_bytes, program_spec, write_package


def two_weights(path: Path, dtype: Any) -> Path:
    """y = x + w over [2, 300]."""
    array = np.arange(600, dtype=dtype).reshape(2, 300)
    weights, offsets = blob_bytes([array])
    kind = "fp16" if array.dtype == np.float16 else "fp32"
    spec, block = program_spec()
    for feature in (spec.description.input[0], spec.description.output[0]):
        feature.type.multiArrayType.shape[:] = (2, 300)
    spec.mlProgram.functions["main"].inputs[0].type.tensorType.dimensions[1].constant.size = 300
    add_blob_const(block, "w", (2, 300), offsets[0], kind)
    add_operation(block, "add", "y", (2, 300), {"x": "x", "y": "w"})
    return write_package(path, spec, weights)


def test_the_engine_reads_what_lies_in_the_file(tmp_path: Path) -> None:
    for dtype in (np.float32, np.float16):
        model = coremlops.load(
            two_weights(tmp_path / f"{np.dtype(dtype)}.mlpackage", dtype), precision="float32"
        )
        (engine,) = [value for value in vars(model._part).values() if isinstance(value, session.Session)]
        assert not engine._weights
        x = np.ones((2, 300), np.float32)
        np.testing.assert_array_equal(model.predict({"x": x})["y"], x + np.arange(600).reshape(2, 300))


def test_a_model_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    folder = tmp_path / "ein Ordner; mit ü & 'x'"
    folder.mkdir()
    model = coremlops.load(two_weights(folder / "a b.mlpackage", np.float32))
    assert model.predict({"x": np.zeros((2, 300))})["y"][0, 7] == 7
