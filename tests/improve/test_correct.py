"""Outputs corrected by a line, as the last resort."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import coremlops
from coremlops.errors import UnsupportedOpsError, UsageError
from coremlops.improve.correct import KEY, correct_outputs
from coremlops.model import ModelAsset
from coremlops.source.reference import open_reference
from coremlops.source.samples import open_samples
from tests import classic_models
from tests.handmade import add_blob_const, add_operation, adder, blob_bytes, program_spec, write_package


def _lines(path: Path, scale: float, offset: float) -> Path:
    """y = (x + [[0, 1, 2], [3, 4, 5]]) * scale + offset."""
    shape = (2, 3)
    arrays = [np.arange(6, dtype=np.float32), *(np.full(6, item, np.float32) for item in (scale, offset))]
    weights, places = blob_bytes(arrays)
    spec, block = program_spec()
    for name, place in zip(("w", "a", "b"), places, strict=True):
        add_blob_const(block, name, shape, place)
    add_operation(block, "add", "s", shape, {"x": "x", "y": "w"})
    add_operation(block, "mul", "t", shape, {"x": "s", "y": "a"})
    add_operation(block, "add", "y", shape, {"x": "t", "y": "b"})
    return write_package(path, spec, weights)


def test_a_scale_and_an_offset_are_found_and_written_into_the_model(tmp_path: Path) -> None:
    model, source = adder(tmp_path / "net.mlpackage"), _lines(tmp_path / "source.mlpackage", 1.5, -2.0)
    reference = open_reference(source)
    calibration = open_samples(None, reference.inputs, count=4, seed=1)
    made = correct_outputs(model, reference, calibration, tmp_path / "out.mlpackage")
    line = made.lines["y"]
    assert line.scale == pytest.approx(1.5, abs=1e-4)
    assert line.offset == pytest.approx(-2.0, abs=1e-4)
    assert line.before_db < 20 < 100 < line.after_db
    held_out = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)
    got = coremlops.load(made.path).predict({"x": held_out})["y"]
    np.testing.assert_allclose(got, (held_out + np.arange(6).reshape(2, 3)) * 1.5 - 2, rtol=1e-4, atol=1e-4)
    asset = ModelAsset.open(made.path)
    assert json.loads(asset.description.user_defined[KEY]) == made.to_json()
    assert asset.digest == made.digest
    assert not np.allclose(coremlops.load(model).predict({"x": held_out})["y"], got)


def test_a_model_is_corrected_once(tmp_path: Path) -> None:
    model, source = adder(tmp_path / "net.mlpackage"), _lines(tmp_path / "source.mlpackage", 3.0, 0.5)
    reference = open_reference(source)
    calibration = open_samples(None, reference.inputs, count=2)
    made = correct_outputs(model, reference, calibration, tmp_path / "out.mlpackage")
    with pytest.raises(UsageError, match="corrected already"):
        correct_outputs(made.path, reference, calibration, tmp_path / "again.mlpackage")
    assert not (tmp_path / "again.mlpackage").exists()


def test_what_is_right_is_left_alone(tmp_path: Path) -> None:
    model = adder(tmp_path / "net.mlpackage")
    reference = open_reference(model)
    with pytest.raises(UsageError, match="no output comes nearer"):
        correct_outputs(model, reference, open_samples(None, reference.inputs), tmp_path / "out.mlpackage")
    assert not (tmp_path / "out.mlpackage").exists()


def test_other_kinds_of_models_are_refused(tmp_path: Path, tiny_classifier: Path) -> None:
    linear = classic_models.regressor({"x": (1,)})
    linear.glmRegressor.weights.add(value=[1.0])
    linear.glmRegressor.offset.append(0.0)
    path = classic_models.save(linear, tmp_path)
    reference = open_reference(path)
    samples = open_samples(None, reference.inputs)
    with pytest.raises(UnsupportedOpsError, match="glmRegressor"):
        correct_outputs(path, reference, samples, tmp_path / "out.mlpackage")
    with pytest.raises(UnsupportedOpsError, match="a classifier"):
        correct_outputs(tiny_classifier, reference, samples, tmp_path / "out.mlpackage")
