"""scikit-learn estimators, and pipelines of them, fitted, as values; answers are the estimator's own.

A file is `skops`, which holds no pickle: types that skops does not trust by itself are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coremlops.digest import sha256_bytes, sha256_file
from coremlops.errors import ConversionError, InputError, MissingExtraError
from coremlops.source.reference import Tensor
from coremlops.source.steps import OneHot, Pipeline, flat, read_step
from coremlops.source.trees import (
    Branch,
    Ensemble,
    Leaf,
    TableReference,
    Tree,
    check_tree,
    feature_tensors,
    rounded_up_to,
)
from coremlops.source.vectors import (
    Neighbors,
    SupportVectors,
    check_kernel,
    read_neighbors,
    read_support_vectors,
)

INPUT = "input"  # the one array of a pipeline or of nearest neighbours

# Arrays of nodes in C, which skops leaves to its user: `check_tree` looks at their links before they answer.
_TREES = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
_TRUSTED = (*_TREES, "numpy.dtype")  # a type of numbers, which skops reads from an empty array, no pickle
_FORESTS = ("RandomForest", "ExtraTrees")
_LINEAR = ("LinearRegression", "Ridge", "Lasso", "ElasticNet", "BayesianRidge", "HuberRegressor")
_SUPPORT_VECTORS = ("SVC", "NuSVC", "SVR", "NuSVR")
_CONVERT = (
    "LinearRegression, Ridge, Lasso, ElasticNet, BayesianRidge, HuberRegressor, LogisticRegression, SVC, "
    "NuSVC, SVR, NuSVR, KNeighborsClassifier, DecisionTree, RandomForest, ExtraTrees, GradientBoosting and "
    "HistGradientBoosting of either kind, and a Pipeline that ends in one of them"
)


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """`weights` [rows][features] times x and `offsets` [rows]: the prediction, or the scores of all classes
    but the first, whose score is 0; their softmax are the probabilities."""

    features: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]
    labels: tuple[str, ...] | tuple[int, ...] | None


def open_sklearn(path: Path) -> TableReference:
    """The estimator of a `.skops` file. Raises InputError, ConversionError and MissingExtraError."""
    try:
        import skops.io
    except ImportError:
        raise MissingExtraError("skops", "sklearn") from None
    try:
        strange = set(skops.io.get_untrusted_types(file=path)) - set(_TRUSTED)
        if strange:
            raise InputError(
                f"{path}: it holds types that are not trusted: {', '.join(sorted(strange))}",
                hint="neighbours: fit them with algorithm='brute'; else give module:factory, your code",
            )
        estimator = skops.io.load(path, trusted=list(_TRUSTED))
    except InputError:
        raise
    except Exception as error:  # zip, JSON, or what a hostile file makes of them
        raise InputError(f"{path}: a skops file expected: {error}") from error
    return sklearn_reference(estimator, path.name, sha256_file(path))


def sklearn_reference(estimator: Any, name: str, digest: str = "") -> TableReference:
    """What a fitted estimator answers, and what converts of it."""
    try:
        model = _read(estimator, name)
    except AttributeError as error:
        raise InputError(f"{name}: a fitted estimator of scikit-learn expected: {error}") from error
    digest = digest or sha256_bytes(repr(model).encode())
    predictor = model.last if isinstance(model, Pipeline) else model
    labels, probable = predictor.labels, gives_probabilities(predictor)
    run = estimator.predict_proba if labels and probable else estimator.predict
    if not probable:
        places = {label: place for place, label in enumerate(estimator.classes_.tolist())}

        def run(table: Any) -> Any:
            return [places[label] for label in estimator.predict(table).tolist()]

    return TableReference(
        "scikit-learn",
        name,
        digest,
        _tensors(model, name),
        model,
        labels=labels,
        run=lambda row: run(_table(estimator, row))[0],
        probable=probable,
    )


def gives_probabilities(model: Any) -> bool:
    """Whether a predictor has a probability for each class; those of support vectors are Platt's."""
    return not (isinstance(model, SupportVectors) and model.labels and not model.prob_a)


def _tensors(model: Any, where: str) -> tuple[Tensor, ...]:
    """A number a feature; Core ML's pipelines and nearest neighbours take them as one array."""
    if isinstance(model, Pipeline):
        if model.steps and isinstance(model.steps[0], OneHot):
            text = isinstance(model.steps[0].categories[0], str)
            return (Tensor(INPUT, (), "str" if text else "int64"),)
        return (Tensor(INPUT, (model.width,), "float64"),)
    if isinstance(model, Neighbors):
        return (Tensor(INPUT, (len(model.features),), "float64"),)
    return feature_tensors(model.features, where)


def _table(estimator: Any, row: Any) -> Any:
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return row[None]
    import pandas

    return pandas.DataFrame(row[None], columns=names)


def _read(estimator: Any, where: str) -> Ensemble | Linear | SupportVectors | Neighbors | Pipeline:
    kind = type(estimator).__name__
    if kind == "Pipeline":
        return _pipeline(estimator, where)
    if kind in _SUPPORT_VECTORS:
        check_kernel(estimator, where)
    names = getattr(estimator, "feature_names_in_", None)
    count = int(estimator.n_features_in_)
    features = tuple(map(str, names)) if names is not None else tuple(f"f{i}" for i in range(count))
    classes = getattr(estimator, "classes_", None)
    labels = None if classes is None else _labels(classes, where)
    if kind in _LINEAR or kind == "LogisticRegression":
        return _linear(estimator, features, labels, where)
    if kind in _SUPPORT_VECTORS:
        return read_support_vectors(estimator, features, labels, where)
    if kind == "KNeighborsClassifier":
        return read_neighbors(estimator, features, labels, where)
    family = kind.removesuffix("Classifier").removesuffix("Regressor")
    if family == "HistGradientBoosting":
        made = _histogram(estimator, features, labels, where)
    elif family == "GradientBoosting":
        made = _boosted(estimator, features, labels, where)
    elif family in (*_FORESTS, "DecisionTree"):
        made = _forest(estimator, features, labels, where)
    else:
        raise ConversionError(f"{where}: {kind} does not convert", hint=f"those that do: {_CONVERT}")
    for place, tree in enumerate(made.trees):
        check_tree(tree, count, f"{where}, tree {place}")
    return made


def _pipeline(pipeline: Any, where: str) -> Pipeline:
    *before, last = flat(pipeline) or [None]
    if not hasattr(last, "predict"):
        raise ConversionError(
            f"{where}: a Pipeline that ends in {type(last).__name__} does not convert: nothing predicts",
            hint=f"end it with one of: {_CONVERT}",
        )
    steps = [part for place, step in enumerate(before) for part in read_step(step, place, where)]
    return Pipeline(int(pipeline.n_features_in_), tuple(steps), _read(last, where))


def _labels(classes: Any, where: str) -> tuple[Any, ...]:
    if isinstance(classes, list):
        raise ConversionError(f"{where}: one output expected, got {len(classes)}")
    whole = classes.dtype.kind in "iub"
    return tuple(int(label) if whole else str(label) for label in classes)


def _linear(estimator: Any, features: tuple[str, ...], labels: Any, where: str) -> Linear:
    import numpy as np

    weights, offsets = np.atleast_2d(estimator.coef_), np.ravel(estimator.intercept_)
    if labels is None and len(weights) != 1:
        raise ConversionError(f"{where}: one output expected, got {len(weights)}")
    if labels is not None and len(weights) > 1:  # against the first class, whose score becomes 0
        weights, offsets = weights[1:] - weights[0], offsets[1:] - offsets[0]
    offsets = np.broadcast_to(offsets, len(weights))
    rows = tuple(tuple(map(float, row)) for row in weights)
    return Linear(features, rows, tuple(map(float, offsets)), labels)


def _forest(estimator: Any, features: tuple[str, ...], labels: Any, where: str) -> Ensemble:
    trees = getattr(estimator, "estimators_", [estimator])
    if estimator.n_outputs_ != 1:
        raise ConversionError(f"{where}: one output expected, got {estimator.n_outputs_}")

    def leaf(values: Any) -> Leaf:
        total = values.sum() if labels is not None else 1.0
        return Leaf(tuple((i, float(value / total / len(trees))) for i, value in enumerate(values)))

    made = tuple(_tree(tree.tree_, leaf) for tree in trees)
    return Ensemble(features, made, (0.0,) * (len(labels) if labels else 1), "", labels)


def _boosted(estimator: Any, features: tuple[str, ...], labels: Any, where: str) -> Ensemble:
    import numpy as np

    if estimator.loss == "exponential" or type(estimator.init_).__module__ != "sklearn.dummy":
        raise ConversionError(f"{where}: the exponential loss and an init of your own do not convert")
    base = estimator._raw_predict_init(np.zeros((1, len(features)), np.float32))[0]
    made = []
    for stage in estimator.estimators_:
        for group, tree in enumerate(stage):

            def leaf(values: Any, group: int = group) -> Leaf:
                return Leaf(((group, float(values[0] * estimator.learning_rate)),))

            made.append(_tree(tree.tree_, leaf))
    return Ensemble(features, tuple(made), tuple(map(float, base)), _transform(labels), labels)


def _transform(labels: Any) -> str:
    return "" if labels is None else "sigmoid" if len(labels) == 2 else "softmax"


def _tree(tree: Any, leaf: Any) -> Tree:
    missing = getattr(tree, "missing_go_to_left", None)
    made: list[Branch | Leaf] = []
    for place in range(tree.node_count):
        yes, no = int(tree.children_left[place]), int(tree.children_right[place])
        if yes < 0:
            made.append(leaf(tree.value[place][0]))
            continue
        threshold, strict = rounded_up_to(float(tree.threshold[place]))
        left = bool(missing[place]) if missing is not None else False
        made.append(Branch(int(tree.feature[place]), threshold, strict, yes, no, left))
    return tuple(made)


def _histogram(estimator: Any, features: tuple[str, ...], labels: Any, where: str) -> Ensemble:
    import numpy as np

    if labels is None and estimator.loss in ("poisson", "gamma"):
        raise ConversionError(f"{where}: the loss {estimator.loss} does not convert: it needs exp")
    made = []
    for stage in estimator._predictors:
        for group, predictor in enumerate(stage):
            nodes: list[Branch | Leaf] = []
            for node in predictor.nodes:
                if node["is_leaf"]:
                    nodes.append(Leaf(((group, float(node["value"])),)))
                    continue
                if node["is_categorical"]:
                    raise ConversionError(f"{where}: a split by categories does not convert")
                sides = int(node["left"]), int(node["right"])
                threshold, left = float(node["num_threshold"]), bool(node["missing_go_to_left"])
                nodes.append(Branch(int(node["feature_idx"]), threshold, False, *sides, left))
            made.append(tuple(nodes))
    base = tuple(map(float, np.ravel(estimator._baseline_prediction)))
    return Ensemble(features, tuple(made), base, _transform(labels), labels)
