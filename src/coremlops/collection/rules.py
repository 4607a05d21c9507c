"""Which devices a version, or a variant of it, is for. Signed by the publisher, judged on the device.

A rule is an object whose conditions must all hold; a condition is a list, of which one must fit; what a
device does not know of itself fits nothing; the empty rule fits every device.

    {"os": [{"name": "iOS", "min": "17.0", "below": "19"}], "device_class": ["phone"], "chip": ["A17 Pro"],
     "app_version": {"min": "3.2"}, "language": ["de", "en-GB"], "region": ["DE"]}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

from coremlops.collection import document
from coremlops.collection.names import check_name
from coremlops.errors import RepositoryError

SYSTEMS = ("iOS", "iPadOS", "macOS", "tvOS", "visionOS", "watchOS", "Linux")
DEVICE_CLASSES = ("phone", "pad", "mac", "tv", "vision", "watch", "other")
MAX_CHOICES = 64

_VERSION = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){0,3}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
_REGION = re.compile(r"[A-Z]{2}|[0-9]{3}")
_CHIP = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]{0,39}")


def is_chip(text: str) -> bool:
    """Whether `text` can be a chip's name: at most 40 letters, digits, spaces, dots, plus and hyphens."""
    return _CHIP.fullmatch(text) is not None


def version_key(text: str) -> tuple[int, ...]:
    """A version as numbers, for comparing: `17.0` is `17`. Raises `RepositoryError`."""
    if not _VERSION.fullmatch(text):
        raise RepositoryError(f"a version is 1 to 4 numbers with dots between, got {text!r:.40}")
    numbers = [int(part) for part in text.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@dataclass(frozen=True, slots=True)
class Range:
    """Versions from `min` on and before `below`; either may be missing."""

    min: str | None = None
    below: str | None = None

    def holds(self, version: str) -> bool:
        key = version_key(version)
        if self.min is not None and key < version_key(self.min):
            return False
        return self.below is None or key < version_key(self.below)

    def meets(self, other: Range) -> bool:
        """Whether a version can lie in both."""
        low = max((version_key(each) for each in (self.min, other.min) if each is not None), default=(0,))
        return all(each is None or low < version_key(each) for each in (self.below, other.below))

    def to_json(self) -> dict[str, str]:
        return {key: value for key, value in (("min", self.min), ("below", self.below)) if value is not None}

    @staticmethod
    def read(fields: document.Fields) -> Range:
        """The `min` and `below` of an object. Raises `RepositoryError`, for an empty range too."""
        found = Range(*(fields.text(key) if fields.has(key) else None for key in ("min", "below")))
        for text in (found.min, found.below):
            if text is not None:
                version_key(text)
        if found.min is None and found.below is None:
            raise RepositoryError(f"{fields.what}: 'min' or 'below' is missing")
        if not found.meets(Range()):
            raise RepositoryError(
                f"{fields.what}: no version is from {found.min} on and before {found.below}"
            )
        return found

    def __str__(self) -> str:
        parts = [f"{self.min} or later" if self.min else "", f"before {self.below}" if self.below else ""]
        return " and ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class System:
    """A system, and which of its versions; `versions` is None for all."""

    name: str
    versions: Range | None = None

    def meets(self, other: System) -> bool:
        """Whether a device can have both."""
        if self.name != other.name:
            return False
        return (self.versions or Range()).meets(other.versions or Range())

    def to_json(self) -> dict[str, str]:
        return {"name": self.name} | (self.versions.to_json() if self.versions is not None else {})

    def __str__(self) -> str:
        return f"{self.name} {self.versions}" if self.versions is not None else self.name


@dataclass(frozen=True, slots=True)
class Profile:
    """What a device knows of itself. An empty text is unknown.

    `install_id`: 32 hex digits, random, made on the device; it never leaves it. `embedded_version`: of the
    model that the app carries, 0 for none; of several models, (name, version) of each that it carries.
    `kinds`: those of models that it can run.
    """

    os: str = ""
    os_version: str = ""
    device_class: str = ""
    chip: str = ""
    app_version: str = ""
    language: str = ""
    region: str = ""
    install_id: str = ""
    embedded_version: int | tuple[tuple[str, int], ...] = 0
    kinds: tuple[str, ...] = ("mlpackage", "mlmodel")

    def carries(self, name: str) -> int:
        """The version of this model that the app carries, 0 for none."""
        if isinstance(self.embedded_version, int):
            return self.embedded_version
        return dict(self.embedded_version).get(name, 0)

    @staticmethod
    def from_json(value: object) -> Profile:
        """Read a profile, as `release explain --device` takes it. Raises `RepositoryError`."""
        texts = (
            "os",
            "os_version",
            "device_class",
            "chip",
            "app_version",
            "language",
            "region",
            "install_id",
        )
        fields = document.Fields(value, "profile", (), (*texts, "embedded_version", "kinds"))
        found = {key: fields.text(key) for key in texts if fields.has(key)}
        for key in ("os_version", "app_version"):
            if found.get(key):
                version_key(found[key])
        if not re.fullmatch(r"[0-9a-f]{32}|", found.get("install_id", "")):
            fields.refuse("install_id", "32 lower-case hex digits")
        kinds = fields.texts("kinds", 8) if fields.has("kinds") else Profile().kinds
        return Profile(
            os=found.get("os", ""),
            os_version=found.get("os_version", ""),
            device_class=found.get("device_class", ""),
            chip=found.get("chip", ""),
            app_version=found.get("app_version", ""),
            language=found.get("language", ""),
            region=found.get("region", ""),
            install_id=found.get("install_id", ""),
            embedded_version=_embedded(fields) if fields.has("embedded_version") else 0,
            kinds=kinds,
        )


def _embedded(fields: document.Fields) -> int | tuple[tuple[str, int], ...]:
    """One version, or an object: the version of each model by its name."""
    value = fields.raw("embedded_version")
    if not isinstance(value, dict):
        return fields.integer("embedded_version", 0, document.MAX_VERSION)
    numbers = all(type(each) is int and 0 <= each <= document.MAX_VERSION for each in value.values())
    if not numbers or len(value) > MAX_CHOICES:
        fields.refuse("embedded_version", f"a whole number, or one for each of {MAX_CHOICES} models by name")
    return tuple((check_name(str(name)), version) for name, version in value.items())


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions on a device; an empty one holds for all."""

    os: tuple[System, ...] = ()
    device_class: tuple[str, ...] = ()
    chip: tuple[str, ...] = ()
    app_version: Range | None = None
    language: tuple[str, ...] = ()
    region: tuple[str, ...] = ()

    def why_not(self, profile: Profile) -> str | None:
        """The first condition that the device does not meet, in words; None when the rule holds."""
        if self.os and not any(_runs(system, profile) for system in self.os):
            wanted = " or ".join(str(system) for system in self.os)
            return f"needs {wanted}, this is {_known(f'{profile.os} {profile.os_version}'.strip())}"
        for what, wanted_values, own in (
            ("device class", self.device_class, profile.device_class),
            ("chip", self.chip, profile.chip),
            ("region", self.region, profile.region),
        ):
            if wanted_values and own not in wanted_values:
                return f"for {what} {', '.join(wanted_values)}; this is {_known(own)}"
        if self.language and not any(_speaks(each, profile.language) for each in self.language):
            return f"for language {', '.join(self.language)}; this is {_known(profile.language)}"
        if self.app_version is not None and not (
            profile.app_version and self.app_version.holds(profile.app_version)
        ):
            return f"needs app version {self.app_version}; this is {_known(profile.app_version)}"
        return None

    def both(self, other: Rule) -> Rule:
        """The rule that holds where both do. Raises `RepositoryError` where no device can meet both."""
        why = self.contradiction(other)
        if why is not None:
            raise RepositoryError(why)
        systems = [
            System(one.name, _within(one.versions, two.versions))
            for one in self.os
            for two in other.os
            if one.meets(two)
        ]
        languages = [
            max(one, two, key=len)
            for one in self.language
            for two in other.language
            if _speaks(one, two) or _speaks(two, one)
        ]
        return Rule(
            os=tuple(dict.fromkeys(systems)) or self.os or other.os,
            device_class=_common(self.device_class, other.device_class),
            chip=_common(self.chip, other.chip),
            app_version=_within(self.app_version, other.app_version),
            language=tuple(dict.fromkeys(languages)) or self.language or other.language,
            region=_common(self.region, other.region),
        )

    def covers(self, other: Rule) -> bool:
        """Whether this rule surely holds for every device that the other one takes in."""
        return self.contradiction(other) is None and self.both(other) == other

    def contradiction(self, other: Rule) -> str | None:
        """Why no device can meet both; None when one can."""
        if self.os and other.os and not any(a.meets(b) for a in self.os for b in other.os):
            return f"no system is {_either(self.os)} and {_either(other.os)}"
        for what, mine, theirs in (
            ("device class", self.device_class, other.device_class),
            ("chip", self.chip, other.chip),
            ("region", self.region, other.region),
        ):
            if mine and theirs and not set(mine) & set(theirs):
                return f"no {what} is {_either(mine)} and {_either(theirs)}"
        if self.app_version and other.app_version and not self.app_version.meets(other.app_version):
            return f"no app version is {self.app_version} and {other.app_version}"
        if self.language and other.language:
            pairs = ((a, b) for a in self.language for b in other.language)
            if not any(_speaks(a, b) or _speaks(b, a) for a, b in pairs):
                return f"no language is {_either(self.language)} and {_either(other.language)}"
        return None

    def to_json(self) -> dict[str, object]:
        """The object, without conditions that are not there."""
        values: dict[str, object] = {
            "os": [system.to_json() for system in self.os],
            "device_class": list(self.device_class),
            "chip": list(self.chip),
            "app_version": self.app_version.to_json() if self.app_version else None,
            "language": list(self.language),
            "region": list(self.region),
        }
        return {key: value for key, value in values.items() if value}

    @staticmethod
    def from_json(value: object, what: str) -> Rule:
        """Read a rule; `what` names it in messages. Raises `RepositoryError`."""
        keys = ("os", "device_class", "chip", "app_version", "language", "region")
        fields = document.Fields(value, what, (), keys)
        lists: dict[str, tuple[Callable[[str], object], str]] = {
            "device_class": (DEVICE_CLASSES.__contains__, f"some of {', '.join(DEVICE_CLASSES)}"),
            "chip": (is_chip, "names of chips such as 'A17 Pro'"),
            "language": (_LANGUAGE.fullmatch, "BCP 47 tags such as 'de' or 'en-GB'"),
            "region": (_REGION.fullmatch, "ISO 3166 codes such as 'DE'"),
        }
        found = {key: _choices(fields, key, *check) for key, check in lists.items() if fields.has(key)}
        app_version = None
        if fields.has("app_version"):
            part = document.Fields(fields.raw("app_version"), f"{what}: app_version", (), ("min", "below"))
            app_version = Range.read(part)
        return Rule(os=_systems(fields, what), app_version=app_version, **found)


def _common(one: tuple[str, ...], two: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in one if each in two) if one and two else one or two


def _within(one: Range | None, two: Range | None) -> Range | None:
    """The versions that are in both, None for all."""
    if one is None or two is None:
        return one or two
    lows = [each for each in (one.min, two.min) if each is not None]
    ends = [each for each in (one.below, two.below) if each is not None]
    return Range(max(lows, key=version_key, default=None), min(ends, key=version_key, default=None))


def _systems(fields: document.Fields, what: str) -> tuple[System, ...]:
    if not fields.has("os"):
        return ()
    found = []
    for place, item in enumerate(fields.items("os", MAX_CHOICES)):
        each = document.Fields(item, f"{what}: os[{place}]", ("name",), ("min", "below"))
        if each.text("name") not in SYSTEMS:
            each.refuse("name", f"one of {', '.join(SYSTEMS)}")
        ranged = each.has("min") or each.has("below")
        found.append(System(each.text("name"), Range.read(each) if ranged else None))
    if not found:
        fields.refuse("os", "a list of 1 or more systems")
    return tuple(found)


def _choices(
    fields: document.Fields, key: str, check: Callable[[str], object], expected: str
) -> tuple[str, ...]:
    values = fields.texts(key, MAX_CHOICES)
    if not all(check(value) for value in values):
        fields.refuse(key, expected)
    return values


def _runs(system: System, profile: Profile) -> bool:
    if system.name != profile.os:
        return False
    return system.versions is None or bool(profile.os_version and system.versions.holds(profile.os_version))


def _speaks(wanted: str, own: str) -> bool:
    """Whether `own` is `wanted` or a narrower form of it: `en` takes `en-GB`."""
    pairs = zip_longest(wanted.lower().split("-"), own.lower().split("-"))
    return bool(own) and all(part is None or part == other for part, other in pairs)


def _known(text: str) -> str:
    return text or "unknown"


def _either(values: tuple[object, ...]) -> str:
    return " or ".join(str(value) for value in values)


EVERYONE = Rule()
