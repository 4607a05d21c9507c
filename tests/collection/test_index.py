"""What a channel offers: its index, its history, its halts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coremlops.collection import (
    MAX_INDEX_BYTES,
    MAX_OFFERS,
    MAX_VARIANTS,
    Entry,
    Halts,
    History,
    Index,
    Line,
    Range,
    Rollout,
    Rule,
    System,
    Variant,
    document,
    next_version,
)
from coremlops.collection.index import MAX_HALTS, MAX_HISTORY, MAX_MODELS
from coremlops.errors import OlderFormatError, RepositoryError

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def variant(version: int, name: str = "default", requires: Rule | None = None) -> Variant:
    return Variant(name, "mlpackage", "a" * 64, f"{version:064x}", 1000, requires or Rule())


def entry(version: int) -> Entry:
    return Entry(version, NOON + timedelta(hours=version), (variant(version),))


def offering(*versions: int, name: str = "faces") -> Line:
    line = Line("faces", "staging", name)
    for version in versions:
        line = line.offering(entry(version))
    return line


def whole(*lines: Line) -> Index:
    return Index("faces", "staging", lines)


FULL = replace(
    entry(4),
    variants=(variant(4, "a17", Rule(chip=("A17 Pro",))), variant(5, "all")),
    rule=Rule(os=(System("iOS", Range("17.0", "19")),), region=("DE",), app_version=Range(min="2")),
    rollout=Rollout(1250, "0" * 32),
    start=NOON,
    hold=True,
    resumed=2,
)


@pytest.mark.parametrize(
    "index",
    [
        whole(offering(1, 2, 3)),
        whole(offering(3).offering(FULL)),
        whole(offering(7, name="a"), offering(1, name="b")),
        Index("faces", "staging"),
    ],
)
def test_bytes_round_trip_and_are_the_same_each_time(index: Index) -> None:
    data = index.to_bytes()
    assert Index.from_bytes(data, collection="faces", channel="staging") == index
    assert index.to_bytes() == data


def test_the_bytes_of_an_entry_without_more_to_say_are_few() -> None:
    assert whole(offering(3)).to_bytes() == (
        b'{"channel":"staging","collection":"faces","format":0,"models":[{"last_version":3,"name":"faces",'
        b'"offers":[{"published":'
        b'"2026-01-31T15:00:00Z","variants":[{"kind":"mlpackage","length":1000,"manifest":"'
        + b"0" * 63
        + b'3","model":"'
        + b"a" * 64
        + b'","name":"default"}],"version":3}]}]}\n'
    )


def test_what_is_older_stays_on_offer_below_and_what_is_newer_does_not() -> None:
    index = offering(1, 2, 3)
    assert [each.version for each in index.offers] == [3, 2, 1]
    assert (index.current, index.last_version, index.rolled_back) == (entry(3), 3, False)
    back = index.offering(entry(2))
    assert [each.version for each in back.offers] == [2, 1]
    assert (back.last_version, back.rolled_back) == (3, True)
    many = offering(*range(1, 20))
    assert [each.version for each in many.offers] == list(range(19, 19 - MAX_OFFERS, -1))


def test_versions_go_on_after_the_highest_of_any_channel() -> None:
    assert next_version([offering(1, 2, 3).offering(entry(1)), offering(7)]) == 8
    assert next_version([Line("faces", "staging", "faces")]) == 1


def test_the_oldest_history_gives_way_and_the_document_stays_readable() -> None:
    history = History(
        "faces", "staging", "faces", tuple(entry(version) for version in range(1, MAX_HISTORY + 1))
    )
    grown = history.having(entry(MAX_HISTORY + 1))
    assert (len(grown.entries), grown.entries[0].version) == (MAX_HISTORY, 2)
    assert History.from_bytes(grown.to_bytes(), collection="faces", channel="staging", name="faces") == grown
    assert (grown.find(1), grown.before(2), grown.before(5)) == (None, None, entry(4))


def test_a_history_that_is_too_large_forgets_its_oldest() -> None:
    wide = tuple(variant(n, f"v{n}", Rule(chip=tuple(f"Chip {n} {i}" for i in range(20)))) for n in range(16))
    entries = tuple(replace(entry(version), variants=wide) for version in range(1, 1001))
    data = History("faces", "staging", "faces", entries).to_bytes()
    kept = History.from_bytes(data, collection="faces", channel="staging", name="faces").entries
    assert kept[-1] == entries[-1]
    assert 100 < len(kept) < 1000


def test_an_index_that_would_be_too_large_is_refused_when_it_is_written() -> None:
    chips = tuple(f"Chip number {i} of a long name" for i in range(64))
    wide = tuple(variant(n, f"v{n}", Rule(chip=chips)) for n in range(MAX_VARIANTS))
    line = Line("faces", "staging", "faces")
    for version in range(1, 4):
        line = line.offering(replace(entry(version), variants=wide))
    with pytest.raises(RepositoryError, match=f"at most {MAX_INDEX_BYTES}"):
        whole(line).to_bytes()


def test_a_collection_holds_models_and_each_has_its_own_versions() -> None:
    index = whole(offering(1, 2, 3, name="detector"))
    index = index.having(offering(1, name="classifier"))
    assert index.names == ("classifier", "detector")
    moved = index.having(index.line("detector").offering(entry(2)))
    assert moved.line("detector").rolled_back
    assert moved.line("classifier") == index.line("classifier")
    assert index.line("segmenter") == Line("faces", "staging", "segmenter")


def test_sixteen_models_with_all_their_offers_fit_and_a_seventeenth_is_refused() -> None:
    lines = [offering(*range(1, 20), name=f"model-{n:02}-{'x' * 31}") for n in range(MAX_MODELS + 1)]
    assert len(whole(*lines[:-1]).to_bytes()) < MAX_INDEX_BYTES
    with pytest.raises(RepositoryError, match="would hold 17 models, at most 16"):
        whole(*lines).to_bytes()


def test_a_halt_is_taken_back_by_the_entry_and_can_be_given_again() -> None:
    halts = Halts("faces", "release").halting("faces", entry(3))
    assert halts.halted("faces", entry(3))
    assert not halts.halted("faces", entry(2))
    assert not halts.halted("other", entry(3))
    resumed = replace(entry(3), resumed=halts.count("faces", 3))
    assert not halts.halted("faces", resumed)
    again = halts.halting("faces", resumed)
    assert again.halted("faces", resumed)
    assert Halts.from_bytes(again.to_bytes(), collection="faces", channel="release") == again
    assert again.to_bytes() == (
        b'{"channel":"release","collection":"faces","format":0,'
        b'"halts":[{"count":2,"name":"faces","version":3}]}\n'
    )


def test_as_many_halts_as_there_may_be_can_be_read_whatever_the_names() -> None:
    most = document.MAX_VERSION
    counts = tuple((("n" * 40, version), most) for version in range(most - MAX_HALTS, most))
    halts = Halts("c" * 40, "release", counts)
    assert Halts.from_bytes(halts.to_bytes(), collection="c" * 40, channel="release") == halts


def test_of_too_many_halts_the_oldest_gives_way_and_never_the_new_one() -> None:
    halts = Halts("faces", "release").halting("zebra", entry(1))
    for version in range(1, MAX_HALTS + 10):
        halts = halts.halting("x" * 40, entry(version))
    halts = halts.halting("new", entry(1))
    assert len(halts.counts) == MAX_HALTS
    assert all(halts.halted(name, entry(1)) for name in ("new", "zebra"))
    assert Halts.from_bytes(halts.to_bytes(), collection="faces", channel="release") == halts


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    value = json.loads(whole(offering(1).offering(FULL)).to_bytes())
    change(value)
    return json.dumps(value).encode()


def put(**keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value.update(keys)


def in_line(**keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["models"][0].update(keys)


def in_first(**keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["models"][0]["offers"][0].update(keys)


def in_variant(**keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["models"][0]["offers"][0]["variants"][0].update(keys)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(format=1), "format 1, and this coremlops reads format 0 alone"),
        (put(format=1, sets=[]), "format 1, and this coremlops reads format 0 alone"),
        (put(format=False), "'format'"),
        (put(extra=1), "unknown key 'extra'"),
        (put(collection="other"), "expected faces/staging, got other/staging"),
        (in_line(last_version=3), "version 4 is newer than 'last_version', 3"),
        (in_line(offers=[entry(1).to_json()] * 2), "do not fall"),
        (in_line(offers=[entry(1).to_json(), entry(2).to_json()]), "do not fall"),
        (in_line(offers=[entry(n).to_json() for n in range(9, 0, -1)]), "a list of at most 8"),
        (in_line(offers={}), "'offers'"),
        (in_line(name="../x"), "a model's name"),
        (in_line(name="b" * 41), "a model's name"),
        (in_line(extra=1), "unknown key 'extra'"),
        (put(models={}), "'models': expected a list"),
        (
            put(models=[{"name": f"m{n:02}", "last_version": 0, "offers": []} for n in range(17)]),
            "at most 16",
        ),
        (put(models=[{"name": n, "last_version": 0, "offers": []} for n in "ba"]), "do not rise"),
        (put(models=[{"name": n, "last_version": 0, "offers": []} for n in "aa"]), "do not rise"),
        (in_first(version=0), "'version'"),
        (in_first(version=True), "'version'"),
        (in_first(published="2026-01-31 12:00"), "'published'"),
        (in_first(variants=[]), "'variants': expected one or more, or none where 'embedded' is true"),
        (in_first(embedded=True), "'variants'"),
        (in_first(embedded=1), "'embedded': expected true or false"),
        (in_first(variants=[variant(1).to_json()] * 2), "each name once"),
        (in_first(rollout={"basis_points": 10_001, "salt": "0" * 32}), "from 0 to 10000"),
        (in_first(rollout={"basis_points": 1.5, "salt": "0" * 32}), "basis_points"),
        (in_first(rollout={"basis_points": 1, "salt": "x"}), "32 lower-case hex digits"),
        (in_first(rule={"chips": ["A17"]}), "unknown key 'chips'"),
        (in_first(start=None), "'start'"),
        (in_variant(model="A" * 64), "'model': expected 64"),
        (in_variant(kind="onnx"), "'kind': expected one of mlpackage"),
        (in_variant(name="../x"), "a variant's name"),
        (in_variant(length=0), "'length'"),
        (in_variant(requires={"os": []}), "1 or more systems"),
    ],
)
def test_what_is_no_index_is_refused(change: Callable[[dict[str, Any]], None], words: str) -> None:
    with pytest.raises(RepositoryError, match=words):
        Index.from_bytes(changed(change), collection="faces", channel="staging")


def test_versions_of_history_and_halts_rise() -> None:
    history = History("faces", "staging", "faces", (entry(2), entry(1))).to_bytes()
    with pytest.raises(RepositoryError, match="do not rise"):
        History.from_bytes(history, collection="faces", channel="staging", name="faces")
    for counts in ((("a", 2), ("a", 1)), (("b", 1), ("a", 2)), (("a", 1), ("a", 1))):
        halts = Halts("faces", "staging", tuple((about, 1) for about in counts)).to_bytes()
        with pytest.raises(RepositoryError, match="do not rise"):
            Halts.from_bytes(halts, collection="faces", channel="staging")


def test_a_history_is_of_the_model_that_was_asked_for() -> None:
    data = History("faces", "staging", "detector", (entry(1),)).to_bytes()
    with pytest.raises(RepositoryError, match="history: expected classifier, got detector"):
        History.from_bytes(data, collection="faces", channel="staging", name="classifier")


def test_documents_of_one_model_a_collection_say_that_they_are_older() -> None:
    # As coremlops wrote them before a collection held several models; both were format 0.
    about = {"format": 0, "collection": "faces", "channel": "release"}
    index = document.write({**about, "last_version": 0, "offers": []})
    halt = document.write({**about, "halts": [{"version": 1, "count": 1}]})
    with pytest.raises(OlderFormatError, match=r"index: an older coremlops wrote it") as caught:
        Index.from_bytes(index, collection="faces", channel="release")
    assert caught.value.hint == (
        "publish to a new repository: coremlops repo init FOLDER; or keep the older coremlops"
    )
    with pytest.raises(OlderFormatError, match=r"halt: halts\[0\]: an older coremlops wrote it"):
        Halts.from_bytes(halt, collection="faces", channel="release")
