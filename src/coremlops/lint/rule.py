"""A rule: what it looks for and why, with an example that it finds and one that it does not.

A rule is a generator over one `Part` of a model. Its docstring is its documentation: the first line is its
title, the rest says why it matters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from coremlops.lint.finding import Confidence, Level

if TYPE_CHECKING:
    from coremlops.dialects.neuralnetwork import Layer
    from coremlops.lint.context import Context
    from coremlops.lint.subject import Op, Part


class Hit(NamedTuple):
    """What a rule yields: words and place; level and confidence where they differ from the rule's.

    `at`: an operation, a layer, or the name of an input, output or key; empty for the whole model.
    """

    message: str
    at: Op | Layer | str = ""
    level: Level | None = None
    confidence: Confidence | None = None


Check: TypeAlias = "Callable[[Part, Context], Iterator[Hit]]"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and its documentation.

    `triggers`, `quiet`: models in the notation of docs/reference/lint-rules.md, found and not found.
    `leaves_engine`: an op that it finds is counted as one outside of the Neural Engine.
    `after`: it looks at what others have found.
    """

    id: str
    title: str
    why: str
    level: Level
    confidence: Confidence
    source: str
    fix: str
    triggers: str
    quiet: str
    leaves_engine: bool
    after: bool
    check: Check = field(repr=False)

    @property
    def family(self) -> str:
        """`os`, `ane`, `size`, `shape`, `fp16`, `range`, `meta` or `infer`."""
        return self.id.partition("-")[0]


FAMILIES = {
    "os": "Systems that read the model",
    "ane": "The Neural Engine",
    "shape": "Flexible shapes",
    "size": "Size and memory",
    "fp16": "float16, from the file alone",
    "range": "float16, from observed values",
    "infer": "Left over from training, or not meant",
    "meta": "Metadata",
}
RULES: dict[str, Rule] = {}


def rule(
    id: str,
    level: Level,
    confidence: Confidence,
    *,
    source: str,
    fix: str,
    triggers: str,
    quiet: str,
    leaves_engine: bool = False,
    after: bool = False,
) -> Callable[[Check], Check]:
    """Register a rule; the decorated function is its check. Raises ValueError for an id that cannot be."""

    def register(check: Check) -> Check:
        if id in RULES or id.partition("-")[0] not in FAMILIES:
            raise ValueError(f"{id!r} is taken, or of no known family")
        title, _, why = (inspect.getdoc(check) or "").partition("\n")
        RULES[id] = Rule(
            id=id,
            title=title.rstrip("."),
            why=" ".join(why.split()),
            level=level,
            confidence=confidence,
            source=source,
            fix=fix,
            triggers=inspect.cleandoc(triggers),
            quiet=inspect.cleandoc(quiet),
            leaves_engine=leaves_engine,
            after=after,
            check=check,
        )
        return check

    return register
