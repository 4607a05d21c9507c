"""Whatever stands in a classic model's file, only errors of ours come out."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coremlops
from coremlops.errors import CoremlopsError
from coremlops.model import ArrayFeature, DictionaryFeature, Feature, ScalarFeature
from coremlops.model.description import SequenceFeature
from coremlops.runtime import describe
from tests.classic_models import classifier, regressor, spec
from tests.lower.classic.test_linear import fill
from tests.lower.classic.test_neighbors import neighbours
from tests.lower.classic.test_suppression import suppression
from tests.lower.classic.test_trees import grow
from tests.runtime.test_classic import one_hot, recommender
from tests.runtime.test_pipeline import linear, link, pipeline, scaler

EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
)


def trees() -> Any:
    model = classifier({"x": (3,)}, ["a", "b", "c"], "treeEnsembleClassifier")
    grow(model.treeEnsembleClassifier.treeEnsemble, np.random.default_rng(0), 2, 3, 3)
    return model


def vectors() -> Any:
    model = classifier({"a": "double", "b": "int64"}, [1, 2, 3], "supportVectorClassifier")
    message = model.supportVectorClassifier
    message.kernel.polyKernel.gamma, message.kernel.polyKernel.degree = 0.5, 2
    message.numberOfSupportVectorsPerClass.extend([1, 1, 1])
    for number in range(3):
        message.sparseSupportVectors.vectors.add().nodes.add(index=1 + number % 2, value=number)
    for _ in range(2):
        message.coefficients.add().alpha.extend([1, -1, 0.5])
    for field in (message.rho, message.probA, message.probB):
        field.extend([0.1, -0.2, 0.3])
    return model


def glm() -> Any:
    model = classifier({"x": ("float32", 2)}, ["a", "b"], "glmClassifier")
    fill(model.glmClassifier, [[1, -1]], 0.5)
    model.glmClassifier.postEvaluationTransform = 1
    return model


def imputer() -> Any:
    model = spec({"x": ("int32", 3)}, {"x": ("int32", 3)})
    model.imputer.imputedInt64Array.vector.extend([1, 2, 3])
    model.imputer.replaceInt64Value = -1
    return model


def mapping() -> Any:
    model = spec({"x": "string"}, {"y": "int64"})
    model.categoricalMapping.stringToInt64Map.map.update({"a": 1})
    return model


SEEDS: dict[str, Callable[[], Any]] = {
    "trees": trees,
    "vectors": vectors,
    "glm": glm,
    "regressor": lambda: linear("x", [1.0, 2.0]),
    "neighbours": lambda: neighbours(["a", "b", "a"], [[0, 1], [1, 0], [2, 2]], 2, inverse=True),
    "suppression": lambda: suppression(per_class=True, optional=True, boxes=[(2, 5)]),
    "imputer": imputer,
    "mapping": mapping,
    "one hot": lambda: one_hot("int64", (3,), [7, 5, 3], sparse=False, ignore=True),
    "recommender": recommender,
    "link": lambda: link("model.mlmodel"),
    "pipeline": lambda: pipeline([scaler("x", "z", 1), linear("z", [1, 2])], {"x": (2,)}, {"y": "double"}),
    "empty": lambda: regressor({"x": (2,)}),
}


@functools.cache
def seed(name: str) -> bytes:
    data: bytes = SEEDS[name]().SerializeToString()
    return data


def something(feature: Feature) -> Any:
    """A small value for an input, whatever it is."""
    match feature:
        case ArrayFeature(shape=shape) if np.prod(shape, dtype=float) < 10_000 and min(shape, default=1) >= 0:
            return np.ones(shape or (2, 4))
        case ScalarFeature(dtype="string"):
            return "a"
        case DictionaryFeature(key="string"):
            return {"a": 1.0}
        case DictionaryFeature():
            return {1: 1.0}
        case SequenceFeature():
            return ["a"]
    return 1


def use(path: Path) -> None:
    """Describe, load and run."""
    with contextlib.suppress(CoremlopsError):
        describe(path)
    with contextlib.suppress(CoremlopsError):
        model = coremlops.load(path)
        model.predict({feature.name: something(feature) for feature in model.description.inputs})


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, cut=st.one_of(st.none(), st.floats(0, 1)))
def test_a_damaged_model(
    tmp_path: Path, name: str, edits: list[tuple[float, bytes]], cut: float | None
) -> None:
    data = bytearray(seed(name))
    for place, patch in edits:
        start = int(place * len(data))
        data[start : start + len(patch)] = patch
    path = tmp_path / "model.mlmodel"
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])
    use(path)


@pytest.mark.parametrize("name", sorted(set(SEEDS) - {"empty", "link"}))
def test_the_undamaged_models_run(tmp_path: Path, name: str) -> None:
    # otherwise the test above would prove nothing
    path = tmp_path / "model.mlmodel"
    path.write_bytes(seed(name))
    model = coremlops.load(path)
    model.predict({feature.name: something(feature) for feature in model.description.inputs})
