from __future__ import annotations

from pathlib import Path

import pytest

from coremlops.errors import InputError, UsageError
from coremlops.improve.journal import Journal


def _fill(path: Path, count: int) -> None:
    with Journal(path, {"model": "a"}) as journal:
        for i in range(count):
            journal.add(f"weight {i}", {"noise": i})


def test_what_was_measured_is_there_again(tmp_path: Path) -> None:
    _fill(tmp_path / "j", 3)
    with Journal(tmp_path / "j", {"model": "a"}) as journal:
        assert journal.reused == 3
        assert journal.get("weight 2") == {"noise": 2}
        assert journal.get("weight 3") is None


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_line_that_was_cut_short_is_written_anew(tmp_path: Path, cut: int) -> None:
    _fill(tmp_path / "j", 2)
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-cut])
    with Journal(tmp_path / "j", {"model": "a"}) as journal:
        assert journal.get("weight 0") == {"noise": 0}
        assert journal.get("weight 1") is None
        journal.add("weight 1", {"noise": 1})
    assert (tmp_path / "j").read_bytes() == whole


def test_the_journal_of_another_search_is_refused_and_stays(tmp_path: Path) -> None:
    _fill(tmp_path / "j", 1)
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(UsageError, match="another search: model differ"):
        Journal(tmp_path / "j", {"model": "b"})
    assert (tmp_path / "j").read_bytes() == before


@pytest.mark.parametrize(
    "text", ["no json\n", "[1]\n[2]\n", '{"format": 1}\n{"noise": 1}\n', "[" * 9999 + "\n"]
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "j").write_text(text)
    with pytest.raises((InputError, UsageError)):
        Journal(tmp_path / "j", {"model": "a"})
    assert (tmp_path / "j").read_text() == text
