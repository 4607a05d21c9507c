"""What a rule found: where, how bad, how sure, and on whose word."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Level: TypeAlias = Literal["error", "warning", "note"]
Confidence: TypeAlias = Literal["H", "M", "L"]

LEVELS: tuple[Level, ...] = ("error", "warning", "note")  # the worst first
CONFIDENCE = {"H": "high", "M": "medium", "L": "low"}
# What coremltools appends to a name when it changes the precision of the value.
_CAST = re.compile(r"(_cast|_to)_fp(16|32)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    `op`: the name of an operation (its first result), a layer, an input or output, or a key of the metadata;
    empty for the whole model. `kind`: the type of the operation. `part`: the function or the member of a
    pipeline that holds it; empty for the model itself. `confidence`: H the format's or Apple's own words, or
    certain; M measured by others or observed here; L old or a guess. `source`: on whose word. `fix`: what to
    do. `suppressed`: the reason why it does not count; empty when it does. `known`: it is in the baseline.
    `module`, `code`: the dotted path of the user's module and `file:line` that the op came from, where the
    conversion wrote them.
    """

    rule: str
    level: Level
    message: str
    op: str
    kind: str
    part: str
    confidence: Confidence
    source: str
    fix: str
    suppressed: str = ""
    known: bool = False
    number: int = 1
    module: str = ""
    code: str = ""

    @property
    def fingerprint(self) -> str:
        """16 hex digits of rule, part and name: the same after a new conversion, in another precision too.

        `number` counts findings that are alike in all three, from 1.
        """
        stem = self.op
        while (shorter := _CAST.sub("", stem)) != stem:
            stem = shorter
        text = "\0".join((self.rule, self.part, stem, *([str(self.number)] if self.number > 1 else [])))
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    @property
    def place(self) -> str:
        """Part and name, as people read them; `the model` for neither."""
        return " in ".join(entry for entry in (self.op, self.part) if entry) or "the model"

    @property
    def counts(self) -> bool:
        """Whether it can fail a gate: neither suppressed nor in the baseline."""
        return not self.suppressed and not self.known

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "level": self.level,
            "message": self.message,
            "op": self.op,
            "kind": self.kind,
            "part": self.part,
            "confidence": CONFIDENCE[self.confidence],
            "source": self.source,
            "fix": self.fix,
            "fingerprint": self.fingerprint,
            "suppressed": self.suppressed,
            "known": self.known,
            "module": self.module,
            "code": self.code,
        }


def at_least(level: str, limit: str) -> bool:
    """Whether `level` is as bad as `limit` or worse."""
    return LEVELS.index(level) <= LEVELS.index(limit)
