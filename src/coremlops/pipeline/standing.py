"""How a collection stands: what each channel offers of each model, and what a device would get of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from coremlops.collection import CHANNELS, Choice, Halts, History, Line, Profile, choose, document
from coremlops.pipeline.shipping import Shipping

if TYPE_CHECKING:
    from coremlops.release import Repository


@dataclass(frozen=True, slots=True)
class Standing:
    """A model in a channel as it stands."""

    line: Line
    history: History
    halts: Halts

    def words(self, version: int) -> str:
        """The channel, where this is its newest version on offer or one with a share, and how it stands."""
        line, entry = self.line, self.line.find(version)
        if entry is None or (entry != line.current and entry.rollout is None):
            return ""
        parts = ["rolled back"] if entry == line.current and line.rolled_back else []
        if entry.rollout is not None:
            parts.append(entry.rollout.percent)
        if entry.start is not None:
            parts.append(f"from {document.time_text(entry.start)}")
        if self.halts.halted(line.name, entry):
            parts.append("halted")
        return line.channel + (f" ({', '.join(parts)})" if parts else "")

    def to_json(self) -> dict[str, Any]:
        """The channel in `release list --json`."""
        line, current = self.line, self.line.current
        halted = [entry.version for entry in line.offers if self.halts.halted(line.name, entry)]
        return {
            "current": None if current is None else current.to_json(),
            "rolled_back": line.rolled_back,
            "offers": [entry.to_json() for entry in line.offers],
            "halted": halted,
            "history": [entry.to_json() for entry in self.history.entries],
        }


def open_repository(where: Shipping) -> Repository:
    """The repository, for the collection and model that are meant. Raises `RepositoryError`."""
    from coremlops.release import Repository

    return Repository.open(where.repository, where.collection, where.model)


def collection(where: Shipping, model: str | None = None) -> str:
    """Which collection of the repository is meant. Raises `RepositoryError`, also when it does not hold this
    model."""
    repository = open_repository(replace(where, model=model))
    if model is not None:
        repository.contents().known_name()
    return repository.collection


def listing(where: Shipping, model: str | None = None) -> Mapping[str, tuple[Standing, ...]]:
    """Both channels as they stand, of this model or of each that the collection holds, by name.

    Raises `RepositoryError`.
    """
    contents = open_repository(replace(where, model=model)).contents()
    names = contents.names if model is None else (contents.known_name(),)
    return {
        name: tuple(
            Standing(contents.index(each).line(name), contents.history(each, name), contents.halts(each))
            for each in CHANNELS
        )
        for name in names
    }


def explain(
    where: Shipping, channel: str, profile: Profile, model: str | None = None, now: datetime | None = None
) -> Mapping[str, Choice]:
    """What a device with this profile would get, and why: of this model or of each, by name.

    An empty collection has the model that its first version would make. Raises `RepositoryError`.
    """
    contents = open_repository(replace(where, model=model)).contents()
    names = (contents.names or (contents.name,)) if model is None else (contents.known_name(),)
    index, halts, now = contents.index(channel), contents.halts(channel), now or datetime.now(UTC)
    return {name: choose(index.line(name), halts, profile, now) for name in names}
