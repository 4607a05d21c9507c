"""Bytes from anywhere: what is not exactly a document is refused with our error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coremlops.collection import Index, Manifest, document
from coremlops.errors import RepositoryError


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no strict JSON"),
        (b"\xff\xfe", "no strict JSON"),
        (b'{"a":1,"a":2}', "a key is repeated"),
        (b'{"a":NaN}', "NaN is no JSON"),
        (b"[" * 100_000, "no strict JSON"),
        (b"[" * 11 + b"1" + b"]" * 11, "nested deeper than 10"),
        (b'"\\ud800"', "lone surrogate"),
        (b"1" * 5000, "no strict JSON"),
        (b" " * 2001, "2001 bytes, at most 2000"),
    ],
)
def test_hostile_json_is_refused(data: bytes, words: str) -> None:
    limit = 2000 if data.startswith(b" ") else 1_000_000
    with pytest.raises(RepositoryError, match=words):
        document.read(data, "thing", most_bytes=limit)


@given(st.binary(max_size=300))
def test_any_bytes_give_our_error_or_a_value(data: bytes) -> None:
    for read in (
        lambda: Index.from_bytes(data, collection="faces", channel="staging"),
        lambda: Manifest.from_bytes(data),
    ):
        with pytest.raises(RepositoryError):
            read()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"format": st.just(0) | _JSON, "collection": st.just("faces"), "channel": st.just("staging")},
        optional={"models": _JSON, "more": _JSON},
    )
)
def test_any_json_gives_our_error_or_an_index(value: dict[str, object]) -> None:
    import json

    try:
        index = Index.from_bytes(json.dumps(value).encode(), collection="faces", channel="staging")
    except RepositoryError:
        return
    assert index == Index("faces", "staging")
