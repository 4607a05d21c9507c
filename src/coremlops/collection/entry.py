"""One version of a model: its variants, for whom it is, and from when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from coremlops.collection import document
from coremlops.collection.names import KINDS
from coremlops.collection.rollout import Rollout
from coremlops.collection.rules import EVERYONE, Rule
from coremlops.errors import RepositoryError

MAX_VARIANTS = 16
MAX_PACKAGE_BYTES = 4 * 1024**3

_VARIANT = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a version. `model`: the model's digest; `manifest`: its manifest's SHA-256; `length`:
    bytes of
    all members together; `requires`: what a device must be."""

    name: str
    kind: str
    model: str
    manifest: str
    length: int
    requires: Rule = EVERYONE

    def to_json(self) -> dict[str, object]:
        values: dict[str, object] = {
            "name": self.name,
            "kind": self.kind,
            "model": self.model,
            "manifest": self.manifest,
            "length": self.length,
        }
        return values | ({"requires": self.requires.to_json()} if self.requires != EVERYONE else {})

    @staticmethod
    def from_json(value: object, what: str) -> Variant:
        """Read one variant; `what` names it in messages. Raises `RepositoryError`."""
        fields = document.Fields(value, what, ("name", "kind", "model", "manifest", "length"), ("requires",))
        if fields.text("kind") not in KINDS:
            fields.refuse("kind", f"one of {', '.join(KINDS)}")
        return Variant(
            name=check_variant(fields.text("name")),
            kind=fields.text("kind"),
            model=fields.sha256("model"),
            manifest=fields.sha256("manifest"),
            length=fields.integer("length", 1, MAX_PACKAGE_BYTES),
            requires=Rule.from_json(fields.raw("requires"), f"{what}: requires")
            if fields.has("requires")
            else EVERYONE,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One version on offer. `published`: when, UTC. `variants`: the first that fits a device is the one it
    gets.

    `rule`: which devices it is for. `rollout`: a share of them; None for all. `start`: not before then.
    `hold`: it wins against a newer model that the app carries. `embedded`: it has no variants, and says "use
    the model that the app carries". `resumed`: how many halts of it the channel's own key took back.
    """

    version: int
    published: datetime
    variants: tuple[Variant, ...] = ()
    rule: Rule = EVERYONE
    rollout: Rollout | None = None
    start: datetime | None = None
    hold: bool = False
    embedded: bool = False
    resumed: int = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The digests of its variants."""
        return tuple(each.model for each in self.variants)

    def variant(self, name: str) -> Variant:
        """The variant of that name. Raises `RepositoryError`."""
        for each in self.variants:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.variants) or "none"
        raise RepositoryError(f"version {self.version} has no variant {name!r:.40}; it has {known}")

    def has(self, manifest: str) -> bool:
        """Whether one of its variants is this one."""
        return any(each.manifest == manifest for each in self.variants)

    def to_json(self) -> dict[str, object]:
        """The JSON object, without what is as it is by default."""
        values: dict[str, object] = {
            "version": self.version,
            "published": document.time_text(self.published),
            "variants": [each.to_json() for each in self.variants],
        }
        if self.rule != EVERYONE:
            values["rule"] = self.rule.to_json()
        if self.rollout is not None:
            values["rollout"] = self.rollout.to_json()
        if self.start is not None:
            values["start"] = document.time_text(self.start)
        if self.resumed:
            values["resumed"] = self.resumed
        return values | {key: True for key in ("hold", "embedded") if getattr(self, key)}

    @staticmethod
    def from_json(value: object, what: str) -> Entry:
        """Read one entry; `what` names it in messages. Raises `RepositoryError`."""
        optional = ("rule", "rollout", "start", "hold", "embedded", "resumed")
        fields = document.Fields(value, what, ("version", "published", "variants"), optional)
        variants = tuple(
            Variant.from_json(item, f"{what}: variants[{place}]")
            for place, item in enumerate(fields.items("variants", MAX_VARIANTS))
        )
        embedded = fields.has("embedded") and fields.truth("embedded")
        if bool(variants) == embedded:
            fields.refuse("variants", "one or more, or none where 'embedded' is true")
        if len({each.name for each in variants}) != len(variants):
            fields.refuse("variants", "each name once")
        return Entry(
            version=fields.version("version"),
            published=fields.time("published"),
            variants=variants,
            rule=Rule.from_json(fields.raw("rule"), f"{what}: rule") if fields.has("rule") else EVERYONE,
            rollout=Rollout.from_json(fields.raw("rollout"), f"{what}: rollout")
            if fields.has("rollout")
            else None,
            start=fields.time("start") if fields.has("start") else None,
            hold=fields.has("hold") and fields.truth("hold"),
            embedded=embedded,
            resumed=fields.integer("resumed", 0, document.MAX_VERSION) if fields.has("resumed") else 0,
        )


def check_variant(name: str) -> str:
    """`name`, when it can be a variant's. Raises `RepositoryError`."""
    if not _VARIANT.fullmatch(name):
        raise RepositoryError(
            f"a variant's name is 1 to 40 of a-z, 0-9, '.' and '-', and begins with no sign; got {name!r:.80}"
        )
    return name
