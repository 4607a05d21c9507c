"""Classic models to ONNX: whatever takes and gives numbers, with its thresholds and sums in double.

What strings or dictionaries go through runs on the host instead (`runtime.classic`); `holds` tells which is
which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coremlops.dialects.classic import transforms
from coremlops.dialects.classic.linear import LinearModel
from coremlops.dialects.classic.neighbors import NearestNeighbors
from coremlops.dialects.classic.reader import ClassicModel
from coremlops.dialects.classic.suppression import NonMaximumSuppression
from coremlops.dialects.classic.svm import SupportVectorClassifier, SupportVectorRegressor
from coremlops.dialects.classic.trees import TreeEnsemble
from coremlops.errors import ModelFormatError, UnsupportedOpsError
from coremlops.lower.classic.context import ClassicLowering
from coremlops.lower.classic.linear import lower_linear
from coremlops.lower.classic.neighbors import lower_neighbors
from coremlops.lower.classic.suppression import lower_suppression
from coremlops.lower.classic.svm import lower_svm_classifier, lower_svm_regressor
from coremlops.lower.classic.transforms import (
    lower_array_feature_extractor,
    lower_feature_vectorizer,
    lower_imputer,
    lower_normalizer,
    lower_scaler,
)
from coremlops.lower.classic.trees import lower_trees
from coremlops.lower.function import Lowered
from coremlops.lower.onnx_graph import DEFAULT_OPSET
from coremlops.lower.registry import Unsupported
from coremlops.model.description import ArrayFeature, ModelDescription, ScalarFeature

__all__ = ["holds", "lower_classic"]

_RULES: dict[type, Callable[[ClassicLowering, Any], None]] = {
    TreeEnsemble: lower_trees,
    LinearModel: lower_linear,
    SupportVectorClassifier: lower_svm_classifier,
    SupportVectorRegressor: lower_svm_regressor,
    NearestNeighbors: lower_neighbors,
    NonMaximumSuppression: lower_suppression,
    transforms.Imputer: lower_imputer,
    transforms.Scaler: lower_scaler,
    transforms.Normalizer: lower_normalizer,
    transforms.FeatureVectorizer: lower_feature_vectorizer,
    transforms.ArrayFeatureExtractor: lower_array_feature_extractor,
}
_TRANSFORMS = (transforms.Imputer, transforms.Scaler, transforms.FeatureVectorizer)


def holds(model: ClassicModel, description: ModelDescription) -> bool:
    """Whether ONNX holds this model faithfully: all that is not about strings, dictionaries or errors.

    ONNX has strings, but no dictionaries, and nothing that raises: an unknown category, or a scaled number
    that is no integer where one is declared, is an error.
    """
    if type(model) not in _RULES:
        return False
    features = (*description.inputs, *description.outputs)
    if isinstance(model, _TRANSFORMS) and not all(map(_is_numeric, features)):
        return False
    return not (isinstance(model, transforms.Scaler) and any(map(_is_integer, description.outputs)))


def _is_numeric(feature: Any) -> bool:
    return isinstance(feature, ArrayFeature) or (
        isinstance(feature, ScalarFeature) and feature.dtype != "string"
    )


def _is_integer(feature: Any) -> bool:
    return isinstance(feature, ArrayFeature | ScalarFeature) and feature.dtype in ("int64", "int32", "int8")


def lower_classic(
    model: ClassicModel, description: ModelDescription, *, opset: int = DEFAULT_OPSET, where: str = "model"
) -> Lowered:
    """Lower a model that ONNX holds, with the interface that `description` declares.

    Raises UnsupportedOpsError, ModelFormatError.
    """
    try:
        low = ClassicLowering(description, opset=opset, where=where)
        _RULES[type(model)](low, model)
        return low.lowered()
    except Unsupported as reason:
        what = f"{type(model).__name__}: {reason}"
        raise UnsupportedOpsError(f"{where}: not supported here: {what}", (what,)) from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # A rule may trust that its numbers fit each other; a file where they do not ends here.
        raise ModelFormatError(f"{where}: its numbers do not fit each other: {error}") from error
