"""Make the models beside this file and `answers.json`, with what their own libraries answer.

    PYTHONPATH=src python tests/convert/trees/make.py

Made with xgboost-cpu 3.2.0, lightgbm 4.7.0 and catboost 1.2.10. Rows hold NaN, and
features at, just below and just above thresholds, as doubles and as float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import xgboost

from coremlops.source import open_reference
from coremlops.source.trees import Branch, TableReference

HOME = Path(__file__).parent
RNG = np.random.default_rng(0)


def data() -> tuple[Any, dict[str, Any]]:
    x = RNG.normal(size=(300, 4)).round(2)
    x[:, 3] = RNG.integers(0, 4, 300)
    x[RNG.random(x.shape) < 0.1] = np.nan
    filled = np.nan_to_num(x)
    value = filled[:, 0] * 2 + filled[:, 1] * filled[:, 2] + 5
    return x, {"value": value, "two": (value > 5).astype(int), "three": np.digitize(value, [4, 6])}


def rows(reference: TableReference, x: Any) -> Any:
    splits = [
        (node.feature, node.threshold)
        for tree in reference.raw.trees
        for node in tree
        if isinstance(node, Branch)
    ]
    made = [*x[:10]]
    for row in x[10:20]:
        feature, at = splits[RNG.integers(len(splits))]
        single = np.float32(at)
        near = (at, np.nextafter(at, 9), np.nextafter(at, -9))
        float32s = (single, np.nextafter(single, np.float32(9)), np.nextafter(single, np.float32(-9)))
        for value in (*near, *map(float, float32s)):
            made.append(row.copy())
            made[-1][feature] = value
    return made


def main() -> None:
    x, y = data()
    given: dict[str, Any]
    more: Any
    for name, objective, target, more in (
        ("value", "reg:squarederror", "value", {}),
        ("two", "binary:logistic", "two", {}),
        ("two-given", "binary:logistic", "two", {"base_score": 0.3}),
        ("three", "multi:softprob", "three", {"num_class": 3}),
        ("dart", "reg:squarederror", "value", {"booster": "dart", "rate_drop": 0.5}),
    ):
        given = {"objective": objective, "max_depth": 3, "nthread": 1, **more}
        xgboost.train(given, xgboost.DMatrix(x, y[target]), 4).save_model(HOME / f"xgboost-{name}.json")
    for name, objective, target, more in (
        ("value", "regression", "value", {}),
        ("two", "binary", "two", {"use_missing": False}),
        ("three", "multiclass", "three", {"num_class": 3}),
        ("forest", "binary", "two", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
    ):
        given = {"objective": objective, "num_leaves": 6, "verbose": -1, "num_threads": 1, **more}
        made = lightgbm.train(given, lightgbm.Dataset(x, y[target]), 4)
        made.save_model(HOME / f"lightgbm-{name}.txt")
    for name, loss, target, nan in (
        ("value", "RMSE", "value", "Max"),
        ("two", "Logloss", "two", "Min"),
        ("three", "MultiClass", "three", "Min"),
    ):
        given = {"loss_function": loss, "iterations": 3, "depth": 3, "verbose": 0, "nan_mode": nan}
        made = catboost.CatBoost({**given, "allow_writing_files": False}).fit(x, y[target])
        made.save_model(str(HOME / f"catboost-{name}.json"), format="json")
    answers = {}
    for path in sorted([*HOME.glob("*-*.json"), *HOME.glob("*.txt")]):
        reference = open_reference(path)
        assert isinstance(reference, TableReference)
        asked = rows(reference, x)
        found = [np.ravel(reference.run(row)).astype(float).tolist() for row in asked]
        answers[path.name] = {"rows": [list(row) for row in asked], "answers": found}
    (HOME / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
