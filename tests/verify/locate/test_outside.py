"""Models that are no programs: their outputs alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coremlops.errors import UnsupportedOpsError
from coremlops.verify.locate import locate
from tests import classic_models


def _linear(folder: Path, name: str, offset: float) -> Path:
    model = classic_models.regressor({"x": (3,)})
    model.glmRegressor.weights.add(value=[1.0, 2.0, -1.0])
    model.glmRegressor.offset.append(offset)
    return classic_models.save(model, folder, name)


def test_a_dropped_term_is_an_offset(tmp_path: Path) -> None:
    """As coremltools drops XGBoost's base_score."""
    right, wrong = _linear(tmp_path, "right.mlmodel", 0.627), _linear(tmp_path, "wrong.mlmodel", 0.0)
    found = locate(wrong, right)
    assert found.first is not None
    assert (found.first.op, found.first.kind) == ("y", "offset")
    assert "+0.627" in found.first.words
    assert found.steps == ()


def test_equal_models_have_no_finding(tmp_path: Path) -> None:
    net = _linear(tmp_path, "net.mlmodel", 0.5)
    data = tmp_path / "x.npz"
    np.savez(data, x=np.arange(12.0).reshape(4, 3))
    found = locate(net, net, data)
    assert found.findings == ()
    assert found.samples == 4


def test_without_a_source_there_is_nothing_to_say(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOpsError, match="expected, got a glmRegressor model") as caught:
        locate(_linear(tmp_path, "net.mlmodel", 0.0))
    assert "--against" in caught.value.hint
