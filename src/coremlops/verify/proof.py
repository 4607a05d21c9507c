"""Ask a Core ML model and what it is held against the same questions, and compare the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.errors import DataError, InputError, UsageError
from coremlops.source import Reference, Sample, Samples, open_samples
from coremlops.verify.gates import Gates, Limit, Verdict
from coremlops.verify.inner import Layer, inner_layers
from coremlops.verify.intervals import resampled, wilson
from coremlops.verify.metrics import CHUNK, Measured, Metric, measured, open_metric
from coremlops.verify.pairing import (
    Classes,
    Pairs,
    arrays_of,
    classes_of,
    classifier_answer,
    pair,
)
from coremlops.verify.recorded import read_recorded
from coremlops.verify.report import Against, Answer, Data, Example, Report, Slice, Subject, Worst
from coremlops.verify.sides import (
    ModelSide,
    Preparation,
    ReferenceSide,
    Side,
    metadata,
    open_against,
    open_model,
    prepared,
)
from coremlops.verify.slices import Slicer, open_slices
from coremlops.verify.statistics import CEILING_DB, UNDECIDED_NATS, Running, log_odds
from coremlops.verify.views import view

if TYPE_CHECKING:
    from numpy.typing import NDArray


_NOT_INSIDE = (
    "Layers could not be matched by name, so only the outputs were compared, and the gate channel_snr_db was "
    "left out. A source saved with torch.export and a Core ML file converted from it can be matched."
)
_RANDOM = "The data is random: whether both sides compute the same is shown, not how well on real data."


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """`precision`, `engine`: of the Core ML model, see `coremlops.load`. `progress(done, of)` a sample.

    `against_precision` ("" for the same), `against_engine`: when the other side is a Core ML model, too.
    `function`: of a model that has several. `weights`: of a source `module:factory`.
    `recorded`: a file of answers that a device measured; they take the place of the model's own.
    `metrics`: names or `module:function`. `slices`: what divides the data. `pairs`: (output of the model,
    output of the other side) where names and order do not say it.
    `count`, `seed`: of random data, which is what no data means. `confidence`: of the intervals.
    """

    precision: str = "typed"
    gates: Gates = field(default_factory=Gates)
    progress: Callable[[int, int], None] | None = None
    engine: str = "auto"
    against_precision: str = ""
    against_engine: str = "auto"
    function: str | None = None
    weights: Path | None = None
    recorded: Path | None = None
    metrics: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    count: int = 16
    seed: int = 0
    confidence: float = 0.95


def verify(
    model: Path,
    against: str | Path | Reference,
    data: str | Path | Samples | None,
    options: VerifyOptions | None = None,
) -> Report:
    """Compare a Core ML model with a source, or with another Core ML model, on all of some data.

    Each side is fed as it says itself: the Core ML model with a picture prepared as its metadata says, the
    source with `pixels * scale + bias` from its own `model.json`, or both with the arrays of the data. So a
    scale that was lost on the way shows. A classifier's answers are compared by label name, as an app reads
    them, so labels that were swapped show; other outputs by name, or by position.

    `model`: an `.mlpackage`, `.mlmodel`, or a folder that holds `model.mlpackage`; `against`, `data`: what
    `open_reference` and `open_samples` take. A report with gates that failed is returned like any other.
    Raises InputError for shapes, outputs or labels that differ or a source whose answers are not numbers;
    DataError for data; UsageError for options and metrics; ModelError for a model that cannot run here.
    """
    options = options or VerifyOptions()
    if not 0.5 <= options.confidence < 1:
        raise UsageError(f"confidence: 0.5 to less than 1 expected, got {options.confidence}")
    judged = open_model(model, precision=options.precision, engine=options.engine, function=options.function)
    other, notes = open_against(
        against,
        judged,
        precision=options.against_precision or options.precision,
        engine=options.against_engine,
        function=options.function,
        weights=options.weights,
    )
    inputs = judged.description.inputs
    samples = (
        data
        if isinstance(data, Samples)
        else open_samples(data, inputs, count=options.count, seed=options.seed)
    )
    subject: Side = judged if options.recorded is None else read_recorded(options.recorded, judged.digest)
    run = _Run(judged, other, options, samples)
    for number, sample in enumerate(samples, start=1):
        asked = prepared(sample, judged, other)
        run.add(asked, other.ask(asked), subject.ask(asked))
        if options.progress is not None:
            options.progress(number, len(samples))
    return run.report(subject, notes)


class _Run:
    """All that is added up while the questions are asked."""

    def __init__(
        self, model: ModelSide, other: ModelSide | ReferenceSide, options: VerifyOptions, samples: Samples
    ) -> None:
        self.model, self.other, self.options, self.samples = model, other, options, samples
        self.classes: Classes | None = classes_of(model.description, other.labels)
        if self.classes is None and options.gates.changed_for_classifiers:
            name = options.gates.changed_for_classifiers[0]
            raise UsageError(
                f"the gate {name} is for a classifier with probabilities, and the model is none",
                hint="judge an output: --gate OUTPUT.max_abs=0.001",
            )
        self.metrics: list[Metric] = [open_metric(text) for text in options.metrics]
        self.slicers: list[Slicer] = [open_slices(text) for text in options.slices]
        self.running: dict[str, Running] = {}
        self.pairs: Pairs | None = None
        self.examples: list[Example] = []
        self.parts: list[tuple[str, ...]] = []
        self.worst = Worst()
        self.points: list[tuple[float, float, str]] = []
        self.numbers: dict[str, tuple[list[NDArray[Any]], list[NDArray[Any]]]] = {
            metric.name: ([], []) for metric in self.metrics
        }
        self.waiting: list[tuple[dict[str, Any], dict[str, Any], Any]] = []
        self.asked = dict(options.pairs)
        self.rng = np.random.default_rng(0)

    def add(self, sample: Sample, expected: dict[str, Any], got: dict[str, Any]) -> None:
        """Compare the answers to one question."""
        arrays: list[tuple[str, NDArray[Any], NDArray[Any]]] = []
        source: Answer | None = None
        model: Answer | None = None
        if self.classes is not None:
            source, model = self._classified(sample, expected, got, arrays)
        self._pair(expected, got, arrays, sample.name)
        if not arrays:
            raise InputError(f"{self.model.path}: an output of numbers to compare expected, got none")
        differences = {}
        for name, one, two in arrays:
            floor = UNDECIDED_NATS if name.endswith(".log_odds") else 0.0
            differences[name] = self.running.setdefault(name, Running(floor)).add(one, two)
        example = Example(
            name=sample.name,
            truth=None if sample.truth is None or np.ndim(sample.truth) else str(sample.truth),
            source=source,
            model=model,
            max_abs=_largest([item.max_abs for item in differences.values()][: 1 if source else None]),
            log_odds_max_abs=differences[arrays[1][0]].max_abs if source else None,
            snr_db=min(item.snr_db for item in differences.values()),
        )
        self.examples.append(example)
        self.parts.append(tuple(part for of in self.slicers for part in of(sample.name, sample.truth)))
        if self.worst.takes(example):
            self.worst.put(example, view(sample, self.model, arrays, bool(source)))
        if source is None:
            self._pick(sample.name, arrays)
        if self.metrics:
            names = dict(self.pairs.names) if self.pairs else {}
            theirs = {ours: expected[there] for ours, there in names.items()}
            if self.classes is not None and source is not None:
                shares = dict(zip(self.classes.labels, arrays[0][1].tolist(), strict=True))
                theirs |= {self.classes.label: source.label, self.classes.probabilities: shares}
            self.waiting.append((theirs, got, sample.truth))
            if len(self.waiting) >= CHUNK:
                self._measure()

    def _classified(
        self,
        sample: Sample,
        expected: dict[str, Any],
        got: dict[str, Any],
        arrays: list[tuple[str, NDArray[Any], NDArray[Any]]],
    ) -> tuple[Answer, Answer]:
        assert self.classes is not None  # noqa: S101
        classes, labels = self.classes, self.classes.labels
        truth = None if sample.truth is None else str(sample.truth)
        if truth is not None and truth not in labels:
            known = ", ".join(self.model.labels[:8]) + (", ..." if len(self.model.labels) > 8 else "")
            raise DataError(
                f"{sample.name}: labels that the model does not know: {truth}",
                hint=f"it knows {known}; --data is the folder whose subfolders are labels",
            )
        said = []
        for outputs, own, pairs in ((expected, self.other.labels, self.asked), (got, self.model.labels, {})):
            shares = outputs.get(classes.probabilities)
            if isinstance(shares, np.ndarray) and shares.size == len(own):
                shares = dict(zip(own, shares.ravel().tolist(), strict=True))
                outputs = outputs | {classes.probabilities: shares}
            said.append(classifier_answer(outputs, classes, pairs, sample.name))
        (named, one), (answered, two) = said
        if not np.isfinite(one).all():
            raise InputError(f"the source answers {sample.name} with values that are not finite")
        if named not in labels:  # trees know numbers, where the model was given names
            named = labels[int(np.argmax(one))]
        logs = log_odds(one[None])[0], log_odds(two[None])[0]
        arrays.append((classes.probabilities, one, two))
        arrays.append((f"{classes.probabilities}.log_odds", *logs))
        column = labels.index(truth if truth is not None else named)
        return (
            _answer(named, labels, one, logs[0], column, truth is not None),
            _answer(answered, labels, two, logs[1], column, truth is not None),
        )

    def _pair(
        self,
        expected: dict[str, Any],
        got: dict[str, Any],
        arrays: list[tuple[str, NDArray[Any], NDArray[Any]]],
        name: str,
    ) -> None:
        """Add the outputs that are no classifier's."""
        if self.pairs is None:
            taken = (self.classes.label, self.classes.probabilities) if self.classes else ()
            ours = [item for item in got if item not in taken]
            theirs = [item for item in expected if item not in taken]
            asked = {one: two for one, two in self.asked.items() if one not in taken}
            if self.classes is not None and not asked:  # by name alone: a source's one output is taken
                both = tuple((item, item) for item in ours if item in theirs)
                self.pairs = Pairs(both, tuple(item for item in ours if item not in theirs))
            else:
                self.pairs = pair(ours, theirs, asked)
        for ours_name, theirs_name in self.pairs.names:
            if ours_name not in got or theirs_name not in expected:
                raise InputError(
                    f"{name}: the outputs {ours_name} and {theirs_name} expected, one is missing"
                )
            compared = arrays_of(expected[theirs_name], got[ours_name], f"{name}: output {ours_name}")
            if compared is not None:
                arrays.append((ours_name, *compared))

    def _pick(self, name: str, arrays: Sequence[tuple[str, NDArray[Any], NDArray[Any]]]) -> None:
        """A few numbers of an example, for the chart."""
        for output, one, two in arrays:
            if one.size:
                places = self.rng.integers(0, one.size, min(one.size, max(1, 400 // len(self.samples))))
                picked = np.stack([one.ravel()[places], two.ravel()[places]], 1)
                finite = picked[np.isfinite(picked).all(1)]
                self.points += [(float(x), float(y), f"{name}: {output}") for x, y in finite]

    def _measure(self) -> None:
        theirs, ours, truths = ([row[i] for row in self.waiting] for i in range(3))
        for metric in self.metrics:
            if any(truth is None for truth in truths):
                raise DataError(
                    f"the metric {metric.name} needs the truth of each example, and the data has none",
                    hint="labelled folders have it, and arrays with the key `truth`",
                )
            mine, other = self.numbers[metric.name]
            mine.append(metric(ours, truths))
            other.append(metric(theirs, truths))
        self.waiting.clear()

    def report(self, subject: Side, notes: list[str]) -> Report:
        """What was found."""
        if self.waiting:
            self._measure()
        numbers = {name: (np.concatenate(a), np.concatenate(b)) for name, (a, b) in self.numbers.items()}
        sure = self.options.confidence
        metrics = tuple(measured(name, *pair, sure) for name, pair in numbers.items())
        layers: tuple[Layer, ...] = ()
        if isinstance(self.other, ReferenceSide) and subject is self.model:
            layers = inner_layers(self.model, self.other, self.samples)
        outputs = tuple((name, running.total()) for name, running in self.running.items())
        everything = np.arange(len(self.examples))
        whole = self._slice("", everything, {})
        slices = self._slices(numbers)
        values: dict[str, float | None] = {"snr_db": min(item.snr_db for _, item in outputs)}
        if self.classes is not None:
            values |= {"top1_agreement": whole.top1_agreement, "max_abs": outputs[0][1].max_abs}
            if whole.accuracy_model is not None and whole.accuracy_source is not None:
                values["accuracy_drop"] = whole.accuracy_source - whole.accuracy_model
        if layers:
            values["channel_snr_db"] = min(layer.worst_db for layer in layers)
        verdicts = (
            *self.options.gates.judge(values),
            *(self._verdict(limit, dict(outputs), metrics, slices) for limit in self.options.gates.more),
        )
        options, precision = self.options, self.options.against_precision or self.options.precision
        of_core_ml = isinstance(self.other, ModelSide)
        return Report(
            proof=subject.rests_on,
            subject=self._subject(),
            against=Against(
                name=self.other.name,
                digest=self.other.digest,
                kind="coreml" if isinstance(self.other, ModelSide) else self.other.reference.kind,
                rests_on=self.other.rests_on,
                precision=precision if of_core_ml else "",
            ),
            precision=options.precision,
            data=Data(self.samples.digest, len(self.examples), self.samples.about, self._of_pictures()),
            outputs=outputs,
            top1_agreement=whole.top1_agreement,
            accuracy_model=whole.accuracy_model,
            accuracy_source=whole.accuracy_source,
            verdicts=verdicts,
            examples=tuple(self.examples),
            layers=layers,
            notes=(*notes, *self._notes(subject), *([] if layers else [_NOT_INSIDE][: not of_core_ml])),
            measures=metrics,
            slices=slices,
            intervals=self._intervals(),
            confidence=sure,
            points=tuple(self.points),
            views=self.worst.views,
        )

    def _slices(self, numbers: dict[str, tuple[NDArray[Any], NDArray[Any]]]) -> tuple[Slice, ...]:
        if not self.slicers:
            return ()
        names = sorted({part for parts in self.parts for part in parts})
        if not names:
            raise DataError(
                f"slices {', '.join(self.options.slices)}: no example is in any slice",
                hint=f"names look like {self.examples[0].name}",
            )
        found = []
        for name in names:
            chosen = np.array([i for i, parts in enumerate(self.parts) if name in parts])
            found.append(self._slice(name, chosen, numbers))
        return tuple(sorted(found, key=lambda item: item.badness, reverse=True))

    def _slice(
        self, name: str, chosen: NDArray[Any], numbers: dict[str, tuple[NDArray[Any], NDArray[Any]]]
    ) -> Slice:
        examples = [self.examples[i] for i in chosen]
        pairs = [(item.model, item.source) for item in examples if item.model and item.source]
        told = [item for item in examples if item.truth is not None and item.model and item.source]
        return Slice(
            name=name,
            examples=len(examples),
            snr_db=min(running.snr_of(chosen) for running in self.running.values()),
            top1_agreement=sum(a.label == b.label for a, b in pairs) / len(pairs) if pairs else None,
            accuracy_model=_right(told, lambda item: item.model),
            accuracy_source=_right(told, lambda item: item.source),
            measures=tuple(
                measured(metric, ours[chosen], theirs[chosen], self.options.confidence)
                for metric, (ours, theirs) in numbers.items()
            ),
        )

    def _verdict(
        self,
        limit: Limit,
        outputs: dict[str, Any],
        metrics: tuple[Measured, ...],
        slices: tuple[Slice, ...],
    ) -> Verdict:
        what, how = limit.parts
        if limit.of_slices and not slices:
            raise UsageError(f"gate {limit.name}: slices expected", hint="say which: --slices label")
        if limit.of_slices and limit.name in ("slice.snr_db", "slice.top1_agreement"):
            rated = [(getattr(item, how), item.name) for item in slices if getattr(item, how) is not None]
            if not rated:
                raise UsageError(f"gate {limit.name} is for a classifier, and the model is none")
            value, name = min(rated)
            return Verdict(limit.name, limit.limit, value, True, slice=name)
        if how in ("max_abs", "mean_abs", "snr_db", "psnr_db"):
            if what not in outputs:
                raise UsageError(f"gate {limit.name}: no output {what!r}; there are {', '.join(outputs)}")
            return Verdict(limit.name, limit.limit, getattr(outputs[what], how), limit.at_least)
        rows = [(item.measures, item.name) for item in slices] if limit.of_slices else [(metrics, "")]
        verdicts = []
        for measures, name in rows:
            found = next((item for item in measures if item.name == what), None)
            if found is None:
                raise UsageError(
                    f"gate {limit.name}: the metric {what!r} is not measured", hint=f"add --metric {what}"
                )
            value, interval = found.model, found.model_interval
            if how in ("drop", "rise"):
                sign = 1 if how == "drop" else -1
                value, interval = sign * found.drop, found.drop_interval
                if interval is not None and how == "rise":
                    interval = (-interval[1], -interval[0])
            verdicts.append(Verdict(limit.name, limit.limit, value, limit.at_least, interval, name))
        worst = min if limit.at_least else max
        return worst(verdicts, key=lambda item: item.judged if item.judged is not None else CEILING_DB)

    def _intervals(self) -> dict[str, list[float]]:
        """Of what every report holds: shares by Wilson, the worst output's SNR by resampling."""
        sure, found = self.options.confidence, {}
        worst = min(self.running.values(), key=lambda item: item.total().snr_db)
        found["snr_db"] = resampled(np.array(worst.rows), worst.snr_of_means, sure)
        pairs = [(item.model, item.source) for item in self.examples if item.model and item.source]
        if pairs:
            found["top1_agreement"] = wilson(sum(a.label == b.label for a, b in pairs), len(pairs), sure)
        told = [item for item in self.examples if item.truth is not None and item.model and item.source]
        if told:
            right = np.array(
                [
                    [item.model.label == item.truth, item.source.label == item.truth]
                    for item in told
                    if item.model and item.source
                ],
                np.float64,
            )
            found["accuracy_model"] = wilson(int(right[:, 0].sum()), len(told), sure)
            found["accuracy_source"] = wilson(int(right[:, 1].sum()), len(told), sure)
            drop = resampled(right, lambda means: means[:, 1] - means[:, 0], sure)
            found["accuracy_drop"] = drop
        return {name: list(interval) for name, interval in found.items() if interval is not None}

    def _of_pictures(self) -> bool:
        return self.model.image is not None

    def _subject(self) -> Subject:
        description = self.model.description
        systems = description.minimum_targets
        about = Preparation.of_model(self.model)
        image = self.model.image
        said = [f"{item.name}: {item.type} {list(item.shape)}" for item in description.inputs]
        return Subject(
            name=self.model.name,
            digest=self.model.digest,
            bytes=sum(self.model.asset.package.members.values()),
            target=f"iOS {systems['iOS']}" if "iOS" in systems else "",
            labels=self.model.labels,
            input=f"{image.name}: {about}" if image else "; ".join(said),
            made_by=metadata(description),
        )

    def _notes(self, subject: Side) -> list[str]:
        notes = []
        ours = Preparation.of_model(self.model)
        card = self.other.reference.card if isinstance(self.other, ReferenceSide) else None
        theirs = Preparation.of_source(card.input) if card else None
        if isinstance(self.other, ModelSide):
            theirs = Preparation.of_model(self.other)
        if ours is not None and theirs is not None and ours != theirs:
            notes.append(f"The model's pictures are prepared as {ours}, the source's as {theirs}.")
        if ours is not None and self.model.record is None:
            notes.append(f"The model does not say how pictures are prepared; {ours.option} was used.")
        if "random samples" in self.samples.about:
            notes.append(_RANDOM)
        if self.pairs is not None and self.pairs.left_out:
            notes.append(f"Outputs that the other side does not have: {', '.join(self.pairs.left_out)}.")
        if self.other.digest == self.model.digest:
            notes.append("Both sides are the same file: that a conversion was right is not shown.")
        if subject is not self.model:
            notes.append(f"The model was executed elsewhere: {getattr(subject, 'by', '')}.")
        return notes


def _right(told: Sequence[Example], of: Callable[[Example], Answer | None]) -> float | None:
    answers = [(of(item), item.truth) for item in told]
    return sum(a is not None and a.label == truth for a, truth in answers) / len(told) if told else None


def _answer(
    named: str,
    labels: tuple[str, ...],
    row: NDArray[np.float64],
    log: NDArray[np.float64],
    column: int,
    told: bool,
) -> Answer:
    probability = row[labels.index(named)] if named in labels else np.float64("nan")
    return Answer(named, _finite(probability), _finite(row[column]) if told else None, _finite(log[column]))


def _finite(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None
