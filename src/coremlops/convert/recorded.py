"""How a model was converted: what its metadata holds about it, and what its description shows.

Target, labels, texts and provenance stand in the model anyway. What is left goes into its metadata as
`com.coremlops.options`, the keys of an options file in JSON; nothing where all is as it is without asking.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from typing import Any

from coremlops.convert.interface import DTYPES, Input, Output
from coremlops.convert.options import LABEL, TARGETS, ConvertOptions, Provenance
from coremlops.convert.options_file import parse_options
from coremlops.convert.words import identifier
from coremlops.dialects.mil import read_program
from coremlops.errors import InputError, UsageError
from coremlops.model import ArrayFeature, ImageFeature, ModelAsset
from coremlops.source import Card, Reference, preparation

OURS = "com.coremlops."
OPTIONS = f"{OURS}options"
_MADE = (OURS, "com.github.apple.coremltools")  # keys that a conversion writes itself
_KEYS = ("precision", "capture", "inputs", "outputs", "keep_float32", "states", "without_repairs")


@dataclass(frozen=True, slots=True)
class Recorded:
    """`options`: as far as the model says. `unknown`: what it does not, a line each."""

    options: ConvertOptions
    unknown: tuple[str, ...] = ()

    def asks_otherwise(self, source: Reference) -> bool:
        """Whether the model takes or gives something else than the source itself does."""
        inputs, outputs = self.options.inputs, self.options.outputs
        if any(item.folds or item.type == "image" or item.source for item in outputs):
            return True
        names = {item.name for item in source.inputs}
        renamed = any(identifier(name) != name for name in names)
        return renamed or (
            source.card is None
            and any(item.folds or item.type == "image" or item.name not in names for item in inputs)
        )


def text_of(options: ConvertOptions) -> str:
    """The value of `com.coremlops.options`; empty where there is nothing to say."""
    said = {key: value for key, value in _changed(options).items() if key in _KEYS}
    return json.dumps(said, sort_keys=True, separators=(",", ":")) if said else ""


def _changed(item: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not as they are without asking."""
    found = {}
    for about in fields(item):
        value = getattr(item, about.name)
        if about.default is MISSING or value != about.default:
            found[about.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Input | Output):
        return _changed(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def options_of(asset: ModelAsset, card: Card | None = None) -> Recorded:
    """How a model was converted. `card`: the `model.json` beside its source, which is asked again.

    What no metadata holds is read from the model's description: types, names, shapes and colours of inputs,
    names of outputs, states, the precision. Raises InputError for metadata that is none.
    """
    about, said = asset.description, _said(asset)
    unknown: list[str] = []
    if OPTIONS not in about.user_defined:
        ours = f"{OURS}version" in about.user_defined
        pictures = any(isinstance(item, ImageFeature) for item in about.inputs)
        said["inputs"] = () if card is not None or (ours and not pictures) else _inputs(asset, unknown)
        if not ours and asset.kind == "mlProgram":
            said |= {"outputs": _outputs(asset), "states": _states(asset), "precision": _precision(asset)}
            unknown.append(
                "it was not converted by coremlops, so what was folded into it (mean and std, softmax and "
                "scale of outputs) is not known, taken as nothing; its outputs are taken as the first ones"
            )
    labels = tuple(str(label) for label in about.labels)
    if card is not None and set(card.labels) == set(labels):
        labels = ()  # the source's own order
    if f"{OURS}compression" in about.user_defined:
        unknown.append("it is compressed, and what is converted again is not: coremlops compress does it")
    names = {version: name for name, version in TARGETS.items()}
    words = {key: about.user_defined.get(OURS + key, "") for key in ("run", "data", "code")}
    return Recorded(
        ConvertOptions(
            **said,
            target=names.get(asset.spec.specificationVersion, "iOS16"),
            labels=labels,
            label_name=about.predicted_label or LABEL,
            provenance=Provenance(**words),
            author=about.author,
            description=about.about,
            version=about.version,
            license=about.license,
            metadata={k: v for k, v in about.user_defined.items() if not k.startswith(_MADE)},
        ),
        tuple(unknown),
    )


def _said(asset: ModelAsset) -> dict[str, Any]:
    text = asset.description.user_defined.get(OPTIONS, "{}")
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or not set(value) <= set(_KEYS):
            raise ValueError(f"keys of {', '.join(_KEYS)} expected")
        made = parse_options({key: item for key, item in value.items() if key != "keep_float32"}, OPTIONS)
        kept = value.get("keep_float32", [])  # never the name of a file here
        if not isinstance(kept, list) or not all(isinstance(item, str) for item in kept):
            raise ValueError("keep_float32: a list of patterns expected")
    except (ValueError, RecursionError, UsageError) as error:
        raise InputError(f"{asset.path}: the metadata {OPTIONS} is none: {error}") from None
    return {key: getattr(made, key) for key in _KEYS} | {"keep_float32": tuple(kept)}


def _inputs(asset: ModelAsset, unknown: list[str]) -> tuple[Input, ...]:
    recorded = preparation(asset.description)
    found = []
    for item in asset.description.inputs:
        if isinstance(item, ImageFeature):
            found.append(_image(item, recorded, unknown))
        elif isinstance(item, ArrayFeature):
            shapes: Any = item.shapes or (item.shape,)
            if item.ranges and all(most is not None for _, most in item.ranges):
                shapes = (tuple(a if a == b else (a, b) for a, b in item.ranges),)
            elif item.ranges:
                unknown.append(f"{item.name} may have any size; its default {list(item.shape)} is used")
            dtype = item.dtype if item.dtype in DTYPES else ""
            found.append(Input(item.name, dtype=dtype, shapes=shapes))
    return tuple(found)


def _image(item: ImageFeature, recorded: Any, unknown: list[str]) -> Input:
    channels = 1 if item.colour.startswith("GRAY") else 3
    sizes = item.sizes or ((item.width, item.height),)
    shapes: Any = tuple((1, channels, height, width) for width, height in sizes)
    ranges = (item.height_range, item.width_range)
    if all(each is not None and each[1] is not None for each in ranges):
        shapes = ((1, channels, *(a if a == b else (a, b) for a, b in ranges)),)  # type: ignore[misc]
    if recorded is None or recorded.name != item.name:
        unknown.append(f"nothing says how pictures of {item.name} are scaled: 0 to 255 are taken as they are")
        return Input(item.name, type="image", color=item.colour, shapes=shapes)
    return Input(
        item.name,
        type="image",
        color=item.colour,
        shapes=shapes,
        scale=recorded.scale,
        bias=recorded.bias,
        image_option=recorded.image_option,
    )


def _outputs(asset: ModelAsset) -> tuple[Output, ...]:
    """Names and types by place; a classifier's are named after its label."""
    about = asset.description
    if about.labels:
        return ()
    return tuple(
        Output(item.name, type="image", color=item.colour)
        if isinstance(item, ImageFeature)
        else Output(item.name, dtype=item.dtype if item.dtype in DTYPES else "")
        for item in about.outputs
    )


def _states(asset: ModelAsset) -> tuple[str, ...]:
    """Patterns of buffers: in the model's names a dot is `_`."""
    return tuple(item.name.replace("_", "?") for item in asset.description.states)


def _precision(asset: ModelAsset) -> str:
    """float16 where any value of the program is."""
    functions = read_program(asset.spec.mlProgram, where=str(asset.path)).functions.values()
    types = [entry.type for each in functions for item in each.block.operations for entry in item.outputs]
    return "float16" if any(getattr(type_, "dtype", "") == "fp16" for type_ in types) else "float32"


__all__ = ["OPTIONS", "Recorded", "options_of", "text_of"]
