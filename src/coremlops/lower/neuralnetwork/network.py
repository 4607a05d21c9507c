"""Lower a neural network: its inputs and their preprocessing, its layers in order, its outputs.

Precision. A network is computed in float32, whatever its weights are stored as; `float16` rounds inputs,
weights and each layer's results to what fp16 holds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from coremlops.dialects.mil.graph import NamedType, TensorType
from coremlops.dialects.neuralnetwork import Layer, MeanImage, Network, Scaler, Weights
from coremlops.errors import CoremlopsError, ModelFormatError, UnsupportedOpsError
from coremlops.lower.context import Classifier
from coremlops.lower.function import InnerTensor, Lowered
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.control_flow import BREAK, jumps, lower_branch, lower_loop
from coremlops.lower.neuralnetwork.custom import CustomLayerFactory, HostStep
from coremlops.lower.neuralnetwork.graph import NetworkGraph
from coremlops.lower.neuralnetwork.registry import apply_rule, layer_rule
from coremlops.lower.onnx_graph import DEFAULT_OPSET
from coremlops.lower.registry import Labels, Unsupported, Value
from coremlops.model import ArrayFeature, Feature, ImageFeature

MAX_STEPS = 1_000_000  # layers that are lowered, those of branches and loops as often as it takes

# A single number, of a slice that drops its axis, has none; to layers but these it is a vector of one.
_SCALARS = frozenset({"expandDims", "copy"})
_ELEMENTWISE = tuple(f"{__package__}.layers.{name}" for name in ("activation", "elementwise"))


@dataclass(frozen=True, slots=True)
class Labelled:
    """What makes a network a classifier: its output with the probabilities ("": the last layer's) and labels.

    `label`, `result`: what the description calls the label and the probabilities by label.
    """

    probabilities: str
    labels: Labels
    label: str
    result: str


@dataclass(frozen=True, slots=True, eq=False)
class LoweredNetwork:
    """A network as graphs, with a custom layer between one and the next.

    `whole`: inputs, outputs and classifier of all of it; when there is one graph, it is that one.
    """

    whole: Lowered
    stages: tuple[Lowered | HostStep, ...]


def lower_network(
    network: Network,
    inputs: Sequence[Feature],
    outputs: Sequence[Feature],
    *,
    classifier: Labelled | None = None,
    custom: Mapping[str, CustomLayerFactory] | None = None,
    precision: str = "typed",
    opset: int = DEFAULT_OPSET,
    where: str = "model",
    most_bytes: int = sys.maxsize,
) -> LoweredNetwork:
    """Lower `network` to ONNX.

    `inputs`, `outputs`: what the description says. An array of a network that maps shapes to rank 5 goes in
    and comes out with five axes, an image as [1, channels, height, width]. `custom`: implementations of
    custom layers by class. `most_bytes`: of constants. Raises UnsupportedOpsError with
    everything that cannot be lowered, and ModelFormatError.
    """
    ctx = NetworkLowering(NetworkGraph("network"), precision=precision, opset=opset, most_bytes=most_bytes)
    return _NetworkLowering(network, classifier, custom or {}, ctx, where).lower(inputs, outputs)


class _NetworkLowering:
    """See `control_flow.Lowerer`."""

    def __init__(
        self,
        network: Network,
        classifier: Labelled | None,
        custom: Mapping[str, CustomLayerFactory],
        ctx: NetworkLowering,
        where: str,
    ) -> None:
        self.network = network
        self.classifier = classifier
        self.custom = custom
        self.opset = ctx.opset
        self.where = where
        self.ctx = ctx
        self.unsupported: list[str] = []
        self.steps = 0
        self.depth = 0
        self.wanted: frozenset[str] = frozenset()
        self.renamed: dict[str, str] = {}

    def lower(self, inputs: Sequence[Feature], outputs: Sequence[Feature]) -> LoweredNetwork:
        results = self._results(outputs)
        read = {name for layer in self.network.walk() for name in layer.inputs}
        conditions = {layer.fields["conditionVar"] for layer in self.network.walk() if layer.kind == "loop"}
        self.wanted = frozenset({*results, *read, *conditions})
        entries = {feature.name for feature in inputs}
        for name in results:
            if name not in entries:
                self.ctx.graph.reserve(name)  # a result keeps its name; steps before it are numbered
        values: dict[str, Value] = {}
        declared = tuple(self._input(feature, values) for feature in inputs)
        try:
            self.run(self.network.layers, values)
        except RecursionError as error:
            raise ModelFormatError(f"{self.where}: branches are nested too deep") from error
        self._report()
        # An output may be an input itself, and the names of a graph are unique.
        self.renamed = {name: self.ctx.graph.reserve(name) for name in results if name in entries}
        given = tuple(self._output(name, results[name], values) for name in results)
        return self._build(declared, given, values)

    # --- inputs and outputs

    def _results(self, outputs: Sequence[Feature]) -> dict[str, Feature | None]:
        """The values that leave the network, with their features; of a classifier its probabilities, too."""
        results: dict[str, Feature | None] = {
            feature.name: feature for feature in outputs if not self._on_host(feature.name)
        }
        if self.classifier is not None:
            name = self._probabilities()
            results.setdefault(name, None)
        return results

    def _on_host(self, name: str) -> bool:
        return self.classifier is not None and name in (self.classifier.label, self.classifier.result)

    def _probabilities(self) -> str:
        """The value with the probabilities: the one that is named, else the last layer's."""
        assert self.classifier is not None  # noqa: S101  asked of classifiers alone
        last = self.network.layers[-1].outputs if self.network.layers else ()
        name = self.classifier.probabilities or (last[0] if last else "")
        if not name:
            raise ModelFormatError(f"{self.where}: no layer gives the classifier's probabilities")
        return name

    def _input(self, feature: Feature, values: dict[str, Value]) -> NamedType:
        ctx = self.ctx
        ctx.label = feature.name
        try:
            if isinstance(feature, ImageFeature):
                type_ = TensorType("fp32", _image_shape(feature))
                value = self._prepared(feature, ctx.input(feature.name, type_))
                if not self.network.rank4_images:
                    value = ctx.reshape(value, [1, *ctx.sizes(value)])
            elif isinstance(feature, ArrayFeature):
                type_ = TensorType("fp32", _array_shape(feature, self.network.exact_arrays))
                value = ctx.input(feature.name, type_)
            else:
                raise Unsupported(f"a feature that is no array and no image ({type(feature).__name__})")
            if ctx.precision == "float16":
                value = ctx.rounded(value)
        except Unsupported as reason:
            self.unsupported.append(f"input ({feature.name}): {reason}")
            return NamedType(feature.name, TensorType("fp32", None))
        except CoremlopsError as error:
            raise ModelFormatError(f"{self.where}: input {feature.name!r}: {error}") from error
        values[feature.name] = value
        return NamedType(feature.name, type_)

    def _prepared(self, feature: ImageFeature, x: Value) -> Value:
        """The image after the network's preprocessing of it; one without a name is for any image."""
        ctx = self.ctx
        for entry in self.network.preprocessing:
            if entry.feature not in ("", feature.name):
                continue
            if isinstance(entry, MeanImage):
                mean = entry.mean
                shape = x.shape[1:]
                if None in shape or mean.size != int(np.prod([size or 0 for size in shape])):
                    raise ModelFormatError(f"a mean image of {mean.size} values for the shape {list(shape)}")
                x = ctx.node("Sub", x, ctx.weight(mean.reshape([size or 0 for size in shape])))
            else:
                x = self._scaled(feature, entry, x)
        return x

    def _scaled(self, feature: ImageFeature, scaler: Scaler, x: Value) -> Value:
        red, green, blue, grey = scaler.bias
        bias = {"RGB": (red, green, blue), "BGR": (blue, green, red)}.get(feature.colour, (grey,))
        if scaler.scale != 1:
            x = self.ctx.node("Mul", x, self.ctx.constant(scaler.scale))
        if any(bias):
            x = self.ctx.node("Add", x, self.ctx.constant(np.array(bias, np.float32).reshape(-1, 1, 1)))
        return x

    def _output(self, name: str, feature: Feature | None, values: dict[str, Value]) -> NamedType:
        ctx = self.ctx
        ctx.label = name
        if name not in values:
            raise ModelFormatError(f"{self.where}: no layer gives the output {name!r}")
        value = values[name]
        if isinstance(feature, ImageFeature):
            value = self._image_of(value)
        value = ctx.at_least_1d(value)
        type_ = value.type or TensorType("fp32", None)
        target = self.renamed.get(name, name)
        ctx.graph.node("Identity", [ctx.use(value)], [target], {})
        ctx.graph.output(target, type_)
        return NamedType(name, type_)

    def _image_of(self, value: Value) -> Value:
        try:
            return self.ctx.reshape(value, [1, *self.ctx.sizes(value, value.rank - 3)])
        except (Unsupported, ValueError) as error:
            raise ModelFormatError(
                f"{self.where}: an output image of the type {value.type}: {error}"
            ) from error

    def _build(
        self, inputs: tuple[NamedType, ...], outputs: tuple[NamedType, ...], values: Mapping[str, Value]
    ) -> LoweredNetwork:
        classifier, own = self.classifier, outputs
        done: Classifier | None = None
        if classifier is not None:
            source = self._probabilities()
            type_ = next(entry.type for entry in outputs if entry.name == source)
            shape = type_.shape if isinstance(type_, TensorType) else None
            source = self.renamed.get(source, source)
            done = Classifier(
                classifier.label, classifier.result, source, shape or (None,), classifier.labels
            )
            host = {classifier.label, classifier.result}
            own = tuple(entry for entry in outputs if entry.name not in host)
        stages: list[Lowered | HostStep] = []
        for stage in self.ctx.stages[::-1]:  # what a later one does not need, an earlier one need not give
            if isinstance(stage, HostStep):
                stages.append(stage)
            else:
                stage.prune()
                model, inner = stage.build(self.opset), _inner(values, stage.held)
                stages.append(Lowered(model, stage.weights, inputs, own, done, self.renamed, inner=inner))
        stages.reverse()
        first = stages[0]
        assert isinstance(first, Lowered)  # noqa: S101  a network begins with a graph
        return LoweredNetwork(first, tuple(stages))

    # --- layers

    def run(self, layers: Sequence[Layer], values: dict[str, Value]) -> None:
        """Lower layers in order; `values` are those that have a name, and are changed."""
        for index, layer in enumerate(layers):
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise ModelFormatError(f"{self.where}: more than {MAX_STEPS} layers, with all repetitions")
            try:
                if self._layer(layer, layers[index + 1 :], values):
                    return
            except Unsupported as reason:
                self._give_up(layer, str(reason), values)
            except CoremlopsError as error:
                if error.message.startswith(self.where):
                    raise
                raise ModelFormatError(f"{self.where}: {layer.kind} ({layer.name}): {error}") from error
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                # A rule may trust that what it is given fits; a file where it does not ends here.
                if self.depth:
                    raise Unsupported(
                        f"{layer.kind} ({layer.name}) does not fit its inputs, in a branch or a loop that "
                        f"Core ML may never enter: {error}"
                    ) from error
                raise ModelFormatError(
                    f"{self.where}: {layer.kind} ({layer.name}): its inputs and fields do not fit: {error}"
                ) from error

    def _layer(self, layer: Layer, rest: Sequence[Layer], values: dict[str, Value]) -> bool:
        """Lower one layer; whether nothing of `rest` is to follow."""
        match layer.kind:
            case "loopBreak" | "loopContinue":
                if BREAK not in values:
                    raise ModelFormatError(f"{layer.kind} ({layer.name}) outside of a loop")
                if layer.kind == "loopBreak":
                    values[BREAK] = self.ctx.constant(1.0)
                return True
            case "branch":
                leaves = jumps(layer)
                with self._inside():
                    lower_branch(self, layer, rest if leaves else (), values)
                return leaves
            case "loop":
                with self._inside():
                    lower_loop(self, layer, values)
                return False
            case "custom":
                given = [self.ctx.at_least_1d(value) for value in self._inputs(layer, values)]
                results = self._custom(layer, given)
            case _:
                results = self._plain(layer, self._inputs(layer, values))
        values.update(zip(layer.outputs, results, strict=True))
        return False

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """In a branch or a loop, until what is inside is lowered or fails."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def _inputs(self, layer: Layer, values: dict[str, Value]) -> list[Value]:
        for name in layer.inputs:
            if name not in values:
                raise ModelFormatError(f"the value {name!r} is used before it is defined")
        return [values[name] for name in layer.inputs]

    def _plain(self, layer: Layer, inputs: list[Value]) -> tuple[Value, ...]:
        rule = layer_rule(layer.kind)
        if rule is None:
            raise Unsupported("")
        self.ctx.label = layer.outputs[0] if layer.outputs else layer.name or layer.kind
        self.ctx.outputs = len(layer.outputs)
        if rule.function.__module__ not in _ELEMENTWISE and layer.kind not in _SCALARS:
            inputs = [self.ctx.at_least_1d(value) for value in inputs]
        results = apply_rule(self.ctx, rule, layer, inputs)
        if self.ctx.precision == "float16" and not rule.moves:
            results = tuple(self.ctx.rounded(value) for value in results)
        return results

    def _custom(self, layer: Layer, inputs: list[Value]) -> tuple[Value, ...]:
        name = layer.fields["className"]
        factory = self.custom.get(name)
        if factory is None:
            near = get_close_matches(name, self.custom, n=1)
            hint = f"; did you mean {near[0]!r}, which is known?" if near else ""
            raise Unsupported(f"no implementation of the custom layer class {name!r}{hint}")
        if self.depth:
            raise Unsupported(
                f"the custom layer class {name!r} inside a branch or a loop: ONNX runs those without Python"
            )
        weights = [entry.bytes for entry in layer.fields["weights"] if isinstance(entry, Weights)]
        shapes = [value.shape for value in inputs]
        try:
            made = factory(layer.fields["parameters"], weights)
            found = [tuple(shape) for shape in made.output_shapes(shapes)]
        except Exception as error:  # the user's own code
            raise Unsupported(f"the class {name!r} fails: {type(error).__name__}: {error}") from error
        if len(found) != len(layer.outputs):
            raise Unsupported(f"the class {name!r} gives {len(found)} outputs; expected {len(layer.outputs)}")
        self.ctx.label = layer.outputs[0] if layer.outputs else layer.name
        types = [TensorType("fp32", shape) for shape in found]
        results = self.ctx.host_step(HostStep(name, made), inputs, types)
        return tuple(map(self.ctx.rounded, results)) if self.ctx.precision == "float16" else results

    def _give_up(self, layer: Layer, reason: str, values: dict[str, Value]) -> None:
        """Note what is not supported, and define its results so that the rest can be looked at too."""
        line = f"{layer.kind} ({layer.name})"
        self.unsupported.append(f"{line}: {reason}" if reason else line)
        for name in layer.outputs:
            values[name] = self.ctx.untyped()

    def _report(self) -> None:
        if not self.unsupported:
            return
        found = tuple(dict.fromkeys(self.unsupported))
        shown = "".join(f"\n  {line}" for line in found[:20])
        more = f"\n  ... and {len(found) - 20} more" if len(found) > 20 else ""
        classes = any("custom layer class" in line for line in found)
        raise UnsupportedOpsError(
            f"{self.where}: not supported here ({len(found)}):{shown}{more}",
            found,
            hint="give custom layers a Python class with coremlops.runtime.custom_layer(name)"
            if classes
            else "",
        )


def _inner(values: Mapping[str, Value], held: set[str]) -> dict[str, InnerTensor]:
    """The values by the names that the layers give them: of one that is given twice the last."""
    return {
        name: InnerTensor(value.name, value.type or TensorType("fp32", None), False, value.constant)
        for name, value in values.items()
        if name != BREAK and (value.constant is not None or value.name in held)
    }


def _array_shape(feature: ArrayFeature, exact: bool) -> tuple[int | None, ...]:
    """The shape of an array as the network sees it; sizes that may vary are None."""
    shape: list[int | None] = list(feature.shape)
    if feature.ranges:
        shape = [least if least == most else None for least, most in feature.ranges]
    elif feature.shapes:
        every = [entry for entry in (feature.shape, *feature.shapes) if entry]
        if len({len(entry) for entry in every}) != 1:
            raise Unsupported("shapes of several ranks")
        shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*every, strict=True)]
    if any(size is not None and size < 0 for size in shape):
        raise ModelFormatError(f"the shape {shape}")
    if exact:
        if not shape:
            raise ModelFormatError("an array without a shape")
        return tuple(shape)
    # The sequence and the batch need not be declared, and may be given nevertheless.
    match len(shape):
        case 1:
            return (None, None, shape[0], 1, 1)
        case 3:
            return (None, None, *shape)
        case 5:
            return (None, None, *shape[2:])
    raise Unsupported(f"an array of rank {len(shape)} where 1, 3 or 5 axes are expected")


def _image_shape(feature: ImageFeature) -> tuple[int | None, ...]:
    channels = 3 if feature.colour in ("RGB", "BGR") else 1
    sizes = {(feature.width, feature.height), *feature.sizes}
    widths, heights = {width for width, _ in sizes}, {height for _, height in sizes}
    ranged = feature.width_range is not None or feature.height_range is not None
    return (
        1,
        channels,
        feature.height if len(heights) == 1 and not ranged else None,
        feature.width if len(widths) == 1 and not ranged else None,
    )
