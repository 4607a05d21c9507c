"""A channel's index."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coremlops.collection import Entry, Index, next_version
from coremlops.collection.index import MAX_HISTORY
from coremlops.errors import RepositoryError

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def entry(version: int, model: str = "a") -> Entry:
    return Entry(version, model * 64, f"{version:064x}", NOON + timedelta(hours=version))


def three() -> Index:
    index = Index("faces", "staging")
    for version in (1, 2, 3):
        index = index.with_current(entry(version))
    return index


def test_bytes_round_trip_and_are_the_same_each_time() -> None:
    data = three().to_bytes()
    assert Index.from_bytes(data, collection="faces", channel="staging") == three()
    assert three().to_bytes() == data
    assert Index("faces", "staging").to_bytes() == (
        b'{"channel":"staging","collection":"faces","current":null,"format":0,"history":[]}\n'
    )


def test_current_latest_and_rolled_back() -> None:
    index = three()
    assert (index.current, index.latest, index.rolled_back) == (entry(3), entry(3), False)
    assert index.before_current() == entry(2)
    back = index.with_current(entry(1))
    assert (back.current, back.latest, back.rolled_back) == (entry(1), entry(3), True)
    assert back.before_current() is None
    assert back.history == index.history


def test_versions_go_on_after_the_highest_of_any_channel() -> None:
    release = Index("faces", "release").with_current(entry(7))
    assert next_version([three().with_current(entry(1)), release]) == 8
    assert next_version([Index("faces", "staging")]) == 1


def test_the_oldest_history_gives_way_and_the_index_stays_readable() -> None:
    history = tuple(entry(version) for version in range(1, MAX_HISTORY + 1))
    full = Index("faces", "staging", history[-1], history)
    grown = full.with_current(entry(MAX_HISTORY + 1))
    assert (len(grown.history), grown.history[0].version) == (MAX_HISTORY, 2)
    assert Index.from_bytes(grown.to_bytes(), collection="faces", channel="staging") == grown


def changed(**keys: Any) -> bytes:
    value = json.loads(three().to_bytes()) | keys
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(format=1), "'format': expected a whole number from 0 to 0, got 1"),
        (changed(format=False), "'format'"),
        (changed(extra=1), "unknown key 'extra'"),
        (changed(collection="other"), "expected faces/staging, got other/staging"),
        (changed(current=entry(9).to_json()), "current version 9 is not in 'history'"),
        (changed(current=entry(3, "b").to_json()), "current version 3 is not in 'history'"),
        (changed(history=[entry(2).to_json(), entry(1).to_json()]), "do not rise"),
        (changed(history=[entry(1).to_json()] * 2), "do not rise"),
        (changed(current=entry(1).to_json() | {"model": "A" * 64}), "'model': expected 64"),
        (changed(current=entry(1).to_json() | {"version": 0}), "'version'"),
        (changed(current=entry(1).to_json() | {"version": True}), "'version'"),
        (changed(current=entry(1).to_json() | {"published": "2026-02-31T00:00:00Z"}), "'published'"),
        (changed(current=entry(1).to_json() | {"published": "today"}), "'published'"),
        (changed(current=[]), "expected an object, got a list"),
    ],
)
def test_a_wrong_index_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(RepositoryError, match=words):
        Index.from_bytes(data, collection="faces", channel="staging")
