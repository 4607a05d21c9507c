"""Layers measured channel by channel."""

from __future__ import annotations

import numpy as np
import pytest

from coremlops.verify.inner import _layer, _powers


def _values(*channels: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """[1, channels, 2, 2]: one value a channel."""
    return np.broadcast_to(np.array(channels, np.float32)[None, :, None, None], (1, len(channels), 2, 2))


def test_a_dead_channel_is_the_worst() -> None:
    powers = _powers(_values(1, 2, 3), _values(1, 0, 3))
    assert powers is not None
    layer = _layer("x", powers)
    assert (layer.worst_channel, layer.worst_db, layer.median_db) == (1, 0.0, 200.0)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_model_that_is_not_finite_inside_is_all_error(value: float) -> None:
    powers = _powers(_values(1, 2), _values(1, value))
    assert powers is not None
    assert _layer("x", powers).worst_db == -200.0


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_source_that_is_not_finite_inside_is_not_measured(value: float) -> None:
    assert _powers(_values(1, value), _values(1, value)) is None


def test_values_of_other_shapes_do_not_correspond() -> None:
    assert _powers(_values(1, 2), _values(1, 2, 3)) is None
