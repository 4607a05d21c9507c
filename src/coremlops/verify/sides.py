"""The two sides of a proof: how each is fed, and what each answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import coremlops
from coremlops.errors import InputError, UsageError
from coremlops.model import ImageFeature, ModelAsset, ModelDescription
from coremlops.source import (
    Card,
    ImageInput,
    Reference,
    Sample,
    feed,
    kept,
    open_reference,
    parse_labels,
    preparation,
)

if TYPE_CHECKING:
    from PIL import Image

CORE_ML = (".mlpackage", ".mlmodel")
# What answers rest on. A source in its own framework is what the others are held against.
EMULATED, MAC, DEVICE, SOURCE = "emulated", "mac", "device", "source"


class Side(Protocol):
    """What answers. `rests_on`: "emulated", "mac", "device", or "source"."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def rests_on(self) -> str: ...

    def ask(self, sample: Sample) -> dict[str, Any]:
        """Outputs by name. Raises InputError for a sample that it does not take."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSide:
    """A Core ML model, loaded. States are fresh for each question. `record`: what its metadata says about
    its picture, None when it says nothing."""

    path: Path
    asset: ModelAsset
    loaded: Any  # None where it is only described
    description: ModelDescription
    record: ImageInput | None
    rests_on: str

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def digest(self) -> str:
        return self.asset.digest

    @property
    def image(self) -> ImageFeature | None:
        """Its picture, where it takes exactly one."""
        images = [item for item in self.description.inputs if isinstance(item, ImageFeature)]
        return images[0] if len(images) == 1 else None

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of its probabilities; empty for what is no classifier with probabilities."""
        about = self.description
        if not (about.labels and about.predicted_label and about.predicted_probabilities):
            return ()
        return tuple(str(label) for label in about.labels)

    def fed(self, sample: Sample) -> dict[str, Any]:
        """What `predict` is called with."""
        return feed(sample, self.description)

    def ask(self, sample: Sample) -> dict[str, Any]:
        state = self.loaded.make_state() if self.description.states else None
        try:
            found: dict[str, Any] = self.loaded.predict(self.fed(sample), state=state)
        except InputError as error:
            raise InputError(f"{sample.name}: {error.message}", hint=error.hint) from error
        return found


@dataclass(frozen=True, slots=True)
class ReferenceSide:
    """A source in its own framework. `labels`: what its probabilities mean, in their order.

    What it remembers is fresh for each question: its buffers as they were when it was opened.
    """

    reference: Reference
    labels: tuple[str, ...]
    rests_on: str = SOURCE

    @property
    def name(self) -> str:
        return self.reference.name

    @property
    def digest(self) -> str:
        return self.reference.digest

    def fed(self, sample: Sample) -> dict[str, Any]:
        """What the reference is called with."""
        return feed(sample, self.reference)

    def ask(self, sample: Sample) -> dict[str, Any]:
        with kept(self.reference):
            return self.reference(self.fed(sample))


def open_model(
    path: Path, *, precision: str = "typed", engine: str = "auto", function: str | None = None
) -> ModelSide:
    """Open a Core ML model: a file, or a folder that holds `model.mlpackage`.

    Raises ModelError and UsageError.
    """
    if path.is_dir() and path.suffix != ".mlpackage" and (path / "model.mlpackage").is_dir():
        path = path / "model.mlpackage"
    asset = ModelAsset.open(path)
    loaded = coremlops.load(path, precision=precision, engine=engine, function_name=function)
    try:
        record = preparation(loaded.description)
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from None
    rests_on = MAC if engine == "coreml" else EMULATED
    return ModelSide(path, asset, loaded, loaded.description, record, rests_on)


def open_against(
    against: str | Path | Reference,
    model: ModelSide,
    *,
    precision: str,
    engine: str = "auto",
    function: str | None = None,
    weights: Path | None = None,
) -> tuple[ModelSide | ReferenceSide, list[str]]:
    """The other side, and what a reader must know about it.

    A classifier's source without a `model.json` is fed, and its outputs are named, as the Core ML model says,
    with a note. Raises InputError when nothing says how to feed it, or its labels are not the model's.
    """
    if not isinstance(against, Reference) and _is_core_ml(Path(against)):
        other = open_model(Path(against), precision=precision, engine=engine, function=function)
        return other, _same_labels(model, other.labels, other.name)
    if engine != "auto":
        raise UsageError(f"the engine {engine!r} is for a Core ML file; {against} is none")
    reference = against if isinstance(against, Reference) else open_reference(against, weights=weights)
    side, notes = as_the_model_says(reference, model)
    return side, [*notes, *_same_labels(model, side.labels, "the source")]


def described(asset: ModelAsset, description: ModelDescription) -> ModelSide:
    """A model that is not executed. Raises InputError."""
    return ModelSide(asset.path, asset, None, description, preparation(description), EMULATED)


def as_the_model_says(reference: Reference, model: ModelSide) -> tuple[ReferenceSide, list[str]]:
    """The source's side, which takes pictures as its `model.json` says; without one, as the model does.

    Raises InputError where neither says it.
    """
    card, notes = reference.card, [*reference.notes]
    if reference.kind == "coreml":
        return ReferenceSide(reference, ()), notes
    if card is None and model.image is not None:
        if model.record is None:
            raise InputError(
                f"{reference.name}: neither a model.json beside it nor the Core ML model says how to feed it",
                hint="write model.json beside the source",
            )
        labels = parse_labels(list(model.labels), str(model.path)) if model.labels else ()
        reference = replace(reference, card=Card(model.record, labels))
        notes.append(
            "The source has no model.json: scale, bias and labels were taken from the Core ML model itself, "
            "so an error in them that both share would not show."
        )
    return ReferenceSide(reference, card.labels if card is not None else model.labels), notes


def _is_core_ml(path: Path) -> bool:
    return path.suffix in CORE_ML or (path / "model.mlpackage").is_dir()


def _same_labels(model: ModelSide, labels: tuple[str, ...], other: str) -> list[str]:
    """A note where they stand in another order. Raises InputError where they differ."""
    if not model.labels and not labels:
        return []
    if set(labels) != set(model.labels):
        differ = sorted(set(labels) ^ set(model.labels))[:6]
        raise InputError(
            f"{model.path} has {len(model.labels)} labels and {other} {len(labels)}; "
            f"not in both: {', '.join(differ)}",
            hint="verify against the source that this model was converted from",
        )
    if len(labels) != len(model.labels):
        raise InputError(f"{model.path}: each label once expected, got one twice")
    moved = [a for a, b in zip(labels, model.labels, strict=True) if a != b]
    if not moved:
        return []
    return [
        f"Labels stand in another order than in the source ({len(moved)} moved: {', '.join(moved[:6])}); "
        "answers are compared by name."
    ]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How one side's pictures are prepared. `color` is "RGB" or "L"; sizes in pixels."""

    width: int
    height: int
    option: str
    color: str

    @classmethod
    def of_model(cls, model: ModelSide) -> Preparation | None:
        image = model.image
        if image is None:
            return None
        option = model.record.image_option if model.record else "scaleFit"
        return cls(image.width, image.height, option, "L" if image.colour.startswith("GRAY") else "RGB")

    @classmethod
    def of_source(cls, image: ImageInput) -> Preparation:
        return cls(image.width, image.height, image.image_option, image.color)

    def __call__(self, picture: Image.Image) -> Image.Image:
        return coremlops.prepare_image(picture, self.width, self.height, self.option, self.color)

    def __str__(self) -> str:
        return f"{self.option} to {self.width} x {self.height} {self.color}"


def prepared(sample: Sample, model: ModelSide, other: Side) -> Sample:
    """The sample with pixels as a picture, prepared here where both sides would prepare it alike."""
    image = model.image
    if image is None:
        return sample
    name = image.name if image.name in sample.inputs else next(iter(sample.inputs), "")
    picture = sample.inputs.get(name)
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
        from PIL import Image as Pillow

        picture = Pillow.fromarray(picture)
    ours = Preparation.of_model(model)
    card = other.reference.card if isinstance(other, ReferenceSide) else None
    theirs = Preparation.of_source(card.input) if card else None
    if isinstance(other, ModelSide):
        theirs = Preparation.of_model(other)
    if ours is not None and ours == theirs and not isinstance(picture, np.ndarray) and picture is not None:
        picture = ours(picture)
    return replace(sample, inputs={**sample.inputs, name: picture}) if name else sample


def metadata(description: ModelDescription) -> tuple[tuple[str, str], ...]:
    """The `com.coremlops.*` keys, without the prefix."""
    prefix = "com.coremlops."
    items: Mapping[str, str] = description.user_defined
    return tuple((key.removeprefix(prefix), value) for key, value in items.items() if key.startswith(prefix))
