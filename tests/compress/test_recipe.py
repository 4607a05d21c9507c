"""Settings and recipes: what is understood, and how mistakes are answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coremlops.compress import Recipe, Setting
from coremlops.errors import InputError, UsageError

TEXTS = [
    "none",
    "palettize:4",
    "palettize:4:group=16",
    "palettize:6:lut_bits=8:sparsity=0.3",
    "palettize:2:mode=uniform",
    "quantize:8",
    "quantize:8:block=-1",
    "quantize:4:block=32:mode=asymmetric",
    "prune:0.5",
    "prune:pattern=2:4",
    "activations:8",
    "gptq:4:block=32",
    "sparse_gpt:0.5:bits=8",
    "sparse_gpt:bits=8:pattern=2:4",
    "sensitive_kmeans:4:group=16",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_setting_is_the_same_as_text_and_as_json(text: str) -> None:
    setting = Setting.parse(text)
    assert Setting.parse(str(setting)) == setting
    assert Setting.from_json(json.loads(json.dumps(setting.to_json())), where="here") == setting


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("palletize:4", "one of none, palettize, quantize, prune, .* expected, got 'palletize'"),
        ("palettize:5", "bits of 1, 2, 3, 4, 6, 8 expected, got 5"),
        ("palettize", "bits of 1, 2, 3, 4, 6, 8 expected, got 0"),
        ("palettize:4:grop=16", "a field: one of .* expected, got 'grop'"),
        ("palettize:4:group=many", "group is a int, got 'many'"),
        ("palettize:4:16", "name=value expected, got '16'"),
        ("palettize:4:block=32", "block means nothing here"),
        ("palettize:4:mode=linear", "one of kmeans, uniform, unique expected, got 'linear'"),
        ("quantize:2", "bits of 4, 8 expected, got 2"),
        ("quantize:8:group=16", "group means nothing here"),
        ("prune", "a sparsity between 0 and 1 or a pattern such as 2:4"),
        ("prune:1.0", "a sparsity from 0 to below 1 expected, got 1.0"),
        ("prune:nan", "a sparsity from 0 to below 1 expected, got nan"),
        ("prune:pattern=4:2", "a pattern such as 2:4 expected, got '4:2'"),
        ("prune:0.5:pattern=2:4", "and not both"),
        ("sparse_gpt:bits=8", "sparse_gpt: a sparsity between 0 and 1 or a pattern"),
        ("activations:4", "bits of 8 expected, got 4"),
        ("none:4", "name=value expected, got '4'"),
        ("palettize:4:lut_bits=4", "lut_bits of 0 or 8"),
    ],
)
def test_a_mistake_in_a_setting_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Setting.parse(text)


def test_the_nearest_word_is_offered() -> None:
    with pytest.raises(UsageError) as caught:
        Setting.parse("palletize:4")
    assert caught.value.hint == "did you mean palettize?"


def test_a_recipe_comes_back_from_its_json(tmp_path: Path) -> None:
    recipe = Recipe(
        Setting.parse("quantize:8"), {"b": Setting.parse("none"), "a": Setting.parse("prune:0.5")}, "ab"
    )
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_json()))
    assert Recipe.read(path) == recipe
    assert list(recipe.to_json()["weights"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "a recipe of format 1 expected, got 'list'"),
        ({"format": 2}, "a recipe of format 1 expected, got 2"),
        ({"format": 1, "weight": {}}, "one of format, model, default, weights expected, got 'weight'"),
        ({"format": 1, "weights": []}, "weights a mapping of names to settings"),
        ({"format": 1, "model": 3}, "model is a digest or null"),
        ({"format": 1, "default": "palettize"}, "default: a setting such as"),
        ({"format": 1, "weights": {"w": {"method": "quantize", "bits": "8"}}}, "w: bits is a int, got '8'"),
        ({"format": 1, "weights": {"w": {"method": "quantize", "bits": True}}}, "w: bits is a int, got True"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe.parse(json.dumps(values), where="r.json")


def test_what_needs_data_is_no_part_of_a_recipe() -> None:
    with pytest.raises(UsageError, match="w: gptq is for a whole model"):
        Recipe(weights={"w": Setting.parse("gptq:4")})


def test_what_is_no_json_and_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not JSON"):
        Recipe.parse("{")
    with pytest.raises(UsageError, match="not JSON"):
        Recipe.parse("[" * 100_000)
    with pytest.raises(InputError, match="cannot be read"):
        Recipe.read(tmp_path / "none.json")
