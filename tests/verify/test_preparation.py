"""Preparations that differ on purpose, made with plain Pillow and NumPy: the cause must be named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coremlops.cli import main
from coremlops.errors import GateError, InputError, UsageError
from coremlops.model import model_digest
from coremlops.pipeline.components.proven import check_report
from coremlops.source import ImageInput
from coremlops.verify.causes import diagnose
from coremlops.verify.preparation import compare_preparation, render_parity
from tests.compress.fixtures import network
from tests.verify.fixtures import Trained, keeps

SIDE = 32
RECORD = ImageInput("image", SIDE, SIDE, "RGB", 1 / 128, (-1.0, -1.0, -1.0), "scaleFit")
Array = np.ndarray[Any, Any]


def _scene(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Smooth colours with edges, alike neither mirrored nor in another order."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize(size, Image.Resampling.NEAREST), np.int16).copy()
    pixels[: size[1] // 2, : size[0] // 2, 0] += 60
    pixels[:, :, 2] //= 2
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _fitted(picture: Image.Image, how: Image.Resampling = Image.Resampling.BILINEAR, fill: int = 0) -> Array:
    scale = min(SIDE / picture.width, SIDE / picture.height)
    size = round(picture.width * scale), round(picture.height * scale)
    canvas = Image.new("RGB", (SIDE, SIDE), (fill, fill, fill))
    canvas.paste(picture.resize(size, how), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(canvas, np.float64)


def _stretched(picture: Image.Image) -> Array:
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float64)


def _cropped(picture: Image.Image) -> Array:
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box), np.float64)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (_stretched, "scaleFill"),
        (_cropped, "centerCrop"),
        (lambda p: _fitted(p)[:, :, ::-1], "BGR"),
        (lambda p: _fitted(p)[:, ::-1], "mirrored"),
        (lambda p: np.rot90(_fitted(p)), "to the left"),
        (lambda p: _fitted(p, fill=255), "bars are white"),
        (lambda p: _fitted(p, Image.Resampling.NEAREST), "nearest"),
        (lambda p: _fitted(p.convert("L").convert("RGB")), "grey"),
    ],
)
def test_the_cause_is_named(training: Callable[[Image.Image], Array], said: str) -> None:
    pictures = [_scene(seed) for seed in range(4)]
    tried = [(picture, training(picture) / 128 - 1) for picture in pictures]
    causes, left = diagnose(tried, RECORD)
    assert [cause for cause in causes if said in cause], causes
    assert left < 0.3


def test_two_causes_at_once() -> None:
    pictures = [_scene(seed) for seed in range(4)]
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    tried = [(p, (_stretched(p)[:, :, ::-1] / 255 - mean) / deviation) for p in pictures]
    causes, left = diagnose(tried, RECORD)
    assert any("BGR" in cause for cause in causes)
    assert any("scaleFill" in cause for cause in causes)
    assert any("pixels * " in cause for cause in causes)
    assert left < 0.05


def test_scale_and_bias_are_told_as_numbers() -> None:
    tried = [(picture, _fitted(picture) / 255) for picture in map(_scene, range(3))]
    [cause], _ = diagnose(tried, RECORD)
    assert cause.startswith("scale and bias: training takes pixels * 0.0039216 + [")


def test_an_orientation_that_training_ignores() -> None:
    pictures = []
    for seed in range(3):
        picture = _scene(seed)
        picture.getexif()[0x0112] = 3  # stands on its head
        pictures.append(picture)
    causes, _ = diagnose([(picture, _fitted(picture) / 128 - 1) for picture in pictures], RECORD)
    assert any("EXIF" in cause or "on their head" in cause for cause in causes)


def test_the_same_has_no_cause() -> None:
    assert diagnose([(p, _fitted(p) / 128 - 1) for p in map(_scene, range(3))], RECORD)[0] == ()


def doubled(inputs: Any) -> Array:
    return np.asarray(inputs["x"]) * 2 + 1


def short(inputs: Any) -> Array:
    return np.zeros(3)


def fails(inputs: Any) -> Array:
    raise OSError("no disk")


def test_arrays_have_no_record_and_it_is_said(tmp_path: Path) -> None:
    model = network(tmp_path / "net.mlpackage")
    data = tmp_path / "d.npz"
    np.savez(data, x=np.random.default_rng(0).normal(0, 1, (4, 1, 48)).astype(np.float32))
    found = compare_preparation(model, "tests.verify.test_preparation:doubled", data)
    assert any("records no preparation" in note for note in found.notes)
    assert found.causes == ("scale and bias: training's array is the app's * 2 + 1",)
    assert not found.ok
    keeps(found.to_json(), "preparation")
    (tmp_path / "report.json").write_text(json.dumps(found.to_json() | {"ok": True}))
    with pytest.raises((GateError, InputError), match="no proof"):
        check_report(tmp_path / "report.json", model_digest(model), done="registered")
    with pytest.raises(InputError, match="as the input x"):
        compare_preparation(model, "tests.verify.test_preparation:short", data)
    with pytest.raises(UsageError, match="raised OSError"):
        compare_preparation(model, "tests.verify.test_preparation:fails", data)


def faithful(picture: Image.Image) -> Array:
    from coremlops import prepare_image

    pixels = np.asarray(prepare_image(picture, SIDE, SIDE), np.float32) / 255
    return pixels.transpose(2, 0, 1)[None]


def stretched_file(path: Path) -> Array:
    return (_stretched(Image.open(path).convert("RGB")) / 255).astype(np.float32)[:, :, ::-1]


@pytest.mark.slow
def test_a_model_and_its_pictures(tiny: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["verify", str(tiny.float16), "--data", str(tiny.data), "--preparation"]
    assert main([*command, "tests.verify.test_preparation:faithful", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    keeps(found, "preparation")
    assert (found["kind"], found["mean_abs"] < 1e-4, found["causes"]) == ("preparation", True, [])
    page = tmp_path / "p.html"
    assert main([*command, "tests.verify.test_preparation:stretched_file", "--html", str(page)]) == 3
    printed = capsys.readouterr()
    assert "likely: channel order" in printed.out
    assert "channel order" in page.read_text()
    found = compare_preparation(tiny.float16, "tests.verify.test_preparation:stretched_file", tiny.data)
    assert render_parity(found).count("<img") == 3 * len(found.shown)
