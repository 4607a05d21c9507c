"""A source of a table's rows as a Core ML model: what it is called, what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coremlops.convert.classic.ensemble import write_ensemble
from coremlops.convert.options import ConvertOptions
from coremlops.errors import UsageError
from coremlops.model.proto import message_class
from coremlops.source.trees import LABEL, PREDICTION, Ensemble, TableReference

# Core ML has trees, linear models, support vectors and scalers since iOS 11.
_VERSION = 1


def to_spec(reference: TableReference, options: ConvertOptions) -> Any:
    """The `Model` message. Raises UsageError for labels that do not fit, ConversionError."""
    spec = message_class("Model")()
    spec.specificationVersion = _VERSION
    for item in reference.inputs:
        spec.description.input.add(name=item.name).type.doubleType.SetInParent()
    labels = _labels(reference, options.labels)
    if labels is None:
        _regressor(spec)
    else:
        describe_classes(spec, labels, options.label_name)
    if isinstance(reference.raw, Ensemble):
        write_ensemble(spec, reference.raw)
        if labels is not None:
            write_labels(spec.treeEnsembleClassifier, labels)
    else:
        from coremlops.convert.classic.estimators import write_estimator

        write_estimator(spec, reference, labels)
    return spec


def _labels(reference: TableReference, given: Sequence[str]) -> tuple[Any, ...] | None:
    own = reference.labels
    if not given:
        return own
    if own is None or len(own) != len(given):
        classes = "a regressor" if own is None else f"{len(own)} classes"
        raise UsageError(f"{reference.name}: {len(given)} labels given, the model is {classes}")
    return tuple(given)


def _regressor(spec: Any) -> None:
    spec.description.output.add(name=PREDICTION).type.doubleType.SetInParent()
    spec.description.predictedFeatureName = PREDICTION


def describe_classes(spec: Any, labels: Sequence[Any], name: str = LABEL) -> None:
    """Outputs `classLabel` and `classLabel_probs`, a dictionary by label."""
    text = isinstance(labels[0], str)
    label = spec.description.output.add(name=name).type
    (label.stringType if text else label.int64Type).SetInParent()
    probabilities = spec.description.output.add(name=f"{name}_probs").type.dictionaryType
    (probabilities.stringKeyType if text else probabilities.int64KeyType).SetInParent()
    spec.description.predictedFeatureName = name
    spec.description.predictedProbabilitiesName = f"{name}_probs"


def write_labels(classifier: Any, labels: Sequence[Any]) -> None:
    """The class labels of a classifier's message: all strings, or all integers."""
    if isinstance(labels[0], str):
        classifier.stringClassLabels.vector.extend(labels)
    else:
        classifier.int64ClassLabels.vector.extend(int(label) for label in labels)
