"""From a `Model` message of a classic kind to typed values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from coremlops.dialects.classic.linear import LinearModel, read_linear_classifier, read_linear_regressor
from coremlops.dialects.classic.neighbors import NearestNeighbors, read_nearest_neighbors
from coremlops.dialects.classic.recommender import ItemSimilarityRecommender, read_recommender
from coremlops.dialects.classic.suppression import NonMaximumSuppression, read_non_maximum_suppression
from coremlops.dialects.classic.svm import (
    SupportVectorClassifier,
    SupportVectorRegressor,
    read_support_vector_classifier,
    read_support_vector_regressor,
)
from coremlops.dialects.classic.transforms import (
    ArrayFeatureExtractor,
    CategoricalMapping,
    DictVectorizer,
    FeatureVectorizer,
    Identity,
    Imputer,
    Normalizer,
    OneHotEncoder,
    Scaler,
    read_array_feature_extractor,
    read_categorical_mapping,
    read_dict_vectorizer,
    read_feature_vectorizer,
    read_identity,
    read_imputer,
    read_normalizer,
    read_one_hot_encoder,
    read_scaler,
)
from coremlops.dialects.classic.trees import TreeEnsemble, read_tree_classifier, read_tree_regressor

ClassicModel: TypeAlias = (
    TreeEnsemble
    | LinearModel
    | SupportVectorClassifier
    | SupportVectorRegressor
    | NearestNeighbors
    | NonMaximumSuppression
    | ItemSimilarityRecommender
    | Imputer
    | Scaler
    | Normalizer
    | OneHotEncoder
    | DictVectorizer
    | FeatureVectorizer
    | ArrayFeatureExtractor
    | CategoricalMapping
    | Identity
)

_READERS: dict[str, Callable[..., ClassicModel]] = {
    "arrayFeatureExtractor": read_array_feature_extractor,
    "categoricalMapping": read_categorical_mapping,
    "dictVectorizer": read_dict_vectorizer,
    "featureVectorizer": read_feature_vectorizer,
    "glmClassifier": read_linear_classifier,
    "glmRegressor": read_linear_regressor,
    "identity": read_identity,
    "imputer": read_imputer,
    "itemSimilarityRecommender": read_recommender,
    "kNearestNeighborsClassifier": read_nearest_neighbors,
    "nonMaximumSuppression": read_non_maximum_suppression,
    "normalizer": read_normalizer,
    "oneHotEncoder": read_one_hot_encoder,
    "scaler": read_scaler,
    "supportVectorClassifier": read_support_vector_classifier,
    "supportVectorRegressor": read_support_vector_regressor,
    "treeEnsembleClassifier": read_tree_classifier,
    "treeEnsembleRegressor": read_tree_regressor,
}
CLASSIC_KINDS = frozenset(_READERS)


def read_classic(spec: Any, *, where: str) -> ClassicModel:
    """The model inside a parsed `Model` message whose kind is in CLASSIC_KINDS.

    `where` names it in errors. Raises ModelFormatError.
    """
    kind = spec.WhichOneof("Type")
    return _READERS[kind](getattr(spec, kind), where=where)
