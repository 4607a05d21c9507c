"""Execute a model on its golden set: what a device does before it activates the model."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.digest import sha256_bytes
from coremlops.errors import GoldenError
from coremlops.golden.answers import Classifier, Session, open_classifier
from coremlops.golden.document import MAX_PICTURE_BYTES, GoldenInput, GoldenSet, read_golden

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """A check that passed. `max_abs`: largest difference of a probability over all `examples`."""

    model: str
    examples: int
    max_abs: float
    tolerance: float


def check(model: Path, golden: Path) -> GoldenResult:
    """Execute `model` on the golden set in the folder `golden`, and compare.

    A label must be the promised one, unless the promise itself holds two labels that are closer than the
    tolerance allows; each promised probability must be met within the tolerance.
    Raises GoldenError that names the input, what was expected and what was got; also for a set that is
    malformed, altered, or belongs to another model. ModelError for a model that cannot run.
    """
    promised = read_golden(golden)
    about = open_classifier(model)
    if promised.model != about.digest:
        raise GoldenError(
            f"a golden set of model {about.digest[:12]} expected, got one of {promised.model[:12]}",
            hint="golden set and model must come from one publication",
        )
    _check_input(promised, about)
    session = about.session("typed")
    worst = max(
        _difference(item, _read(golden, item, promised), session, promised.tolerance)
        for item in promised.examples
    )
    return GoldenResult(promised.model, len(promised.examples), worst, promised.tolerance)


def _check_input(promised: GoldenSet, about: Classifier) -> None:
    expected = (about.input.name, about.input.width, about.input.height, about.color)
    got = (promised.input_name, promised.width, promised.height, promised.color)
    if expected != got:
        raise GoldenError(f"pictures for the input {expected} expected, got {got}")


def _difference(item: GoldenInput, picture: Image.Image, session: Session, tolerance: float) -> float:
    label, shares = session.answer(picture)
    ranked = sorted(item.probabilities.values(), reverse=True)
    decided = len(ranked) == 1 or ranked[0] - ranked[1] > 2 * tolerance
    if label != item.label and decided:
        raise GoldenError(f"{item.file}: expected {item.label!r}, got {label!r}")
    worst = 0.0
    for name, expected in item.probabilities.items():
        if name not in shares:
            raise GoldenError(f"{item.file}: a probability of {name!r} expected, the model has no such label")
        error = abs(shares[name] - expected)
        if not error <= tolerance:  # also true for NaN
            raise GoldenError(
                f"{item.file}: probability of {name!r} within {tolerance:.4g} of {expected:.4g} expected, "
                f"got {shares[name]:.4g}"
            )
        worst = max(worst, error)
    return worst


def _read(folder: Path, item: GoldenInput, promised: GoldenSet) -> Image.Image:
    """A picture of the set: its bytes as promised, a PNG, of the exact size."""
    from PIL import Image

    path = folder / item.file
    try:
        if path.is_symlink() or not path.is_file():
            raise GoldenError(f"{item.file}: a file expected, got none")
        with path.open("rb") as file:
            data = file.read(MAX_PICTURE_BYTES + 1)
        if len(data) > MAX_PICTURE_BYTES:
            raise GoldenError(f"{item.file}: at most {MAX_PICTURE_BYTES} bytes expected, got more")
        got = sha256_bytes(data)
        if got != item.sha256:
            raise GoldenError(f"{item.file}: SHA-256 {item.sha256[:12]} expected, got {got[:12]}")
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != (promised.width, promised.height) or image.mode != promised.color:
                raise GoldenError(
                    f"{item.file}: {promised.width} x {promised.height} {promised.color} expected, "
                    f"got {image.width} x {image.height} {image.mode}"
                )
            image.load()
            return image.copy()
    except GoldenError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise GoldenError(f"{item.file} cannot be read: {str(error)[:200] or type(error).__name__}") from None
