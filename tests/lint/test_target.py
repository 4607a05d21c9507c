"""Systems and devices by name."""

from __future__ import annotations

import pytest

from coremlops.errors import UsageError
from coremlops.lint.target import DEVICES, parse_device, parse_target, targets_of
from coremlops.model.description import MINIMUM_TARGETS


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("iOS17", 8),
        ("ios 17.4", 8),
        ("iOS11", 1),
        ("iOS11.2", 2),
        ("iOS27", 10),
        ("macOS14", 8),
        ("macOS10_15", 4),
        ("macOS26", 10),
        ("watchOS9", 7),
        ("tvOS18", 9),
        ("visionOS1", 8),
        ("visionOS2.0", 9),
    ],
)
def test_a_target_reads_up_to_a_version(text: str, version: int) -> None:
    assert parse_target(text).specification == version


@pytest.mark.parametrize("version", MINIMUM_TARGETS)
def test_every_first_system_reads_its_version(version: int) -> None:
    for system, number in MINIMUM_TARGETS[version].items():
        assert parse_target(f"{system}{number}").specification == version


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("iOS19", "iOS1"),
        ("ios", "iOS"),
        ("macSO14", "macOS14"),
        ("iPhone17", "iOS17"),
        ("watchOS26.", "watchOS26"),
    ],
)
def test_an_unknown_target_names_a_near_one(text: str, near: str) -> None:
    with pytest.raises(UsageError, match="unknown target") as caught:
        parse_target(text)
    assert near in caught.value.hint


def test_a_version_that_nothing_reads_is_named() -> None:
    assert targets_of(8).startswith("iOS 17, macOS 14")
    assert targets_of(99) == "systems newer than this version of coremlops knows"


@pytest.mark.parametrize(
    ("text", "chip"),
    [("A16", "A16"), ("a17pro", "A17 Pro"), ("iPhone 14 Pro", "A16"), ("iphone14pro", "A16"), ("m2", "M2")],
)
def test_a_device_has_a_chip(text: str, chip: str) -> None:
    assert parse_device(text).chip == chip


def test_an_unknown_device_names_a_near_one() -> None:
    with pytest.raises(UsageError, match="unknown device 'iPhone 14 Por'") as caught:
        parse_device("iPhone 14 Por")
    assert "did you mean 'iPhone 14 Pro'?" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        parse_device("toaster!")
    assert "chips: A12" in caught.value.hint


def test_names_are_distinct_without_spaces_and_case() -> None:
    assert len({name.replace(" ", "").lower() for name in DEVICES}) == len(DEVICES)
