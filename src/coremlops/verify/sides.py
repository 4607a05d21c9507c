"""The two sides of a proof: how each says that it is fed, and what each answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.errors import DataError, InputError
from coremlops.model import ImageFeature, ModelAsset, ModelDescription
from coremlops.source import (
    Card,
    ImageInput,
    Labelled,
    Source,
    open_picture,
    open_source,
    parse_image_input,
    parse_labels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from coremlops.source.program import Program

PREPARATION = "com.coremlops.preparation"
_COLOURS = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L"}


@dataclass(frozen=True, slots=True)
class ModelSide:
    """A Core ML classifier of one image. `labels` is in the order of its probabilities; `probabilities` names
    the output; `preparation` is what its metadata says, None when it says nothing."""

    path: Path
    asset: ModelAsset
    description: ModelDescription
    image: ImageFeature
    labels: tuple[str, ...]
    probabilities: str
    preparation: ImageInput | None

    @property
    def image_option(self) -> str:
        return self.preparation.image_option if self.preparation else "scaleFit"


@dataclass(frozen=True, slots=True)
class SourceSide:
    """A trained model with the card that feeds it. `notes` says when the card was not its own."""

    source: Source
    card: Card
    notes: tuple[str, ...]


def model_side(path: Path) -> ModelSide:
    """Open a Core ML model. Raises InputError when it is no classifier of one image, and ModelError."""
    if path.is_dir() and path.suffix != ".mlpackage" and (path / "model.mlpackage").is_dir():
        path = path / "model.mlpackage"
    asset = ModelAsset.open(path)
    about = asset.description
    images = [feature for feature in about.inputs if isinstance(feature, ImageFeature)]
    if len(images) != 1 or len(about.inputs) != 1 or images[0].colour not in _COLOURS:
        got = ", ".join(f"{item.name} ({type(item).__name__})" for item in about.inputs) or "none"
        raise InputError(f"{path}: one 8-bit image input expected, got {got}")
    if not (about.labels and about.predicted_label and about.predicted_probabilities):
        raise InputError(
            f"{path}: a classifier with labels and probabilities expected",
            hint="coremlops convert makes one",
        )
    text = about.user_defined.get(PREPARATION)
    try:
        said = None if text is None else parse_image_input(json.loads(text), PREPARATION)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: the metadata {PREPARATION} is no JSON") from None
    return ModelSide(
        path=path,
        asset=asset,
        description=about,
        image=images[0],
        labels=tuple(str(label) for label in about.labels),
        probabilities=about.predicted_probabilities,
        preparation=said,
    )


def source_side(path: Path, model: ModelSide) -> SourceSide:
    """Open the source. Without a `model.json` it is fed as the Core ML model's metadata says, with a note.

    Raises InputError when nothing says how to feed it, or its labels are not the model's.
    """
    source = open_source(path)
    notes: list[str] = []
    card = source.card
    if card is None:
        if model.preparation is None:
            raise InputError(
                f"{source.path}: neither a model.json beside it nor the Core ML model says how to feed it",
                hint="write model.json beside the source",
            )
        card = Card(model.preparation, parse_labels(list(model.labels), str(model.path)))
        notes.append(
            "The source has no model.json: scale, bias and labels were taken from the Core ML model itself, "
            "so an error in them that both share would not show."
        )
    if set(card.labels) != set(model.labels):
        differ = sorted(set(card.labels) ^ set(model.labels))[:6]
        raise InputError(
            f"{model.path} has {len(model.labels)} labels and the source {len(card.labels)}; "
            f"not in both: {', '.join(differ)}",
            hint="verify against the source that this model was converted from",
        )
    if len(card.labels) != len(model.labels):
        raise InputError(f"{model.path}: each label once expected, got one twice")
    if card.labels != model.labels:
        moved = [a for a, b in zip(card.labels, model.labels, strict=True) if a != b]
        notes.append(
            f"Labels stand in another order than in the source ({len(moved)} moved: {', '.join(moved[:6])}); "
            "answers are compared by name."
        )
    return SourceSide(source, card, tuple(notes))


@dataclass(frozen=True, slots=True)
class Preparation:
    """How one side's pictures are prepared. `color` is "RGB" or "L"; sizes in pixels."""

    width: int
    height: int
    option: str
    color: str

    @classmethod
    def of_model(cls, model: ModelSide) -> Preparation:
        image = model.image
        return cls(image.width, image.height, model.image_option, _COLOURS[image.colour])

    @classmethod
    def of_source(cls, card: Card) -> Preparation:
        image = card.input
        return cls(image.width, image.height, image.image_option, image.color)

    def __call__(self, picture: Image.Image) -> Image.Image:
        import coremlops

        return coremlops.prepare_image(picture, self.width, self.height, self.option, self.color)

    def __str__(self) -> str:
        return f"{self.option} to {self.width} x {self.height} {self.color}"


@dataclass(frozen=True, slots=True)
class Answers:
    """Probabilities of both, each [pictures, labels], columns in the source's order of labels; `named` is the
    label that the model itself gave each picture."""

    source: NDArray[np.float64]
    model: NDArray[np.float64]
    named: tuple[str, ...]


def ask(
    model: ModelSide,
    loaded: Any,
    source: SourceSide,
    program: Program,
    pictures: Labelled,
    progress: Callable[[int, int], None] | None,
) -> Answers:
    """Put every picture to both. `loaded` and `program` are the two sides, ready to run.

    Raises DataError for a picture that cannot be read, InputError for a source whose answers have another
    shape or are not finite. What the model answers may be anything.
    """
    unknown = sorted(set(pictures.labels) - set(model.labels))
    if unknown:
        known = ", ".join(model.labels[:8]) + (", ..." if len(model.labels) > 8 else "")
        raise DataError(
            f"{pictures.folder}: labels that the model does not know: {', '.join(unknown[:8])}",
            hint=f"it knows {known}; --data is the folder whose subfolders are labels",
        )
    labels = source.card.labels
    for_model, for_source = Preparation.of_model(model), Preparation.of_source(source.card)
    shape = (len(pictures.names), len(labels))
    expected, got = np.zeros(shape), np.zeros(shape)
    named: list[str] = []
    for i, name in enumerate(pictures.names):
        picture = open_picture(pictures.folder / name)
        answer = loaded.predict({model.image.name: for_model(picture)})
        said = {str(label): share for label, share in answer[model.probabilities].items()}
        got[i] = [said[label] for label in labels]
        named.append(str(answer[model.description.predicted_label]))
        row = program(tensor(for_source(picture), source.card.input))
        if row.shape != (1, len(labels)):
            raise InputError(
                f"the source: one probability a label expected, [1, {len(labels)}], got {list(row.shape)}"
            )
        if not np.isfinite(row).all():
            raise InputError(f"the source answers {name} with values that are not finite")
        expected[i] = row[0]
        if progress is not None:
            progress(i + 1, len(pictures.names))
    return Answers(expected, got, tuple(named))


def tensor(picture: Image.Image, image: ImageInput) -> NDArray[np.float32]:
    """A prepared picture as the source takes it: float32 [1, channels, height, width]."""
    pixels = np.asarray(picture, np.float32).reshape(image.height, image.width, image.channels)
    values = pixels * np.float32(image.scale) + np.asarray(image.bias, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def metadata(model: ModelSide) -> tuple[tuple[str, str], ...]:
    """The `com.coremlops.*` keys, without the prefix."""
    prefix = "com.coremlops."
    return tuple(
        (key.removeprefix(prefix), value)
        for key, value in model.description.user_defined.items()
        if key.startswith(prefix)
    )
