"""Why a step would run, or ran: which ingredient changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coremlops.pipeline.address import tracking_uri
from coremlops.pipeline.difference import differences
from coremlops.pipeline.project import ReadyStep, load_project
from coremlops.pipeline.session import Session
from coremlops.pipeline.store import Output


@dataclass(frozen=True, slots=True)
class Why:
    """The answer for one step.

    `status`: "up to date", "never ran", "changed", "waits" (a step before it runs first, and its output
    decides) or "lost" (nothing changed, but its output is gone). `reasons`: one line for each change.
    `last_reasons`: why it ran when it last did; `last_run`: when that was (RFC 3339), empty when never.
    """

    step: str
    status: str
    reasons: tuple[str, ...]
    last_run: str
    last_reasons: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether `coremlops run` would have something to do for it."""
        return self.status != "up to date"

    def as_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "status": self.status,
            "runs": self.runs,
            "reasons": list(self.reasons),
            "last_run": self.last_run,
            "last_reasons": list(self.last_reasons),
        }


def why(
    project: Path, step: str, *, pipeline: str = "main", overrides: Mapping[str, str] | None = None
) -> Why:
    """Say what changed since `step` last ran; runs nothing.

    Raises `ConfigError` for a step that does not exist, `InputError` for an input that is not there.
    """
    loaded = load_project(project)
    session = Session.open(loaded, loaded.ready(pipeline, overrides, step))
    outputs: dict[str, Output] = {}
    answers: dict[str, Why] = {}
    for ready in session.pipeline.steps:
        answers[ready.name] = _answer(session, ready, outputs, answers)
    session.code.save()
    return answers[step]


def _answer(
    session: Session, ready: ReadyStep, outputs: dict[str, Output], answers: Mapping[str, Why]
) -> Why:
    _, last = session.last(ready.name)
    when, before = (last.finished, last.because) if last else ("", ())

    def answer(status: str, *reasons: str) -> Why:
        return Why(ready.name, status, reasons, when, before)

    waits = [name for name in ready.step.upstream if name not in outputs]
    if waits:
        reasons = [f"{name} runs first, because {_first(answers[name])}" for name in waits]
        if last is None:
            return answer("never ran", *reasons)
        own = _own_changes(session, ready, outputs)
        return answer("changed" if own else "waits", *own, *reasons)
    inputs = session.inputs(ready, outputs)
    ingredients = session.ingredients(ready, {name: item.tree.digest for name, item in inputs.items()})
    listings = {item.tree.digest: item.tree.files for item in inputs.values()}
    listings |= {tree.digest: tree.files for tree in session.code.trees(ready).values()}
    changed = (
        differences(last.ingredients, ingredients, ready, session.store, listings) if last is not None else []
    )
    if ready.effect:
        if session.present(ready, inputs, tracking_uri(session.project)) is None:
            if last is None:
                return answer("never ran")
            return answer("changed", *(changed or ["what it made is no longer there"]))
        output = session.effect_output(ready.name)
        if output is not None:
            outputs[ready.name] = output
        return answer("up to date")
    found = session.store.find(ingredients.key())
    if found is not None:
        outputs[ready.name] = found[1]
        if last is not None and changed:
            return answer("up to date", "this was done before; changed since it last ran:", *changed)
        return answer("up to date")
    if last is None:
        return answer("never ran")
    return answer("changed", *changed) if changed else answer("lost", "its output is no longer in the store")


def _own_changes(session: Session, ready: ReadyStep, outputs: Mapping[str, Output]) -> list[str]:
    """Changes of a step whose inputs are not all known yet: those beside them."""
    _, last = session.last(ready.name)
    if last is None:
        return []
    known = dict(last.ingredients.inputs)
    for source in ready.step.inputs:
        if source.step is None or source.step in outputs:
            known[source.name] = session.input(ready, source, outputs).tree.digest
    ingredients = session.ingredients(ready, known)
    trees = session.code.trees(ready).values()
    listings = {tree.digest: tree.files for tree in trees}
    return differences(last.ingredients, ingredients, ready, session.store, listings)


def _first(answer: Why) -> str:
    """The root of an answer: what made it run, in one line."""
    if answer.status == "never ran":
        return "it never ran"
    return answer.reasons[0] if answer.reasons else answer.status
