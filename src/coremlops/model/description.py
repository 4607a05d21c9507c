"""What a model says about itself: inputs, outputs, states, labels, metadata, targets."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from coremlops.errors import ModelFormatError
from coremlops.model.labels import label_names, read_labels

MAX_FEATURES = 10_000

# Specification version -> the first system that reads it. Source: coremltools 9.0, `_SPECIFICATION_VERSION_*`
# and Apple's release notes; a version that is not here is newer than we know.
MINIMUM_TARGETS: dict[int, dict[str, str]] = {
    1: {"iOS": "11", "macOS": "10.13", "tvOS": "11", "watchOS": "4"},
    2: {"iOS": "11.2", "macOS": "10.13.2", "tvOS": "11.2", "watchOS": "4.2"},
    3: {"iOS": "12", "macOS": "10.14", "tvOS": "12", "watchOS": "5"},
    4: {"iOS": "13", "macOS": "10.15", "tvOS": "13", "watchOS": "6"},
    5: {"iOS": "14", "macOS": "11", "tvOS": "14", "watchOS": "7"},
    6: {"iOS": "15", "macOS": "12", "tvOS": "15", "watchOS": "8"},
    7: {"iOS": "16", "macOS": "13", "tvOS": "16", "watchOS": "9"},
    8: {"iOS": "17", "macOS": "14", "tvOS": "17", "watchOS": "10"},
    9: {"iOS": "18", "macOS": "15", "tvOS": "18", "watchOS": "11", "visionOS": "2.0"},
    10: {"iOS": "26", "macOS": "26", "tvOS": "26", "watchOS": "26", "visionOS": "26"},
}

_ARRAY_DTYPES = {65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8", 65552: "float16"}
_COLOURS = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}


@dataclass(frozen=True, slots=True)
class ImageFeature:
    """An image: `colour` is `RGB`, `BGR`, `GRAYSCALE` or `GRAYSCALE_FLOAT16`; sizes in pixels.

    `sizes`: other (width, height) pairs that are allowed; `width_range`, `height_range`: (least, most), where
    most is None for no limit. `shape`, `dtype`: of the array that stands for a picture.
    """

    type: ClassVar = "image"
    name: str
    width: int
    height: int
    colour: str
    sizes: tuple[tuple[int, int], ...] = ()
    width_range: tuple[int, int | None] | None = None
    height_range: tuple[int, int | None] | None = None
    optional: bool = False
    about: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """[height, width, 3], or [height, width] of a grey one."""
        return (self.height, self.width, *([] if self.colour.startswith("GRAY") else [3]))

    @property
    def dtype(self) -> str:
        """`uint8`, or `float16`."""
        return "float16" if self.colour == "GRAYSCALE_FLOAT16" else "uint8"


@dataclass(frozen=True, slots=True)
class ArrayFeature:
    """A tensor: `dtype` in NumPy's words, `shape` the default one.

    `shapes`: all that are allowed when they are enumerated; `ranges`: (least, most) an axis, where most is
    None for no limit.
    `default`: what an optional input holds when it is not given.
    """

    type: ClassVar = "array"
    name: str
    dtype: str
    shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int | None], ...] = ()
    optional: bool = False
    default: float | int | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class ScalarFeature:
    """One `int64`, `double` or `string`."""

    type: ClassVar = "scalar"
    shape: ClassVar[tuple[int, ...]] = ()
    name: str
    dtype: str
    optional: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class DictionaryFeature:
    """Numbers by key; `key` is `string` or `int64`."""

    type: ClassVar = "dictionary"
    shape: ClassVar[tuple[int, ...]] = ()
    dtype: ClassVar = "double"
    name: str
    key: str
    optional: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True)
class SequenceFeature:
    """A list of `int64` or `string`, of any length."""

    type: ClassVar = "sequence"
    shape: ClassVar[tuple[int, ...]] = ()
    name: str
    element: str
    optional: bool = False
    about: str = ""

    @property
    def dtype(self) -> str:
        """What `element` says."""
        return self.element


Feature: TypeAlias = ImageFeature | ArrayFeature | ScalarFeature | DictionaryFeature | SequenceFeature


@dataclass(frozen=True, slots=True)
class FunctionDescription:
    """The interface of one function of a model that has several."""

    name: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[ArrayFeature, ...]
    predicted_label: str
    predicted_probabilities: str


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a model says about itself.

    Each of `inputs`, `outputs` and `states` has `name`, `type` (`image`, `array`, `scalar`, `dictionary`,
    `sequence`), `shape`, `dtype`, `optional` and `about`, and more that belongs to its type.
    `labels`: the classes of a classifier, in the order of its probabilities; empty for other models.
    `predicted_label`, `predicted_probabilities`: names of a classifier's outputs; may be empty.
    `user_defined`: the metadata's free keys. `functions`: of a multifunction model, else empty.
    """

    specification_version: int
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[ArrayFeature, ...]
    labels: tuple[str | int, ...]
    predicted_label: str
    predicted_probabilities: str
    author: str
    license: str
    version: str
    about: str
    user_defined: MappingProxyType[str, str]
    functions: tuple[FunctionDescription, ...] = ()
    default_function: str = ""

    @property
    def minimum_targets(self) -> dict[str, str]:
        """The first systems that read this version: `{"iOS": "16", ...}`; empty when unknown."""
        return dict(MINIMUM_TARGETS.get(self.specification_version, {}))

    @property
    def metadata(self) -> dict[str, Any]:
        """What people wrote: `author`, `license`, `version`, `about`, and `user_defined`, {key: text}."""
        return {
            "author": self.author,
            "license": self.license,
            "version": self.version,
            "about": self.about,
            "user_defined": dict(self.user_defined),
        }

    def input(self, name: str) -> Feature:
        """The input of that name. Raises KeyError."""
        return {feature.name: feature for feature in self.inputs}[name]


def read_description(spec: Any, *, where: str) -> ModelDescription:
    """The description inside a parsed `Model` message.

    `where` names the model in errors. A multifunction model's inputs and outputs are those of its default
    function. Raises ModelFormatError.
    """
    message = spec.description
    functions = tuple(
        FunctionDescription(entry.name, **_interface(entry, where=where)) for entry in message.functions
    )
    default = message.defaultFunctionName
    interface = _interface(message, where=where)
    interface["predicted_label"], interface["predicted_probabilities"] = label_names(spec)
    if functions:
        chosen = next((function for function in functions if function.name == default), None)
        if chosen is None:
            raise ModelFormatError(f"{where}: the default function {default!r} is not among the functions")
        interface = {name: getattr(chosen, name) for name in interface}
    metadata = message.metadata
    return ModelDescription(
        specification_version=spec.specificationVersion,
        labels=read_labels(spec, default or "main", where=where),
        author=metadata.author,
        license=metadata.license,
        version=metadata.versionString,
        about=metadata.shortDescription,
        user_defined=MappingProxyType(dict(sorted(metadata.userDefined.items()))),
        functions=functions,
        default_function=default,
        **interface,
    )


def _interface(message: Any, *, where: str) -> dict[str, Any]:
    return {
        "inputs": _features(message.input, where=where),
        "outputs": _outputs(message.output, where=where),
        "states": tuple(_state(entry, where=where) for entry in message.state),
        "predicted_label": message.predictedFeatureName,
        "predicted_probabilities": message.predictedProbabilitiesName,
    }


def _outputs(messages: Any, *, where: str) -> tuple[Feature, ...]:
    """The outputs, each once: coremltools describes a program's result as often as the program returns it."""
    first = {message.name: message for message in list(messages)[::-1]}
    seen: set[str] = set()
    kept = []
    for message in messages:
        if message.name not in seen or message != first[message.name]:
            kept.append(message)
        seen.add(message.name)
    return _features(kept, where=where)


def _features(messages: Any, *, where: str) -> tuple[Feature, ...]:
    if len(messages) > MAX_FEATURES:
        raise ModelFormatError(f"{where}: {len(messages)} features; at most {MAX_FEATURES}")
    features = tuple(_feature(message, where=where) for message in messages)
    names = [feature.name for feature in features]
    if "" in names:
        raise ModelFormatError(f"{where}: a feature without a name")
    if len(set(names)) != len(names):
        raise ModelFormatError(f"{where}: two features have one name: {sorted(names)}")
    return features


def _feature(message: Any, *, where: str) -> Feature:
    kind = message.type.WhichOneof("Type")
    common = {"name": message.name, "optional": message.type.isOptional, "about": message.shortDescription}
    match kind:
        case "imageType":
            return _image(message.type.imageType, common, where=where)
        case "multiArrayType":
            return _array(message.type.multiArrayType, common, where=where)
        case "int64Type" | "doubleType" | "stringType":
            return ScalarFeature(dtype=kind.removesuffix("Type"), **common)
        case "dictionaryType":
            key = message.type.dictionaryType.WhichOneof("KeyType") or "stringKeyType"
            return DictionaryFeature(key=key.removesuffix("KeyType"), **common)
        case "sequenceType":
            element = message.type.sequenceType.WhichOneof("Type") or "stringType"
            return SequenceFeature(element=element.removesuffix("Type"), **common)
    raise ModelFormatError(f"{where}: feature {message.name!r} has the type {kind}, which is no feature's")


def _image(message: Any, common: dict[str, Any], *, where: str) -> ImageFeature:
    colour = _COLOURS.get(message.colorSpace)
    if colour is None or message.width < 1 or message.height < 1:
        raise ModelFormatError(
            f"{where}: image {common['name']!r} is {message.width} x {message.height}, "
            f"colour space {message.colorSpace}; expected a positive size and a known colour space"
        )
    flexible = message.WhichOneof("SizeFlexibility")
    ranges = message.imageSizeRange if flexible == "imageSizeRange" else None
    return ImageFeature(
        width=message.width,
        height=message.height,
        colour=colour,
        sizes=tuple((size.width, size.height) for size in message.enumeratedSizes.sizes),
        width_range=None if ranges is None else _range(ranges.widthRange),
        height_range=None if ranges is None else _range(ranges.heightRange),
        **common,
    )


def _array(message: Any, common: dict[str, Any], *, where: str) -> ArrayFeature:
    dtype = _ARRAY_DTYPES.get(message.dataType)
    if dtype is None:
        raise ModelFormatError(
            f"{where}: array {common['name']!r} has the unknown data type {message.dataType}"
        )
    default = message.WhichOneof("defaultOptionalValue")
    return ArrayFeature(
        dtype=dtype,
        shape=tuple(message.shape),
        shapes=tuple(tuple(entry.shape) for entry in message.enumeratedShapes.shapes),
        ranges=tuple(_range(entry) for entry in message.shapeRange.sizeRanges),
        default=None if default is None else getattr(message, default),
        **common,
    )


def _state(message: Any, *, where: str) -> ArrayFeature:
    if message.type.WhichOneof("Type") != "stateType":
        raise ModelFormatError(f"{where}: state {message.name!r} is not of a state type")
    common = {"name": message.name, "optional": message.type.isOptional, "about": message.shortDescription}
    return _array(message.type.stateType.arrayType, common, where=where)


def _range(message: Any) -> tuple[int, int | None]:
    # The format writes "no upper limit" as a negative number.
    return message.lowerBound, None if message.upperBound < 0 else message.upperBound
