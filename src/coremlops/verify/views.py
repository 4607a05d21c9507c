"""What the page shows of a bad example: the picture as the model sees it, and plots of its worst output."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.verify.sides import ModelSide, Preparation
from coremlops.verify.statistics import difference

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from coremlops.source import Sample

THUMBNAIL = 192
MAX_POINTS = 256
MAX_SIDE = 96


@dataclass(frozen=True, slots=True)
class View:
    """`picture`: a `data:` URI, or empty. `output`, `plot`: the worst output's name and drawing."""

    picture: str = ""
    output: str = ""
    plot: str = ""


def view(
    sample: Sample,
    model: ModelSide,
    arrays: Sequence[tuple[str, NDArray[Any], NDArray[Any]]],
    classified: bool,
) -> View:
    """Of one example; a classifier's is its picture alone."""
    from PIL import Image

    prepare = Preparation.of_model(model)
    pictures = [value for value in sample.inputs.values() if isinstance(value, Image.Image)]
    picture = jpeg(prepare(pictures[0])) if prepare is not None and pictures else ""
    if classified:
        return View(picture)
    name, expected, got = min(arrays, key=lambda item: difference(item[1], item[2]).snr_db)
    return View(picture, name, plot(expected, got))


def jpeg(picture: Image.Image, side: int = THUMBNAIL) -> str:
    """A small copy as a `data:` URI."""
    picture = picture.copy()
    picture.thumbnail((side, side))
    if picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGB")
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def plot(expected: NDArray[Any], got: NDArray[Any]) -> str:
    """Two lines over each other, or for planes three heat maps: expected, got, and their difference."""
    expected, got = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    shape = [size for size in expected.shape if size != 1]
    if len(shape) >= 2 and min(shape[-2:]) >= 4:
        one, two = (item.reshape(-1, *shape[-2:])[0] for item in (expected, got))
        gap = np.abs(one - two)
        low, high = float(one.min()), float(one.max())
        maps = ((one, low, high, "expected"), (two, low, high, "got"), (gap, 0.0, float(gap.max()), "|Δ|"))
        return '<div class="maps">' + "".join(_map(*item) for item in maps) + "</div>"
    return lines(expected.ravel(), got.ravel())


def heat(values: NDArray[Any], low: float, high: float) -> str:
    """A plane as a `data:` URI: dark for `low`, bright for `high`."""
    from PIL import Image

    step = tuple(max(1, -(-size // MAX_SIDE)) for size in values.shape)
    small = np.nan_to_num(values[:: step[0], :: step[1]], nan=low, posinf=high, neginf=low)
    share = np.clip((small - low) / max(high - low, 1e-30), 0, 1)
    stops = np.array([[13, 8, 36], [86, 32, 110], [187, 55, 84], [249, 142, 9], [252, 255, 164]], np.float64)
    place = share * (len(stops) - 1)
    index = np.clip(place.astype(int), 0, len(stops) - 2)
    part = (place - index)[..., None]
    pixels = stops[index] * (1 - part) + stops[index + 1] * part
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _map(values: NDArray[Any], low: float, high: float, name: str) -> str:
    title = f"{name}, {low:.3g} to {high:.3g}"
    return (
        f'<figure class="map"><img src="{heat(values, low, high)}" alt="{escape(title)}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )


def lines(expected: NDArray[Any], got: NDArray[Any]) -> str:
    """An SVG of both, the source's thick and the model's thin over it."""
    count = expected.size
    places = np.unique(np.linspace(0, max(count - 1, 0), min(count, MAX_POINTS)).astype(int))
    finite = np.concatenate([expected[places], got[places]])
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return '<p class="quiet">no finite numbers to draw</p>'
    low, high = float(finite.min()), float(finite.max())
    span = max(high - low, 1e-30)

    def path(values: NDArray[Any]) -> str:
        across = 216 / max(len(places) - 1, 1)
        points = [
            f"{4 + i * across:.1f},{76 - (value - low) / span * 68:.1f}"
            for i, value in enumerate(values[places])
            if np.isfinite(value)
        ]
        if len(points) == 1:
            points.append(f"220,{points[0].partition(',')[2]}")
        return " ".join(points)

    title = f"{count} numbers from {low:.3g} to {high:.3g}: expected (thick) and got (thin)"
    return (
        f'<svg viewBox="0 0 224 80" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<polyline class="expected" points="{path(expected)}"/><polyline class="got" points="{path(got)}"/>'
        "</svg>"
    )
