"""XGBoost models: `model.json` is read here, `.ubj` and answers need the library itself.

Source: XGBoost's `doc/model.schema` and `src/tree`: a row goes left where `float32(x) < split_condition`, and
NaN where `default_left` says.
"""

from __future__ import annotations

import json
import math
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
    check_tree,
    feature_tensors,
    rounded_below,
)

MAX_BYTES = 1 << 30
_PLAIN = (
    "reg:squarederror",
    "reg:linear",
    "reg:squaredlogerror",
    "reg:pseudohubererror",
    "reg:absoluteerror",
    "reg:quantileerror",
    "rank:pairwise",
    "rank:ndcg",
    "rank:map",
    "binary:logitraw",
)
_LOGISTIC = ("reg:logistic", "binary:logistic")
_SOFTMAX = ("multi:softprob", "multi:softmax")


def open_xgboost(path: Path) -> TableReference:
    """The model of a file that `Booster.save_model` wrote. Raises InputError and ConversionError."""
    if path.suffix == ".ubj":
        data = bytes(_booster(path).save_raw("json"))
    elif path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: at most {MAX_BYTES} bytes expected")
    else:
        data = path.read_bytes()
    where = path.name
    try:
        model = json.loads(data)["learner"]
        found, rounds = _read(model, where)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: an XGBoost model expected: {type(error).__name__}: {error}") from error
    return TableReference(
        "xgboost",
        path.name,
        sha256_file(path),
        feature_tensors(found.features, where),
        found,
        labels=found.labels,
        run=_Runner(path, rounds, len(found.base), found.features),
    )


class _Runner:
    """XGBoost's own answers; the library is loaded by the first."""

    def __init__(self, path: Path, rounds: int, groups: int, features: tuple[str, ...]) -> None:
        self.path, self.rounds, self.groups, self.features = path, rounds, groups, features
        self.booster: Any = None

    def __call__(self, row: Any) -> Any:
        if self.booster is None:
            self.booster = _booster(self.path)
            if self.booster_objective() == "multi:softmax":  # the label alone; softprob is the same trees
                self.booster.set_param({"objective": "multi:softprob"})
        import xgboost

        names = list(self.features) if self.booster.feature_names else None
        matrix = xgboost.DMatrix(row[None].astype("float32"), feature_names=names)
        return self.booster.predict(matrix, iteration_range=(0, self.rounds))[0]

    def booster_objective(self) -> str:
        config = json.loads(self.booster.save_config())
        return str(config["learner"]["objective"]["name"])


def _booster(path: Path) -> Any:
    try:
        import xgboost
    except ImportError:
        raise MissingExtraError("xgboost", "xgboost") from None
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
    except Exception as error:  # XGBoostError, or what the library makes of a hostile file
        raise InputError(f"{path}: XGBoost does not load it: {str(error).splitlines()[0]}") from error
    booster.set_param({"nthread": 1})
    return booster


def _read(model: dict[str, Any], where: str) -> tuple[Ensemble, int]:
    booster, parameters = model["gradient_booster"], model["learner_model_param"]
    kind, drops = booster["name"], None
    if kind == "dart":
        drops = [float(value) for value in booster["weight_drop"]]
        booster = booster["gbtree"]
    elif kind != "gbtree":
        raise ConversionError(
            f"{where}: the booster {kind} does not convert; gbtree and dart do",
            hint="for gblinear, fit scikit-learn's linear model" if kind == "gblinear" else "",
        )
    objective, groups = model["objective"]["name"], max(1, int(parameters["num_class"]))
    if int(parameters.get("num_target", 1)) > 1:
        raise ConversionError(f"{where}: one target expected, got {parameters['num_target']}")
    held = booster["model"]
    per_round = groups * max(1, int(held["gbtree_model_param"].get("num_parallel_tree", 1)))
    trees, notes = held["trees"], []
    best = model.get("attributes", {}).get("best_iteration")
    if best is not None and (int(best) + 1) * per_round < len(trees):
        trees = trees[: (int(best) + 1) * per_round]
        notes.append(f"early stopping: the first {int(best) + 1} rounds, as XGBClassifier.predict takes them")
    features = int(parameters["num_feature"])
    names = tuple(model.get("feature_names") or [f"f{i}" for i in range(features)])
    if len(names) != features:
        raise InputError(f"{where}: {len(names)} names for {features} features")
    made = []
    for place, tree in enumerate(trees):
        scale = 1.0 if drops is None else drops[place]
        nodes = _tree(tree, int(held["tree_info"][place]), scale, f"{where}, tree {place}")
        check_tree(nodes, features, f"{where}, tree {place}")
        made.append(nodes)
    base, transform, labels = _objective(objective, parameters["base_score"], groups, where)
    rounds = len(trees) // per_round if per_round else 0
    return Ensemble(names, tuple(made), base, transform, labels, tuple(notes)), rounds


def _tree(tree: dict[str, Any], group: int, scale: float, where: str) -> Tree:
    if any(tree.get("split_type", ())) or tree.get("categories"):
        raise ConversionError(
            f"{where}: a split by categories does not convert: a branch of Core ML compares one number",
            hint="train with one-hot columns, or max_cat_to_onehot and encoded features",
        )
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise ConversionError(f"{where}: leaves of vectors (multi_strategy) do not convert")
    left, right, conditions = tree["left_children"], tree["right_children"], tree["split_conditions"]
    defaults, indices = tree["default_left"], tree["split_indices"]
    reached = [0]
    for node in reached:  # pruned nodes stay in the file; only what hangs on the root counts
        if len(reached) > len(left):
            raise InputError(f"{where}: a node has two parents")
        if left[node] != -1:
            reached += [left[node], right[node]]
    places = {node: place for place, node in enumerate(reached)}
    made: list[Branch | Leaf] = []
    for node in reached:
        if left[node] == -1:
            made.append(Leaf(((group, float(conditions[node]) * scale),)))
            continue
        threshold, strict = rounded_below(conditions[node])
        yes, no = places[left[node]], places[right[node]]
        made.append(Branch(indices[node], threshold, strict, yes, no, bool(defaults[node])))
    return tuple(made)


def _objective(
    name: str, base_score: str, groups: int, where: str
) -> tuple[tuple[float, ...], str, tuple[int, ...] | None]:
    """The sum's base, its transform and labels. `base_score` is one number, or one a class since 3.1."""
    text = str(base_score).strip("[] ")
    scores = [float(value) for value in text.split(",")] if text else [0.0]
    if len(scores) not in (1, groups):
        raise InputError(f"{where}: {len(scores)} base scores for {groups} classes")
    scores *= groups if len(scores) == 1 else 1
    if name in _LOGISTIC:
        if not 0 < scores[0] < 1:
            raise InputError(f"{where}: a base score between 0 and 1 expected, got {scores[0]}")
        margin = math.log(scores[0] / (1 - scores[0]))
        return (margin,), "sigmoid", (0, 1) if name.startswith("binary") else None
    if name in _SOFTMAX:
        return tuple(scores), "softmax", tuple(range(groups))
    if name in _PLAIN and groups == 1:
        return tuple(scores), "", None
    raise ConversionError(
        f"{where}: the objective {name} does not convert: Core ML's trees have no such transform",
        hint=f"those that do: {', '.join((*_PLAIN, *_LOGISTIC, *_SOFTMAX))}",
    )
