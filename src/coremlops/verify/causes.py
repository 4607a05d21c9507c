"""How pictures can be prepared, and which of these ways explains that training's differ from the record's.

A few ways are tried, one factor at a time, each after the scale and bias per channel that fit best; the one
that explains most of the difference is named as the likely cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import coremlops
from coremlops.source import ImageInput

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

# An error that another way explains: it leaves less than this share of it, and is more than a rounding.
EXPLAINS, LEAST_LEVELS = 0.8, 0.4
MAX_CAUSES = 4

# Each factor's other ways, with the words for them.
WAYS: dict[str, dict[str, str]] = {
    "orientation": {
        "stored": "orientation: training ignores the EXIF orientation, the record applies it",
        "mirrored": "orientation: training's pictures are mirrored",
        "upside down": "orientation: training's pictures stand on their head",
        "left": "orientation: training's pictures are turned to the left",
        "right": "orientation: training's pictures are turned to the right",
    },
    "order": {"BGR": "channel order: training takes BGR, the record RGB"},
    "option": {
        "scaleFit": "crop: training shows the whole picture with bars (scaleFit)",
        "centerCrop": "crop: training cuts the middle out (centerCrop)",
        "scaleFill": "crop: training stretches the picture (scaleFill)",
        "resize and crop": "crop: training scales the short side to 8/7, then cuts the middle out",
    },
    "fill": {
        "255": "border: training's bars are white, the record's black",
        "127": "border: training's bars are grey (127), the record's black",
        "114": "border: training's bars are grey (114), the record's black",
    },
    "colour": {
        "sRGB": "colour space: training converts by the file's ICC profile to sRGB, the record does not",
        "grey": "colour: training's pictures are grey",
    },
    "filter": {
        "nearest": "resampling: training takes the nearest pixel",
        "plain": "resampling: training interpolates without antialiasing",
        "bicubic": "resampling: training's filter is bicubic",
        "lanczos": "resampling: training's filter is Lanczos",
    },
}


@dataclass(frozen=True, slots=True)
class How:
    """One way to prepare a picture; the defaults are the record's."""

    orientation: str = ""
    order: str = ""
    option: str = ""
    fill: str = ""
    colour: str = ""
    filter: str = ""


def render(picture: Image.Image, record: ImageInput, how: How) -> NDArray[np.float64]:
    """A picture prepared one way: pixels [height, width, channels], 0 to 255."""
    from PIL import Image, ImageOps

    if how.colour == "sRGB":
        picture = _to_srgb(picture)
    if how.orientation == "stored":
        picture = picture.convert("RGB") if picture.mode not in ("RGB", "L") else picture.copy()
        picture.getexif().clear()
        picture.info.pop("exif", None)
    width, height, option = record.width, record.height, how.option or record.image_option
    if not (how.filter or how.fill or option == "resize and crop"):
        made = coremlops.prepare_image(picture, width, height, option, record.color)
    else:
        upright = ImageOps.exif_transpose(picture)
        full = coremlops.prepare_image(upright, *upright.size, "scaleFill", record.color)
        scale = {
            "scaleFit": min(width / full.width, height / full.height),
            "scaleFill": 0.0,
            "centerCrop": max(width / full.width, height / full.height),
            "resize and crop": max(width / full.width, height / full.height) * 8 / 7,
        }[option]
        size = (width, height)
        if scale:
            size = max(1, round(full.width * scale)), max(1, round(full.height * scale))
        scaled = _resized(full, size, how.filter)
        fill = int(how.fill or 0)
        canvas = Image.new(full.mode, (width, height), (fill,) * 3 if full.mode == "RGB" else fill)
        canvas.paste(scaled, ((width - size[0]) // 2, (height - size[1]) // 2))
        made = canvas
    if how.colour == "grey" and record.color == "RGB":
        made = made.convert("L").convert("RGB")
    pixels = np.asarray(made, np.float64).reshape(height, width, record.channels)
    match how.orientation:
        case "mirrored":
            pixels = pixels[:, ::-1]
        case "upside down":
            pixels = pixels[::-1, ::-1]
        case "left" | "right":
            pixels = np.rot90(pixels, 1 if how.orientation == "left" else -1)
    return pixels[..., ::-1] if how.order else pixels


def _resized(picture: Image.Image, size: tuple[int, int], way: str) -> Image.Image:
    from PIL import Image

    if way == "plain":  # transform interpolates between four pixels, however small the result
        box = (0, 0, *picture.size)
        return picture.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    filters = {"nearest": "NEAREST", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}
    return picture.resize(size, Image.Resampling[filters.get(way, "BILINEAR")])


def _to_srgb(picture: Image.Image) -> Image.Image:
    import io

    from PIL import ImageCms

    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "L", "CMYK"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return picture
    return made or picture


def diagnose(
    tried: Sequence[tuple[Any, NDArray[np.float64]]], record: ImageInput
) -> tuple[tuple[str, ...], float]:
    """The likely causes in words, and the share of the error that they leave.

    `tried`: pictures with training's array of each, [height, width, channels].
    """
    how, square = How(), record.width == record.height
    before = _plain_error(tried, record)
    if before < LEAST_LEVELS:
        return (), 1.0 if before else 0.0
    error, fit = _fit(tried, record, how)
    causes: dict[str, str] = {}
    while len(causes) < MAX_CAUSES:
        best = (error, "", "", fit)
        for factor, ways in WAYS.items():
            for way in ways:
                if (
                    factor in causes
                    or way == record.image_option
                    or (way in ("left", "right") and not square)
                ):
                    continue
                found, its = _fit(tried, record, replace(how, **{factor: way}))
                if found < best[0]:
                    best = (found, factor, way, its)
        if not best[1] or best[0] > EXPLAINS * error or error - best[0] < LEAST_LEVELS / 2:
            break
        error, factor, way, fit = best
        how = replace(how, **{factor: way})
        causes[factor] = WAYS[factor][way]
    scales, biases = fit
    level = abs(record.scale) * 255
    off = [abs(b - r) / level for b, r in zip(biases, record.bias, strict=True)]
    if max(abs(s / record.scale - 1) for s in scales) > 0.02 or max(off) > 0.01:
        said = ", ".join(f"{value:.5g}" for value in dict.fromkeys(round(s, 8) for s in scales))
        moved = ", ".join(f"{value:.4g}" for value in biases)
        what = "scale and bias" if max(scales) - min(scales) < 0.02 * abs(record.scale) else "colour shift"
        causes["values"] = (
            f"{what}: training takes pixels * {said} + [{moved}], the record {record.scale:.5g} and "
            f"[{', '.join(f'{value:.4g}' for value in record.bias)}]"
        )
    return tuple(causes.values()), min(error / before, 1.0)


def _plain_error(tried: Sequence[tuple[Any, NDArray[np.float64]]], record: ImageInput) -> float:
    """Root mean square in levels, as the record has it."""
    squares = [
        (((values - np.array(record.bias)) / record.scale - render(picture, record, How())) ** 2).mean()
        for picture, values in tried
    ]
    return float(np.sqrt(np.mean(squares)))


def _fit(
    tried: Sequence[tuple[Any, NDArray[np.float64]]], record: ImageInput, how: How
) -> tuple[float, tuple[list[float], list[float]]]:
    """The error that is left, levels, after the best scale and bias of each channel; and those."""
    sums = np.zeros((6, record.channels))
    for x, y in _rendered(tried, record, how):
        sums += [
            np.full(x.shape[1], len(x)),
            x.sum(0),
            y.sum(0),
            (x * x).sum(0),
            (x * y).sum(0),
            (y * y).sum(0),
        ]
    n, sx, sy, sxx, sxy, syy = sums
    spread = np.maximum(sxx - sx * sx / n, 1e-9)
    scale = (sxy - sx * sy / n) / spread
    bias = (sy - scale * sx) / n
    left = np.maximum(syy - sy * sy / n - scale * scale * spread, 0)
    return float(np.sqrt(left.sum() / n.sum()) / abs(record.scale)), (scale.tolist(), bias.tolist())


def _rendered(
    tried: Sequence[tuple[Any, NDArray[np.float64]]], record: ImageInput, how: How
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    for picture, values in tried:
        pixels = render(picture, record, how)
        yield pixels.reshape(-1, record.channels), values.reshape(-1, record.channels)
