"""Segments and the peak of activations, against a search over all orders and sums by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coremlops.lint.graph import _cut, peak_activations, segments_of
from coremlops.lint.subject import Body, parts_of
from coremlops.model import ModelAsset
from tests.lint.notation import make


def body(text: str, path: Path) -> Body:
    return parts_of(ModelAsset.open(make(text, path).path))[0].bodies[0]


def fewest(outside: list[bool], needs: list[set[int]]) -> int:
    """The fewest pieces of all orders that are allowed."""
    best = len(outside)
    for order in itertools.permutations(range(len(outside))):
        place = {index: at for at, index in enumerate(order)}
        if all(place[before] < place[index] for index, entry in enumerate(needs) for before in entry):
            sides = [outside[index] for index in order]
            best = min(best, 1 + sum(a != b for a, b in itertools.pairwise(sides)))
    return best


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_cut_has_the_fewest_pieces(data: st.DataObject) -> None:
    """With two sides, running one as long as possible is best for one of both beginnings."""
    size = data.draw(st.integers(1, 6))
    outside = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    needs = [
        set(data.draw(st.lists(st.integers(0, max(0, i - 1)), max_size=2))) if i else set()
        for i in range(size)
    ]
    assert _cut(outside, needs).segments == fewest(outside, needs)


CHAIN = """
program("iOS16")
x: fp16[1, 64] = input()
a: fp16[1, 64] = cosh(x=x)
b: fp16[1, 64] = relu(x=a)
c: fp16[1, 64] = cosh(x=b)
d: fp16[1, 64] = relu(x=x)
y: fp16[1, 64] = add(x=c, y=d)
output(y)
"""


def test_branches_join_a_piece(tmp_path: Path) -> None:
    chain = body(CHAIN, tmp_path)
    cut = segments_of(chain, {"a", "c"})
    # a | b d | c | y
    assert (cut.ops, cut.outside, cut.segments) == (5, 2, 4)
    assert segments_of(chain, set()).segments == 1


def test_the_peak_counts_what_lives(tmp_path: Path) -> None:
    peak = peak_activations(body(CHAIN, tmp_path))
    # Each value has 128 bytes; x stays until d, so x, b, c while c is made, then c, x, d.
    assert (peak.bytes, peak.exact) == (3 * 128, True)


@pytest.mark.parametrize(("axis", "exact", "size"), [("8", True, 32), ("None", False, 18)])
def test_an_open_axis_counts_as_one(axis: str, exact: bool, size: int, tmp_path: Path) -> None:
    text = f'program("iOS16")\nx: fp16[1, 8] = input()\ny: fp16[1, {axis}] = relu(x=x)\noutput(y)'
    peak = peak_activations(body(text, tmp_path))
    assert (peak.bytes, peak.exact, peak.op) == (size, exact, "y")


def test_an_unused_result_is_freed(tmp_path: Path) -> None:
    text = """
program("iOS16")
x: fp16[1, 100] = input()
v, i = topk(x=x, k=50, axis=-1) >> (fp16[1, 50], int32[1, 50])
a: fp16[1, 50] = relu(x=v)
y: fp16[1, 50] = relu(x=a)
output(y)
"""
    peak = peak_activations(body(text, tmp_path))
    assert (peak.bytes, peak.op) == (200 + 100 + 200, "v")
