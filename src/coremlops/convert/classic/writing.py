"""A source of a table's rows as a Core ML model: what it is called, what goes in, what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coremlops import __version__
from coremlops.convert.classic.ensemble import write_ensemble
from coremlops.convert.classic.linear import write_linear
from coremlops.convert.classic.steps import describe_array, width_after, write_step
from coremlops.convert.classic.vectors import write_neighbors, write_support_vectors
from coremlops.convert.options import ConvertOptions
from coremlops.errors import UsageError
from coremlops.files import write_atomic
from coremlops.model.proto import canonical_bytes, message_class
from coremlops.source import Reference, open_reference
from coremlops.source.reference import Tensor
from coremlops.source.sklearn import Linear, gives_probabilities
from coremlops.source.steps import Pipeline
from coremlops.source.trees import LABEL, PREDICTION, TableReference
from coremlops.source.vectors import Neighbors, SupportVectors

# Core ML has trees, linear models, support vectors and scalers since iOS 11.
_VERSION = 1
_NEIGHBORS_VERSION = 4  # and nearest neighbours since iOS 13


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
    spec.specificationVersion = _version(reference.raw)
    labels = _labels(reference, given)
    for item in reference.inputs:
        _describe_input(spec, item)
    if isinstance(reference.raw, Pipeline):
        _write_pipeline(spec, reference, labels, label_name)
    else:
        _write_predictor(spec, reference.raw, labels, label_name)
    return spec


def _version(model: Any) -> int:
    predictor = model.last if isinstance(model, Pipeline) else model
    return _NEIGHBORS_VERSION if isinstance(predictor, Neighbors) else _VERSION


def _describe_input(spec: Any, item: Tensor) -> None:
    made = spec.description.input.add(name=item.name)
    if item.shape:
        describe_array(made, int(item.shape[0] or 0))
    else:
        kinds = {"str": made.type.stringType, "int64": made.type.int64Type}
        kinds.get(item.dtype, made.type.doubleType).SetInParent()


def _write_pipeline(
    spec: Any, reference: TableReference, labels: tuple[Any, ...] | None, label_name: str
) -> None:
    """One array through the steps, each a model, to the predictor, whose outputs are the whole's."""
    raw, width = reference.raw, reference.raw.width
    chosen = spec.pipelineRegressor if labels is None else spec.pipelineClassifier
    held, feature = chosen.pipeline.models, spec.description.input[0]
    for place, step in enumerate(raw.steps):
        made, width = held.add(specificationVersion=_VERSION), width_after(step, width)
        made.description.input.append(feature)
        feature = made.description.output.add(name=f"step_{place}")
        describe_array(feature, width)
        write_step(made, step)
    made = held.add(specificationVersion=_version(raw))
    made.description.input.append(feature)
    _write_predictor(made, raw.last, labels, label_name)
    spec.description.output.extend(made.description.output)
    spec.description.predictedFeatureName = made.description.predictedFeatureName
    spec.description.predictedProbabilitiesName = made.description.predictedProbabilitiesName


def _write_predictor(spec: Any, model: Any, labels: tuple[Any, ...] | None, label_name: str) -> None:
    """The outputs and what computes them."""
    if labels is None:
        _regressor(spec)
    else:
        describe_classes(spec, labels, label_name, probable=gives_probabilities(model))
    match model:
        case Linear():
            write_linear(spec, model)
        case SupportVectors():
            write_support_vectors(spec, model)
        case Neighbors():
            assert labels is not None  # noqa: S101  a classifier
            write_neighbors(spec, model, labels)
            labels = tuple(labels[place] for place in model.classes)
        case _:
            write_ensemble(spec, model)
    if labels is not None:
        write_labels(getattr(spec, spec.WhichOneof("Type")), labels)


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


def describe_classes(spec: Any, labels: Sequence[Any], name: str = LABEL, *, probable: bool = True) -> None:
    """Outputs `classLabel` and, where it gives them, `classLabel_probs`, a dictionary by label."""
    text = isinstance(labels[0], str)
    label = spec.description.output.add(name=name).type
    (label.stringType if text else label.int64Type).SetInParent()
    spec.description.predictedFeatureName = name
    if not probable:
        return
    probabilities = spec.description.output.add(name=f"{name}_probs").type.dictionaryType
    (probabilities.stringKeyType if text else probabilities.int64KeyType).SetInParent()
    spec.description.predictedProbabilitiesName = f"{name}_probs"


def write_labels(classifier: Any, labels: Sequence[Any]) -> None:
    """The class labels of a classifier's message: all strings, or all integers."""
    if isinstance(labels[0], str):
        classifier.stringClassLabels.vector.extend(labels)
    else:
        classifier.int64ClassLabels.vector.extend(int(label) for label in labels)
