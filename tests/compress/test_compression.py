"""A model and a recipe: what is written, what stays, and what is refused with nothing left behind."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import coremlops
from coremlops.compress import Encoding, Recipe, Setting, compress, encode, read_weight, weights_of
from coremlops.errors import InputError, ModelError, UsageError
from coremlops.model import ModelAsset, model_digest
from tests.compress.fixtures import network, weights
from tests.handmade import adder

Array: TypeAlias = np.ndarray[Any, Any]

SETTINGS = [
    "palettize:1",
    "palettize:2",
    "palettize:3",
    "palettize:4",
    "palettize:6",
    "palettize:8",
    "palettize:4:group=16",
    "palettize:2:mode=uniform",
    "palettize:4:lut_bits=8",
    "palettize:4:sparsity=0.4",
    "palettize:3:lut_bits=8:sparsity=0.4:group=16",
    "quantize:8",
    "quantize:8:block=-1",
    "quantize:8:mode=asymmetric",
    "quantize:4",
    "quantize:4:block=16",
    "quantize:4:block=16:mode=asymmetric",
    "quantize:8:sparsity=0.5",
    "prune:0.5",
    "prune:pattern=2:4",
]
OLDER = ["palettize:4", "palettize:1:mode=uniform", "quantize:8", "quantize:8:mode=asymmetric", "prune:0.5"]


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def answer(held: dict[str, Array], x: Array) -> Array:
    """The network of `fixtures`, in NumPy."""
    half = held["first"].astype(np.float64) @ x.astype(np.float16).astype(np.float64)[0]
    found: Array = held["second"].astype(np.float64) @ np.maximum(half + held["bias"].astype(np.float64), 0)
    return found


@pytest.mark.parametrize(
    ("text", "version"), [(text, 9) for text in SETTINGS] + [(text, 7) for text in OLDER]
)
def test_the_file_computes_with_the_values_that_were_reported(
    tmp_path: Path, text: str, version: int
) -> None:
    model = network(tmp_path / "m.mlpackage", version=version)
    setting = Setting.parse(text)
    made = compress(model, tmp_path / "out.mlpackage", Recipe(setting))
    assert made.bytes == sum(path.stat().st_size for path in made.path.rglob("*") if path.is_file())
    assert made.digest == model_digest(made.path) != made.source == model_digest(model)
    held = weights()
    for weight, result in zip(weights_of(model), made.weights, strict=True):
        expected = encode(held[weight.name], setting, weight)
        error = np.square(expected.dense.astype(np.float64) - held[weight.name].astype(np.float64))
        assert result.mean_squared_error == pytest.approx(error.mean())
        assert result.kept == ""
        assert result.bytes == expected.bytes < result.bytes_before
        held[weight.name] = expected.dense
    x = np.random.default_rng(0).normal(0, 1, (1, 48)).astype(np.float32)
    found = coremlops.load(made.path, precision="float32").predict({"x": x})["y"]
    np.testing.assert_allclose(found[0], answer(held, x), rtol=1e-3, atol=1e-3)


def test_metadata_and_what_is_not_compressed_stay(tmp_path: Path) -> None:
    model = network(tmp_path / "m.mlpackage")
    made = compress(
        model, tmp_path / "out.mlpackage", Recipe(weights={"second": Setting.parse("quantize:8")})
    )
    description = ModelAsset.open(made.path).description
    assert description.author == "somebody"
    assert description.user_defined["com.coremlops.data"] == "{}"
    assert made.source in description.user_defined["com.coremlops.compression"]
    first = next(weight for weight in weights_of(made.path))
    assert first.name == "first"
    np.testing.assert_array_equal(read_weight(ModelAsset.open(made.path), first), weights()["first"])
    assert made.weights[0].snr_db == math.inf


def test_equal_models_and_recipes_give_equal_bytes(tmp_path: Path) -> None:
    recipe = Recipe(Setting.parse("palettize:4:group=16"))
    trees = []
    for name in ("one", "two"):  # with other random identifiers in each manifest
        model = network(tmp_path / name / "m.mlpackage")
        trees.append(tree(compress(model, tmp_path / name / "out.mlpackage", recipe).path))
    assert trees[0] == trees[1]


def test_what_was_encoded_once_is_not_encoded_again(tmp_path: Path) -> None:
    model = network(tmp_path / "m.mlpackage")
    kept: dict[tuple[str, Setting], Encoding] = {}
    recipe = Recipe(Setting.parse("palettize:2"))
    one = compress(model, tmp_path / "one.mlpackage", recipe, encodings=kept)
    before = dict(kept)
    two = compress(model, tmp_path / "two.mlpackage", recipe, encodings=kept)
    assert one.digest == two.digest
    assert all(kept[key] is before[key] for key in before)
    assert {name for name, _ in kept} == {"first", "second"}


def test_functions_share_what_they_shared(tmp_path: Path) -> None:
    one = network(tmp_path / "one.mlpackage")
    three = network(tmp_path / "three.mlpackage", functions=3)
    recipe = Recipe(Setting.parse("quantize:8"))
    small = compress(one, tmp_path / "a.mlpackage", recipe)
    large = compress(three, tmp_path / "b.mlpackage", recipe)
    assert [weight.name for weight in large.weights] == [
        f"{function}/{name}" for function in ("main", "other", "third") for name in ("first", "second")
    ]
    weight = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
    assert (small.path / weight).read_bytes() == (large.path / weight).read_bytes()


def test_a_weight_that_does_not_fit_stays_exactly_as_it_is(tmp_path: Path) -> None:
    """coremltools' issue 2777: what was skipped came out rescaled."""
    model = network(tmp_path / "m.mlpackage")
    made = compress(model, tmp_path / "out.mlpackage", Recipe(Setting.parse("palettize:4:group=32")))
    first, second = made.weights
    assert first.kept == ""
    assert second.kept == "48 output channels are no multiple of the group 32"
    assert second.bytes == second.bytes_before
    left = {weight.name: weight for weight in weights_of(made.path)}
    assert list(left) == ["second"]
    stored = read_weight(ModelAsset.open(made.path), left["second"])
    assert stored.tobytes() == weights()["second"].tobytes()


def test_small_weights_are_left_alone_unless_they_are_named(tmp_path: Path) -> None:
    values = weights() | {"second": weights()["second"][:16]}
    model = network(tmp_path / "m.mlpackage", values=values)
    setting = Setting.parse("quantize:8")
    assert compress(model, tmp_path / "a.mlpackage", Recipe(setting)).weights[1].setting == Setting("none")
    named = compress(model, tmp_path / "b.mlpackage", Recipe(weights={"second": setting}))
    assert [entry.setting for entry in named.weights] == [Setting("none"), setting]


@pytest.mark.parametrize(
    ("text", "version", "needs"),
    [
        ("palettize:4", 6, "palettized weights need iOS16 or newer, and .* is for iOS15"),
        ("palettize:4:group=16", 7, "a table a group of channels need iOS18 or newer, and .* is for iOS16"),
        ("palettize:3", 8, "tables of 3 bits need iOS18"),
        ("quantize:4", 8, "integers of 4 bits need iOS18"),
        ("quantize:8:block=16", 8, "a scale a block need iOS18"),
        ("quantize:8:sparsity=0.5", 8, "quantize of pruned weights need iOS18"),
        ("palettize:4:lut_bits=8", 8, "tables of int8 need iOS18"),
    ],
)
def test_a_target_too_old_names_the_feature_and_the_lowest_one(
    tmp_path: Path, text: str, version: int, needs: str
) -> None:
    model = network(tmp_path / "m.mlpackage", version=version)
    with pytest.raises(UsageError, match=needs):
        compress(model, tmp_path / "out.mlpackage", Recipe(Setting.parse(text)))
    assert [path.name for path in tmp_path.iterdir()] == ["m.mlpackage"]


def test_a_target_is_raised_when_it_is_said(tmp_path: Path) -> None:
    model = network(tmp_path / "m.mlpackage", version=7)
    recipe = Recipe(Setting.parse("palettize:4:group=16"))
    made = compress(model, tmp_path / "out.mlpackage", recipe, target="iOS18")
    spec = ModelAsset.open(made.path).spec
    assert (made.target, spec.specificationVersion) == ("iOS18", 9)
    assert spec.mlProgram.functions["main"].opset == "CoreML8"
    assert list(spec.mlProgram.functions["main"].block_specializations) == ["CoreML8"]
    x = np.ones((1, 48), np.float32)
    assert np.isfinite(coremlops.load(made.path).predict({"x": x})["y"]).all()
    # What was compressed is not kept beside it: the files are as large as those of a model that was newer.
    newer = compress(network(tmp_path / "n.mlpackage", version=9), tmp_path / "same.mlpackage", recipe)
    weights = "Data/com.apple.CoreML/weights/weight.bin"
    assert (made.path / weights).read_bytes() == (newer.path / weights).read_bytes()
    with pytest.raises(UsageError, match="can be raised, not lowered"):
        compress(network(tmp_path / "new.mlpackage"), tmp_path / "older.mlpackage", Recipe(), target="iOS16")
    with pytest.raises(UsageError, match=r"one of iOS15, .* expected, got 'iOS19'"):
        compress(model, tmp_path / "older.mlpackage", Recipe(), target="iOS19")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(model="0" * 64), "the recipe is for the model 000000000000, and"),
        (
            Recipe(weights={"frist": Setting.parse("quantize:8")}),
            "does not have 1 weights of the recipe: frist",
        ),
    ],
)
def test_a_recipe_for_another_model_is_refused(tmp_path: Path, recipe: Recipe, message: str) -> None:
    model = network(tmp_path / "m.mlpackage")
    with pytest.raises(UsageError, match=message):
        compress(model, tmp_path / "out.mlpackage", recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["m.mlpackage"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_no_numbers_leave_an_older_result(tmp_path: Path, bad: float) -> None:
    out = tmp_path / "out.mlpackage"
    recipe = Recipe(Setting.parse("palettize:4"))
    compress(network(tmp_path / "good.mlpackage"), out, recipe)
    before = tree(out)
    values = weights()
    values["second"][3, 4] = bad
    model = network(tmp_path / "bad.mlpackage", values=values)
    with pytest.raises(InputError, match="the weight second holds 1 values that are NaN or infinite"):
        compress(model, out, recipe)
    assert tree(out) == before
    only_first = Recipe(weights={"first": Setting.parse("palettize:4")})
    compress(model, out, only_first)  # what is left out may hold anything


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    values = {"first": weights()["first"]}
    model = network(tmp_path / "m.mlpackage")
    spec = ModelAsset.open(model).spec
    del values
    block = spec.mlProgram.functions["main"].block_specializations["CoreML8"]
    for operation in block.operations:
        if operation.type == "const":
            operation.type = "constexpr_cast"
    path = model / "Data" / "com.apple.CoreML" / "model.mlmodel"
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(UsageError, match="nothing to compress"):
        compress(model, tmp_path / "out.mlpackage", Recipe(Setting.parse("quantize:8")))
    assert weights_of(adder(tmp_path / "adder.mlpackage"))[0].name == "w"


def test_pruning_takes_the_share_that_was_asked_for(tmp_path: Path) -> None:
    weight = weights_of(network(tmp_path / "m.mlpackage"))[0]
    values = weights()["first"]
    half = encode(values, Setting.parse("prune:0.25"), weight).dense
    assert np.count_nonzero(half == 0) == values.size // 4
    assert np.abs(values[half == 0]).max() <= np.abs(half[half != 0]).min()
    pattern = encode(values, Setting.parse("prune:pattern=2:4"), weight).dense
    assert (np.count_nonzero(pattern.reshape(64, 12, 4), axis=2) == 2).all()


def test_a_kind_without_a_program_is_named(tmp_path: Path) -> None:
    from coremlops.model.proto import message_class

    spec = message_class("Model")(specificationVersion=1)
    spec.treeEnsembleRegressor.SetInParent()
    path = tmp_path / "m.mlmodel"
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(
        ModelError, match="an ML Program expected, got a model of the kind treeEnsembleRegressor"
    ):
        compress(path, tmp_path / "out.mlpackage", Recipe(Setting.parse("quantize:8")))
    spec.neuralNetwork.SetInParent()
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(ModelError, match="of the kind neuralNetwork") as caught:
        compress(path, tmp_path / "out.mlpackage", Recipe(Setting.parse("quantize:8")))
    assert "convert its source as an .mlpackage" in caught.value.hint


def test_a_program_with_an_op_of_another_form_is_not_raised(tmp_path: Path) -> None:
    model = network(tmp_path / "m.mlpackage", version=7)
    older = compress(
        model, tmp_path / "old.mlpackage", Recipe(weights={"first": Setting.parse("palettize:4")})
    )
    recipe = Recipe(weights={"second": Setting.parse("quantize:4")})
    with pytest.raises(UsageError, match="constexpr_lut_to_dense has another form there"):
        compress(older.path, tmp_path / "new.mlpackage", recipe, target="iOS18")
    assert not (tmp_path / "new.mlpackage").exists()
