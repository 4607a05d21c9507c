"""Own and total error of each value, and why, on programs made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.verify.locate import LocateOptions, Location, locate
from coremlops.verify.locate.numeric import decibel, powers
from coremlops.verify.locate.program import Program
from coremlops.verify.locate.switches import Switched
from tests.handmade import add_operation, program_spec, write_package

SHAPE = (2, 3)


def _package(path: Path, ops: list[tuple[str, str, dict[str, str]]]) -> Path:
    """A program of fp16 ops over the input `x`, the last of which gives `y` as fp32."""
    spec, block = program_spec()
    for kind, output, inputs in ops:
        add_operation(block, kind, output, SHAPE, inputs, "fp32" if output == "y" else "fp16")
    return write_package(path / "net.mlpackage", spec)


def _locate(path: Path, values: Any, limit_db: float = 40.0) -> Location:
    file = path.parent / "x.npz"
    np.savez(file, x=values[None].astype(np.float32))
    return locate(path, data=file, options=LocateOptions(limit_db=limit_db))


def test_own_and_total_errors_are_those_of_numpy(tmp_path: Path) -> None:
    """An oracle in NumPy: float32 arithmetic, rounded to fp16 after each op."""
    net = _package(
        tmp_path, [("exp", "e", {"x": "x"}), ("mul", "s", {"x": "e", "y": "e"}), ("sqrt", "y", {"x": "s"})]
    )
    x = np.linspace(-1, 2, 6, dtype=np.float32).reshape(SHAPE)

    def half(value: Any) -> Any:
        return value.astype(np.float16).astype(np.float32)

    exact = np.exp(x) ** 2
    steps = {step.name: step for step in _locate(net, x).steps}
    own = half(half(np.exp(x)) ** 2)
    assert steps["s"].own_db == pytest.approx(decibel(*powers(exact, own)), abs=0.1)
    assert steps["s"].total_db == pytest.approx(steps["s"].own_db, abs=1e-6)
    assert steps["s"].peak == pytest.approx(np.exp(4), rel=1e-5)


def test_an_overflow_is_named_where_it_begins(tmp_path: Path) -> None:
    net = _package(
        tmp_path,
        [
            ("exp", "e", {"x": "x"}),
            ("mul", "s", {"x": "e", "y": "e"}),
            ("mul", "t", {"x": "s", "y": "s"}),
            ("log", "y", {"x": "t"}),
        ],
    )
    first = _locate(net, np.full(SHAPE, 6.0)).first
    assert first is not None
    assert (first.op, first.kind) == ("s", "overflow")
    assert "1.63e+05" in first.words


def test_an_overflow_that_no_output_notices_is_no_finding(tmp_path: Path) -> None:
    net = _package(
        tmp_path, [("exp", "e", {"x": "x"}), ("mul", "s", {"x": "e", "y": "e"}), ("tanh", "y", {"x": "s"})]
    )
    found = _locate(net, np.full(SHAPE, 6.0))
    assert found.findings == ()
    assert found.numeric_db > 100
    assert min(step.own_db for step in found.steps) == -200


def test_values_that_are_too_small_sink(tmp_path: Path) -> None:
    net = _package(
        tmp_path,
        [("mul", "s", {"x": "x", "y": "x"}), ("mul", "t", {"x": "s", "y": "s"}), ("log", "y", {"x": "t"})],
    )
    first = _locate(net, np.linspace(0.005, 0.009, 6).reshape(SHAPE)).first
    assert first is not None
    assert (first.op, first.kind) == ("t", "underflow")


def test_a_difference_of_near_values_cancels(tmp_path: Path) -> None:
    net = _package(
        tmp_path,
        [
            ("exp", "e", {"x": "x"}),
            ("sqrt", "r", {"x": "x"}),
            ("add", "a", {"x": "e", "y": "r"}),
            ("sub", "d", {"x": "a", "y": "e"}),
            ("sub", "y", {"x": "d", "y": "r"}),
        ],
    )
    x = np.linspace(4, 9, 6).reshape(SHAPE)
    kinds = {item.op: item.kind for item in _locate(net, x, limit_db=60).findings}
    assert kinds["d"] == "cancellation"


def test_a_mask_of_infinities_is_no_error() -> None:
    mask = np.array([0.0, -np.inf, 1.0])
    assert powers(mask, mask) == (1.0, 0.0)
    assert powers(mask, np.array([0.0, -3e4, 1.0]))[1] == np.inf


def test_all_switches_on_are_the_typed_model_and_all_off_float32(tmp_path: Path) -> None:
    net = _package(
        tmp_path, [("exp", "e", {"x": "x"}), ("mul", "s", {"x": "e", "y": "e"}), ("sqrt", "y", {"x": "s"})]
    )
    program = Program(net)
    x = np.linspace(-1, 2, 6, dtype=np.float32).reshape(SHAPE)
    switched = Switched(program, rounded=["e", "s"])
    typed, exact = (program.open(program.function, mode).run({"x": x})["y"] for mode in ("typed", "float32"))
    assert not np.array_equal(typed, exact)
    np.testing.assert_array_equal(switched.run({"x": x}, ["e", "s"])["y"], typed)
    np.testing.assert_array_equal(switched.run({"x": x})["y"], exact)
