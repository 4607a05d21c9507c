"""Tolerances grow by an explicit decision alone, which the set records."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops import golden
from coremlops.errors import DataError, GoldenError, UsageError
from coremlops.golden.document import Decision
from tests.handmade import adder

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
# y is 1 to 6: a twentieth of 6, over the root mean square; and 2.5 times that.
LARGEST = (0.07703, 0.1926)
WHO: dict[str, Any] = {"reason": "the A12 flushes small values", "by": "eve", "at": AT}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return adder(tmp_path / "a.mlpackage")


@pytest.fixture
def made(model: Path, tmp_path: Path) -> Path:
    np.savez(tmp_path / "inputs.npz", x=np.ones((2, 2, 3)))
    golden.make(model, tmp_path / "inputs.npz", tmp_path / "golden")
    return tmp_path / "golden"


def report(folder: Path, made: Path, error: float | None, **other: Any) -> Path:
    """What a device says: its worst error of the output y."""
    output = {"name": "y", "error": error, "tolerance": 0.03, "ok": error is not None and error <= 0.03}
    value = {"model": golden.read_golden(made).model, "ok": False, "outputs": [output], **other}
    (folder / "report.json").write_text(json.dumps(value))
    return folder / "report.json"


def test_a_factor_widens_and_is_recorded(model: Path, made: Path, tmp_path: Path) -> None:
    wider = golden.widen(made, tmp_path / "wider", factor=2.5, **WHO)
    limit = wider.limits[0]
    assert (limit.tolerance, limit.largest) == (0.075, LARGEST[1])
    assert wider.decisions == (
        Decision(
            "2026-11-25T12:00:00Z", "eve", "the A12 flushes small values", "factor 2.5",
            (("y", (0.03, LARGEST[0]), (0.075, LARGEST[1])),),
        ),
    )  # fmt: skip
    assert golden.read_golden(tmp_path / "wider") == wider
    assert golden.check(model, tmp_path / "wider").ok
    assert golden.read_golden(made).limits[0].tolerance == 0.03
    again = golden.widen(tmp_path / "wider", tmp_path / "wider", factor=2, **WHO)
    assert [each.basis for each in again.decisions] == ["factor 2.5", "factor 2"]


def test_a_report_widens_as_far_as_the_device_needs_and_half_more(made: Path, tmp_path: Path) -> None:
    wider = golden.widen(made, tmp_path / "wider", reports=[report(tmp_path, made, 0.06)], **WHO)
    assert wider.limits[0].tolerance == pytest.approx(0.09)
    assert wider.limits[0].largest == pytest.approx(3 * LARGEST[0], rel=1e-3)
    assert wider.decisions[0].basis.startswith("1 report in ")


def test_a_judgement_of_ours_is_a_report(model: Path, made: Path, tmp_path: Path) -> None:
    found = golden.check(model, made).to_json()
    found["outputs"][0]["error"] = 0.04
    (tmp_path / "judged.json").write_text(json.dumps([found, found]))
    wider = golden.widen(made, tmp_path / "wider", reports=[tmp_path / "judged.json"], **WHO)
    assert wider.limits[0].tolerance == pytest.approx(0.06)


def test_a_device_that_is_far_off_widens_nothing(made: Path, tmp_path: Path) -> None:
    for error in (0.3, None):
        with pytest.raises(DataError, match=r"y: a tolerance of .* would be needed, and 0\.25 is the most"):
            golden.widen(made, tmp_path / "wider", reports=[report(tmp_path, made, error)], **WHO)
    assert not (tmp_path / "wider").exists()


def test_a_device_that_is_well_within_widens_nothing(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tolerance would change"):
        golden.widen(made, tmp_path / "wider", reports=[report(tmp_path, made, 0.005)], **WHO)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"model": "0" * 64}, "a report of the model"),
        ({"model": 5}, "a report of the model"),
        ({"outputs": [{"name": "y"}]}, "a report with model and outputs"),
        ({"outputs": {"y": 1}}, "a report with model and outputs"),
    ],
)
def test_a_report_that_is_none_of_this_model(made: Path, tmp_path: Path, other: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        golden.widen(made, tmp_path / "wider", reports=[report(tmp_path, made, 0.02, **other)], **WHO)


@pytest.mark.parametrize("text", ["", "[", "3", "[" * 5000, '{"model": 1, "model": 2}'])
def test_a_report_that_cannot_be_read(made: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DataError):
        golden.widen(made, tmp_path / "wider", reports=[tmp_path / "report.json"], **WHO)


def test_a_decision_needs_a_reason_and_one_way(made: Path, tmp_path: Path) -> None:
    for options in (
        {"factor": 2.0, "reason": " "},
        {},
        {"factor": 2.0, "reports": [tmp_path]},
        {"factor": 0.5},
        {"factor": 2.0, "outputs": ["z"]},
    ):
        with pytest.raises(UsageError):
            golden.widen(made, tmp_path / "wider", **{**WHO, **options})


def test_a_damaged_set_is_not_widened(made: Path, tmp_path: Path) -> None:
    (made / "0001.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"not those that golden\.json names"):
        golden.widen(made, tmp_path / "wider", factor=2, **WHO)
    (made / "0001.bin").unlink()
    with pytest.raises(GoldenError, match=r"0001\.bin: a file expected"):
        golden.widen(made, tmp_path / "wider", factor=2, **WHO)
