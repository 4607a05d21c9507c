"""Ask a Core ML model and its source the same questions, and compare the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import coremlops
from coremlops.source import Labelled, read_labelled
from coremlops.verify.gates import Gates
from coremlops.verify.inner import inner_layers
from coremlops.verify.report import EMULATED, Answer, Example, Report, Subject
from coremlops.verify.sides import (
    Answers,
    ModelSide,
    Preparation,
    SourceSide,
    ask,
    metadata,
    model_side,
    source_side,
)
from coremlops.verify.statistics import UNDECIDED_NATS, difference, log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray


_NOT_INSIDE = (
    "Layers could not be matched by name, so only the outputs were compared, and the gate channel_snr_db was "
    "left out. A source saved with torch.export and a Core ML file converted from it can be matched."
)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """`precision`: the runtime's numeric mode. `progress` is called with (done, of) after each picture."""

    precision: str = "typed"
    gates: Gates = field(default_factory=Gates)
    progress: Callable[[int, int], None] | None = None


def verify(model: Path, against: Path, data: Path, options: VerifyOptions | None = None) -> Report:
    """Compare a Core ML classifier with its source on every picture of a labelled folder.

    Each side is fed as it says itself: the Core ML model with the bytes of a picture prepared as its metadata
    says, the source with `pixels * scale + bias` from its own `model.json`. So a scale that was lost on the
    way shows. Answers are compared by label name, as an app reads them, so labels that were swapped show.

    `model`: an `.mlpackage`, or a folder that holds `model.mlpackage`.
    A report with gates that failed is returned like any other. Raises InputError for a model or source that
    is no classifier of one image, labels that differ, or a source whose answers are not finite; DataError for
    pictures; ModelError for a model that cannot run here.
    """
    options = options or VerifyOptions()
    judged = model_side(model)
    source = source_side(against, judged)
    pictures = read_labelled(data)
    program = source.source.load()
    loaded = coremlops.load(judged.path, precision=options.precision)
    answers = ask(judged, loaded, source, program, pictures, options.progress)
    layers = inner_layers(judged, loaded, source, program, pictures)
    expected, got = answers.source, answers.model

    logs = log_odds(expected), log_odds(got)
    outputs = (
        (judged.probabilities, difference(expected, got)),
        (f"{judged.probabilities}.log_odds", difference(*logs, floor=UNDECIDED_NATS)),
    )
    examples = _examples(pictures, source.card.labels, answers, logs)
    count = len(examples)
    right_model = sum(example.model.label == example.truth for example in examples) / count
    right_source = sum(example.source.label == example.truth for example in examples) / count
    agreement = sum(example.model.label == example.source.label for example in examples) / count
    return Report(
        proof=EMULATED,
        subject=_subject(judged),
        source_name=f"{source.source.kind}, {source.source.path.name}",
        source_digest=source.source.digest,
        precision=options.precision,
        data_digest=pictures.digest,
        outputs=outputs,
        top1_agreement=agreement,
        accuracy_model=right_model,
        accuracy_source=right_source,
        verdicts=options.gates.judge(
            {
                "snr_db": min(item.snr_db for _, item in outputs),
                "top1_agreement": agreement,
                "accuracy_drop": right_source - right_model,
                "max_abs": outputs[0][1].max_abs,
                **({"channel_snr_db": min(layer.worst_db for layer in layers)} if layers else {}),
            }
        ),
        layers=layers,
        examples=examples,
        notes=(*source.notes, *_notes(judged, source), *([] if layers else [_NOT_INSIDE])),
    )


def _examples(
    pictures: Labelled,
    labels: tuple[str, ...],
    answers: Answers,
    logs: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[Example, ...]:
    made = []
    for i, (name, truth) in enumerate(zip(pictures.names, pictures.labels, strict=True)):
        column = labels.index(truth)
        expected, got = answers.source[i], answers.model[i]
        named = labels[int(np.argmax(expected))]
        made.append(
            Example(
                name=name,
                truth=truth,
                source=_answer(named, labels, expected, logs[0][i], column),
                model=_answer(answers.named[i], labels, got, logs[1][i], column),
                max_abs=_finite(np.abs(expected - got).max()),
                log_odds_max_abs=_finite(np.abs(logs[0][i] - logs[1][i]).max()),
            )
        )
    return tuple(made)


def _answer(
    named: str, labels: tuple[str, ...], row: NDArray[np.float64], log: NDArray[np.float64], truth: int
) -> Answer:
    return Answer(named, _finite(row[labels.index(named)]), _finite(row[truth]), _finite(log[truth]))


def _finite(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None


def _subject(model: ModelSide) -> Subject:
    systems = model.description.minimum_targets
    about = Preparation.of_model(model)
    return Subject(
        name=model.path.name,
        digest=model.asset.digest,
        bytes=sum(model.asset.package.members.values()),
        target=f"iOS {systems['iOS']}" if "iOS" in systems else "",
        labels=model.labels,
        input=f"{model.image.name}: {about}",
        made_by=metadata(model),
    )


def _notes(model: ModelSide, source: SourceSide) -> list[str]:
    notes = []
    ours, theirs = Preparation.of_model(model), Preparation.of_source(source.card)
    if ours != theirs:
        notes.append(f"The model's pictures are prepared as {ours}, the source's as {theirs}.")
    if model.preparation is None:
        notes.append(f"The model does not say how pictures are prepared; {ours.option} was used.")
    return notes
