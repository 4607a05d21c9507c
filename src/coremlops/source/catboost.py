"""CatBoost models: JSON is read here; `.cbm` and answers need the library.

Source: CatBoost's JSON export: the trees are symmetric, bit i of a leaf's place is `float32(x) > border` of
the i-th split; NaN is below or above each border as the feature's `nan_value_treatment` says.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from coremlops.digest import sha256_file
from coremlops.errors import ConversionError, InputError, MissingExtraError
from coremlops.source.trees import (
    Branch,
    Ensemble,
    Leaf,
    TableReference,
    Tree,
    feature_tensors,
    rounded_up_to,
)

MAX_BYTES = 1 << 30
MAX_TREE_DEPTH = 16
_PLAIN = ("RMSE", "MAE", "Quantile", "MAPE", "Huber", "LogCosh", "Lq", "Expectile", "YetiRank", "PairLogit")


def open_catboost(path: Path) -> TableReference:
    """The model of a file that `CatBoost.save_model` wrote. Raises InputError and ConversionError."""
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: at most {MAX_BYTES} bytes expected")
    runner = _Runner(path)
    try:
        found = _read(
            json.loads(path.read_bytes() if path.suffix == ".json" else runner.as_json()), path.name
        )
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: a CatBoost model expected: {type(error).__name__}: {error}") from error
    runner.transform = found.transform
    return TableReference(
        "catboost",
        path.name,
        sha256_file(path),
        feature_tensors(found.features, path.name),
        found,
        labels=found.labels,
        run=runner,
    )


class _Runner:
    """CatBoost's own answers; the library is loaded by the first."""

    def __init__(self, path: Path) -> None:
        self.path, self.transform = path, ""
        self.model: Any = None

    def loaded(self) -> Any:
        if self.model is None:
            try:
                import catboost
            except ImportError:
                raise MissingExtraError("catboost", "catboost") from None
            try:
                self.model = catboost.CatBoost().load_model(
                    str(self.path), format="json" if self.path.suffix == ".json" else "cbm"
                )
            except Exception as error:  # CatBoostError, or what the library makes of a hostile file
                raise InputError(f"{self.path}: CatBoost does not load it: {error}") from error
        return self.model

    def as_json(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "model.json")
            self.loaded().save_model(str(out), format="json")
            return out.read_bytes()

    def __call__(self, row: Any) -> Any:
        kind = "Probability" if self.transform else "RawFormulaVal"
        answer = self.loaded().predict(row[None], prediction_type=kind, thread_count=1)[0]
        return answer


def _read(model: dict[str, Any], where: str) -> Ensemble:
    info = model["features_info"]
    for kind in ("categorical_features", "text_features", "embedding_features"):
        if info.get(kind):
            raise ConversionError(
                f"{where}: {kind.replace('_', ' ')} do not convert: CatBoost counts them at prediction time",
                hint="train with one-hot columns",
            )
    floats = info["float_features"]
    names = tuple(item.get("feature_id") or f"f{i}" for i, item in enumerate(floats))
    if [item["flat_feature_index"] for item in floats] != list(range(len(floats))):
        raise InputError(f"{where}: features out of order")
    if "oblivious_trees" not in model:
        raise ConversionError(f"{where}: symmetric trees convert, those of another grow_policy do not")
    scale, bias = model["scale_and_bias"]
    above = tuple(item.get("nan_value_treatment") == "AsTrue" for item in floats)
    trees = tuple(
        _tree(tree, len(bias), float(scale), above, f"{where}, tree {place}")
        for place, tree in enumerate(model["oblivious_trees"])
    )
    transform, labels = _objective(model["model_info"], len(bias), where)
    return Ensemble(names, trees, tuple(float(value) for value in bias), transform, labels)


def _objective(
    info: dict[str, Any], groups: int, where: str
) -> tuple[str, tuple[int, ...] | tuple[str, ...] | None]:
    loss = info["params"]["loss_function"]["type"]
    if loss in _PLAIN and groups == 1:
        return "", None
    if loss not in ("Logloss", "CrossEntropy", "MultiClass"):
        raise ConversionError(
            f"{where}: the loss {loss} does not convert: Core ML's trees have no such transform",
            hint=f"those that do: {', '.join((*_PLAIN, 'Logloss', 'CrossEntropy', 'MultiClass'))}",
        )
    given = info.get("class_params", {}).get("class_to_label", ())
    count = 2 if groups == 1 else groups
    labels: tuple[Any, ...] = tuple(given) if len(given) == count else tuple(range(count))
    if all(
        float(label).is_integer() if isinstance(label, float) else isinstance(label, int) for label in labels
    ):
        labels = tuple(int(label) for label in labels)
    else:
        labels = tuple(str(label) for label in labels)
    return "softmax" if groups > 1 else "sigmoid", labels


def _tree(tree: dict[str, Any], groups: int, scale: float, above: tuple[bool, ...], where: str) -> Tree:
    splits, values = tree.get("splits") or [], tree["leaf_values"]
    if len(splits) > MAX_TREE_DEPTH or len(values) != groups << len(splits):
        raise InputError(f"{where}: {len(values)} leaf values for {len(splits)} splits of {groups} scores")
    depth = len(splits)
    made: list[Branch | Leaf] = []
    # A heap, the last split at the root, so that the leaves stand in CatBoost's order.
    for level, split in enumerate(reversed(splits)):
        if split["split_type"] != "FloatFeature":
            raise ConversionError(f"{where}: a split of type {split['split_type']} does not convert")
        feature = split["float_feature_index"]
        threshold, strict = rounded_up_to(split["border"])
        for place in range(1 << level):
            below = 2 * ((1 << level) - 1 + place) + 1
            made.append(Branch(feature, threshold, strict, below, below + 1, not above[feature]))
    for leaf in range(1 << depth):
        row = values[leaf * groups : (leaf + 1) * groups]
        made.append(Leaf(tuple((group, float(value) * scale) for group, value in enumerate(row))))
    return tuple(made)
