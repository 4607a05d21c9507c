"""A classifier of one image, executed: what a golden set is made from and checked with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import InputError
from coremlops.model import ImageFeature, ModelAsset
from coremlops.source import parse_image_input

if TYPE_CHECKING:
    from PIL import Image

_COLOURS = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L"}


@dataclass(frozen=True, slots=True)
class Classifier:
    """A model's image input and the names of its outputs. `color` is "RGB" or "L"."""

    path: Path
    digest: str
    input: ImageFeature
    color: str
    image_option: str
    label: str
    probabilities: str

    def session(self, precision: str) -> Session:
        """The model, loaded to run here in a numeric mode of the runtime."""
        from coremlops.runtime import load

        return Session(self, load(self.path, precision=precision))


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded classifier."""

    about: Classifier
    model: Any

    def answer(self, picture: Image.Image) -> tuple[str, dict[str, float]]:
        """A picture of the exact size -> (label, probability by label)."""
        outputs = self.model.predict({self.about.input.name: picture})
        shares = outputs[self.about.probabilities]
        return str(outputs[self.about.label]), {str(label): float(share) for label, share in shares.items()}


def open_classifier(path: Path) -> Classifier:
    """Read what a model says about itself. Raises InputError when it is no classifier of one image."""
    asset = ModelAsset.open(path)
    about = asset.description
    image = about.inputs[0] if len(about.inputs) == 1 else None
    if (
        not isinstance(image, ImageFeature)
        or image.colour not in _COLOURS
        or not about.labels
        or not about.predicted_label
        or not about.predicted_probabilities
    ):
        raise InputError(
            f"{path}: a golden set needs a classifier of one 8-bit image",
            hint="coremlops describe shows its inputs and outputs",
        )
    return Classifier(
        path=path,
        digest=asset.digest,
        input=image,
        color=_COLOURS[image.colour],
        image_option=_image_option(about.user_defined.get("com.coremlops.preparation"), path),
        label=about.predicted_label,
        probabilities=about.predicted_probabilities,
    )


def _image_option(preparation: str | None, path: Path) -> str:
    """How the model says that pictures are prepared; `scaleFit` when it says nothing."""
    if preparation is None:
        return "scaleFit"
    try:
        value = json.loads(preparation)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: the metadata com.coremlops.preparation is no JSON") from None
    return parse_image_input(value, "com.coremlops.preparation").image_option
