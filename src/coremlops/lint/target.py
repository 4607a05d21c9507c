"""The systems and devices that a model is linted for, by the names that people give them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from coremlops.errors import UsageError
from coremlops.model.description import MINIMUM_TARGETS

SYSTEMS = ("iOS", "macOS", "tvOS", "watchOS", "visionOS")
# Major versions that came without a new specification; iOS 27 brought Core AI beside Core ML.
_ALSO = {"iOS": ("27",), "macOS": ("27",), "tvOS": ("27",), "watchOS": ("27",), "visionOS": ("1", "27")}


@dataclass(frozen=True, slots=True)
class Target:
    """An operating system: `specification` is the newest version of the format that it reads."""

    name: str
    specification: int


def parse_target(text: str) -> Target:
    """`iOS17`, `macOS 14.4` ... Raises UsageError that names the nearest known target."""
    found = re.fullmatch(r"([A-Za-z]+?)[ _]?(\d+(?:[._]\d+)*)", text.strip())
    if found is not None:
        system = {name.lower(): name for name in SYSTEMS}.get(found[1].lower(), "")
        version = _numbers(found[2])
        if system and _is_release(system, version):
            reads = [spec for spec, first in MINIMUM_TARGETS.items() if _reads(system, version, first)]
            if reads:
                return Target(f"{system}{found[2].replace('_', '.')}", max(reads))
    known = [f"{system}{version}" for system in SYSTEMS for version in _releases(system)]
    by_case = {name.lower(): name for name in known}
    near = get_close_matches(text.replace(" ", "").lower(), by_case, n=1, cutoff=0.5)
    raise UsageError(
        f"unknown target {text!r}; a system and its version expected, such as iOS17 or macOS14",
        hint=f"did you mean {by_case[near[0]]}?" if near else "systems: " + ", ".join(SYSTEMS),
    )


def targets_of(specification: int) -> str:
    """The first systems that read a version of the format: `iOS 17, macOS 14, tvOS 17, watchOS 10`."""
    first = MINIMUM_TARGETS.get(specification)
    if first is None:
        return "systems newer than this version of coremlops knows"
    return ", ".join(f"{system} {version}" for system, version in first.items())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.split(r"[._]", version))


def _releases(system: str) -> list[str]:
    named = [first[system] for first in MINIMUM_TARGETS.values() if system in first]
    return sorted({*named, *_ALSO[system]}, key=_numbers)


def _is_release(system: str, version: tuple[int, ...]) -> bool:
    return version[0] in {_numbers(release)[0] for release in _releases(system)}


def _reads(system: str, version: tuple[int, ...], first: dict[str, str]) -> bool:
    if system not in first:  # visionOS 1 came with iOS 17
        return system == "visionOS" and _numbers(first["iOS"]) <= (17,)
    return _numbers(first[system]) <= version


@dataclass(frozen=True, slots=True)
class Device:
    """A device, or a chip alone. `newest_ios`: the last iOS that it gets; 0 when that is not known here."""

    name: str
    chip: str
    newest_ios: int = 0


# Chips whose Neural Engine Core ML uses, oldest first. The A11's is not open to it.
CHIPS = (
    *("A12", "A13", "A14", "A15", "A16", "A17 Pro", "A18", "A18 Pro", "A19", "A19 Pro"),
    *("M1", "M2", "M3", "M4", "M5"),
)
NO_NEURAL_ENGINE = ("A11", "Intel")
_DEVICES = {
    "iPhone 8": ("A11", 16),
    "iPhone X": ("A11", 16),
    "iPhone XR": ("A12", 18),
    "iPhone XS": ("A12", 18),
    "iPhone 11": ("A13", 0),
    "iPhone 11 Pro": ("A13", 0),
    "iPhone SE 2": ("A13", 0),
    "iPhone 12": ("A14", 0),
    "iPhone 12 Pro": ("A14", 0),
    "iPhone 13": ("A15", 0),
    "iPhone 13 Pro": ("A15", 0),
    "iPhone SE 3": ("A15", 0),
    "iPhone 14": ("A15", 0),
    "iPhone 14 Pro": ("A16", 0),
    "iPhone 15": ("A16", 0),
    "iPhone 15 Pro": ("A17 Pro", 0),
    "iPhone 16": ("A18", 0),
    "iPhone 16e": ("A18", 0),
    "iPhone 16 Pro": ("A18 Pro", 0),
    "iPhone 17": ("A19", 0),
    "iPhone 17 Pro": ("A19 Pro", 0),
    "iPhone Air": ("A19 Pro", 0),
    "Apple Vision Pro": ("M2", 0),
}
DEVICES: dict[str, Device] = {
    **{chip: Device(chip, chip) for chip in (*NO_NEURAL_ENGINE, *CHIPS)},
    **{name: Device(name, chip, newest) for name, (chip, newest) in _DEVICES.items()},
}


def parse_device(text: str) -> Device:
    """A chip (`A16`, `M2`) or a device (`iPhone 14 Pro`). Raises UsageError that names the nearest."""
    by_case = {_plain(name): device for name, device in DEVICES.items()}
    if _plain(text) in by_case:
        return by_case[_plain(text)]
    near = get_close_matches(_plain(text), by_case, n=1, cutoff=0.5)
    raise UsageError(
        f"unknown device {text!r}; a chip or an iPhone expected, such as A16, M2 or iPhone 14 Pro",
        hint=f"did you mean {by_case[near[0]].name!r}?" if near else f"chips: {', '.join(CHIPS)}",
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
