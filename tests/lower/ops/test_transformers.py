"""Attention against torch in double. Tolerance: float32 sums in another order, 1e-5 of values near 1."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coremlops.dialects.mil import Ref
from tests.lower.programs import Array, function, operation, run, typed

RNG = np.random.default_rng(8)


def attend(dtype: str, mask: Array | None, *parts: Array, open_axes: bool = False) -> Array:
    query, key, value = parts
    shapes: list[Any] = [part.shape for part in parts]
    result: Any = (*query.shape[:-1], value.shape[-1])
    if open_axes:
        shapes, result = [(None,) * part.ndim for part in parts], (None,) * query.ndim
    types = {name: typed(dtype, *shape) for name, shape in zip("qkv", shapes, strict=True)}
    feeds = {"q": query, "k": key, "v": value}
    extra: dict[str, Any] = {}
    if mask is not None:
        types["m"] = typed("bool" if mask.dtype == np.bool_ else dtype, *mask.shape)
        feeds["m"], extra["attn_mask"] = mask, Ref("m")
    program = function(
        types,
        [
            operation(
                "scaled_dot_product_attention",
                "y",
                typed(dtype, *result),
                query=Ref("q"),
                key=Ref("k"),
                value=Ref("v"),
                **extra,
            )
        ],
    )
    return run(program, **feeds)["y"]


MASKS: list[tuple[str, tuple[int, ...] | None]] = [
    ("none", None),
    ("bool", (5, 6)),
    ("float", (5, 6)),
    ("bool", (6,)),
    ("float", (1, 6)),
    ("float", (2, 5, 6)),
]


@pytest.mark.parametrize(("kind", "mask_shape"), MASKS)
@pytest.mark.parametrize("batches", [(2,), (3, 2), (1, 3, 2)])
@pytest.mark.parametrize("open_axes", [True, False])
def test_like_torch(
    kind: str, mask_shape: tuple[int, ...] | None, batches: tuple[int, ...], open_axes: bool
) -> None:
    shapes = [(*batches, 5, 3), (*batches, 6, 3), (*batches, 6, 4)]
    parts = [RNG.standard_normal(shape).astype(np.float32) for shape in shapes]
    mask: Array | None = None
    if mask_shape is not None:
        mask = RNG.standard_normal(mask_shape).astype(np.float32)
        if kind == "bool":
            mask = mask > -0.5
            mask[..., 0] = True  # something is always left to look at
    given = None if mask is None else torch.from_numpy(np.atleast_2d(mask))  # torch wants two axes
    if given is not None and kind == "float":
        given = given.double()
    tensors = [torch.from_numpy(part).double() for part in parts]
    expected = F.scaled_dot_product_attention(tensors[0], tensors[1], tensors[2], attn_mask=given).numpy()
    np.testing.assert_allclose(attend("fp32", mask, *parts, open_axes=open_axes), expected, atol=1e-5)


def test_fp16_is_rounded_once() -> None:
    """Scores beyond fp16 are no harm."""
    query, key = np.full((1, 1, 4), 300, np.float16), np.full((1, 2, 4), 300, np.float16)
    value = np.array([[[1], [3]]], np.float16)
    np.testing.assert_array_equal(attend("fp16", None, query, key, value), [[[2]]])


def test_nothing_to_look_at() -> None:
    ones = np.ones((1, 2, 3), np.float32)
    found = attend("fp32", np.array([[True, False], [False, False]]), ones, ones, ones)
    assert np.isfinite(found[0, 0]).all()
    assert np.isnan(found[0, 1]).all()
