"""Classic models, and those that cannot run here.

What takes and gives numbers is lowered to ONNX. Strings, dictionaries, and values that are errors have no
place there; such transforms, and recommenders, run in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.classic import CLASSIC_KINDS, read_classic
from coremlops.dialects.classic import transforms as kinds
from coremlops.dialects.classic.recommender import ItemSimilarityRecommender
from coremlops.errors import InputError, ModelFormatError, UnsupportedOpsError, UsageError
from coremlops.lower.classic import holds, lower_classic
from coremlops.model import (
    ArrayFeature,
    DictionaryFeature,
    Feature,
    ModelAsset,
    ModelDescription,
    ScalarFeature,
)
from coremlops.runtime.inputs import fitted, scalar_tensor
from coremlops.runtime.parts import Part, PartOptions, TensorPart
from coremlops.runtime.recommender import recommend

Array: TypeAlias = np.ndarray[Any, Any]
Runner: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]

# Whose arithmetic is in Apple's systems and not in the file.
_APPLES = {
    "audioFeaturePrint": "Apple's features of sounds (AudioFeaturePrint)",
    "bayesianProbitRegressor": "Apple's Bayesian probit regressor, whose arithmetic is not published",
    "classConfidenceThresholding": "Apple's confidence thresholds from curves, whose rule is not published",
    "gazetteer": "a gazetteer of Apple's NaturalLanguage framework",
    "soundAnalysisPreprocessing": "Apple's preparation of sounds (SoundAnalysisPreprocessing)",
    "textClassifier": "a text classifier of Apple's NaturalLanguage framework",
    "visionFeaturePrint": "Apple's features of pictures (VisionFeaturePrint)",
    "wordEmbedding": "a word embedding of Apple's NaturalLanguage framework",
    "wordTagger": "a word tagger of Apple's NaturalLanguage framework",
}


def classic_part(asset: ModelAsset, options: PartOptions) -> Part:
    """The part of a classic model.

    Raises UnsupportedOpsError for a kind that cannot run here, ModelFormatError, and UsageError for an engine
    that has no doubles.
    """
    where = str(asset.path)
    if asset.kind not in CLASSIC_KINDS:
        raise _not_here(asset)
    model, description = read_classic(asset.spec, where=where), asset.description
    if holds(model, description):
        if options.engine == "openvino":
            # Its CPU plugin turns doubles into float32, so that values near a threshold change sides.
            raise UsageError(
                f"{where}: a {asset.kind} model computes in double, and OpenVINO does not",
                hint="use engine onnxruntime",
            )
        return ClassicPart(lower_classic(model, description, where=where), description, options, where)
    return HostPart(_RUNNERS[type(model)](model, description, where))


def _not_here(asset: ModelAsset) -> Exception:
    kind = asset.kind
    what = _APPLES.get(kind, f"a {kind} model")
    if kind == "customModel":
        what = f"a custom model, written in the class {asset.spec.customModel.className!r} of an app"
    if kind == "serializedModel":
        what = (
            f"a serialized model ({asset.spec.serializedModel.identifier!r}), which only its maker can read"
        )
    return UnsupportedOpsError(
        f"{asset.path} is, or holds, {what}: it cannot run here",
        (kind,),
        hint='on a Mac, engine="coreml" runs it with Apple\'s own Core ML',
    )


class ClassicPart(TensorPart):
    """A classic model in ONNX, which takes numbers however they are laid out: its vectors have one axis."""

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, Array] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """See `Part.run`."""
        laid_out = {
            feature.name: fitted(feature, features[feature.name])
            for feature in self._inputs
            if feature.name in features
        }
        return super().run(laid_out, state=state, intermediates=intermediates)


class HostPart:
    """A model that runs in Python."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, Array] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """See `Part.run`."""
        return self._run(features)


def _single(description: ModelDescription, where: str) -> tuple[Feature, Feature]:
    """The only input and output of a transform. Raises ModelFormatError."""
    if len(description.inputs) != 1 or len(description.outputs) != 1:
        raise ModelFormatError(
            f"{where}: a transform of {len(description.inputs)} inputs and {len(description.outputs)} "
            f"outputs; expected one each"
        )
    return description.inputs[0], description.outputs[0]


def _given(feature: Feature, features: Mapping[str, Any]) -> Any:
    """The value of an input; None for an optional one that is not given. Raises InputError."""
    value = features.get(feature.name)
    if value is None and not feature.optional:
        raise InputError(f"input {feature.name!r} is missing")
    return value


def _category(feature: Feature, value: Any) -> str | int:
    """A string, or an integer, as the feature declares. Raises InputError."""
    if isinstance(feature, ScalarFeature) and feature.dtype == "string":
        if not isinstance(value, str):
            raise InputError(f"input {feature.name!r}: expected a string, got {type(value).__name__}")
        return str(value)
    if isinstance(feature, ScalarFeature):
        number = float(scalar_tensor(feature, value))
        if number.is_integer():
            return int(number)
    raise InputError(f"input {feature.name!r}: expected an integer, got {value!r:.80}")


def _numbers_by_key(feature: Feature, value: Any) -> dict[str | int, float]:
    """A dictionary of numbers. Raises InputError."""
    if not isinstance(value, Mapping):
        raise InputError(f"input {feature.name!r}: expected a dictionary, got {type(value).__name__}")
    text = isinstance(feature, DictionaryFeature) and feature.key == "string"
    try:
        return {key if text else int(key): float(number) for key, number in value.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"input {feature.name!r}: expected numbers by key: {error}") from error


def _shaped(feature: Feature, values: Array, where: str) -> Array:
    """Numbers as the output array that is declared. Raises ModelFormatError."""
    if not isinstance(feature, ArrayFeature):
        raise ModelFormatError(f"{where}: the output {feature.name!r} is no array")
    try:
        return values.astype(feature.dtype).reshape(feature.shape or values.shape)
    except ValueError as error:
        raise ModelFormatError(f"{where}: the output {feature.name!r}: {error}") from error


def _one_hot(model: kinds.OneHotEncoder, description: ModelDescription, where: str) -> Runner:
    source, target = _single(description, where)
    places = {category: place for place, category in enumerate(model.categories)}
    by_text = isinstance(target, DictionaryFeature) and target.key == "string"

    def run(features: Mapping[str, Any]) -> dict[str, Any]:
        category = _category(source, _given(source, features))
        place = places.get(category)
        if place is None and not model.ignore_unknown:
            raise InputError(f"input {source.name!r}: {category!r:.80} is none of the model's categories")
        if model.sparse:
            return {target.name: {} if place is None else {category if by_text else place: 1.0}}
        values = np.zeros(len(places))
        values[[] if place is None else place] = 1
        return {target.name: _shaped(target, values, where)}

    return run


def _mapping(model: kinds.CategoricalMapping, description: ModelDescription, where: str) -> Runner:
    source, target = _single(description, where)
    table: dict[Any, str | int] = dict(model.mapping)

    def run(features: Mapping[str, Any]) -> dict[str, Any]:
        category = _category(source, _given(source, features))
        found = table.get(category, model.unknown)
        if found is None:
            raise InputError(f"input {source.name!r}: the model maps {category!r:.80} to nothing")
        return {target.name: found}

    return run


def _dict_vectorizer(model: kinds.DictVectorizer, description: ModelDescription, where: str) -> Runner:
    source, target = _single(description, where)
    places = {key: place for place, key in enumerate(model.keys)}

    def run(features: Mapping[str, Any]) -> dict[str, Any]:
        given = _numbers_by_key(source, _given(source, features))
        # The format asks for known keys alone; coremltools' tests want unknown ones to be left out.
        found = {places[key]: number for key, number in given.items() if key in places}
        if isinstance(target, DictionaryFeature):
            return {target.name: found}
        values = np.zeros(len(model.keys))
        values[list(found)] = list(found.values())
        return {target.name: _shaped(target, values, where)}

    return run


def _feature_vectorizer(model: kinds.FeatureVectorizer, description: ModelDescription, where: str) -> Runner:
    known = {feature.name: feature for feature in description.inputs}
    columns = [(known.get(name), size) for name, size in model.columns]
    if len(description.outputs) != 1 or any(feature is None for feature, _ in columns):
        raise ModelFormatError(f"{where}: the feature vectorizer names inputs that are not declared")

    def run(features: Mapping[str, Any]) -> dict[str, Any]:
        parts = [_column(feature, _given(feature, features), size) for feature, size in columns if feature]
        values = np.concatenate([np.zeros(0), *parts])
        return {description.outputs[0].name: _shaped(description.outputs[0], values, where)}

    return run


def _column(feature: Feature, value: Any, size: int) -> Array:
    """A feature as `size` doubles; a dictionary's keys are places. Raises InputError."""
    if isinstance(feature, DictionaryFeature):
        values = np.zeros(size)
        for place, number in _numbers_by_key(feature, value).items():
            if not isinstance(place, int) or not 0 <= place < size:
                raise InputError(f"input {feature.name!r}: the key {place!r:.80} is no place below {size}")
            values[place] = number
        return values
    numbers = scalar_tensor(feature, value) if isinstance(feature, ScalarFeature) else np.asarray(value)
    if numbers.dtype.kind not in "biuf" or numbers.size != size:
        raise InputError(
            f"input {feature.name!r}: expected {size} numbers, got {numbers.size} {numbers.dtype}"
        )
    return numbers.ravel().astype(np.float64)


def _imputer(model: kinds.Imputer, description: ModelDescription, where: str) -> Runner:
    source, target = _single(description, where)

    def run(features: Mapping[str, Any]) -> dict[str, Any]:
        value = _given(source, features)
        if isinstance(model.imputed, Mapping):
            given = {} if value is None else _numbers_by_key(source, value)
            present = {key: number for key, number in given.items() if not np.isnan(number)}
            return {target.name: {**model.imputed, **present}}
        if value is None or _category(source, value) == model.replace:
            return {target.name: model.imputed}
        return {target.name: _category(source, value)}

    return run


def _scaler(model: kinds.Scaler, description: ModelDescription, where: str) -> Runner:
    source, target = _single(description, where)

    def run(features: Mapping[str, Any]) -> dict[str, Any]:
        value = _given(source, features)
        size = math.prod(source.shape) if isinstance(source, ArrayFeature) else 1
        scaled = model.scale * (_column(source, value, size) + model.shift)
        if scaled.size != size or not np.isfinite(scaled).all() or np.any(scaled != np.trunc(scaled)):
            raise InputError(
                f"input {source.name!r}: scaled, it is no integer as the model declares: {scaled!s:.80}"
            )
        if isinstance(target, ScalarFeature):
            return {target.name: int(scaled[0])}
        return {target.name: _shaped(target, scaled, where)}

    return run


def _identity(model: kinds.Identity, description: ModelDescription, where: str) -> Runner:
    names = [feature.name for feature in description.inputs]
    pairs = [
        (feature.name if feature.name in names else name, feature.name)
        for name, feature in zip(names, description.outputs, strict=False)
    ]
    if len(pairs) != len(description.outputs):
        raise ModelFormatError(f"{where}: an identity with more outputs than inputs")
    sources = {feature.name: feature for feature in description.inputs}

    def run(features: Mapping[str, Any]) -> dict[str, Any]:
        return {target: _given(sources[source], features) for source, target in pairs}

    return run


def _recommender(model: ItemSimilarityRecommender, description: ModelDescription, where: str) -> Runner:
    places = {name: place for place, name in enumerate(model.items)}

    def run(features: Mapping[str, Any]) -> dict[str, Any]:
        return recommend(model, places, features)

    return run


_RUNNERS: dict[type, Callable[[Any, ModelDescription, str], Runner]] = {
    kinds.CategoricalMapping: _mapping,
    kinds.DictVectorizer: _dict_vectorizer,
    kinds.FeatureVectorizer: _feature_vectorizer,
    kinds.Identity: _identity,
    kinds.Imputer: _imputer,
    kinds.OneHotEncoder: _one_hot,
    kinds.Scaler: _scaler,
    ItemSimilarityRecommender: _recommender,
}
