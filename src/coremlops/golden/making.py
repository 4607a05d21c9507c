"""Make a golden set from inputs that the user named as publishable."""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.dialects.classic import CLASSIC_KINDS
from coremlops.errors import DataError, InputError, ModelError
from coremlops.files import replace_folder
from coremlops.golden.checking import Observed, answer
from coremlops.golden.document import (
    DEFAULT_BYTES,
    DEFAULT_EXAMPLES,
    FILE,
    MAX_DOCUMENT_BYTES,
    MAX_EXAMPLES,
    MAX_SET_BYTES,
    Call,
    GoldenSet,
    parse_golden,
)
from coremlops.golden.encoding import encode
from coremlops.golden.limits import MODES, limits
from coremlops.golden.measures import Unlike, expected, observe
from coremlops.golden.values import Expected, Given, check_word
from coremlops.source import SUFFIXES, Sample, Samples, feed, open_samples

if TYPE_CHECKING:
    from coremlops.model import ModelDescription
    from coremlops.runtime import Model

# Of more inputs than these, the first are looked at.
MOST_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Made:
    """A set that was written. `named`: how many inputs the user named, of which it holds some. `notes`: what
    a person should know of it."""

    golden: GoldenSet
    bytes: int
    named: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One input of the user's: by name what the set says, the files' content by SHA-256, what is fed."""

    given: dict[str, Given]
    files: dict[str, bytes] = field(repr=False)
    fed: dict[str, Any] = field(repr=False)


def make(
    model: Path,
    inputs: str | Path,
    out: Path,
    *,
    function: str | None = None,
    max_examples: int = DEFAULT_EXAMPLES,
    max_bytes: int = DEFAULT_BYTES,
) -> Made:
    """Write a golden set to the folder `out`: `golden.json`, a PNG a picture and a file a tensor.

    `inputs`: as `open_samples` takes them: a folder of pictures or of `.npz` files, a labelled folder, an
    `.npz`, or `module:function`. What the set holds is published to everyone who gets the model: at most
    `max_examples` of them, evenly spread, and as many as fit into `max_bytes`, but one. Of a model with
    states they are the calls of one example, in order. Pictures are prepared pixels of the model's input size
    under new names: no EXIF, place or file name leaves.
    An older golden set at `out` is replaced; the set appears whole or not at all.

    Raises DataError for inputs that are missing, unreadable, too large, or lead elsewhere, and for a model
    whose outputs are too unlike between numeric modes to be judged; InputError where they do not fit it.
    """
    check_inputs(inputs)
    if not 1 <= max_examples <= MAX_EXAMPLES or not 0 < max_bytes <= MAX_SET_BYTES:
        raise DataError(
            f"1 to {MAX_EXAMPLES} examples in at most {MAX_SET_BYTES} bytes expected, "
            f"got {max_examples} in {max_bytes}"
        )
    if out.is_symlink() or (out.exists() and not is_ours(out)):
        raise DataError(f"{out} exists and is no golden set; it is left alone")
    typed = _load(model, function, "typed")
    samples = open_samples(inputs, typed.description.inputs)
    items = _read(samples.head(MOST_LOOKED_AT), typed.description, max_examples)
    stateful = bool(typed.description.states)
    most = len(items)
    while most > 1 and sum(map(len, _files(_some(items, most, stateful)).values())) > max_bytes:
        most -= 1
    items = _some(items, most, stateful)
    answered = _answered(model, typed, function, items)
    for most in range(len(items), 0, -1):
        chosen, calls = _some(items, most, stateful), _some(answered, most, stateful)
        made, notes = _assemble(typed, chosen, calls, function or "")
        size = sum(map(len, _files(chosen).values())) + len(made.to_bytes())
        if size <= max_bytes:
            break
    if len(chosen) < min(len(samples), max_examples):
        notes = (*notes, f"{len(chosen)} of {len(samples)} inputs fit into {max_bytes} bytes")
    if size > MAX_SET_BYTES or len(made.to_bytes()) > MAX_DOCUMENT_BYTES:
        raise DataError(
            f"one input makes a golden set of {size} bytes, and a device reads at most {MAX_SET_BYTES}, "
            f"{MAX_DOCUMENT_BYTES} of them in {FILE}",
            hint="name a smaller input",
        )
    parse_golden(made.to_bytes())  # what no device could read is not written
    write_set(made, _files(chosen), out)
    return Made(made, size, len(samples), notes)


def check_inputs(inputs: str | Path) -> None:
    """Raise DataError for a folder that holds nothing, or links to what lies elsewhere."""
    folder = Path(inputs)
    if not folder.is_dir():
        return  # open_samples says what else there may be
    root = folder.resolve()
    found = False
    for pattern in ("*", "*/*"):
        for path in folder.glob(pattern):
            if path.name[0] == "." or path.suffix.lower() not in (*SUFFIXES, ".npz") or not path.is_file():
                continue
            found = True
            if not path.resolve().is_relative_to(root):
                raise DataError(f"{path} is a link that leads out of {folder}, and would be published")
    if not found:
        raise DataError(
            f"{folder}: at least one picture or .npz expected, got none",
            hint="put one or more inputs there that everyone who gets the model may see",
        )


def spread(count: int, of: int) -> list[int]:
    """`count` places of `of`, evenly spread."""
    return [i * of // count for i in range(count)] if count < of else list(range(of))


def write_set(golden: GoldenSet, files: dict[str, bytes], out: Path) -> None:
    """Write a set whose files, by SHA-256, are these; it replaces an older one whole."""
    partial = out.with_name(f".{out.name}-{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        for name, sha256 in golden.files.items():
            (partial / name).write_bytes(files[sha256])
        (partial / FILE).write_bytes(golden.to_bytes())
        replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _load(model: Path, function: str | None, precision: str) -> Model:
    from coremlops.runtime import load

    return load(model, function_name=function, precision=precision)


def _read(samples: Samples, about: ModelDescription, max_examples: int) -> list[Item]:
    """The inputs that a set may hold; of a model with states the first ones, which are calls in order."""
    count = len(samples)
    places = range(min(count, max_examples)) if about.states else spread(max_examples, count)
    wanted = set(places)
    return [_item(sample, about) for place, sample in enumerate(samples) if place in wanted]


def _item(sample: Sample, about: ModelDescription) -> Item:
    given, files, fed = {}, {}, feed(sample, about)
    for feature in about.inputs:
        if feature.name not in fed:
            continue
        try:
            check_word(feature.name)
        except ValueError:
            raise InputError(f"an input whose name prints expected, got {feature.name!r:.80}") from None
        given[feature.name], data = encode(feature, fed[feature.name])
        if given[feature.name].sha256:
            files[given[feature.name].sha256] = data
        else:  # What the set says is what a device feeds.
            value = given[feature.name].value
            fed[feature.name] = list(value) if isinstance(value, tuple) else value
    return Item(given, files, fed)


def _some(things: Sequence[Any], count: int, stateful: bool) -> list[Any]:
    """The first `count` of calls in order; of others, evenly spread ones."""
    return list(things[:count]) if stateful else [things[place] for place in spread(count, len(things))]


def _files(items: Sequence[Item]) -> dict[str, bytes]:
    return {sha256: data for item in items for sha256, data in item.files.items()}


@dataclass(frozen=True, slots=True)
class Answered:
    """What the model must give in one call, and what was seen of the answers in the other modes."""

    expected: dict[str, Expected]
    seen: dict[str, Observed]


def _answered(model: Path, typed: Model, function: str | None, items: Sequence[Item]) -> list[Answered]:
    """Each call in every numeric mode; a model that cannot be forced into one goes without it."""
    found = []
    for number, outputs in enumerate(_outputs(typed, items)):
        promised = {}
        for name, value in outputs.items():
            try:
                promised[check_word(name)] = expected(value, f"{typed.digest}/{number}/{name}")
            except (Unlike, ValueError) as error:
                raise InputError(f"output {name!r:.80} cannot be in a golden set: {error}") from None
        found.append(Answered(promised, {}))
    for mode in MODES:
        try:
            loaded = _load(model, function, mode)
        except ModelError:
            continue
        for call, outputs in zip(found, _outputs(loaded, items), strict=True):
            call.seen[mode] = observe(call.expected, outputs)
    return found


def _outputs(loaded: Model, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    """Call by call: from one state where the model has states, else each from nothing."""
    fed = [item.fed for item in items]
    for calls in [fed] if loaded.description.states else [[each] for each in fed]:
        for outputs, _ in answer(loaded, calls):
            yield outputs


def _assemble(
    typed: Model, chosen: Sequence[Item], answered: Sequence[Answered], function: str
) -> tuple[GoldenSet, tuple[str, ...]]:
    about = typed.description
    modes = {mode: [call.seen[mode] for call in answered] for mode in answered[0].seen}
    exact = typed.kind in CLASSIC_KINDS
    found, decided, notes = limits([call.expected for call in answered], modes, about, exact=exact)
    names = itertools.count(1)
    files: dict[str, str] = {}
    calls = []
    for item, outputs in zip(chosen, decided, strict=True):
        given = {
            name: _named(value, files, names) if value.sha256 else value for name, value in item.given.items()
        }
        calls.append(Call(given, outputs))
    examples = (tuple(calls),) if about.states else tuple((call,) for call in calls)
    label = about.predicted_label if about.labels and about.predicted_label in decided[0] else ""
    return GoldenSet(typed.digest, function, label, found, examples), notes


def _named(value: Given, files: dict[str, str], numbers: Iterator[int]) -> Given:
    """With a file name; the same content has the same."""
    suffix = "png" if value.type == "picture" else "bin"
    if value.sha256 not in files:
        files[value.sha256] = f"{next(numbers):04}.{suffix}"
    return replace(value, file=files[value.sha256])


def is_ours(folder: Path) -> bool:
    """Whether a golden set, or nothing, would be replaced there."""
    return folder.is_dir() and (not any(folder.iterdir()) or (folder / FILE).is_file())
