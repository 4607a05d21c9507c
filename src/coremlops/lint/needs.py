"""What in a model needs which version of the format, op by op.

Sources: for ops `opsets.json`, which is coremltools' own registry; for the rest the rules by which
coremltools chooses the version of a file (mlmodel/src/Utils.cpp, `has...Features`), and Model.proto.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from coremlops.dialects.mil import Immediate
from coremlops.dialects.neuralnetwork import Layer, Weights
from coremlops.lint.subject import Op, Part
from coremlops.model import ArrayFeature, ImageFeature
from coremlops.model.description import DictionaryFeature, SequenceFeature

OPSETS = {"CoreML5": 6, "CoreML6": 7, "CoreML7": 8, "CoreML8": 9, "CoreML9": 10}
# Types of values that came after the first ML Programs: what an op gives needs them, whatever it takes.
_CAST_DTYPES = {"int8": 8, "uint8": 8, "int16": 8, "uint16": 8}


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs at least this version: an op, a layer, a feature's name, or the model (empty)."""

    specification: int
    at: Op | Layer | str
    what: str

    @property
    def kind(self) -> str:
        """The type of the op or layer; empty for anything else."""
        return "" if isinstance(self.at, str) else self.at.type if isinstance(self.at, Op) else self.at.kind

    @property
    def cause(self) -> str:
        """It in words."""
        return f"{self.kind} ({self.what})" if self.kind and self.what else self.kind or self.what


@cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("opsets.json").read_text())
    return found


def known_op(kind: str) -> bool:
    """Whether coremltools knows an op of this type."""
    return kind in _table()


def op_needs(op: Op) -> tuple[int, str]:
    """The oldest version that has this op with these inputs, and what makes it so; 0 for an unknown op."""
    versions = _table().get(op.type)
    if versions is None:
        return 0, ""
    reason = ""
    for opset, inputs in versions.items():
        refused = _refusal(op, inputs)
        if not refused:
            if op.type == "cast" and (newer := _CAST_DTYPES.get(str(op.value("dtype")), 0)) > OPSETS[opset]:
                return newer, f"it gives {op.value('dtype')}"
            return OPSETS[opset], reason
        reason = refused
    # No version takes it as it stands: what is left is the newest one, and that is no proof of anything.
    return OPSETS[max(versions)], reason


def _refusal(op: Op, inputs: Mapping[str, str]) -> str:
    """Why a version of an op does not take these inputs; empty when it does."""
    shared: dict[str, str] = {}
    for name, entry in op.bound():
        if name not in inputs:
            if not _is_default(op, name):
                return f"the input {name!r}"
            continue
        domain = inputs[name].partition(";")[0]
        type_ = op.scope.tensor(entry)
        if domain == "*" or type_ is None:
            continue
        group, _, dtypes = domain.rpartition("=")
        if type_.dtype not in dtypes.split("|"):
            return f"{name} is {type_.dtype}"
        if group and shared.setdefault(group, type_.dtype) != type_.dtype:
            return f"{name} is {type_.dtype} beside {shared[group]}"
    return ""


def _is_default(op: Op, name: str) -> bool:
    """Whether an input that a version lacks only says what happens without it."""
    stated = next(
        (inputs[name] for inputs in _table()[op.type].values() if ";" in inputs.get(name, "")), ""
    ).partition(";")[2]
    return bool(stated) and op.value(name) == json.loads(stated)


def needs(part: Part) -> Iterator[Need]:
    """Everything in a part, without its members, that needs more than the first version."""
    yield from _of_interface(part)
    for body in part.bodies:
        for op in body.ops:
            specification, what = op_needs(op)
            if specification:
                yield Need(specification, op, what)
    if part.network is not None:
        for layer in part.layers:
            specification, what = layer_needs(layer)
            yield Need(specification, layer, what)


def _of_interface(part: Part) -> Iterator[Need]:
    """What the model, its kind, inputs, outputs and states need."""

    def need(specification: int, what: str, op: str = "") -> Need:
        return Need(specification, op, what)

    spec, description = part.asset.spec, part.description
    yield need(need_of_kind(part), f"a model of the kind {part.kind}")
    if spec.isUpdatable:
        yield need(4, "it can be updated on the device")
    if description.functions:
        yield need(9, "several functions")
    for state in description.states:
        yield need(9, "a state", state.name)
    network = part.network
    if network is not None and (network.exact_arrays or network.rank4_images):
        yield need(4, "exact ranks of its inputs")
    for feature in part.features:
        if isinstance(feature, ArrayFeature):
            if feature.shapes or feature.ranges:
                yield need(3, "a flexible shape", feature.name)
            if feature.default:
                yield need(5, "a default that is not 0", feature.name)
            yield need(
                {"float16": 7, "int8": 10}.get(feature.dtype, 1), f"an array of {feature.dtype}", feature.name
            )
            if part.kind == "nonMaximumSuppression" and feature.dtype == "float32":
                yield need(5, "boxes in float32", feature.name)
        elif isinstance(feature, ImageFeature):
            if feature.sizes or feature.width_range or feature.height_range:
                yield need(3, "a picture of flexible size", feature.name)
            if feature.colour == "GRAYSCALE_FLOAT16":
                yield need(7, "a picture of 16 bits", feature.name)
        elif isinstance(feature, SequenceFeature):
            yield need(3, "a sequence", feature.name)
        elif isinstance(feature, DictionaryFeature):
            yield need(1, "a dictionary", feature.name)


_KINDS = {
    "mlProgram": 6,
    "customModel": 3,
    "bayesianProbitRegressor": 3,
    "nonMaximumSuppression": 3,
    "textClassifier": 3,
    "wordTagger": 3,
    "visionFeaturePrint": 3,
    "kNearestNeighborsClassifier": 4,
    "itemSimilarityRecommender": 4,
    "linkedModel": 4,
    "soundAnalysisPreprocessing": 4,
    "gazetteer": 4,
    "wordEmbedding": 4,
    "serializedModel": 5,
    "audioFeaturePrint": 6,
}


def need_of_kind(part: Part) -> int:
    """The version that brought a kind, and its newer revisions."""
    spec = part.asset.spec
    if (
        part.kind == "visionFeaturePrint"
        and spec.visionFeaturePrint.WhichOneof("VisionFeaturePrintType") == "objects"
    ):
        return 5
    if part.kind == "textClassifier" and spec.textClassifier.revision == 2:
        return 4
    if part.kind == "wordTagger" and spec.wordTagger.revision == 3:
        return 5
    return _KINDS.get(part.kind, 1)


# The layers that iOS 11 had; iOS 12 added two, iOS 14 those below, iOS 13 all others.
_IOS11 = """
    convolution innerProduct batchnorm activation pooling padding concat lrn softmax split add multiply unary
    upsample bias l2normalize reshape flatten permute reduce loadConstant scale simpleRecurrent gru
    uniDirectionalLSTM biDirectionalLSTM crop average max min dot mvn embedding sequenceRepeat
    reorganizeData slice
"""
_IOS14 = "cumSum oneHot clampedReLU argSort pooling3d globalPooling3d sliceBySize convolution3d"
_LAYERS = dict.fromkeys(_IOS11.split(), 1) | dict.fromkeys(_IOS14.split(), 5)
_LAYERS |= {"custom": 2, "resizeBilinear": 3, "cropResize": 3}


def layer_needs(layer: Layer) -> tuple[int, str]:
    """The oldest version that has this layer, and what makes it so."""
    found = [(_LAYERS.get(layer.kind, 4), "")]
    fields = layer.fields
    if layer.kind == "convolution" and len(layer.inputs) > 1:
        found.append((4, "weights that are an input"))
    if fields.get("int8DynamicQuantize"):
        found.append((5, "products quantized as they are computed"))
    if layer.kind == "upsample":
        if fields.get("linearUpsampleMode") not in (None, "DEFAULT"):
            found.append((5, f"the mode {fields['linearUpsampleMode']}"))
        if fields.get("fractionalScalingFactor"):
            found.append((5, "a fractional factor"))
    if layer.kind == "reorganizeData" and fields.get("mode") == "PIXEL_SHUFFLE":
        found.append((5, "the mode PIXEL_SHUFFLE"))
    if layer.kind in ("sliceDynamic", "sliceStatic") and any(fields.get("squeezeMasks", ())):
        found.append((5, "a squeeze mask"))
    if layer.kind == "sliceDynamic" and len(layer.inputs) == 7:
        found.append((5, "seven inputs"))
    if layer.kind == "tile" and len(layer.inputs) == 2:
        found.append((5, "repetitions that are an input"))
    if layer.kind == "concatND" and fields.get("interleave"):
        found.append((5, "interleaving"))
    encodings = {weights.encoding for weights in _weights(layer)}
    if "float16" in encodings:
        found.append((2, "weights in fp16"))
    if encodings & {"linear", "lookup"}:
        found.append((3, "quantized weights"))
    return max(found, key=lambda entry: entry[0])


def _weights(layer: Layer) -> Iterator[Weights]:
    """The weights of a layer itself; a field may be a message that holds them."""
    waiting = list(layer.fields.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, Weights):
            yield value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, tuple):
            waiting += [entry for entry in value if isinstance(entry, Mapping | Weights)]


def constant_number(op: Op, name: str) -> float | None:
    """A scalar constant as a number."""
    found = op.scope.constant(op.given(name))
    if not isinstance(found, Immediate):
        return None
    value = op.value(name)
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
