"""Rules on devices, and shares of them."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coremlops.collection import (
    EVERYONE,
    Profile,
    Range,
    Rollout,
    Rule,
    System,
    basis_points,
    bucket,
    version_key,
)
from coremlops.errors import RepositoryError

PHONE = Profile(
    os="iOS",
    os_version="17.4.1",
    device_class="phone",
    chip="A17 Pro",
    app_version="3.2",
    language="de-AT",
    region="AT",
)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({}, None),
        ({"os": [{"name": "iOS"}]}, None),
        ({"os": [{"name": "iOS", "min": "17.4.1"}]}, None),
        ({"os": [{"name": "iOS", "min": "17.5"}]}, "needs iOS 17.5 or later, this is iOS 17.4.1"),
        ({"os": [{"name": "iOS", "below": "17.4.1"}]}, "needs iOS before 17.4.1, this is iOS 17.4.1"),
        ({"os": [{"name": "macOS"}, {"name": "iOS", "min": "16", "below": "18"}]}, None),
        ({"os": [{"name": "macOS"}]}, "needs macOS, this is iOS 17.4.1"),
        ({"device_class": ["pad"]}, "for device class pad; this is phone"),
        ({"chip": ["A16", "A17 Pro"]}, None),
        ({"chip": ["A16", "A17"]}, "for chip A16, A17; this is A17 Pro"),
        ({"app_version": {"min": "3.2.0"}}, None),
        ({"app_version": {"below": "3.2.0"}}, "needs app version before 3.2.0; this is 3.2"),
        ({"language": ["de"]}, None),
        ({"language": ["de-at"]}, None),
        ({"language": ["de-DE"]}, "for language de-DE; this is de-AT"),
        ({"language": ["d"]}, "BCP 47"),
        ({"region": ["DE", "AT"]}, None),
        ({"region": ["DE"]}, "for region DE; this is AT"),
        ({"chip": ["A17 Pro"], "region": ["DE"]}, "for region DE; this is AT"),
    ],
)
def test_all_conditions_must_hold_and_one_choice_of_each(rule: dict[str, Any], why: str | None) -> None:
    if why == "BCP 47":
        with pytest.raises(RepositoryError, match=why):
            Rule.from_json(rule, "rule")
        return
    read = Rule.from_json(rule, "rule")
    assert read.why_not(PHONE) == why
    assert read.to_json() == rule
    assert (read.why_not(Profile()) is None) == (rule == {})  # what is unknown fits nothing


def test_versions_compare_as_numbers() -> None:
    texts = ["9", "9.0.1", "9.10", "10", "10.0.0.1", "17.4", "17.10"]
    assert sorted(random.Random(1).sample(texts, len(texts)), key=version_key) == texts
    assert version_key("17") == version_key("17.0.0")


@pytest.mark.parametrize("text", ["", "1.", ".1", "1.2.3.4.5", "-1", "1.x", "999999", "١"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(RepositoryError, match="1 to 4 numbers"):
        version_key(text)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "expected an object"),
        ({"os": [{"name": "Android"}]}, "'name': expected one of iOS"),
        ({"os": "iOS"}, "'os'"),
        ({"os": [{"name": "iOS", "min": "18", "below": "17"}]}, "no version is from 18 on and before 17"),
        ({"app_version": {}}, "'min' or 'below' is missing"),
        ({"chip": []}, "a list of 1 to 64"),
        ({"chip": ["A17", "A17"]}, "different strings"),
        ({"chip": ["A\n17"]}, "names of chips"),
        ({"device_class": ["iphone"]}, "some of phone"),
        ({"region": ["de"]}, "ISO 3166"),
        ({"region": ["DE"] * 65}, "a list of 1 to 64"),
    ],
)
def test_what_is_no_rule_is_refused(value: object, words: str) -> None:
    with pytest.raises(RepositoryError, match=words):
        Rule.from_json(value, "rule")


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ({}, {"chip": ["A16"]}, None),
        ({"chip": ["A16", "A17"]}, {"chip": ["A17"]}, None),
        ({"chip": ["A16"]}, {"chip": ["A17"]}, "no chip is A16 and A17"),
        (
            {"os": [{"name": "iOS", "below": "17"}]},
            {"os": [{"name": "iOS", "min": "17"}]},
            "no system is iOS before 17 and iOS 17 or later",
        ),
        ({"os": [{"name": "iOS"}]}, {"os": [{"name": "iOS", "min": "17"}]}, None),
        ({"os": [{"name": "iOS"}]}, {"os": [{"name": "macOS"}]}, "no system is iOS and macOS"),
        ({"language": ["en"]}, {"language": ["en-GB"]}, None),
        ({"language": ["en-US"]}, {"language": ["en-GB"]}, "no language is en-US and en-GB"),
        ({"app_version": {"min": "2"}}, {"app_version": {"below": "2.0"}}, "no app version"),
    ],
)
def test_rules_that_no_device_meets_are_found(one: Any, other: Any, why: str | None) -> None:
    first, second = Rule.from_json(one, "rule"), Rule.from_json(other, "rule")
    for found in (first.contradiction(second), second.contradiction(first)):
        assert (found is None) == (why is None)
    if why is not None:
        assert why in str(first.contradiction(second))


def test_a_profile_is_read_strictly() -> None:
    found = Profile.from_json(
        {"os": "iOS", "os_version": "17.4", "kinds": ["aimodel"], "embedded_version": 3}
    )
    assert found == Profile(os="iOS", os_version="17.4", kinds=("aimodel",), embedded_version=3)
    for value in ({"model": "iPhone"}, {"os_version": "beta"}, {"install_id": "1"}, {"embedded_version": -1}):
        with pytest.raises(RepositoryError):
            Profile.from_json(value)


def test_a_profile_says_of_each_model_which_version_the_app_carries() -> None:
    found = Profile.from_json({"embedded_version": {"detector": 3, "classifier": 1}})
    assert [found.carries(name) for name in ("detector", "classifier", "other")] == [3, 1, 0]
    assert Profile.from_json({"embedded_version": 2}).carries("any") == 2
    most = {f"model-{number}": 1 for number in range(64)}
    assert Profile.from_json({"embedded_version": most}).carries("model-63") == 1
    for value in (
        {"Detector": 1},
        {"a": -1},
        {"a": True},
        {"a": 1.0},
        {"a": "1"},
        most | {"one-more": 1},
        [1],
    ):
        with pytest.raises(RepositoryError):
            Profile.from_json({"embedded_version": value})


def test_a_bucket_is_what_the_formula_says() -> None:
    salt, install_id = "00112233445566778899aabbccddeeff", "f" * 32
    digest = hashlib.sha256(b"coremlops bucket v0\n" + salt.encode() + b"\n" + install_id.encode()).digest()
    assert bucket(salt, install_id) == int(int.from_bytes(digest[:8], "big") / 2**64 * 10_000)
    assert bucket(salt, install_id) == 3697  # for implementations in other languages


def test_a_larger_share_adds_devices_and_another_salt_draws_others() -> None:
    rng = random.Random(3)
    devices = [f"{rng.getrandbits(128):032x}" for _ in range(4000)]
    salts = "0" * 32, "1" * 32
    taken: dict[tuple[str, int], set[str]] = {}
    for salt in salts:
        for share in (0, 500, 2500, 10_000):
            rollout = Rollout(share, salt)
            taken[salt, share] = {each for each in devices if rollout.why_not(each) is None}
    for salt in salts:
        assert taken[salt, 0] == set() <= taken[salt, 500] <= taken[salt, 2500] <= taken[salt, 10_000]
        assert len(taken[salt, 10_000]) == 4000
        assert abs(len(taken[salt, 2500]) - 1000) < 130  # 4.7 deviations of a binomial
    both = taken[salts[0], 2500] & taken[salts[1], 2500]
    assert abs(len(both) - 250) < 75
    assert "no install ID" in str(Rollout(500, salts[0]).why_not(""))


@pytest.mark.parametrize(
    ("text", "points"), [("0", 0), ("12.5", 1250), ("12.5 %", 1250), ("100%", 10_000), ("0.01", 1)]
)
def test_percentages_are_hundredths(text: str, points: int) -> None:
    assert basis_points(text) == points


@pytest.mark.parametrize("text", ["", "101", "-1", "1e2", "12.345", "ten", "100.01", "nan"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(RepositoryError, match="a percentage from 0 to 100"):
        basis_points(text)


def test_ranges_and_systems_speak() -> None:
    assert str(Range("16", "18")) == "16 or later and before 18"
    assert str(System("iOS", Range(min="16"))) == "iOS 16 or later"


def rules() -> st.SearchStrategy[Rule]:
    """Rules over a few values, so that two of them often meet."""
    bounds = st.sampled_from([Range("15", None), Range(None, "17"), Range("16", "18"), Range("16.4", "17")])
    systems = st.builds(System, st.sampled_from(["iOS", "macOS"]), st.none() | bounds)

    def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
        return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)

    return st.builds(
        Rule,
        os=st.lists(systems, max_size=2).map(tuple),
        device_class=some("phone", "pad"),
        chip=some("A15", "A17 Pro"),
        app_version=st.none() | bounds,
        language=some("de", "de-AT", "en"),
        region=some("DE", "AT"),
    )


PROFILES = st.builds(
    Profile,
    os=st.sampled_from(["iOS", "macOS", ""]),
    os_version=st.sampled_from(["15", "16", "16.5", "17", "18", ""]),
    device_class=st.sampled_from(["phone", "pad", ""]),
    chip=st.sampled_from(["A15", "A17 Pro", ""]),
    app_version=st.sampled_from(["15.1", "16.5", "17.2", ""]),
    language=st.sampled_from(["de", "de-AT", "en-GB", ""]),
    region=st.sampled_from(["DE", "AT", ""]),
)


@given(rules(), rules(), st.lists(PROFILES, min_size=20, max_size=20))
def test_both_holds_where_both_hold(one: Rule, two: Rule, profiles: list[Profile]) -> None:
    if one.contradiction(two) is not None:
        with pytest.raises(RepositoryError):
            one.both(two)
        assert all(one.why_not(each) or two.why_not(each) for each in profiles)
        return
    both = one.both(two)
    assert EVERYONE.covers(one)
    if one.covers(two):
        assert all(one.why_not(each) is None for each in profiles if two.why_not(each) is None)
    for each in profiles:
        assert (both.why_not(each) is None) == (one.why_not(each) is None and two.why_not(each) is None)
    assert Rule.from_json(both.to_json(), "both") == both
