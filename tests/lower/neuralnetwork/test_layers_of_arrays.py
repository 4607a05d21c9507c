"""Layers of arrays of any rank, against NumPy."""

import numpy as np
import pytest

from coremlops.errors import ModelFormatError
from tests.networks import one

RNG = np.random.default_rng(23)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_one_hot_counts_negative_indices_from_the_end(axis: int) -> None:
    indices = np.array([[0, 3, -1], [-4, 1, 2]])
    expected = np.full((2, 3, 4), 0.5)
    for place in np.ndindex(2, 3):
        expected[(*place, indices[place])] = 7  # NumPy counts from the end, too
    found = one("oneHot", indices, oneHotVectorSize=4, axis=axis, onValue=7.0, offValue=0.5)
    np.testing.assert_array_equal(found, np.moveaxis(expected, -1, axis))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("axis", "size", "step"), [(0, 2, 1), (1, 3, 2), (-1, 5, 3), (1, 7, 1), (-3, 1, 2)])
def test_sliding_windows(axis: int, size: int, step: int, dynamic: bool) -> None:
    x = RNG.standard_normal((3, 7, 6)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis)  # the window is the last axis
    place = axis % 3
    expected = np.moveaxis(windows, -1, place + 1)[(slice(None),) * place + (slice(None, None, step),)]
    found = one("slidingWindows", x, dynamic=dynamic, axis=axis, windowSize=size, step=step)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [0, 8])
def test_windows_that_do_not_fit(size: int) -> None:
    with pytest.raises(ModelFormatError, match=f"windows of {size} elements over 7"):
        one("slidingWindows", np.ones((3, 7)), axis=1, windowSize=size, step=1)
