"""The class labels of a classifier, wherever its kind of model keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coremlops.errors import ModelFormatError

MAX_LABELS = 10_000_000
PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")


def read_labels(spec: Any, function: str, *, where: str) -> tuple[str | int, ...]:
    """The labels in the order of the probabilities; empty for a model that is no classifier.

    `function`: of an ML Program, the one whose `classify` op is asked. Raises ModelFormatError.
    """
    kind = spec.WhichOneof("Type")
    if kind == "mlProgram":
        return _of_program(spec.mlProgram, function, where=where)
    if kind in PIPELINES:
        member, _, _ = _deciding(spec)
        if member is None:
            return ()
        return read_labels(member, member.description.defaultFunctionName or "main", where=where)
    if kind is None:
        return ()
    message = getattr(spec, kind)
    if "ClassLabels" not in {oneof.name for oneof in message.DESCRIPTOR.oneofs}:
        return ()
    chosen = message.WhichOneof("ClassLabels")
    labels = () if chosen is None else tuple(getattr(message, chosen).vector)
    if kind == "kNearestNeighborsClassifier":
        default = message.WhichOneof("DefaultClassLabel")
        return unique_labels(labels) or (() if default is None else (getattr(message, default),))
    return labels


def label_names(spec: Any) -> tuple[str, str]:
    """What a model calls its label and its probabilities; a pipeline that does not say, as its classifier."""
    own = spec.description
    if own.predictedFeatureName:
        return own.predictedFeatureName, own.predictedProbabilitiesName
    _, label, probabilities = _deciding(spec)
    given = {feature.name for feature in own.output}
    return label, probabilities if probabilities in given else ""


def pipeline_members(spec: Any) -> Any:
    """The messages of a pipeline's models, in their order; of another model none."""
    kind = spec.WhichOneof("Type")
    if kind not in PIPELINES:
        return ()
    message = getattr(spec, kind)
    return (message if kind == "pipeline" else message.pipeline).models


def _deciding(spec: Any) -> tuple[Any | None, str, str]:
    """The member of a pipeline that gives its label, and its two names: the last whose label is an output."""
    given = {feature.name for feature in spec.description.output} - {""}
    for member in reversed(pipeline_members(spec)):
        label, probabilities = label_names(member)
        if label in given:
            return member, label, probabilities
    return None, "", ""


def unique_labels(of_samples: Iterable[str | int]) -> tuple[str | int, ...]:
    """The classes of a nearest-neighbour model, in order; it names one for each of its samples."""
    kinds: Any = set(of_samples)
    return tuple(sorted(kinds))


def _of_program(program: Any, name: str, *, where: str) -> tuple[str | int, ...]:
    if name not in program.functions:
        return ()
    function = program.functions[name]
    if function.opset not in function.block_specializations:
        return ()
    operations = function.block_specializations[function.opset].operations
    for operation in reversed(operations):
        if operation.type == "classify":
            return _of_classify(operation, operations, where=where)
    return ()


def _of_classify(operation: Any, operations: Any, *, where: str) -> tuple[str | int, ...]:
    bindings: Any = operation.inputs["classes"].arguments if "classes" in operation.inputs else ()
    if len(bindings) != 1:
        raise ModelFormatError(f"{where}: the classify op has {len(bindings)} lists of classes; expected one")
    value = bindings[0].value
    if bindings[0].WhichOneof("binding") == "name":
        named = (entry for entry in operations if any(out.name == bindings[0].name for out in entry.outputs))
        const = next(named, None)
        if const is None or "val" not in const.attributes:
            raise ModelFormatError(f"{where}: the classes {bindings[0].name!r} are no constant")
        value = const.attributes["val"]
    entries = value.immediateValue.list.values
    if len(entries) > MAX_LABELS:
        raise ModelFormatError(f"{where}: {len(entries)} labels; at most {MAX_LABELS}")
    return tuple(_label(entry, where=where) for entry in entries)


def _label(value: Any, *, where: str) -> str | int:
    tensor = value.immediateValue.tensor
    for kind in ("strings", "longInts", "ints"):
        if tensor.WhichOneof("value") == kind and len(getattr(tensor, kind).values) == 1:
            label: str | int = getattr(tensor, kind).values[0]
            return label
    raise ModelFormatError(f"{where}: a class label is neither one string nor one integer")
