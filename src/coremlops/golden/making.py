"""Make a golden set from pictures that the user named as publishable."""

from __future__ import annotations

import io
import json
import shutil
import uuid
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from coremlops.digest import sha256_bytes
from coremlops.errors import DataError
from coremlops.golden.answers import Classifier, open_classifier
from coremlops.golden.document import (
    FILE,
    MAX_EXAMPLES,
    MAX_PROBABILITIES,
    MAX_TOLERANCE,
    GoldenInput,
    GoldenSet,
)
from coremlops.source import SUFFIXES, open_picture

if TYPE_CHECKING:
    from PIL import Image

# A device may differ from the emulation by more than the emulation's own rounding: the Neural Engine adds in
# another order and flushes small values. Eight times the spread between fp16-typed and fp32 execution, and
# never less than two points of probability, passes good silicon; a zeroed input or a swapped label moves
# probabilities by far more. To be calibrated from the first staging devices (docs/unverified.md).
SPREAD_MARGIN = 8.0
TOLERANCE_FLOOR = 0.02
# Of a model with more labels, the golden set holds the most probable ones.
TOP_LABELS = 10


def make(model: Path, inputs: Path, out: Path) -> GoldenSet:
    """Write a golden set to the folder `out`: `golden.json` and one PNG an input.

    `inputs`: pictures, or subfolders with pictures; every one is published to everyone who gets the model.
    What is written are prepared pixels of the model's input size under new names: no EXIF, place or file name
    leaves.
    An older golden set at `out` is replaced; the set appears whole or not at all.

    Raises DataError for a folder without a picture, with too many, or an unreadable picture; InputError
    for a model that is no classifier of one image.
    """
    about = open_classifier(model)
    typed, exact = about.session("typed"), about.session("float32")
    if out.is_symlink() or (out.exists() and not _is_ours(out)):
        raise DataError(f"{out} exists and is no golden set; it is left alone")
    partial = out.with_name(f".{out.name}-{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        examples, spread = [], 0.0
        for number, path in enumerate(pictures(inputs), start=1):
            picture = _prepared(about, path)
            data = _png(picture)
            label, shares = typed.answer(picture)
            _, others = exact.answer(picture)
            spread = max(spread, *(abs(shares[name] - others[name]) for name in shares))
            name = f"{number:04}.png"
            (partial / name).write_bytes(data)
            examples.append(GoldenInput(name, sha256_bytes(data), label, _largest(shares)))
        made = GoldenSet(
            model=about.digest,
            tolerance=min(max(TOLERANCE_FLOOR, SPREAD_MARGIN * spread), MAX_TOLERANCE),
            input_name=about.input.name,
            width=about.input.width,
            height=about.input.height,
            color=about.color,
            examples=tuple(examples),
        )
        text = json.dumps(made.to_json(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (partial / FILE).write_text(text + "\n", "utf-8")
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return made


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder and of its subfolders, sorted. Raises `DataError` for none or too many."""
    if not folder.is_dir():
        raise DataError(f"{folder}: a folder of pictures expected, got no folder")
    found = [
        path
        for pattern in ("*", "*/*")
        for path in folder.glob(pattern)
        if path.suffix.lower() in SUFFIXES and path.is_file() and path.name[0] != "."
    ]
    root = folder.resolve()
    for path in found:
        if not path.resolve().is_relative_to(root):
            raise DataError(f"{path} is a link that leads out of {folder}, and would be published")
    if not found:
        raise DataError(
            f"{folder}: at least one picture expected, got none",
            hint="put one or more pictures there that everyone who gets the model may see",
        )
    if len(found) > MAX_EXAMPLES:
        raise DataError(
            f"{folder}: at most {MAX_EXAMPLES} pictures expected, got {len(found)}",
            hint="a golden set travels to every device; a few pictures are enough",
        )
    return sorted(found)


def _prepared(about: Classifier, path: Path) -> Image.Image:
    """Pixels alone: a new picture that carries nothing else of the file."""
    import numpy as np
    from PIL import Image

    from coremlops.runtime import prepare_image

    picture = prepare_image(
        open_picture(path), about.input.width, about.input.height, about.image_option, about.color
    )
    return Image.fromarray(np.asarray(picture))


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _largest(shares: dict[str, float]) -> MappingProxyType[str, float]:
    if len(shares) > MAX_PROBABILITIES:
        kept = sorted(shares, key=shares.__getitem__, reverse=True)[:TOP_LABELS]
        shares = {label: shares[label] for label in kept}
    return MappingProxyType(shares)


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and (not any(folder.iterdir()) or (folder / FILE).is_file())
