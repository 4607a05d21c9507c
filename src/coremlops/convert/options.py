"""What can be chosen about a conversion: one value, said in Python, in a file or by flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coremlops.convert.interface import Input, Output
from coremlops.convert.words import one_of
from coremlops.errors import UsageError
from coremlops.source import Card

# Minimum deployment target -> specification version (facts: coreml-format).
TARGETS = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9, "iOS26": 10}
PRECISIONS = ("float16", "float32")
KINDS = ("mlpackage", "aimodel")
CAPTURES = ("trace", "export")
LABEL = "classLabel"


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

    inputs, outputs: those whose type, name or shape is not the source's own; see `Input` and `Output`.
    keep_float32: ops that compute in float32 in a float16 model: patterns of names such as `softmax_*`, or
        `type:softmax`.
    states: patterns of the names of buffers that the model keeps from one prediction to the next (iOS18).
    labels: names of the classes; the model becomes a classifier. label_name: what its answer is called.
    capture: how a module of a factory becomes a program.
    weights: of a factory's module. without_repairs: names of repairs that are not wanted.
    functions: name -> source or `.mlpackage`: the model has several, which share their weights (iOS18).
        default_function: the one that answers when none is named.
    metadata: free keys of the model. card: replaces the `model.json` beside the source.

    Raises UsageError for a word that is not known.
    """

    target: str = "iOS16"
    precision: str = "float16"
    kind: str = "mlpackage"
    card: Card | None = None
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    keep_float32: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    label_name: str = LABEL
    capture: str = "trace"
    weights: Path | None = None
    without_repairs: tuple[str, ...] = ()
    functions: Mapping[str, str] = field(default_factory=dict)
    default_function: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    author: str = ""
    description: str = ""
    version: str = ""
    license: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, value, known in (
            ("target", self.target, tuple(TARGETS)),
            ("precision", self.precision, PRECISIONS),
            ("kind", self.kind, KINDS),
            ("capture", self.capture, CAPTURES),
        ):
            one_of(value, known, what)
        for what, names in (
            ("inputs", [item.name for item in self.inputs]),
            ("outputs", [item.name for item in self.outputs]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise UsageError(f"{what}: each name once expected, got twice: {', '.join(twice)}")
