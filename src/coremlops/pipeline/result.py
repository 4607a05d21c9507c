"""What a run reports: while it runs, and when it is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from coremlops.errors import CoremlopsError


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step: `status` is cached, ran, present or failed; `key` is empty for an effect."""

    name: str
    status: str
    elapsed_s: float
    key: str
    output: Path | None

    def as_json(self) -> dict[str, Any]:
        output = None if self.output is None else str(self.output)
        elapsed_s = round(self.elapsed_s, 4)
        return {
            "name": self.name,
            "status": self.status,
            "elapsed_s": elapsed_s,
            "key": self.key,
            "output": output,
        }


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run. `error` is why it stopped, None when it did all; `log`: the folder of its steps' logs."""

    run_id: str
    elapsed_s: float
    steps: tuple[StepResult, ...]
    error: CoremlopsError | None
    log: Path

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def ran_steps(self) -> int:
        return sum(step.status == "ran" for step in self.steps)

    @property
    def cached_steps(self) -> int:
        """Steps that had nothing to do: cached, or their effect present."""
        return sum(step.status in ("cached", "present") for step in self.steps)

    @property
    def work(self) -> bool:
        """Whether any step worked."""
        return any(step.status in ("ran", "failed") for step in self.steps)

    def step(self, name: str) -> StepResult:
        """The result of one step; KeyError when it was not reached."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def as_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "ok": self.ok,
            "run_id": self.run_id,
            "elapsed_s": round(self.elapsed_s, 4),
            "steps": [step.as_json() for step in self.steps],
            "cached_steps": self.cached_steps,
            "ran_steps": self.ran_steps,
            "work": self.work,
        }
        if self.error is not None:
            value["error"] = {
                "type": type(self.error).__name__,
                "message": self.error.message,
                "hint": self.error.hint,
            }
        return value


class Progress(Protocol):
    """Who is told what a run does."""

    def started(self, step: str, index: int, total: int, log: Path) -> None:
        """A step begins to work; `index` counts from 0; its output appears in `log`."""

    def finished(self, result: StepResult, index: int, total: int) -> None:
        """A step is done, was done already, or failed."""

    def tell(self, text: str) -> None:
        """Something that a person should know."""


class Silence:
    """Nobody is told."""

    def started(self, step: str, index: int, total: int, log: Path) -> None:
        pass

    def finished(self, result: StepResult, index: int, total: int) -> None:
        pass

    def tell(self, text: str) -> None:
        pass
