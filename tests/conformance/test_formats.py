"""docs/formats.md says what the code does: documents byte by byte, their keys, and their limits."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from coremlops.collection import (
    MAX_HISTORY_BYTES,
    MAX_INDEX_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_MEMBERS,
    MAX_MODELS,
    MAX_OFFERS,
    MAX_VARIANTS,
    Entry,
    Halts,
    History,
    Index,
    Line,
    Manifest,
    Rollout,
    Rule,
    Variant,
    document,
    history_path,
    index_path,
)
from coremlops.collection.index import MAX_HALTS, MAX_HISTORY

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
AT = datetime(2026, 11, 25, tzinfo=UTC)
RULE = Rule(device_class=("phone",))
FORM = Variant("default", "mlpackage", "1" * 64, "2" * 64, 5000, RULE)
FULL = Entry(1, AT, (FORM,), rule=RULE, rollout=Rollout(1, "0" * 32), start=AT, hold=True, resumed=1)
BARE = Entry(1, AT, (replace(FORM, requires=Rule()),))


def example(what: str) -> bytes:
    """The document that stands on the page whole, by one of its own keys."""
    found = [each for each in re.findall(r"^    (\{\S*\})$", PAGE, flags=re.M) if f'"{what}":' in each]
    assert len(found) == 1
    return f"{found[0]}\n".encode()


def row(name: str) -> set[str]:
    """The keys of a document on the page, its own alone: what stands inside others is not."""
    said = re.search(rf"^    {name} +(.*(?:\n     {{8,}}and maybe .*)?)", PAGE, flags=re.M)
    assert said is not None
    return set(re.findall(r'"(\w+)"', re.sub(r"\[\{.*?\}, \.\.\.\]", "", said[1])))


def test_the_documents_of_the_page_are_what_is_read_and_written() -> None:
    index = Index.from_bytes(example("models"), collection="faces", channel="release")
    assert index.names == ("classifier", "detector")
    assert index.to_bytes() == example("models")
    halts = Halts.from_bytes(example("halts"), collection="faces", channel="release")
    assert halts.to_bytes() == example("halts")
    assert [halts.count(name, 2) for name in index.names] == [0, 2]
    manifest = Manifest.from_bytes(example("members"))
    assert manifest.to_bytes() == example("members")
    offered = index.line("detector").offers[0]
    assert (manifest.name, manifest.version, manifest.model) == ("detector", 2, offered.variants[0].model)
    assert manifest.length == offered.variants[0].length


WRITTEN: dict[str, tuple[Any, Any]] = {  # of each: one with all keys, and one with none that may be missing
    "index": (document.read(example("models"), "index", most_bytes=MAX_INDEX_BYTES),) * 2,
    "halt": (document.read(example("halts"), "halt", most_bytes=MAX_INDEX_BYTES),) * 2,
    "manifest": (document.read(example("members"), "manifest", most_bytes=MAX_MANIFEST_BYTES),) * 2,
    "history": (document.read(History("faces", "release", "faces").to_bytes(), "history", most_bytes=1000),)
    * 2,
    "entry": (FULL.to_json() | replace(FULL, variants=(), embedded=True).to_json(), BARE.to_json()),
    "variant": (FORM.to_json(), BARE.variants[0].to_json()),
    "rollout": (Rollout(1, "0" * 32).to_json(),) * 2,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_keys_of_the_page_are_those_that_are_written(name: str) -> None:
    full, bare = WRITTEN[name]
    assert row(name) == set(full)
    optional = re.search(rf"^    {name} .*?(?:\n {{8,}})?and maybe (.*)$", PAGE, flags=re.M)
    maybe = set(re.findall(r'"(\w+)"', optional[1])) if name in ("entry", "variant") and optional else set()
    assert set(full) - maybe == set(bare)


def test_the_keys_of_a_line_are_those_of_the_page() -> None:
    index: Any = WRITTEN["index"][0]
    assert row("line") == set(index["models"][0])


def test_the_limits_of_the_page_hold() -> None:
    for phrase in (
        f"{MAX_INDEX_BYTES:,} bytes, {MAX_MODELS} models, names rise",
        f"{MAX_OFFERS} offers, versions fall",
        f"{MAX_INDEX_BYTES:,} bytes, {MAX_HALTS} halts, names and then versions rise",
        f"{MAX_HISTORY_BYTES:,} bytes, {MAX_HISTORY:,} entries, versions rise",
        f"{MAX_VARIANTS} variants, names once",
        f"{MAX_MANIFEST_BYTES:,} bytes, {MAX_MEMBERS:,} members",
        f"nests objects and lists deeper than {document.MAX_DEPTH}",
        f"Versions are 1 to {document.MAX_VERSION}.",
    ):
        assert phrase in PAGE, phrase


def test_the_targets_of_the_page_are_those_that_are_signed() -> None:
    for channel in ("release", "staging"):
        history = history_path("faces", channel, "<name>")
        assert f"`{index_path('faces', channel)}`, `{history}`" in PAGE


def test_a_line_of_the_longest_name_and_the_most_models_fit() -> None:
    """What the page promises together can be had together: 16 models with 8 offers of one variant."""
    offers = tuple(replace(BARE, version=8 - n) for n in range(MAX_OFFERS))
    names = [f"{'m' * 38}{n:02}" for n in range(MAX_MODELS)]
    index = Index("faces", "release", tuple(Line("faces", "release", name, offers, 8) for name in names))
    assert Index.from_bytes(index.to_bytes(), collection="faces", channel="release") == index
