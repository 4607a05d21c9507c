"""What can be chosen about a conversion."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from coremlops.errors import UsageError
from coremlops.source import Card

# Minimum deployment target -> specification version (facts: coreml-format).
TARGETS = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9, "iOS26": 10}
PRECISIONS = ("float16", "float32")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a model. Each is an opaque word and may be empty.

    It becomes metadata of the model, so it is part of the model's digest: a conversion that is run again for
    another pipeline run makes another model, and one that the step store answers keeps the run that made it.
    Nothing else that differs from one conversion to the next (date, random identifiers) stands in the model.
    """

    run: str = ""
    data: str = ""
    code: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Provenance:
        """Read `COREMLOPS_RUN_ID`, `COREMLOPS_DATA_DIGEST` and `COREMLOPS_CODE_DIGEST`."""
        values = os.environ if environment is None else environment
        return cls(
            run=values.get("COREMLOPS_RUN_ID", ""),
            data=values.get("COREMLOPS_DATA_DIGEST", ""),
            code=values.get("COREMLOPS_CODE_DIGEST", ""),
        )


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """`target` is the oldest system that must run the model; `precision` the type that it computes in.

    `keep_float32`: ops that compute in float32 all the same: patterns of names (`decoder.*`, `exp_3`), or
    `type:softmax`.
    `card` replaces the `model.json` beside the source. Raises UsageError for a word that is not known.
    """

    target: str = "iOS16"
    precision: str = "float16"
    card: Card | None = None
    provenance: Provenance = field(default_factory=Provenance)
    author: str = ""
    description: str = ""
    keep_float32: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, value, known in (
            ("target", self.target, tuple(TARGETS)),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                near = get_close_matches(value, known, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]}?" if near else ""
                raise UsageError(f"{what}: one of {', '.join(known)} expected, got {value!r}", hint=hint)
