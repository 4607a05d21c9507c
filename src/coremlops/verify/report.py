"""What a proof found, as values and as the JSON that other rooms read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coremlops.verify.gates import Verdict
from coremlops.verify.inner import LISTED_CHANNELS, Layer
from coremlops.verify.intervals import Interval
from coremlops.verify.metrics import Measured
from coremlops.verify.statistics import Difference
from coremlops.verify.views import View

# `emulated`: executed here, not by Apple's software. `mac` and `device` are for proofs made there.
EMULATED = "emulated"
RESTS_ON = {
    "emulated": "The Core ML file was executed by coremlops on this machine",
    "mac": "The Core ML file was executed by Apple's framework on a Mac",
    "device": "The Core ML file was executed by Apple's framework on a device",
}
LISTED_EXAMPLES = 1000
WORST_EXAMPLES = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side said about a picture: the top label, its probability, the true label's probability and
    log-odds in nats. Numbers are None when they are not finite."""

    label: str
    probability: float | None
    of_truth: float | None
    log_odds: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "probability": self.probability,
            "of_truth": self.of_truth,
            "log_odds": self.log_odds,
        }


@dataclass(frozen=True, slots=True)
class Example:
    """One example: its name in the data, the truth if there is one, how far apart the answers are.

    `source`, `model`: what a classifier's sides said. `snr_db`: of the worst output.
    """

    name: str
    truth: str | None
    source: Answer | None
    model: Answer | None
    max_abs: float | None
    log_odds_max_abs: float | None
    snr_db: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether both name one label; true of what has none."""
        return self.source is None or self.model is None or self.source.label == self.model.label

    @property
    def badness(self) -> tuple[bool, float, float]:
        """Sorts by disagreement, then by the difference in log-odds and in probability; or by the SNR."""
        if self.max_abs is None or (self.source is not None and self.log_odds_max_abs is None):
            return True, float("inf"), float("inf")
        if self.log_odds_max_abs is None:
            return False, -self.snr_db, self.max_abs
        return not self.agrees, self.log_odds_max_abs, self.max_abs

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "truth": self.truth}
        if self.source is not None and self.model is not None:
            found |= {"source": self.source.to_json(), "model": self.model.to_json()}
            found["log_odds_max_abs"] = self.log_odds_max_abs
        return found | {"max_abs": self.max_abs, "snr_db": self.snr_db}


class Worst:
    """The worst examples so far, with a view of each."""

    def __init__(self) -> None:
        self._kept: list[Example] = []
        self.views: dict[str, View] = {}

    def takes(self, example: Example) -> bool:
        """Whether it is among the worst, so that a view of it is wanted."""
        return len(self._kept) < WORST_EXAMPLES or example.badness > self._kept[-1].badness

    def put(self, example: Example, view: View) -> None:
        self._kept.append(example)
        self._kept.sort(key=lambda item: item.badness, reverse=True)
        self.views[example.name] = view
        for gone in self._kept[WORST_EXAMPLES:]:
            self.views.pop(gone.name, None)
        del self._kept[WORST_EXAMPLES:]


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the data. Shares are None for what has no labels or truths."""

    name: str
    examples: int
    snr_db: float
    top1_agreement: float | None
    accuracy_model: float | None
    accuracy_source: float | None
    measures: tuple[Measured, ...]

    @property
    def badness(self) -> tuple[float, float, float]:
        """Sorts by what it loses, then by disagreement, then by the SNR."""
        drops = [item.drop for item in self.measures]
        if self.accuracy_model is not None and self.accuracy_source is not None:
            drops.append(self.accuracy_source - self.accuracy_model)
        return max(drops, default=0.0), -(self.top1_agreement or 0.0), -self.snr_db

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "examples": self.examples, "snr_db": self.snr_db}
        if self.top1_agreement is not None:
            found["top1_agreement"] = self.top1_agreement
        if self.accuracy_model is not None:
            found["accuracy"] = {"model": self.accuracy_model, "source": self.accuracy_source}
        return found | {"metrics": [item.to_json() for item in self.measures]}


@dataclass(frozen=True, slots=True)
class Against:
    """What the model was held against. `kind`: "coreml", "torch.export", "onnx", ...; `precision`: of a Core
    ML model alone; `rests_on`: "source", "emulated" or "mac"."""

    name: str
    digest: str
    kind: str
    rests_on: str
    precision: str


@dataclass(frozen=True, slots=True)
class Data:
    """What both were asked with."""

    digest: str
    examples: int
    about: str
    pictures: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """The Core ML model that was judged. `target` is the oldest iOS that runs it; `made_by` its metadata
    `com.coremlops.*`."""

    name: str
    digest: str
    bytes: int
    target: str
    labels: tuple[str, ...]
    input: str
    made_by: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A whole proof. `notes` says what a reader must know besides the numbers.

    `top1_agreement` and the accuracies are None for what is no classifier, or has no truths. `slices`: the
    worst first. `intervals`: of the values of that name. `points`, `views`: what the page draws.
    """

    proof: str
    subject: Subject
    against: Against
    precision: str
    data: Data
    outputs: tuple[tuple[str, Difference], ...]
    top1_agreement: float | None
    accuracy_model: float | None
    accuracy_source: float | None
    verdicts: tuple[Verdict, ...]
    examples: tuple[Example, ...]
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]
    measures: tuple[Measured, ...] = ()
    slices: tuple[Slice, ...] = ()
    intervals: Mapping[str, list[float]] = field(default_factory=dict)
    confidence: float = 0.95
    points: tuple[tuple[float, float, str], ...] = field(default=(), repr=False)
    views: Mapping[str, View] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        return all(verdict.ok for verdict in self.verdicts)

    @property
    def snr_db(self) -> float:
        """The worst of the compared outputs."""
        return min(item.snr_db for _, item in self.outputs)

    @property
    def worst(self) -> tuple[Example, ...]:
        """The examples that differ most, worst first."""
        return tuple(
            sorted(self.examples, key=lambda example: example.badness, reverse=True)[:WORST_EXAMPLES]
        )

    @property
    def worst_layers(self) -> tuple[Layer, ...]:
        """The layers with the worst channels, worst first."""
        return tuple(sorted(self.layers, key=lambda layer: layer.worst_db)[:LISTED_CHANNELS])

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(str(verdict) for verdict in self.verdicts if not verdict.ok)

    def summary(self) -> str:
        """A few lines for a terminal."""
        what = "pictures" if self.data.pictures else "examples"
        lines = [
            f"{'proven' if self.ok else 'NOT proven'} ({self.proof}, {self.precision}): "
            f"{self.subject.name} against {self.against.name}, {len(self.examples)} {what}"
        ]
        said = []
        if self.accuracy_model is not None:
            said.append(f"accuracy {self.accuracy_model:.1%} (source {self.accuracy_source:.1%})")
        if self.top1_agreement is not None:
            said.append(f"same label {self.top1_agreement:.1%}")
        lines.append(", ".join([*said, f"SNR {self.snr_db:.1f} dB"]))
        for item in self.measures:
            lines.append(f"{item.name} {_with(item.model, item.model_interval)}, source {item.source:.4g}")
        if self.slices:
            worst = self.slices[0]
            lines.append(
                f"worst of {len(self.slices)} slices: {worst.name} ({worst.examples} {what}), "
                f"SNR {worst.snr_db:.1f} dB"
            )
        for verdict in self.verdicts:
            lines.append(f"  {'ok  ' if verdict.ok else 'FAIL'} {verdict}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def metrics(self) -> dict[str, float]:
        """Numbers for MLflow."""
        values = {
            "snr_db": self.snr_db,
            "examples": float(len(self.examples)),
            "gates_failed": float(len(self.failed)),
        }
        for name in ("top1_agreement", "accuracy_model", "accuracy_source"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        for metric in self.measures:
            values |= {f"{metric.name}.model": metric.model, f"{metric.name}.source": metric.source}
        if self.layers:
            values["channel_snr_db"] = self.worst_layers[0].worst_db
        for name, item in self.outputs:
            values |= {
                f"{name}.{key}": number for key, number in item.to_json().items() if number is not None
            }
        return values

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json`: no path of this machine and no time, so equal proofs are equal."""
        found: dict[str, Any] = {
            "format": 1,
            "kind": "proof",
            "proof": self.proof,
            "ok": self.ok,
            "model": {
                "digest": self.subject.digest,
                "bytes": self.subject.bytes,
                "target": self.subject.target,
                "labels": list(self.subject.labels),
                "metadata": dict(self.subject.made_by),
            },
            "source": {
                "digest": self.against.digest,
                "kind": self.against.kind,
                "rests_on": self.against.rests_on,
            },
            "precision": self.precision,
            "data": {
                "digest": self.data.digest,
                "examples": len(self.examples),
                "about": self.data.about,
            },
            "outputs": {name: item.to_json() for name, item in self.outputs},
            "snr_db": self.snr_db,
            "confidence": self.confidence,
            "intervals": dict(self.intervals),
            "metrics": [item.to_json() for item in self.measures],
            "slices": [item.to_json() for item in self.slices],
            "layers": {
                "compared": len(self.layers),
                "channels": sum(layer.channels for layer in self.layers),
                "worst": [layer.to_json() for layer in self.worst_layers],
            },
            "gates": [verdict.to_json() for verdict in self.verdicts],
            "worst": [example.to_json() for example in self.worst],
            "examples": [example.to_json() for example in self.examples[:LISTED_EXAMPLES]],
            "notes": list(self.notes),
        }
        if self.against.precision:
            found["source"]["precision"] = self.against.precision
        if self.top1_agreement is not None:
            found["top1_agreement"] = self.top1_agreement
        if self.accuracy_model is not None:
            found["accuracy"] = {"model": self.accuracy_model, "source": self.accuracy_source}
        return found


def _with(value: float, interval: Interval | None) -> str:
    return f"{value:.4g}" + (f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else "")
