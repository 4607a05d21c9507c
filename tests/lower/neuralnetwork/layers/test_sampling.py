"""Sampling of height and width: `np.interp` on the grids that the format defines."""

from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import Case, case, check, draws
from tests.networks import Array

RNG = draws(__name__)
METHODS = (
    "STRICT_ALIGN_ENDPOINTS_MODE",
    "ALIGN_ENDPOINTS_MODE",
    "UPSAMPLE_MODE",
    "ROI_ALIGN_MODE",
)


def grid(method: str, begin: float, end: float, count: int, size: int) -> Array:
    """`SamplingMode`: count points of the interval [begin, end], which has X = end - begin + 1 places."""
    x = end - begin + 1
    match method:
        case "STRICT_ALIGN_ENDPOINTS_MODE":
            points = np.linspace(0, x - 1, count)
        case "ALIGN_ENDPOINTS_MODE":
            points = np.linspace(0, x - 1, count) if count > 1 else np.array([(x - 1) / 2])
        case "UPSAMPLE_MODE":
            points = np.linspace(0, x - x / count, count)
        case _:
            spacing = max(1, x - 1) / count
            points = np.linspace(0.5 * spacing, 0.5 * spacing + (count - 1) * spacing, count)
    return np.clip(begin + points, 0, size - 1)


def sampled(x: Array, rows: Array, columns: Array) -> Array:
    """x: [..., H, W] between its places."""
    height, width = x.shape[-2:]
    wide = np.apply_along_axis(lambda line: np.interp(columns, np.arange(width), line), -1, x)
    return np.apply_along_axis(lambda line: np.interp(rows, np.arange(height), line), -2, wide)


def resize(shape: tuple[int, ...], method: str, target: tuple[int, int]) -> Case:
    x = RNG.standard_normal(shape)
    rows, columns = (
        grid(method, 0, size - 1, count, size) for size, count in zip(shape[-2:], target, strict=True)
    )
    fields: dict[str, Any] = {"targetSize": target} if target != (1, 1) else {}
    return case(
        "resizeBilinear",
        [x],
        sampled(x, rows, columns),
        label=f"{shape} {method} {target}",
        mode={"samplingMethod": method},
        **fields,
    )


def upsample_grid(mode: str, size: int, count: int) -> Array:
    """`LinearUpsampleMode`."""
    places = np.arange(count)
    match mode:
        case "DEFAULT":
            points = places * (size - size / count) / (count - 1)
        case "ALIGN_CORNERS_TRUE":
            points = places * (size - 1) / (count - 1)
        case _:
            points = places * size / count + 0.5 * size / count - 0.5
    return np.clip(points, 0, size - 1)


def upsample(shape: tuple[int, ...], mode: str, factors: tuple[float, float]) -> Case:
    x = RNG.standard_normal(shape)
    rows, columns = (
        upsample_grid(mode, size, int(size * factor))
        for size, factor in zip(shape[-2:], factors, strict=True)
    )
    whole = all(isinstance(factor, int) for factor in factors)
    fields: dict[str, Any] = {"scalingFactor" if whole else "fractionalScalingFactor": factors}
    return case(
        "upsample",
        [x],
        sampled(x, rows, columns),
        label=f"{shape} {mode} {factors}",
        mode="BILINEAR",
        linearUpsampleMode=mode,
        **fields,
    )


def repeated(shape: tuple[int, ...], factors: tuple[int, int]) -> Case:
    x = RNG.standard_normal(shape)
    fields: dict[str, Any] = {"scalingFactor": factors} if factors != (1, 1) else {}
    wanted = x.repeat(factors[0], -2).repeat(factors[1], -1)
    return case("upsample", [x], wanted, label=f"{shape} NN {factors}", mode="NN", **fields)


def boxes(
    mode: str, size: tuple[int, int], columns: int, normalized: bool, scale: float
) -> tuple[Array, Array]:
    """Corners (top, left, bottom, right) on the image, and boxes as the mode writes them."""
    limits = np.array([size[0] - 1, size[1] - 1, size[0] - 1, size[1] - 1], float)
    corners = np.array([[0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1], [0.3, 0.3, 0.35, 0.3], [0.5, 0.25, 0.75, 0.5]])
    on_image = corners * limits
    top, left, bottom, right = (corners if normalized else on_image).T / (scale or 1)
    if mode.startswith("CORNERS"):
        ordered = [top, left, bottom, right]
    else:
        ordered = [(top + bottom) / 2, (left + right) / 2, bottom - top, right - left]
    if mode.endswith("WIDTH_FIRST"):
        ordered = [ordered[index] for index in (1, 0, 3, 2)]
    written = np.stack(ordered, 1)
    if columns == 5:
        written = np.concatenate([[[1], [0], [1], [1]], written], 1)
    return on_image, written.reshape(4, 1, columns, 1, 1)


def crop_resize(
    *,
    method: str = METHODS[0],
    mode: str = "CORNERS_HEIGHT_FIRST",
    columns: int = 4,
    target: tuple[int, int] = (3, 4),
    normalized: bool = False,
    scale: float = 0.0,
) -> Case:
    x, size = RNG.standard_normal((1, 2, 3, 6, 7)), (6, 7)
    corners, written = boxes(mode, size, columns, normalized, scale)
    parts = []
    for index, (top, left, bottom, right) in enumerate(corners):
        rows = grid(method, top, bottom, target[0], size[0])
        places = grid(method, left, right, target[1], size[1])
        image = x[0] if columns == 4 else x[0, int(written[index].flat[0])][None]
        parts.append(sampled(image, rows, places))
    fields: dict[str, Any] = {"targetSize": target} if target != (1, 1) else {}
    return case(
        "cropResize",
        [x, written],
        np.array(parts),
        label=f"{method} {mode} {columns} {target} {normalized} {scale}",
        tolerance=1e-4,  # places of boxes are float32 numbers, and pixels differ by a few between them
        mode={"samplingMethod": method},
        boxIndicesMode={"boxMode": mode},
        normalizedCoordinates=normalized,
        spatialScale=scale,
        told=(2,),
        **fields,
    )


BOX_MODES = (
    "CORNERS_HEIGHT_FIRST",
    "CORNERS_WIDTH_FIRST",
    "CENTER_SIZE_HEIGHT_FIRST",
    "CENTER_SIZE_WIDTH_FIRST",
)
CASES = [
    *(
        resize((2, 4, 5), method, target)
        for method in METHODS
        for target in ((7, 9), (1, 1), (3, 2), (4, 5), (1, 6), (8, 1))
    ),
    *(
        resize(shape, method, (3, 7))
        for method in METHODS
        for shape in ((2, 2, 4, 5), (2, 1, 2, 4, 5), (1, 1, 6))
    ),
    *(
        upsample(shape, mode, factors)
        for mode in ("DEFAULT", "ALIGN_CORNERS_TRUE", "ALIGN_CORNERS_FALSE")
        for shape, factors in (
            ((2, 4, 5), (2, 3)),
            ((1, 2, 4, 6), (1, 2)),
            ((2, 1, 2, 3, 4), (3, 2)),
            ((2, 4, 6), (1.5, 2.5)),
            ((2, 6, 8), (0.5, 0.75)),
        )
    ),
    *(
        repeated(shape, factors)
        for shape, factors in (((2, 3, 4), (2, 3)), ((1, 2, 3, 4), (3, 1)), ((2, 1, 2, 3, 4), (1, 1)))
    ),
    *(
        crop_resize(method=method, target=target)
        for method in METHODS
        for target in ((3, 4), (1, 1), (7, 2), (1, 5))
    ),
    *(
        crop_resize(mode=mode, columns=columns, normalized=normalized)
        for mode in BOX_MODES
        for columns in (4, 5)
        for normalized in (False, True)
    ),
    *(crop_resize(method=method, scale=0.25, mode=BOX_MODES[3]) for method in METHODS),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
