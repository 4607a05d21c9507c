"""Convert, then prove: the Core ML model is executed here, and held against its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import coremlops
from coremlops.convert import Conversion, ConvertOptions, convert
from coremlops.convert.plan import corners
from coremlops.convert.stated import Stated, fresh, stated
from coremlops.digest import members_digest
from coremlops.errors import GateError, UsageError
from coremlops.files import replace_folder, working_folder
from coremlops.model.writing import check_writable, placed
from coremlops.source import Reference, Sample, Tensor, feed, open_reference, open_samples
from coremlops.source.trees import PROBABILITIES, TableReference
from coremlops.verify.report import EMULATED
from coremlops.verify.statistics import CEILING_DB, UNDECIDED_NATS, difference, log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = 8  # of random values, where there is no data
ROWS = 256  # of random values for trees
AT_CORNERS = 2  # for each other shape that a flexible model allows
LEAST_DB = 10.0
AGREEMENT = 0.99  # of whole numbers, which agree or do not
CORE_AI = "executed by Core AI's runtime on this machine's CPU; what a device compiles it to is not seen here"
# Least root mean square that log-odds count as on random values, in nats: a classifier seldom decides on
# noise, and an error of 0.007 nats would fail one whose log-odds are 0.5 there.
RANDOM_NATS = 1.0
RANDOM = "proven on random values: --data proves it on yours"


@dataclass(frozen=True, slots=True)
class ProveOptions:
    """`data`: what `open_samples` takes; None: seeded random values. `snr_db`: least of every output.

    `precision`: the runtime's numeric mode. `progress` is called with (done, of).
    """

    data: str | Path | None = None
    snr_db: float = 40.0
    precision: str = "typed"
    seed: int = 0
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        if not LEAST_DB <= self.snr_db <= CEILING_DB:
            raise UsageError(
                f"snr_db: {LEAST_DB:g} to {CEILING_DB:g} dB expected, got {self.snr_db}",
                hint="at 10 dB a third of each number is noise: less would prove nothing",
            )


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found. `outputs`: name -> its numbers; `failed`: one line for each gate that says no.

    `about`: what it was asked with; `notes`: what a reader must know.
    """

    outputs: Mapping[str, Mapping[str, Any]]
    failed: tuple[str, ...]
    about: str
    samples: int
    data_digest: str
    shapes: int
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def report(self) -> dict[str, Any]:
        return {
            "proof": EMULATED,
            "ok": self.ok,
            "outputs": {name: dict(numbers) for name, numbers in self.outputs.items()},
            "failed": list(self.failed),
            "data": {"about": self.about, "samples": self.samples, "digest": self.data_digest},
            "shapes": self.shapes,
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """A few lines for a terminal."""
        lines = [
            f"{'proven' if self.ok else 'NOT proven'} ({EMULATED}) on {self.about}"
            + (f", {self.shapes} shapes" if self.shapes > 1 else "")
        ]
        for name, numbers in self.outputs.items():
            lines.append("  " + name + ": " + ", ".join(_word(key, value) for key, value in numbers.items()))
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


def convert_and_prove(
    source: str | Path | Reference | None,
    out: Path,
    options: ConvertOptions | None = None,
    wanted: ProveOptions | None = None,
) -> tuple[Conversion, Proof]:
    """Convert to `out`, which appears once it is proven.

    One that is not is left as `<stem>.unproven.mlpackage` beside it, and what was at `out` stays. Raises
    GateError for it, and what `convert` raises.
    """
    options, wanted = options or ConvertOptions(), wanted or ProveOptions()
    if source is not None and not isinstance(source, Reference):
        source = open_reference(source, weights=options.weights)
    suffix = _suffix(source, options)
    if out.suffix != suffix:
        raise UsageError(f"{out}: a name that ends in {suffix} expected")
    check_writable(out)
    with working_folder(out.parent, ".convert-") as folder:
        made = convert(source, Path(folder, out.name), options)
        if options.kind == "aimodel" and source is not None:
            proof = prove_aimodel(made.path, source, wanted)
        elif isinstance(source, TableReference):
            proof = _prove_table(made.path, source, wanted)
        elif source is None:
            proof = _prove_functions(made.path, options, wanted)
        else:
            proof = prove(made.path, source, options, wanted)
        final = out if proof.ok else out.with_name(f"{out.stem}.unproven{suffix}")
        _move(made.path, final)
    if not proof.ok:
        failed = "".join(f"\n  {line}" for line in proof.failed)
        raise GateError(
            f"the Core ML model does not keep the gates; it is left as {final}; "
            f"{out} was not written{failed}",
            proof.failed,
            hint=f"coremlops verify {final} --against SOURCE --locate names the op; --keep-float32 or "
            "--precision float32 may mend it; --no-verify takes it as it is",
        )
    return replace(made, path=out), proof


def _suffix(source: Reference | None, options: ConvertOptions) -> str:
    if options.kind == "aimodel":
        return ".aimodel"
    return ".mlmodel" if isinstance(source, TableReference) else ".mlpackage"


def prove_aimodel(model: Path, reference: Reference, wanted: ProveOptions) -> Proof:
    """In Core AI's own runtime on this machine's CPU, which is not what a device makes of it."""
    from coremlops.runtime.aimodel import AIModel

    loaded = AIModel(model)
    samples = open_samples(wanted.data, reference.inputs, count=SAMPLES, seed=wanted.seed)
    pairs: dict[str, tuple[list[NDArray[Any]], list[NDArray[Any]]]] = {}
    for sample in samples:
        asked = feed(sample, reference)
        expected = reference(asked)
        got = loaded.predict(asked)
        _collect(expected, [got[name] for name in expected], pairs)
    outputs, failed = _judged(pairs, (), wanted)
    notes = (RANDOM,) if wanted.data is None else ()
    count = len(samples)
    return Proof(outputs, failed, samples.about, count, samples.digest, 1, (*notes, CORE_AI))


def _prove_table(model: Path, reference: TableReference, wanted: ProveOptions) -> Proof:
    """Trees, row by row, in double; labels may have other names than the source's."""
    loaded = coremlops.load(model)
    samples = open_samples(
        wanted.data, loaded.description.inputs, count=ROWS, seed=wanted.seed, allow_nan=True
    )
    pairs: dict[str, tuple[list[NDArray[Any]], list[NDArray[Any]]]] = {}
    for sample in samples:
        asked = feed(sample, loaded.description)
        expected = _numbers(reference(asked), reference.labels)
        got = _numbers(loaded.predict(asked), loaded.description.labels)
        _collect(expected, list(got.values()), pairs)
    outputs, failed = _judged(pairs, (), wanted)
    notes = (RANDOM,) if wanted.data is None else ()
    return Proof(outputs, failed, samples.about, len(samples), samples.digest, 1, notes)


def _numbers(answer: Mapping[str, Any], labels: tuple[Any, ...] | None) -> dict[str, NDArray[Any]]:
    """Probabilities in the order of the labels, as an array or by label; of a regressor its value.

    Of a classifier without probabilities the place of its label.
    """
    for name, value in answer.items():
        if isinstance(value, Mapping):
            return {name: np.asarray(list(value.values()), np.float64)}
    if PROBABILITIES in answer:
        return {PROBABILITIES: np.asarray(answer[PROBABILITIES], np.float64)}
    if labels:
        return {name: np.array([labels.index(np.asarray(value).item())]) for name, value in answer.items()}
    return {name: np.asarray(value, np.float64).ravel() for name, value in answer.items()}


def _prove_functions(model: Path, options: ConvertOptions, wanted: ProveOptions) -> Proof:
    """Each function that was converted against its source; one that was a package stays as it was."""
    proofs: dict[str, Proof] = {}
    taken = []
    for name, source in options.functions.items():
        if source.endswith(".mlpackage"):
            taken.append(f"{name} was taken from {source} and is not proven here")
        else:
            reference = open_reference(source, weights=options.weights)
            proofs[name] = prove(model, reference, options, wanted, function=name)
    return Proof(
        {f"{name}.{of}": numbers for name, proof in proofs.items() for of, numbers in proof.outputs.items()},
        tuple(f"{name}.{line}" for name, proof in proofs.items() for line in proof.failed),
        about=", ".join(f"{name}: {proof.about}" for name, proof in proofs.items()) or "nothing",
        samples=sum(proof.samples for proof in proofs.values()),
        data_digest=members_digest({name: proof.data_digest for name, proof in proofs.items()}),
        shapes=max((proof.shapes for proof in proofs.values()), default=0),
        notes=(*dict.fromkeys(note for proof in proofs.values() for note in proof.notes), *taken),
    )


def prove(
    model: Path,
    reference: Reference,
    options: ConvertOptions,
    wanted: ProveOptions | None = None,
    *,
    function: str | None = None,
) -> Proof:
    """Ask a model and the source that it was converted from with these options the same questions.

    `function`: of a model that has several. Shapes that a flexible model allows are tried, too: the least,
    the largest, each listed one, with random values.

    `coremlops.verify` is not asked: there each question has fresh states and a picture one size, so a state
    that is not kept from one question to the next, or a size that fails, would not show.
    Raises InputError and DataError for data that does not fit, ModelError where it cannot run.
    """
    wanted = wanted or ProveOptions()
    said = stated(reference, options)
    loaded = coremlops.load(model, precision=wanted.precision, function_name=function)
    samples = open_samples(wanted.data, loaded.description.inputs, count=SAMPLES, seed=wanted.seed)
    extra = list(_at_corners(said, wanted.seed))
    state = loaded.make_state() if loaded.description.states else None
    pairs: dict[str, tuple[list[NDArray[Any]], list[NDArray[Any]]]] = {}
    with fresh(reference, options.states):
        for i, sample in enumerate((*samples, *extra)):
            asked = feed(sample, loaded.description)
            expected = said(asked)
            got = loaded.predict(asked, state=state) if state is not None else loaded.predict(asked)
            _collect(expected, _arrays(got, said), pairs)
            if wanted.progress is not None:
                wanted.progress(i + 1, len(samples) + len(extra))
    outputs, failed = _judged(pairs, said.plan.labels, wanted)
    return Proof(
        outputs,
        failed,
        about=samples.about,
        samples=len(samples) + len(extra),
        data_digest=samples.digest,
        shapes=1 + len(extra) // AT_CORNERS,
        notes=(RANDOM,) if wanted.data is None else (),
    )


def _move(made: Path, final: Path) -> None:
    """The package and what was written beside it."""
    if final.suffix == ".mlpackage":
        with placed(final) as partial:
            made.rename(partial)
    elif made.is_dir():
        replace_folder(made, final)
    else:
        made.replace(final)
    for beside in made.parent.glob(f"{made.stem}.*.json"):
        beside.replace(final.with_name(f"{final.stem}{beside.name.removeprefix(made.stem)}"))


def _at_corners(said: Stated, seed: int) -> Iterator[Sample]:
    for number, shapes in enumerate(corners(said.plan)[1:], 1):
        inputs = [
            Tensor(item.name, _pixels(shape) if item.type == "image" else shape, item.dtype or "uint8")
            for item, shape in zip(said.plan.inputs, shapes, strict=True)
        ]
        yield from open_samples(None, inputs, count=AT_CORNERS, seed=seed + number)


def _pixels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[1, channels, height, width] as pictures are: [height, width, 3] or [height, width]."""
    return (*shape[2:], 3) if shape[1] == 3 else shape[2:]


def _arrays(got: Mapping[str, Any], said: Stated) -> list[NDArray[Any]]:
    """The model's answers as the source gives them, in the order that they are declared."""
    from PIL import Image

    found: list[NDArray[Any]] = []
    for value in got.values():
        if isinstance(value, str):
            continue  # the label, which the probabilities say as well
        if isinstance(value, Mapping):
            found.append(np.asarray([value[label] for label in said.plan.labels], np.float64)[None])
        elif isinstance(value, Image.Image):
            pixels = np.asarray(value)
            found.append((pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None])[None])
        else:
            found.append(np.asarray(value))
    return found


def _collect(
    expected: Mapping[str, NDArray[Any]],
    got: list[NDArray[Any]],
    pairs: dict[str, tuple[list[NDArray[Any]], list[NDArray[Any]]]],
) -> None:
    for (name, want), have in zip(expected.items(), got, strict=True):
        mine, other = pairs.setdefault(name, ([], []))
        mine.append(want)
        other.append(have)


def _judged(
    pairs: Mapping[str, tuple[list[NDArray[Any]], list[NDArray[Any]]]],
    labels: tuple[str, ...],
    wanted: ProveOptions,
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    outputs: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    for i, (name, (want, have)) in enumerate(pairs.items()):
        wrong = [(a.shape, b.shape) for a, b in zip(want, have, strict=True) if a.shape != b.shape]
        if wrong:
            failed.append(f"{name}: the shape {list(wrong[0][0])} expected, got {list(wrong[0][1])}")
            continue
        mine = np.concatenate([value.ravel() for value in want])
        other = np.concatenate([value.ravel() for value in have])
        if mine.dtype.kind in "iub":
            share = float(np.mean(mine == other))
            outputs[name] = {"agreement": share}
            if share < AGREEMENT:
                failed.append(f"{name}: agreement: at least {AGREEMENT} expected, got {share:.4g}")
            continue
        numbers = _compared(mine, other)
        if i == 0 and len(labels) > 1:
            rows = (mine.reshape(-1, len(labels)), other.reshape(-1, len(labels)))
            floor = RANDOM_NATS if wanted.data is None else UNDECIDED_NATS
            logs = difference(*(log_odds(row) for row in rows), floor=floor)
            same = float(np.mean(rows[0].argmax(1) == rows[1].argmax(1)))
            numbers |= {"log_odds_snr_db": logs.snr_db, "top1_agreement": same}
        outputs[name] = numbers
        for key in ("snr_db", "log_odds_snr_db"):
            value = numbers.get(key, CEILING_DB)
            if not value >= wanted.snr_db:
                failed.append(f"{name}: {key}: at least {wanted.snr_db:g} dB expected, got {value:.4g}")
    return outputs, tuple(failed)


def _compared(mine: NDArray[Any], other: NDArray[Any]) -> dict[str, Any]:
    """Where the source is not finite, the model must be the same."""
    finite = np.isfinite(mine)
    if not np.array_equal(mine[~finite], other[~finite].astype(mine.dtype), equal_nan=True):
        return {"snr_db": -CEILING_DB, "max_abs": None}
    if not finite.any():
        return {"snr_db": CEILING_DB, "max_abs": 0.0}
    found = difference(mine[finite], other[finite])
    return {"snr_db": found.snr_db, "max_abs": found.max_abs}


def _word(key: str, value: Any) -> str:
    if value is None:
        return f"{key} not a number"
    return f"{key} {value:.4g}"
