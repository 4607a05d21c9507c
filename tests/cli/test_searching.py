"""`coremlops compress --search`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.compress import Recipe, compress
from tests.compress.fixtures import network


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    network(tmp_path / "net.mlpackage")
    np.savez("data.npz", x=np.random.default_rng(0).normal(size=(3, 1, 48)).astype(np.float32))
    return tmp_path


SEARCH = ["compress", "net.mlpackage", "--search", "-o", "small.mlpackage"]


def test_it_writes_the_model_the_recipe_the_front_and_all_measurements(
    where: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEARCH, "--data", "data.npz", "--budget-quality", "15"]) == 0
    said = capsys.readouterr().out
    assert "best uniform setting of that size: " in said
    left = sorted(path.name for path in where.glob("small.*"))
    assert left == [
        "small.front.html",
        "small.mlpackage",
        "small.recipe.json",
        "small.search.json",
        "small.search.jsonl",
    ]
    recipe = Recipe.read(where / "small.recipe.json")
    again = compress(where / "net.mlpackage", where / "again.mlpackage", recipe)
    assert again.digest in said


def test_another_budget_reuses_the_journal(where: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, "--data", "data.npz", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*SEARCH, "--data", "data.npz", "--json", "--budget-bytes", "6kB"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["weights"] == first["weights"]
    assert second["chosen"]["bytes"] <= 6000


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([*SEARCH], 2, "--data expected"),
        ([*SEARCH, "--data", "missing.npz"], 1, "missing.npz"),
        (
            [*SEARCH, "--data", "data.npz", "--budget-bytes", "100"],
            3,
            "no recipe keeps the budget of 100 bytes",
        ),
        ([*SEARCH, "--data", "data.npz", "--budget-bytes", "many"], 2, "a size such as 50MB"),
        ([*SEARCH, "--data", "data.npz", "--keep", "first"], 2, "--keep"),
        (
            [
                "compress",
                "net.mlpackage",
                "-o",
                "o.mlpackage",
                "--method",
                "quantize:8",
                "--data",
                "data.npz",
            ],
            2,
            "--data means something to --search alone",
        ),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    where: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert main(arguments) == code
    assert said in capsys.readouterr().err
    assert not list(where.glob("*o.mlpackage")) + list(where.glob("small.mlpackage"))
