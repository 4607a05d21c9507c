"""What locate found, as values and as the JSON of a report's member `locate`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

# What can be the matter with an op, and what to do about it.
ADVICE = {
    "overflow": "keep it and what takes its values in float32, or scale the values down before it",
    "underflow": "keep it in float32 together with what makes its inputs, or scale the values up",
    "cancellation": "keep it in float32 together with what makes its inputs, or compute the difference first",
    "amplification": "keep it in float32 together with what makes its inputs",
    "rounding": "no op stands out: keep several in float32, which --fix chooses, or accept the limit",
    "constant": "the file holds other numbers than the source: convert it again, or repair the conversion",
    "setting": "the op has another mode than in the source: convert it again, or repair the conversion",
    "layout": "the axes are in another order than in the source: repair the conversion",
    "compression": "give this weight more bits, or leave it as it is",
    "offset": "a term was lost in the conversion: add it, or correct the output (--correct-outputs)",
    "unknown": "look at how the source computes this value",
}
NUMERIC, CONVERSION = "numeric", "conversion"


@dataclass(frozen=True, slots=True)
class Step:
    """One value along the graph; ratios of signal to noise in dB, from -200 to 200.

    `total_db`: in the numeric mode asked for against float32, with everything before it. `own_db`: the same
    when its op gets what float32 computed. `source_db`: in float32 against the source, its op fed with the
    source's values; None where no value of the source corresponds. `peak`: the largest magnitude in float32.
    """

    name: str
    type: str
    total_db: float
    own_db: float
    peak: float
    source_db: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """An op and what is the matter with it.

    `question`: "numeric" (the file's own types against float32) or "conversion" (float32 against the source).
    `kind`: a key of ADVICE. `effect_db`: signal to noise of the worst output if this were the only error;
    None where that is not known. `module`, `source`: where it stands in the user's model, empty when unknown.
    """

    question: str
    kind: str
    op: str
    type: str
    words: str
    effect_db: float | None = None
    module: str = ""
    source: str = ""

    def __str__(self) -> str:
        place = ", ".join(filter(None, (self.module, self.source)))
        return f"{self.op} ({self.type}{f'; {place}' if place else ''}): {self.kind}: {self.words}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"advice": ADVICE[self.kind]}


@dataclass(frozen=True, slots=True)
class Location:
    """Where a model parts from what it should be.

    `numeric_db`, `conversion_db`: signal to noise of the worst output, the numeric mode against float32 and
    float32 against the source (None without one). `findings`: the first op of each question first, then the
    others in the program's order. `steps`: every value along the graph.
    """

    precision: str
    limit_db: float
    numeric_db: float
    conversion_db: float | None
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    samples: int = 1
    matched: int = field(default=0)

    @property
    def first(self) -> Finding | None:
        """What to look at first: a wrong conversion before a loss of precision."""
        order = sorted(self.findings, key=lambda item: item.question != CONVERSION)
        return order[0] if order else None

    def of(self, question: str) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.question == question)

    def summary(self) -> str:
        """A few lines for a terminal."""
        lines = [f"{self.precision} against float32: {decibels(self.numeric_db)}"]
        lines += _said(self.of(NUMERIC), self.numeric_db >= self.limit_db)
        if self.conversion_db is not None:
            lines.append(
                f"float32 against the source: {decibels(self.conversion_db)}, "
                f"{self.matched} inner values matched"
            )
            lines += _said(self.of(CONVERSION), self.conversion_db >= self.limit_db)
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "precision": self.precision,
            "limit_db": self.limit_db,
            "samples": self.samples,
            "numeric_db": self.numeric_db,
            "conversion_db": self.conversion_db,
            "matched": self.matched,
            "first": self.first.to_json() if self.first else None,
            "findings": [item.to_json() for item in self.findings],
            "steps": [item.to_json() for item in self.steps],
            "notes": list(self.notes),
        }


def _said(findings: tuple[Finding, ...], ok: bool) -> list[str]:
    if not findings:
        return ["  no op stands out" if not ok else "  they agree"]
    lines = [f"  first: {findings[0]}", f"         {ADVICE[findings[0].kind]}"]
    return lines + [f"  also:  {item}" for item in findings[1:6]]


def decibels(value: float) -> str:
    if abs(value) >= 200:
        return "equal" if value > 0 else "nothing in common"
    return f"{value:.1f} dB"
