"""A source of a table's rows as a Core ML model: what it is called, what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coremlops import __version__
from coremlops.convert.classic.ensemble import write_ensemble
from coremlops.convert.classic.linear import write_linear
from coremlops.convert.options import ConvertOptions
from coremlops.errors import UsageError
from coremlops.files import write_atomic
from coremlops.model.proto import canonical_bytes, message_class
from coremlops.source import Reference, open_reference
from coremlops.source.sklearn import Linear
from coremlops.source.trees import LABEL, PREDICTION, TableReference

# Core ML has trees, linear models, support vectors and scalers since iOS 11.
_VERSION = 1


def convert_table(
    source: str | Path | Reference,
    out: Path,
    options: ConvertOptions | None = None,
    *,
    labels: Sequence[str] = (),
    label_name: str = LABEL,
) -> TableReference:
    """Write the `.mlmodel` of a model of a table's rows; returns what it was made from.

    `labels`: names for the classes, in the source's order. Equal sources and options give equal bytes.
    Raises UsageError for a source of another kind, another suffix, or labels that do not fit, and
    ConversionError for what Core ML's trees cannot say.
    """
    options = options or ConvertOptions()
    reference = source if isinstance(source, Reference) else open_reference(source)
    if not isinstance(reference, TableReference):
        raise UsageError(f"{reference.name}: a model of a table's rows expected, got {reference.kind}")
    if out.suffix != ".mlmodel":
        raise UsageError(f"{out}: a classic model is one file, .mlmodel expected")
    spec = to_spec(reference, labels, label_name)
    about = spec.description.metadata
    about.author, about.shortDescription = options.author, options.description
    made_by = {key: getattr(options.provenance, key) for key in ("run", "data", "code")}
    for key, value in {**made_by, "version": __version__, "source": reference.kind}.items():
        if value:
            about.userDefined[f"com.coremlops.{key}"] = value
    write_atomic(out, canonical_bytes(spec))
    return reference


def to_spec(reference: TableReference, given: Sequence[str] = (), label_name: str = LABEL) -> Any:
    """The `Model` message. Raises UsageError for labels that do not fit, ConversionError."""
    spec = message_class("Model")()
    spec.specificationVersion = _VERSION
    for item in reference.inputs:
        spec.description.input.add(name=item.name).type.doubleType.SetInParent()
    labels = _labels(reference, given)
    if labels is None:
        _regressor(spec)
    else:
        describe_classes(spec, labels, label_name)
    linear = isinstance(reference.raw, Linear)
    if linear:
        write_linear(spec, reference.raw)
    else:
        write_ensemble(spec, reference.raw)
    if labels is not None:
        write_labels(spec.glmClassifier if linear else spec.treeEnsembleClassifier, labels)
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
