"""How results of coremltools' own tests are read and judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.apple_suite.cases import (
    area_of,
    counts,
    explain,
    judge,
    keys_of,
    read_allowed,
    read_rows,
    spread,
    unfinished,
)

HERE = Path(__file__).resolve().parents[2] / "benchmarks" / "apple_suite"


def test_a_case_has_one_name_in_every_run() -> None:
    ids = ["t.py::a[<function f at 0x7f001122>]", "t.py::a[<function f at 0x7f334455>]", "t.py::b[0x1]"]
    assert keys_of(ids) == ["t.py::a[<function f at 0x>]", "t.py::a[<function f at 0x>] #2", "t.py::b[0x1]"]
    drawn = [
        "t.py::c[{'q': array([[1,\n 2]], dtype=int8), 'axis': 0}]",
        "t.py::c[{'q': array([3]), 'axis': 0}]",
    ]
    assert keys_of(drawn) == ["t.py::c[{'q': array(), 'axis': 0}]", "t.py::c[{'q': array(), 'axis': 0}] #2"]


def test_a_spread_choice_takes_each_area_and_each_test_in_turn() -> None:
    many = [f"converters/mil/frontend/torch/t.py::many[{n}]" for n in range(50)]
    few = ["converters/mil/frontend/torch/t.py::few[1]"]
    other = [f"test/neural_network/n.py::test[{n}]" for n in range(3)]
    chosen = spread([*many, *few, *other], 8)
    assert chosen == spread([*other, *reversed(many), *few], 8)
    assert len(set(chosen)) == 8
    assert {*few, *other} <= set(chosen)
    assert {area_of(key) for key in chosen[:2]} == {"torch front end", "neural_network"}


def test_the_last_result_of_a_case_counts_and_half_a_line_does_not(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    lines = [{"key": "a", "begun": True}, {"key": "a", "cls": "mismatch"}, {"key": "a", "cls": "compared"}]
    journal.write_text("\n".join(map(json.dumps, lines)) + '\n{"key": "b", "begun": true}\n{"key": "b", "c')
    assert read_rows([journal]) == {"a": {"key": "a", "cls": "compared"}}
    assert unfinished(journal) == "b"


def test_nothing_is_unfinished_in_a_journal_that_ended_well(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    assert unfinished(journal) is None
    journal.write_text('{"key": "a", "begun": true}\n{"key": "a", "cls": "compared"}\n')
    assert unfinished(journal) is None


def test_cases_are_counted_by_area() -> None:
    rows = {
        "test/pipeline/test_a.py::x": {"cls": "compared"},
        "converters/mil/mil/ops/tests/iOS14/test_conv.py::y": {"cls": "mismatch"},
        "somewhere/test_b.py::z": {"cls": "skipped"},
    }
    assert counts(rows) == {
        "ops": {"mismatch": 1},
        "pipelines": {"compared": 1},
        "the rest": {"skipped": 1},
    }
    assert area_of("converters/mil/frontend/torch/test/test_torch_ops.py::z") == "torch front end"


LIST = "# why\n\nbefore-predict | t.py::a[*] | it asks | the network\nunsupported | t.py::b | Apple's own\n"


def test_what_is_not_listed_is_wrong() -> None:
    rows = {
        "t.py::a[x-1]": {"cls": "before-predict", "why": "w"},
        "t.py::b": {"cls": "unsupported", "why": "w"},
        "t.py::c": {"cls": "compared"},
    }
    allowed = read_allowed(LIST)
    assert judge(rows, allowed, whole=True) == []
    rows["t.py::a[x-1]"]["cls"] = "unsupported"  # listed, and for another class
    rows["t.py::d"] = {"cls": "skipped"}
    assert judge(rows, allowed, whole=False) == ["unsupported: t.py::a[x-1]: w"]


def test_a_line_that_holds_for_nothing_is_wrong() -> None:
    rows = {"t.py::b": {"cls": "unsupported", "why": "w"}}
    allowed = read_allowed(LIST)
    assert judge(rows, allowed, whole=False) == []
    assert judge(rows, allowed, whole=True) == ["allowed, and occurs no longer: before-predict | t.py::a[*]"]


@pytest.mark.parametrize("cls", ["mismatch", "backend-error", "crashed", "hung"])
def test_wrong_numbers_can_never_be_allowed(cls: str) -> None:
    assert judge({"t.py::b": {"cls": cls, "why": "w"}}, read_allowed(LIST), whole=False) == [
        f"{cls}: t.py::b: w"
    ]
    with pytest.raises(ValueError, match="expected `class"):
        read_allowed(f"{cls} | t.py::b | a reason")


@pytest.mark.parametrize("line", ["unsupported | t.py::b", "unsupported | t.py::b | ", "t.py::b"])
def test_a_line_needs_a_reason(line: str) -> None:
    with pytest.raises(ValueError, match="expected `class"):
        read_allowed(line)


def test_the_committed_list_can_be_read() -> None:
    assert all(entry.reason for entry in read_allowed((HERE / "allowed.txt").read_text()))


def test_a_disputed_mismatch_needs_a_line_of_its_own() -> None:
    rows = {"t.py::a[1]": {"cls": "mismatch"}, "t.py::b": {"cls": "mismatch"}}
    allowed = read_allowed(
        "disputed | t.py::a[*] | expects 7.899 of 7.9\nunsupported | t.py::b | no reason for it"
    )
    assert judge(rows, allowed, whole=False) == ["mismatch: t.py::b: None"]


@pytest.mark.parametrize(
    ("why", "way", "ended", "cls"),
    [
        ("\nNot equal to tolerance rtol=1e-05", "oracle", "mismatch", "tolerance"),
        ("\nNot equal to tolerance rtol=1e-05", "oracle", "backend-error", "mismatch"),
        ("\nNot equal to tolerance rtol=1e-05", "float16", "compared", "tolerance"),
        ("\nNot equal to tolerance rtol=1e-05", "float32", "mismatch", "mismatch"),
        ("DID NOT RAISE RuntimeError", "oracle", "mismatch", "mismatch"),
        ("(1,) != (1, 1)", "float32", "compared", "mismatch"),
    ],
)
def test_only_numbers_that_miss_a_tolerance_are_explained_by_it(
    why: str, way: str, ended: str, cls: str
) -> None:
    rows = {"a": {"cls": "mismatch", "why": why}}
    explain(rows, {way: {"a": {"cls": ended}, "b": {"cls": ended}}})
    assert rows["a"]["cls"] == cls
