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
from coremlops.source.reference import Reference, open_reference
from coremlops.source.samples import Samples, open_samples
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


def _held_out(reference: Reference) -> Samples:
    return open_samples(None, reference.inputs, count=3, seed=9)


def test_a_scale_and_an_offset_are_found_and_written_into_the_model(tmp_path: Path) -> None:
    model, source = adder(tmp_path / "net.mlpackage"), _lines(tmp_path / "source.mlpackage", 1.5, -2.0)
    reference = open_reference(source)
    calibration = open_samples(None, reference.inputs, count=4, seed=1)
    made = correct_outputs(model, reference, calibration, _held_out(reference), tmp_path / "out.mlpackage")
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
    made = correct_outputs(model, reference, calibration, _held_out(reference), tmp_path / "out.mlpackage")
    with pytest.raises(UsageError, match="corrected already"):
        correct_outputs(made.path, reference, calibration, _held_out(reference), tmp_path / "again.mlpackage")
    assert not (tmp_path / "again.mlpackage").exists()


def test_what_is_right_is_left_alone(tmp_path: Path) -> None:
    model = adder(tmp_path / "net.mlpackage")
    reference = open_reference(model)
    samples = open_samples(None, reference.inputs)
    with pytest.raises(UsageError, match="no output comes nearer"):
        correct_outputs(model, reference, samples, _held_out(reference), tmp_path / "out.mlpackage")
    assert not (tmp_path / "out.mlpackage").exists()


def test_other_kinds_of_models_are_refused(tmp_path: Path, tiny_classifier: Path) -> None:
    linear = classic_models.regressor({"x": (1,)})
    linear.glmRegressor.weights.add(value=[1.0])
    linear.glmRegressor.offset.append(0.0)
    path = classic_models.save(linear, tmp_path)
    reference = open_reference(path)
    samples = open_samples(None, reference.inputs)
    with pytest.raises(UnsupportedOpsError, match="glmRegressor"):
        correct_outputs(path, reference, samples, _held_out(reference), tmp_path / "out.mlpackage")
    with pytest.raises(UnsupportedOpsError, match="a classifier"):
        correct_outputs(tiny_classifier, reference, samples, _held_out(reference), tmp_path / "out.mlpackage")


def test_what_it_was_fitted_on_proves_nothing(tmp_path: Path) -> None:
    model, source = adder(tmp_path / "net.mlpackage"), _lines(tmp_path / "source.mlpackage", 3.0, 0.5)
    reference = open_reference(source)
    samples = open_samples(None, reference.inputs, count=2)
    with pytest.raises(UsageError, match="should prove it"):
        correct_outputs(model, reference, samples, samples, tmp_path / "out.mlpackage")


def test_a_line_that_only_fits_what_it_was_fitted_on_is_not_written(tmp_path: Path) -> None:
    """x^2 is about 3 x - 2.2 between 1 and 2; near 0, 2 x is nearer."""
    nets = []
    for kind in ("mul", "add"):
        spec, block = program_spec()
        add_operation(block, kind, "y", (2, 3), {"x": "x", "y": "x"})
        nets.append(write_package(tmp_path / f"{kind}.mlpackage", spec))
    reference = open_reference(nets[0])
    values = np.random.default_rng(0).uniform(1, 2, (4, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "far.npz", x=values)
    np.savez(tmp_path / "near.npz", x=values / 100)
    far, near = (open_samples(tmp_path / f"{name}.npz", reference.inputs) for name in ("far", "near"))
    assert correct_outputs(nets[1], reference, far, far.head(3), tmp_path / "far.mlpackage").lines
    with pytest.raises(UsageError, match="no output comes nearer"):
        correct_outputs(nets[1], reference, far, near, tmp_path / "near.mlpackage")
    assert not (tmp_path / "near.mlpackage").exists()
