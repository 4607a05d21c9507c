"""Locate, then mend: keep the fewest ops in float32, convert again, prove again, and say what it costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from coremlops.convert import ConvertOptions, convert
from coremlops.convert.recorded import Recorded, options_of
from coremlops.convert.stated import stated
from coremlops.errors import GateError, UsageError
from coremlops.improve.choice import Choice, smallest
from coremlops.model import ModelAsset
from coremlops.model.writing import placed
from coremlops.source import Card, Reference, Samples, feed, open_reference, open_samples, preparation
from coremlops.verify import Report, VerifyOptions, verify
from coremlops.verify.locate import LocateOptions, Location, locate
from coremlops.verify.locate.cut import is_movable, tensors
from coremlops.verify.locate.location import CONVERSION
from coremlops.verify.locate.program import Program, Values, package_of

_MENDED = ("constant", "cancellation")  # faults of a conversion that float32 mends
SHARED = (
    "How the source is asked (scale, mean, names, what becomes of its outputs) is what the Core ML model "
    "says of its own conversion, so an error in that would not show."
)
FINISHED = (
    "What becomes of the source's outputs is what the Core ML model says of its own conversion, so an error "
    "in that would not show."
)
STRICTER_DB = 6.0  # by which each attempt asks for more than the one before


@dataclass(frozen=True, slots=True)
class FixOptions:
    """`limit_db`: what every output should keep of float32's. `samples`: of the data, for the choice.

    `attempts`: how often to convert. `progress` is called with a line of text.
    """

    limit_db: float = 40.0
    samples: int = 2
    attempts: int = 4
    progress: Callable[[str], None] | None = None


def fix_model(
    model: Path,
    against: str | Path | Reference,
    data: str | Path | Samples | None,
    out: Path,
    *,
    verifying: VerifyOptions | None = None,
    converting: ConvertOptions | None = None,
    options: FixOptions | None = None,
) -> tuple[Fix, Report]:
    """`fix` with our own conversion and proof: the mended model, and the report that proves it.

    `against`: any source that `convert` takes, with the weights that `verifying` names. `data`: see
    `open_samples`; None: seeded random values. `converting`: None for what the model itself says, see
    `as_converted`; what it does not say stands in the notes of the `Fix`.
    Raises UsageError for a model of several functions, and what `fix` raises.
    """
    verifying = verifying or VerifyOptions()
    options = options or FixOptions(limit_db=verifying.gates.snr_db)
    asset = ModelAsset.open(model)
    if len(asset.description.functions) > 1:
        names = ", ".join(item.name for item in asset.description.functions)
        raise UsageError(
            f"{model} has several functions ({names}), and one source makes one",
            hint="mend each as a package of its own, then join them: coremlops convert --function",
        )
    source = against if isinstance(against, Reference) else open_reference(against, weights=verifying.weights)
    asked, recorded = as_converted(asset, source, converting)
    made_with = recorded.options
    reports: list[Report] = []

    def convert_again(path: Path, kept: tuple[str, ...]) -> None:
        convert(source, path, replace(made_with, keep_float32=(*made_with.keep_float32, *kept)))

    def prove(path: Path) -> Proof:
        reports.append(verify(path, asked, samples, verifying))
        return Proof(reports[-1].ok, reports[-1].failed, reports[-1].to_json())

    samples = data if isinstance(data, Samples) else open_samples(data, asset.description.inputs)
    made = fix(model, asked, samples, out, convert=convert_again, prove=prove, options=options)
    return replace(made, notes=recorded.unknown), reports[-1]


def as_converted(
    asset: ModelAsset, source: Reference, options: ConvertOptions | None = None
) -> tuple[Reference, Recorded]:
    """The source as its model asks it, and how that was converted. `options`: None for what the model says.

    A source with a `model.json` says itself how it is asked. Of another, the preparation, and of any what
    becomes of outputs are the model's own, computed in NumPy. Raises InputError and UsageError.
    """
    recorded = options_of(asset, source.card) if options is None else Recorded(options)
    if not recorded.asks_otherwise(source):
        return source, recorded
    about = asset.description
    picture = preparation(about)
    card, note = source.card, SHARED if source.card is None else FINISHED
    if card is None and picture is not None:
        card = Card(picture, tuple(str(label) for label in about.labels))
    inputs: tuple[Any, ...] = about.inputs
    return replace(stated(source, recorded.options), inputs=inputs, card=card, notes=(note,)), recorded


def source_of(
    model: Path,
    against: str | Path,
    *,
    weights: Path | None = None,
    options: ConvertOptions | None = None,
) -> str | Path | Reference:
    """What a model is held against, asked as it was converted from it; a name where that is a Core ML file.

    Raises InputError and UsageError.
    """
    if package_of(Path(against)).suffix in (".mlpackage", ".mlmodel"):
        return against
    source = open_reference(against, weights=weights)
    return as_converted(ModelAsset.open(package_of(model)), source, options)[0]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof said: `report` is a report's JSON, `failed` the gates that said no."""

    ok: bool
    failed: tuple[str, ...]
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fix:
    """A mended model. `kept`: ops in float32, by the converter's names; none where converting again was all.

    `operations`: how many ops it computes with, `in_float32`: how many of them give float32. `bytes_before`,
    `bytes_after`: of the packages. `tried`: candidates that were emulated; `conversions`: those converted.
    `notes`: what the model does not say of how it was converted.
    """

    path: Path
    location: Location
    kept: tuple[str, ...]
    operations: int
    in_float32: int
    bytes_before: int
    bytes_after: int
    tried: int
    conversions: int
    proof: Proof
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """A few lines for a terminal."""
        change = self.bytes_after - self.bytes_before
        if self.kept:
            names = ", ".join(self.kept[:8]) + (
                f" and {len(self.kept) - 8} more" if len(self.kept) > 8 else ""
            )
            did = f"{len(self.kept)} of {self.operations} ops in float32: {names}"
        else:
            did = "converted again; nothing had to stay in float32"
        return (
            f"fixed: {self.path}\n  {did}\n"
            f"  cost: {change:+,} bytes ({self.bytes_before:,} -> {self.bytes_after:,}, "
            f"{change / self.bytes_before:+.1%}), {self.in_float32} of {self.operations} ops give float32\n"
            f"  found by {self.tried} emulated candidates and {self.conversions} conversions"
            + "".join(f"\n  note: {note}" for note in self.notes)
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kept_float32": list(self.kept),
            "operations": self.operations,
            "in_float32": self.in_float32,
            "bytes": {"before": self.bytes_before, "after": self.bytes_after},
            "tried": self.tried,
            "conversions": self.conversions,
            "notes": list(self.notes),
        }


def fix(
    model: Path,
    reference: Reference,
    data: Samples,
    out: Path,
    *,
    convert: Callable[[Path, tuple[str, ...]], None],
    prove: Callable[[Path], Proof],
    options: FixOptions | None = None,
) -> Fix:
    """Write to `out` a model that keeps the gates, made from the same source with few ops in float32.

    `convert` writes a package and keeps the named ops in float32; `prove` judges one. Candidates are emulated
    in the runtime's own arithmetic; only what that says to be enough is converted, and only what is proven is
    left at `out`.

    Raises GateError, with what still failed, when no attempt keeps the gates; UnsupportedOpsError,
    ModelError, and what `convert` raises.
    """
    options = options or FixOptions()
    say = options.progress or (lambda text: None)
    say("locating")
    location = locate(
        model, reference, data, LocateOptions(limit_db=options.limit_db, samples=options.samples)
    )
    program = Program(model)
    feeds = [
        program.feeds(feed(sample, program.description)) for sample in islice(data, max(1, options.samples))
    ]
    tried = 0
    proof = Proof(False, ("no set of ops was found that would be enough",))
    for attempt, candidate in enumerate(_candidates(program, feeds, location, options), 1):
        tried += candidate.tried
        say(f"converting, {len(candidate.kept)} ops in float32")
        with tempfile.TemporaryDirectory(prefix=".fix-", dir=out.parent) as folder:
            made = Path(folder, out.name)
            convert(made, candidate.kept)
            say("proving")
            proof = prove(made)
            if proof.ok:
                _place(made, out)
                return _fixed(model, out, location, candidate.kept, tried, attempt, proof)
    failed = "".join(f"\n  {line}" for line in proof.failed)
    raise GateError(f"{model}: no choice of ops in float32 keeps the gates{failed}", proof.failed)


def _candidates(
    program: Program, feeds: list[Values], location: Location, options: FixOptions
) -> Iterator[Choice]:
    """Ever larger choices.

    A constant that is not the source's, or that fp16 rounds too far, is right in float32; one that was
    damaged is right once the source is converted again.
    """
    wrong = tuple(item.op for item in location.of(CONVERSION) if item.kind in _MENDED)
    seen: set[tuple[str, ...]] = set()
    for attempt in range(options.attempts):
        chosen = smallest(program, feeds, options.limit_db + STRICTER_DB * max(0, attempt - 1))
        more = wrong if attempt else ()
        kept = tuple(dict.fromkeys((*chosen.kept, *more)))
        if kept not in seen:
            seen.add(kept)
            yield replace(chosen, kept=kept)


def _place(made: Path, out: Path) -> None:
    """The package and what was written beside it."""
    with placed(out) as partial:
        made.rename(partial)
    for beside in made.parent.glob(f"{made.stem}.*.json"):
        beside.replace(out.with_name(f"{out.stem}{beside.name.removeprefix(made.stem)}"))


def _fixed(
    model: Path,
    out: Path,
    location: Location,
    kept: tuple[str, ...],
    tried: int,
    conversions: int,
    proof: Proof,
) -> Fix:
    operations = [entry for entry in Program(out).function.block.operations if is_movable(entry)]
    computing = [entry for entry in operations if entry.type != "cast"]
    wide = [entry for entry in computing if any(type_.dtype == "fp32" for type_ in tensors(entry).values())]
    before, after = (ModelAsset.open(path).package.bytes for path in (model, out))
    return Fix(out, location, kept, len(computing), len(wide), before, after, tried, conversions, proof)
