"""Trees of XGBoost, LightGBM and CatBoost against what the libraries themselves answer; see trees/make.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.convert.classic import convert_table
from coremlops.errors import ConversionError, InputError, UsageError
from coremlops.source import open_reference
from coremlops.source.trees import TableReference, rounded_below, rounded_up_to

HOME = Path(__file__).parent / "trees"
ANSWERS = json.loads((HOME / "answers.json").read_text())


def answer(model: Any, row: list[float], names: list[str]) -> Any:
    found = model.predict(dict(zip(names, row, strict=True)))
    if "prediction" in found:
        return [float(found["prediction"])]
    values = list(found["classLabel_probs"].values())
    assert found["classLabel"] == (int(values[1] >= values[0]) if len(values) == 2 else np.argmax(values))
    return values


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_answers_as_the_library_does(name: str, tmp_path: Path) -> None:
    """NaN, and values at thresholds and one bit beside them, among the rows."""
    reference = convert_table(HOME / name, tmp_path / "a.mlmodel")
    model = coremlops.load(tmp_path / "a.mlmodel")
    names = [item.name for item in reference.inputs]
    # XGBoost sums and transforms in float32, the others in double.
    limit = 2e-6 if name.startswith("xgboost") else 1e-12
    for row, expected in zip(ANSWERS[name]["rows"], ANSWERS[name]["answers"], strict=True):
        got = answer(model, row, names)
        assert got[-len(expected) :] == pytest.approx(expected, abs=limit), (name, row)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_library_answers_as_it_did(name: str) -> None:
    library = name.split("-")[0]
    # An older XGBoost does not read what a newer one wrote.
    pytest.importorskip(library, minversion="3.1" if library == "xgboost" else None)
    reference = open_reference(HOME / name)
    for row, expected in list(zip(ANSWERS[name]["rows"], ANSWERS[name]["answers"], strict=True))[::7]:
        found = reference(dict(zip((item.name for item in reference.inputs), row, strict=True)))
        values = found["prediction" if "prediction" in found else "classLabel_probs"]
        assert np.ravel(values)[-len(expected) :] == pytest.approx(expected, abs=1e-5)


def test_base_score_is_kept() -> None:
    """coremltools 9 writes 0 for it."""
    reference = open_reference(HOME / "xgboost-two-given.json")
    assert reference.raw.base == pytest.approx([np.log(0.3 / 0.7)])
    assert open_reference(HOME / "xgboost-value.json").raw.base[0] == pytest.approx(5, abs=0.5)


def test_thresholds_decide_as_float32() -> None:
    """For every double: the oracle is NumPy's own rounding."""
    rng = np.random.default_rng(0)
    given = rng.normal(size=2000) * 10.0 ** rng.integers(-44, 38, 2000)
    edges = [0.0, -0.0, 1e-45, -1e-45, 0.5, 1.0, 3.4028234663852886e38, -3.4028234663852886e38]
    with np.errstate(all="ignore"):
        for threshold in np.array([*edges, *given], np.float32):
            for make, compares in ((rounded_below, np.less), (rounded_up_to, np.less_equal)):
                at, strict = make(float(threshold))
                for x in (at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf), float(threshold)):
                    assert ((x < at) if strict else (x <= at)) == compares(np.float32(x), threshold)


def test_labels_have_names(tmp_path: Path) -> None:
    out = tmp_path / "a.mlmodel"
    convert_table(HOME / "xgboost-three.json", out, labels=("low", "mid", "high"))
    found = coremlops.load(out).predict(dict.fromkeys(("f0", "f1", "f2", "f3"), 1.0))
    assert set(found["classLabel_probs"]) == {"low", "mid", "high"}
    with pytest.raises(UsageError, match="1 labels given, the model is 3 classes"):
        convert_table(HOME / "xgboost-three.json", out, labels=("low",))
    with pytest.raises(UsageError, match="1 labels given, the model is a regressor"):
        convert_table(HOME / "xgboost-value.json", out, labels=("low",))
    with pytest.raises(UsageError, match=r"\.mlmodel expected"):
        convert_table(HOME / "xgboost-value.json", tmp_path / "a.mlpackage")


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert_table(HOME / "catboost-two.json", tmp_path / f"{name}.mlmodel")
    assert (tmp_path / "a.mlmodel").read_bytes() == (tmp_path / "b.mlmodel").read_bytes()


def xgboost_file(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    model = json.loads((HOME / "xgboost-value.json").read_text())
    change(model["learner"])
    path = tmp_path / "m.json"
    path.write_text(json.dumps(model))
    return path


def first_tree(learner: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = learner["gradient_booster"]["model"]["trees"][0]
    return found


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda m: m["objective"].update(name="count:poisson"), ConversionError, "count:poisson"),
        (lambda m: m["gradient_booster"].update(name="gblinear"), ConversionError, "gblinear"),
        (lambda m: first_tree(m)["split_type"].__setitem__(0, 1), ConversionError, "categories"),
        (lambda m: m["learner_model_param"].update(num_target="2"), ConversionError, "one target"),
        (lambda m: first_tree(m)["left_children"].__setitem__(0, 0), InputError, "two parents"),
        (lambda m: first_tree(m)["left_children"].__setitem__(0, 999), InputError, "XGBoost model"),
        (lambda m: first_tree(m)["split_indices"].__setitem__(0, 77), InputError, "feature 77 of 4"),
        (lambda m: m.pop("objective"), InputError, "an XGBoost model expected"),
    ],
)
def test_what_does_not_convert_is_said(
    change: Any, error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        convert_table(xgboost_file(tmp_path, change), tmp_path / "a.mlmodel")
    assert not (tmp_path / "a.mlmodel").exists()


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("objective=regression", "objective=poisson", ConversionError, "poisson"),
        ("decision_type=", "decision_type=1 ", ConversionError, "categories"),
        ("is_linear=0", "is_linear=1", ConversionError, "linear leaves"),
        ("tree\n", "grove\n", InputError, "begins with"),
    ],
)
def test_lightgbm_that_does_not_convert(
    old: str, new: str, error: type[Exception], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.txt"
    path.write_text((HOME / "lightgbm-value.txt").read_text().replace(old, new, 1))
    with pytest.raises(error, match=says):
        open_reference(path)


def test_early_stopping_takes_the_best_rounds(tmp_path: Path) -> None:
    path = xgboost_file(tmp_path, lambda m: m.update(attributes={"best_iteration": "1"}))
    reference = open_reference(path)
    assert len(reference.raw.trees) == 2
    assert "first 2 rounds" in reference.raw.notes[0]


def test_features_by_name(tmp_path: Path) -> None:
    path = xgboost_file(tmp_path, lambda m: m.update(feature_names=["age", "bmi", "bp", "sex"]))
    reference = convert_table(path, tmp_path / "a.mlmodel")
    assert isinstance(reference, TableReference)
    assert [item.name for item in coremlops.load(tmp_path / "a.mlmodel").description.inputs] == [
        "age",
        "bmi",
        "bp",
        "sex",
    ]
    twice = xgboost_file(tmp_path, lambda m: m.update(feature_names=["age", "age", "bp", "sex"]))
    with pytest.raises(InputError, match="a name of its own"):
        open_reference(twice)
