"""The example of distillation: its networks."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
pytest.importorskip("sklearn")
DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def test_the_networks_are_as_large_as_the_docs_say() -> None:
    student, example = runpy.run_path(str(DIGITS / "shared" / "student.py"))["make"]()
    teacher = runpy.run_path(str(DIGITS / "train" / "src" / "train.py"))["network"]()
    sizes = [sum(part.numel() for part in net.parameters()) for net in (student, teacher)]
    assert sizes == [666, 117_066]
    page = (DIGITS.parents[1] / "docs" / "distill.md").read_text("utf-8")
    assert all(f"{size:,}" in page for size in sizes)
    assert student(example).shape == teacher.eval()(example).shape == (1, 10)
