"""Pictures: the three ways of scaling, orientation, colours, and files that are none."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coremlops import prepare_image
from coremlops.errors import InputError, UsageError
from coremlops.runtime import read_image
from coremlops.runtime.images import image_from_array

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def stripes(width: int, height: int) -> Image.Image:
    """Red left third, green middle, blue right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 3], pixels[:, width // 3 : 2 * width // 3], pixels[:, 2 * width // 3 :] = (
        RED,
        GREEN,
        BLUE,
    )
    return Image.fromarray(pixels)


def test_scale_fit_shows_the_whole_picture_between_black_bars() -> None:
    found = np.asarray(prepare_image(stripes(90, 30), 60, 60, "scaleFit"))
    assert found.shape == (60, 60, 3)
    assert (found[:20] == 0).all()
    assert (found[40:] == 0).all()
    assert [tuple(found[30, column]) for column in (3, 30, 57)] == [RED, GREEN, BLUE]


def test_center_crop_fills_the_frame_from_the_middle() -> None:
    found = np.asarray(prepare_image(stripes(90, 30), 60, 60, "centerCrop"))
    assert (found[:, 2:-2] == GREEN).all()


def test_scale_fill_stretches() -> None:
    found = np.asarray(prepare_image(stripes(90, 30), 60, 60, "scaleFill"))
    for row in (0, 59):
        assert [tuple(found[row, column]) for column in (3, 30, 57)] == [RED, GREEN, BLUE]


@pytest.mark.parametrize("option", ["centerCrop", "scaleFit", "scaleFill"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (37, 41), (1000, 999)])
@pytest.mark.parametrize("frame", [(16, 16), (3, 224), (1, 1)])
def test_every_size_becomes_the_wanted_one(
    option: str, size: tuple[int, int], frame: tuple[int, int]
) -> None:
    assert prepare_image(Image.new("RGB", size, RED), *frame, option).size == frame


@pytest.mark.parametrize("option", ["centerCrop", "scaleFit", "scaleFill"])
def test_a_picture_of_the_right_size_is_not_touched(option: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(prepare_image(Image.fromarray(pixels), 16, 16, option)), pixels)


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0, 0)), (2, (-1, 0)), (3, (-1, -1)), (6, (-1, 0)), (8, (0, -1))]
)
def test_the_exif_orientation_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste(RED, (0, 0, 8, 8))  # stored top left; `corner` is (x, y) where it is shown
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    image.save(data, "PNG", exif=exif)
    found = np.asarray(prepare_image(Image.open(io.BytesIO(data.getvalue())), 32, 32))
    assert tuple(found[corner[1], corner[0]]) == RED


def test_colours() -> None:
    grey = prepare_image(Image.new("L", (8, 8), 100), 4, 4)
    assert (grey.mode, grey.getpixel((0, 0))) == ("RGB", (100, 100, 100))
    assert prepare_image(Image.new("RGB", (8, 8), RED), 4, 4, color="GRAYSCALE").mode == "L"
    assert prepare_image(Image.new("CMYK", (8, 8)), 4, 4, color="BGR").mode == "RGB"
    deep = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    assert prepare_image(deep, 4, 4, color="L").getpixel((0, 0)) == 255
    half = Image.fromarray(np.full((4, 4), 32896, np.uint16))
    assert prepare_image(half, 4, 4, color="L").getpixel((0, 0)) == 128


def test_transparency_is_laid_over_black() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert prepare_image(clear, 4, 4).getpixel((0, 0)) == (0, 0, 0)
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert prepare_image(half, 4, 4).getpixel((0, 0)) == (128, 0, 0)
    palette = Image.new("P", (4, 4), 0)
    palette.info["transparency"] = 0
    assert prepare_image(palette, 4, 4).getpixel((0, 0)) == (0, 0, 0)


def test_unknown_words() -> None:
    image = Image.new("RGB", (4, 4))
    with pytest.raises(UsageError, match="unknown image option 'fit'; expected one of centerCrop"):
        prepare_image(image, 4, 4, "fit")
    with pytest.raises(UsageError, match="unknown colour 'HSV'"):
        prepare_image(image, 4, 4, color="HSV")
    with pytest.raises(UsageError, match="0 x 4 pixels"):
        prepare_image(image, 0, 4)


def picture(folder: Path, kind: str) -> Path:
    path = folder / f"picture.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "ppm"])
def test_a_truncated_picture(tmp_path: Path, kind: str) -> None:
    path = picture(tmp_path, kind)
    assert read_image(path).size == (64, 64)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=rf"picture\.{kind} cannot be read as a picture"):
        read_image(path)


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"photo\.jpg cannot be read as a picture: ") as caught:
        read_image(path)
    assert "BytesIO" not in caught.value.message


def test_a_picture_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture at"):
        read_image(tmp_path / "photo.jpg")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_image(tmp_path)


def test_pictures_beyond_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path, "png")
    monkeypatch.setattr("coremlops.runtime.images.MAX_PIXELS", 100)
    with pytest.raises(InputError, match="64 x 64 pixels; a picture may have 100"):
        read_image(path)
    monkeypatch.setattr("coremlops.runtime.images.MAX_IMAGE_BYTES", 100)
    with pytest.raises(InputError, match="more bytes than the 100 that a picture may have"):
        read_image(path)
    with pytest.raises(InputError, match="more bytes than the 100"):
        read_image("/dev/zero")


def test_arrays() -> None:
    assert image_from_array(np.zeros((4, 6, 3), np.uint8), name="x").size == (6, 4)
    assert image_from_array(np.zeros((4, 6, 1), np.uint8), name="x").mode == "L"
    for array in (
        np.zeros((4, 6, 3)),
        np.zeros((3, 4, 6), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(InputError, match="input 'x': an array of"):
            image_from_array(array, name="x")


def test_a_kind_that_would_start_another_program_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(InputError, match="of no kind that is known here"):
        read_image(path)


def test_exif_data_that_makes_no_sense(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "x"
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "JPEG", exif=exif)
    # The maker's name becomes the picture's width: Pillow raises struct.error when it turns the picture.
    path = tmp_path / "photo.jpg"
    path.write_bytes(data.getvalue().replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02", 1))
    with pytest.raises(InputError, match="cannot be decoded"):
        prepare_image(read_image(path), 4, 4)
