"""Data to ask a model with: pictures, arrays, a function of the user's, or seeded random values.

>>> samples = open_samples("photos/test", model.description.inputs)  # doctest: +SKIP
>>> for sample in samples:  # doctest: +SKIP
...     model.predict(feed(sample, model.description))
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from coremlops.digest import members_digest, sha256_file
from coremlops.errors import DataError, InputError
from coremlops.model import ArrayFeature, ImageFeature, ModelDescription
from coremlops.source.card import ImageInput, parse_image_input
from coremlops.source.pictures import MAX_PICTURES, SUFFIXES, open_picture, read_labelled
from coremlops.source.reference import Reference, Tensor, called, user_object

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from coremlops.model import Feature

PREPARATION = "com.coremlops.preparation"
TRUTH = "truth"
Asked: TypeAlias = "Feature | Tensor"


@dataclass(frozen=True, slots=True)
class Sample:
    """One question. `inputs`: arrays, numbers or PIL pictures by input name; `truth`: the right answer."""

    name: str
    inputs: dict[str, Any]
    truth: Any = None


@dataclass(frozen=True)
class Samples:
    """Questions that can be asked again and again. `about` says in a few words what they are."""

    about: str
    count: int
    start: Callable[[], Iterator[Sample]] = field(repr=False)
    known_digest: str | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        return self.start()

    def head(self, count: int) -> Samples:
        """The first `count` of them."""
        if count >= self.count:
            return self
        return Samples(
            f"{self.about}, the first {count}", count, lambda: itertools.islice(self.start(), count)
        )

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents: of files, their bytes; of others, the values."""
        if self.known_digest is not None:
            return self.known_digest
        return members_digest({f"{i}/{sample.name}": _digest(sample) for i, sample in enumerate(self)})


def open_samples(
    data: str | Path | None,
    inputs: Sequence[Asked],
    *,
    count: int = 16,
    seed: int = 0,
    allow_nan: bool = False,
) -> Samples:
    """Open data for a model with these inputs.

    `data`: a folder <label>/<picture>, whose labels are the truths; a folder of pictures; an `.npz` with
    arrays [samples, *shape] by input name, and maybe `truth`; a folder of `.npz`, a sample each;
    `module:function`, which gives dicts or (dict, truth); or None: `count` samples of seeded values, floats
    from a normal distribution, whole numbers 0 or 1, pictures of noise. Pictures go to the input that takes
    them.
    Raises DataError for data that is missing, empty or, unless `allow_nan`, not a number.
    """
    if data is None:
        return Samples(f"{count} random samples, seed {seed}", count, lambda: _random(inputs, count, seed))
    path = Path(data)
    if isinstance(data, str) and ":" in data and not path.exists():
        made = _from_function(data)
    elif path.is_dir():
        made = _from_folder(path, inputs)
    elif path.suffix == ".npz":
        made = _from_npz(path)
    else:
        got = "a file of another kind" if path.exists() else "nothing there"
        raise DataError(
            f"{data}: a folder of pictures or .npz files, an .npz or module:function expected, got {got}"
        )
    if not made.count:
        raise DataError(f"{data}: at least one sample expected, got none")
    return made if allow_nan else Samples(made.about, made.count, _without_nan(made), made.known_digest)


def feed(sample: Sample, to: ModelDescription | Reference) -> dict[str, Any]:
    """The sample as a Core ML model's `predict`, or a reference, takes it.

    Values go by name, or by position when no name fits. A picture is prepared as the model's metadata or the
    reference's `model.json` says (without one: scaleFit, pixels 0 to 255); an array gets the declared dtype,
    and a leading axis of 1 where only that is missing. Raises InputError.
    """
    names = [item.name for item in to.inputs]
    given = sample.inputs
    if not set(names) & set(given):
        given = dict(zip(names, given.values(), strict=False))
    recorded = _recorded(to)
    fed = {}
    for item in to.inputs:
        if item.name not in given:
            if getattr(item, "optional", False):
                continue
            raise InputError(f"{sample.name}: the input {item.name} expected, got {', '.join(sample.inputs)}")
        fed[item.name] = _fit(given[item.name], item, recorded, sample.name)
    return fed


def tensor(picture: Image.Image, image: ImageInput) -> NDArray[np.float32]:
    """A prepared picture as the source takes it: float32 [1, channels, height, width]."""
    pixels = np.asarray(picture, np.float32).reshape(image.height, image.width, image.channels)
    values = pixels * np.float32(image.scale) + np.asarray(image.bias, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def preparation(description: ModelDescription) -> ImageInput | None:
    """What a model's metadata says about its picture; None when it says nothing. Raises InputError."""
    text = description.user_defined.get(PREPARATION)
    try:
        return None if text is None else parse_image_input(json.loads(text), PREPARATION)
    except (ValueError, RecursionError):
        raise InputError(f"the metadata {PREPARATION} is no JSON") from None


def _recorded(to: ModelDescription | Reference) -> ImageInput | None:
    if isinstance(to, Reference):
        return to.card.input if to.card is not None else None
    return preparation(to)


def _fit(value: Any, item: Asked, recorded: ImageInput | None, name: str) -> Any:
    from PIL import Image

    from coremlops.runtime import prepare_image

    if isinstance(value, Image.Image):
        option = recorded.image_option if recorded else "scaleFit"
        if isinstance(item, ImageFeature):
            color = "L" if item.colour.startswith("GRAY") else "RGB"
            return prepare_image(value, item.width, item.height, option, color)
        image = recorded or _plain(item, name)
        return tensor(prepare_image(value, image.width, image.height, option, image.color), image)
    if isinstance(item, ArrayFeature | Tensor) and item.dtype not in ("str", "string"):
        array = np.asarray(value)
        if item.shape and array.ndim == len(item.shape) - 1 and item.shape[0] in (1, None):
            array = array[None]
        return array.astype(item.dtype, copy=False)
    return value


def _plain(item: Asked, name: str) -> ImageInput:
    """How a picture becomes an array that nothing is said about: pixels as they are."""
    shape = item.shape
    sizes = [size for size in shape or () if size is not None]
    if shape is None or len(sizes) != 4 or sizes[0] != 1 or sizes[1] not in (1, 3):
        raise InputError(
            f"{name}: the input {item.name} takes no picture: [1, 3, height, width] expected, got {shape}",
            hint="write model.json beside the source, or give arrays in an .npz",
        )
    channels, height, width = sizes[1:]
    color = "RGB" if channels == 3 else "L"
    return ImageInput(item.name, width, height, color, 1.0, (0.0,) * channels, "scaleFit")


def _takes_pictures(inputs: Sequence[Asked], where: Path) -> str:
    images = [item.name for item in inputs if isinstance(item, ImageFeature)]
    found = images or [item.name for item in inputs]
    if len(found) != 1:
        raise DataError(
            f"{where} has pictures, and the model takes {len(found)} that could be them: {', '.join(found)}",
            hint="give arrays by name in an .npz",
        )
    return found[0]


def _from_folder(folder: Path, inputs: Sequence[Asked]) -> Samples:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    arrays = [entry for entry in entries if entry.suffix == ".npz"]
    if arrays:

        def each() -> Iterator[Sample]:
            for path in arrays:
                values = dict(_load(path))
                yield Sample(path.name, values, values.pop(TRUTH, None))

        digest = members_digest({path.name: sha256_file(path) for path in arrays})
        return Samples(f"{len(arrays)} .npz files", len(arrays), each, digest)
    flat = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file()]
    if flat and not any(entry.is_dir() for entry in entries):
        if len(flat) > MAX_PICTURES:
            raise DataError(f"{folder}: at most {MAX_PICTURES} pictures expected, got {len(flat)}")
        pairs = [(entry.name, None) for entry in flat]
        digest = members_digest({entry.name: sha256_file(entry) for entry in flat})
    else:
        labelled = read_labelled(folder)
        pairs = list(zip(labelled.names, labelled.labels, strict=True))  # type: ignore[arg-type]
        digest = labelled.digest
    taker = _takes_pictures(inputs, folder)

    def pictures() -> Iterator[Sample]:
        for name, truth in pairs:
            yield Sample(name, {taker: open_picture(folder / name)}, truth)

    return Samples(f"{len(pairs)} pictures", len(pairs), pictures, digest)


def _from_npz(path: Path) -> Samples:
    arrays = dict(_load(path))
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if not arrays or len(set(lengths.values())) != 1:
        got = ", ".join(f"{name} {length}" for name, length in lengths.items()) or "no array"
        raise DataError(f"{path}: arrays [samples, ...] with as many samples each expected, got {got}")
    truths = arrays.pop(TRUTH, None)
    count = next(iter(lengths.values()))

    def each() -> Iterator[Sample]:
        for i in range(count):
            truth = None if truths is None else truths[i]
            yield Sample(str(i), {name: array[i] for name, array in arrays.items()}, truth)

    return Samples(f"{count} samples of {path.name}", count, each, sha256_file(path))


def _load(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                yield name, archive[name]
    except (OSError, ValueError, EOFError, KeyError, zlib.error) as error:
        raise DataError(f"{path}: an .npz of plain arrays expected: {error}") from None
    except Exception as error:  # zipfile's own
        raise DataError(f"{path}: an .npz of plain arrays expected: {error}") from error


def _from_function(text: str) -> Samples:
    function = user_object(text)
    items = called(function, text)
    if not isinstance(items, Iterable):
        raise DataError(f"{text}: dicts or (dict, truth) expected, got {type(items).__name__}")
    samples = []
    for i, item in enumerate(called(lambda: list(items), text)):
        inputs, truth = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if not isinstance(inputs, Mapping):
            raise DataError(f"{text}: item {i}: a dict or (dict, truth) expected, got {type(item).__name__}")
        samples.append(Sample(str(i), dict(inputs), truth))
    return Samples(f"{len(samples)} samples of {text}", len(samples), lambda: iter(samples))


def _random(inputs: Sequence[Asked], count: int, seed: int) -> Iterator[Sample]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield Sample(f"random {i}", {item.name: _value(item, rng) for item in inputs})


def _value(item: Asked, rng: np.random.Generator) -> Any:
    kind = np.dtype(item.dtype).kind if item.dtype not in ("str", "string") else "U"
    if (
        item.shape is None
        or kind not in "fiub"
        or getattr(item, "type", "array") in ("dictionary", "sequence")
    ):
        raise DataError(
            f"the input {item.name} cannot be made up: its shape or type is not known",
            hint="give data: an .npz or module:function",
        )
    shape = tuple(1 if size is None else size for size in item.shape)
    if isinstance(item, ImageFeature):
        return rng.integers(0, 256, shape).astype(item.dtype)
    if kind == "f":
        return rng.standard_normal(shape).astype(item.dtype)
    return rng.integers(0, 2, shape).astype(item.dtype)


def _without_nan(samples: Samples) -> Callable[[], Iterator[Sample]]:
    def each() -> Iterator[Sample]:
        for sample in samples:
            for name, value in sample.inputs.items():
                array = value if isinstance(value, np.ndarray) else None
                if array is not None and array.dtype.kind == "f" and np.isnan(array).any():
                    raise DataError(
                        f"{sample.name}: {name}: numbers expected, got {int(np.isnan(array).sum())} NaN"
                    )
            yield sample

    return each


def _digest(sample: Sample) -> str:
    found = hashlib.sha256()
    for name, value in sorted(sample.inputs.items()):
        array = np.asarray(value)
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(array.tobytes())
    found.update(repr(sample.truth).encode())
    return found.hexdigest()
