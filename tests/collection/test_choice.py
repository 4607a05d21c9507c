"""What a device gets, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from coremlops.collection import EMBEDDED, GET, KEEP, Halts, Line, Profile, Rollout, Rule, choose
from coremlops.errors import RepositoryError
from tests.collection.test_index import NOON, entry, offering, variant

PHONE = Profile(os="iOS", os_version="17.4", chip="A17 Pro", install_id="f" * 32)
NONE = Halts("faces", "staging")


def chosen(line: Line, profile: Profile = PHONE, halts: Halts = NONE, **keys: object) -> tuple[object, ...]:
    choice = choose(line, halts, profile, NOON, **keys)  # type: ignore[arg-type]
    return (
        choice.use,
        choice.entry.version if choice.entry else None,
        choice.variant.name if choice.variant else None,
        choice.reasons,
    )


def test_the_newest_that_fits_wins_and_each_reason_is_told() -> None:
    index = offering(1, 2, 3, 4, 5)
    index = index.replacing(replace(entry(5), start=NOON + timedelta(seconds=1)))
    index = index.replacing(replace(entry(4), rule=Rule(chip=("M4",))))
    index = index.replacing(replace(entry(3), rollout=Rollout(3697, "00112233445566778899aabbccddeeff")))
    assert chosen(index) == (
        GET,
        2,
        "default",
        (
            (5, "starts at 2026-01-31T12:00:01Z"),
            (4, "for chip M4; this is A17 Pro"),
            (3, "for 36.97 % of all devices; this one stands at 36.97 %"),
            (2, "variant default"),
        ),
    )
    wider = replace(entry(3), rollout=Rollout(3698, "00112233445566778899aabbccddeeff"))
    assert chosen(index.replacing(wider))[:2] == (GET, 3)


def test_the_first_variant_that_fits_wins() -> None:
    special = variant(8, "a17", Rule(chip=("A17 Pro",)))
    aimodel = replace(variant(9, "ai"), kind="aimodel")
    index = Line("faces", "staging", "faces").offering(
        replace(entry(1), variants=(aimodel, special, variant(7)))
    )
    assert chosen(index)[2] == "a17"
    assert chosen(index, replace(PHONE, chip="A16"))[2] == "default"
    assert chosen(index, replace(PHONE, kinds=("aimodel",)))[2] == "ai"
    assert chosen(index, replace(PHONE, kinds=("mlmodelc",)))[0] == KEEP


def test_a_version_without_a_variant_for_the_device_gives_way_to_an_older_one() -> None:
    newer = replace(entry(2), variants=(variant(2, "m4", Rule(chip=("M4",))),))
    index = offering(1).offering(newer)
    assert chosen(index)[:2] == (GET, 1)
    assert chosen(index, replace(PHONE, chip="M4"))[:3] == (GET, 2, "m4")


@pytest.mark.parametrize(
    ("hold", "carried", "use"),
    [(False, 0, GET), (False, 2, GET), (False, 3, EMBEDDED), (True, 3, GET)],
)
def test_a_newer_model_of_the_app_wins_unless_the_version_holds(hold: bool, carried: int, use: str) -> None:
    index = offering(1).offering(replace(entry(2), hold=hold))
    assert chosen(index, replace(PHONE, embedded_version=carried))[:2] == (use, 2)


def test_a_version_can_send_devices_to_the_apps_own_model() -> None:
    index = offering(1).offering(replace(entry(2), variants=(), embedded=True, rule=Rule(chip=("A17 Pro",))))
    assert chosen(index)[:3] == (EMBEDDED, 2, None)
    assert chosen(index, replace(PHONE, chip="A16"))[:2] == (GET, 1)


def test_a_halted_version_stays_where_it_is_and_goes_nowhere_else() -> None:
    index = offering(1, 2)
    halts = NONE.halting("faces", entry(2))
    assert chosen(index, halts=halts)[:2] == (GET, 1)
    assert chosen(index, halts=halts)[3] == ((2, "halted"), (1, "variant default"))
    assert chosen(index, halts=halts, active=entry(2).variants[0].manifest)[:2] == (GET, 2)
    assert chosen(index.replacing(replace(entry(2), resumed=1)), halts=halts)[:2] == (GET, 2)


def test_a_refused_variant_is_not_replaced_by_an_older_version() -> None:
    manifest = entry(2).variants[0].manifest
    found = chosen(offering(1, 2), refused={manifest: "its golden set failed"})
    assert found == (KEEP, 2, "default", ((2, "refused before: its golden set failed"),))


def test_nothing_on_offer_keeps_what_is_there() -> None:
    assert chosen(Line("faces", "staging", "faces")) == (KEEP, None, None, ())
    index = Line("faces", "staging", "faces").offering(replace(entry(1), rule=Rule(region=("DE",))))
    assert chosen(index) == (KEEP, None, None, ((1, "for region DE; this is unknown"),))


def test_what_the_app_carries_and_what_is_halted_is_said_of_each_model() -> None:
    line, halts = offering(1, 2), NONE.halting("other", entry(2))
    assert chosen(line, halts=halts)[1] == 2
    carries = Profile.from_json({"embedded_version": {"other": 9, "faces": 2}})
    assert chosen(line, carries)[0] == GET
    assert chosen(line, Profile.from_json({"embedded_version": {"faces": 3}}))[0] == EMBEDDED
    assert chosen(line, Profile.from_json({"embedded_version": 3}))[0] == EMBEDDED


@pytest.mark.parametrize("value", [{"faces": -1}, {"faces": True}, {"../x": 1}, {"faces": 1.5}, [], "3"])
def test_what_is_no_embedded_version_is_refused(value: object) -> None:
    with pytest.raises(RepositoryError):
        Profile.from_json({"embedded_version": value})
