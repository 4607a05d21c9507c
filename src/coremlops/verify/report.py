"""What a proof found, as values and as the JSON that other rooms read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coremlops.verify.gates import Verdict
from coremlops.verify.inner import LISTED_CHANNELS, Layer
from coremlops.verify.statistics import Difference

# `emulated`: executed here, not by Apple's software. `mac` and `device` are for proofs made there.
EMULATED = "emulated"
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
    """One picture: its name below the data folder, the true label, both answers, how far apart they are."""

    name: str
    truth: str
    source: Answer
    model: Answer
    max_abs: float | None
    log_odds_max_abs: float | None

    @property
    def badness(self) -> tuple[bool, float, float]:
        """Sorts by disagreement, then by the difference in log-odds, then in probability."""
        if self.log_odds_max_abs is None or self.max_abs is None:
            return True, float("inf"), float("inf")
        return self.source.label != self.model.label, self.log_odds_max_abs, self.max_abs

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "truth": self.truth,
            "source": self.source.to_json(),
            "model": self.model.to_json(),
            "max_abs": self.max_abs,
            "log_odds_max_abs": self.log_odds_max_abs,
        }


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
    """A whole proof. `notes` says what a reader must know besides the numbers."""

    proof: str
    subject: Subject
    source_name: str
    source_digest: str
    precision: str
    data_digest: str
    outputs: tuple[tuple[str, Difference], ...]
    top1_agreement: float
    accuracy_model: float
    accuracy_source: float
    verdicts: tuple[Verdict, ...]
    examples: tuple[Example, ...]
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]

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
        lines = [
            f"{'proven' if self.ok else 'NOT proven'} ({self.proof}, {self.precision}): "
            f"{self.subject.name} against {self.source_name}, {len(self.examples)} pictures",
            f"accuracy {self.accuracy_model:.1%} (source {self.accuracy_source:.1%}), "
            f"same label {self.top1_agreement:.1%}, SNR {self.snr_db:.1f} dB",
        ]
        for verdict in self.verdicts:
            lines.append(f"  {'ok  ' if verdict.ok else 'FAIL'} {verdict}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def metrics(self) -> dict[str, float]:
        """Numbers for MLflow."""
        values = {
            "snr_db": self.snr_db,
            "top1_agreement": self.top1_agreement,
            "accuracy_model": self.accuracy_model,
            "accuracy_source": self.accuracy_source,
            "examples": float(len(self.examples)),
            "gates_failed": float(len(self.failed)),
        }
        if self.layers:
            values["channel_snr_db"] = self.worst_layers[0].worst_db
        for name, item in self.outputs:
            values |= {
                f"{name}.{key}": number for key, number in item.to_json().items() if number is not None
            }
        return values

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json`: no path of this machine and no time, so equal proofs are equal."""
        return {
            "format": 1,
            "proof": self.proof,
            "ok": self.ok,
            "model": {
                "digest": self.subject.digest,
                "bytes": self.subject.bytes,
                "target": self.subject.target,
                "labels": list(self.subject.labels),
                "metadata": dict(self.subject.made_by),
            },
            "source": {"digest": self.source_digest},
            "precision": self.precision,
            "data": {"digest": self.data_digest, "examples": len(self.examples)},
            "outputs": {name: item.to_json() for name, item in self.outputs},
            "top1_agreement": self.top1_agreement,
            "accuracy": {"model": self.accuracy_model, "source": self.accuracy_source},
            "snr_db": self.snr_db,
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
