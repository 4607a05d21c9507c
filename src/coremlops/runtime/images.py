"""Pictures as a model wants them: the one preparation that training, proof and the app share.

The words are Vision's (`VNImageCropAndScaleOption`): `centerCrop` scales the picture until its short side
fits and cuts the rest off evenly; `scaleFit` shows the whole picture, centred, with black bars; `scaleFill`
stretches it. Scaling is bilinear with antialiasing (Pillow's BILINEAR). Apple does not publish its filter,
so the pixels of a device differ a little; a golden set's tolerances hold that.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import CoremlopsError, InputError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_OPTIONS = ("centerCrop", "scaleFit", "scaleFill")
# Pillow reads far more, some of it through other programs: an EPS file would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
MAX_IMAGE_BYTES = 256 << 20
MAX_PIXELS = 178_956_970  # Pillow's own warning limit; here it is an error

# The colour words of a model description, and Pillow's, to Pillow's.
_MODES = {"RGB": "RGB", "BGR": "RGB", "L": "L", "GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "L"}


def prepare_image(
    image: Image, width: int, height: int, option: str = "scaleFit", color: str = "RGB"
) -> Image:
    """A picture of any size as one of `width` x `height` pixels.

    In this order: the EXIF orientation is applied, colours become `color` (`RGB` or `L`; a model's own
    words `BGR`, `GRAYSCALE` and `GRAYSCALE_FLOAT16` mean the nearer of the two), transparency is laid over
    black, and the picture is scaled as `option` says: `centerCrop`, `scaleFit` (black bars) or `scaleFill`
    (stretched).

    Raises UsageError for an unknown option or colour, InputError for a picture whose data is broken.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    if option not in IMAGE_OPTIONS:
        raise UsageError(f"unknown image option {option!r}; expected one of {', '.join(IMAGE_OPTIONS)}")
    if width < 1 or height < 1:
        raise UsageError(f"a picture of {width} x {height} pixels; expected at least 1 x 1")
    try:
        picture = convert_colour(ImageOps.exif_transpose(image), color)
    except CoremlopsError:
        raise
    except Exception as error:  # Pillow lets anything out: odd EXIF data alone raises struct.error
        raise InputError(f"the picture cannot be decoded: {error}") from error
    if picture.size == (width, height):
        return picture
    if option == "scaleFill":
        return picture.resize((width, height), Pillow.Resampling.BILINEAR)
    if option == "centerCrop":
        return picture.resize(
            (width, height), Pillow.Resampling.BILINEAR, box=_crop(picture.size, width, height)
        )
    scale = min(width / picture.width, height / picture.height)
    size = (
        min(width, max(1, round(picture.width * scale))),
        min(height, max(1, round(picture.height * scale))),
    )
    canvas = Pillow.new(picture.mode, (width, height))
    fitted = picture.resize(size, Pillow.Resampling.BILINEAR)
    canvas.paste(fitted, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _crop(size: tuple[int, int], width: int, height: int) -> tuple[float, float, float, float]:
    """The largest centred part of a picture that has the proportions of `width` x `height`."""
    scale = max(width / size[0], height / size[1])
    wide, high = min(size[0], width / scale), min(size[1], height / scale)
    left, top = (size[0] - wide) / 2, (size[1] - high) / 2
    return left, top, left + wide, top + high


def convert_colour(image: Image, color: str) -> Image:
    """A picture in `RGB` or `L`; transparency is laid over black, 16 bits become 8. Raises UsageError."""
    from PIL import Image as Pillow

    mode = _MODES.get(color)
    if mode is None:
        raise UsageError(f"unknown colour {color!r}; expected one of {', '.join(_MODES)}")
    image.load()  # an opened file is decoded when it is first needed: let that be here
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit greys to 255 instead of scaling them.
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", clear.size, (0, 0, 0, 255)), clear)
    return image.convert(mode)


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read and decode a picture file. Raises InputError for one that is missing, too large or no picture."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    place = Path(path)
    try:
        with place.open("rb") as file:  # a device such as /dev/zero has no size to ask for
            data = file.read(MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise InputError(f"{place}: more bytes than the {MAX_IMAGE_BYTES} that a picture may have")
        image = Pillow.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise InputError(
                f"{place}: {image.width} x {image.height} pixels; a picture may have {MAX_PIXELS}"
            )
        image.load()
    except FileNotFoundError:
        raise InputError(f"no picture at {place}") from None
    except UnidentifiedImageError as error:
        raise InputError(
            f"{place} cannot be read as a picture: of no kind that is known here",
            hint="JPEG, PNG, WebP, TIFF, BMP, GIF and PPM are read",
        ) from error
    except CoremlopsError:
        raise
    except Exception as error:  # OSError, SyntaxError, struct.error, DecompressionBombError, ...
        raise InputError(
            f"{place} cannot be read as a picture: {error}",
            hint="is the file complete?",
        ) from error
    return image


def image_from_array(array: Any, *, name: str) -> Image:
    """A uint8 array [H, W, 3], [H, W, 1] or [H, W] as a picture; `name` is the input's. Raises InputError."""
    from PIL import Image as Pillow

    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if (
        array.dtype != "uint8"
        or not (flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] == 3))
        or not flat.size
    ):
        raise InputError(
            f"input {name!r}: an array of {array.dtype}, shape {list(array.shape)}; expected uint8 pixels "
            f"[height, width, 3] or [height, width]",
            hint="give 0-255 pixels, or a PIL image",
        )
    return Pillow.fromarray(flat)
