"""What a conversion will make: the options, held against what the source has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from coremlops.convert.interface import COLORS, Input, Output, Shape
from coremlops.convert.options import TARGETS, ConvertOptions
from coremlops.convert.words import identifier, near
from coremlops.errors import UsageError
from coremlops.source import Card, ImageInput, Reference, Tensor

# Of the source -> of Core ML, where they differ.
_DTYPES = {"float64": "float32", "bfloat16": "float32"} | dict.fromkeys(
    ("bool", "int64", "int16", "int8", "uint8", "uint16", "uint32", "uint64"), "int32"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Inputs in the source's order, each whole; outputs empty where they stay as they are.

    `tensors`: the source's own inputs. `labels`: of a classifier.
    """

    inputs: tuple[Input, ...]
    tensors: tuple[Tensor, ...]
    outputs: tuple[Output, ...]
    labels: tuple[str, ...]

    @property
    def defaults(self) -> tuple[tuple[int, ...], ...]:
        """The default shape of each input."""
        return tuple(default(item, of.shape) for item, of in zip(self.inputs, self.tensors, strict=True))

    @property
    def picture(self) -> ImageInput | None:
        """How a picture becomes what the program takes, for the model's metadata; None without one."""
        images = [item for item in self.inputs if item.type == "image"]
        if len(images) != 1:
            return None
        (image,) = images
        channels = COLORS[image.color]
        height, width = self.defaults[self.inputs.index(image)][2:]
        bias = (image.bias or (0.0,)) * (1 if len(image.bias) > 1 else channels)
        color = "RGB" if channels == 3 else "L"
        return ImageInput(image.name, width, height, color, image.scale, bias, image.image_option)


def plan(reference: Reference, options: ConvertOptions) -> Plan:
    """Raises UsageError for inputs that the source lacks, shapes that it cannot have or that are not known,
    and for what the target is too old for."""
    card = options.card or reference.card
    asked, labels = options.inputs, options.labels
    if card is not None:
        asked = tuple(_over_card(item, _of_card(card)) for item in asked) or (_of_card(card),)
        labels = labels or card.labels
    places = _places(asked, [item.name for item in reference.inputs])
    inputs = tuple(
        _whole(asked[places[i]] if i in places else Input(identifier(item.name)), item, reference)
        for i, item in enumerate(reference.inputs)
    )
    made = Plan(inputs, reference.inputs, options.outputs, labels)
    _check_names(made, options)
    _check_target(made, options)
    return made


def default(item: Input, own: Sequence[int | None] | None) -> tuple[int, ...]:
    """The shape that is used unless another is given: the source's size where a range holds it."""
    sizes = []
    for i, axis in enumerate(item.shapes[0]):
        if isinstance(axis, tuple):
            size = own[i] if own is not None else None
            sizes.append(size if size is not None and axis[0] <= size <= axis[1] else axis[0])
        else:
            sizes.append(axis)
    return tuple(sizes)


def corners(plan: Plan) -> list[tuple[tuple[int, ...], ...]]:
    """Shapes to try, one of each input: the default, the least and the largest, and each listed one."""
    found = [plan.defaults]
    listed = max(len(item.shapes) for item in plan.inputs)
    for end in (0, 1):
        for i in range(listed):
            found.append(
                tuple(
                    tuple(
                        axis[end] if isinstance(axis, tuple) else axis
                        for axis in item.shapes[min(i, len(item.shapes) - 1)]
                    )
                    for item in plan.inputs
                )
            )
    return list(dict.fromkeys(found))


def _of_card(card: Card) -> Input:
    image = card.input
    return Input(
        image.name,
        type="image",
        color="RGB" if image.color == "RGB" else "GRAYSCALE",
        shapes=((1, image.channels, image.height, image.width),),
        scale=image.scale,
        bias=image.bias,
        image_option=image.image_option,
    )


def _over_card(item: Input, card: Input) -> Input:
    """What is asked of the card's picture; where that is shapes alone, the rest is the card's."""
    shapes = replace(card, shapes=item.shapes)
    return shapes if item == Input(card.name, source=item.source, shapes=item.shapes) else item


def _places(asked: tuple[Input, ...], names: list[str]) -> dict[int, int]:
    """Place in the source -> place in `asked`."""
    found: dict[int, int] = {}
    for i, item in enumerate(asked):
        wanted = item.source or item.name
        known = names if wanted in names else [identifier(name) for name in names]
        if item.source and wanted not in known:
            raise UsageError(
                f"input {item.name}: the source has {', '.join(names)}, not {item.source}",
                hint=near(item.source, names),
            )
        place = known.index(wanted) if wanted in known else i
        if place >= len(names) or place in found:
            raise UsageError(
                f"inputs: the source takes {len(names)}: {', '.join(names)}; {item.name} is one too many",
                hint=near(item.name, names) or "from=NAME says which of the source's it is",
            )
        found[place] = i
    return found


def _whole(item: Input, own: Tensor, reference: Reference) -> Input:
    """The input with a dtype and shapes."""
    where = f"input {item.name}"
    dtype = item.dtype or _DTYPES.get(own.dtype, own.dtype)
    shapes: tuple[Shape, ...] = item.shapes
    if not shapes:
        if own.shape is None or None in own.shape:
            known = "nothing" if own.shape is None else _text(own.shape)
            raise UsageError(
                f"{where}: its shape is not known, the source says {known}",
                hint=f"--shape {item.name}=1,3,224,224, or a range: {item.name}=1,3,224..512,224..512",
            )
        shapes = (tuple(size for size in own.shape if size is not None),)
    for shape in shapes if own.shape is not None else ():
        _check_fits(shape, own, where, fixed=reference.kind == "torch.export")
    if item.type == "image" and (len(shapes[0]) != 4 or shapes[0][1] != COLORS[item.color]):
        raise UsageError(
            f"{where}: an image is [1, {COLORS[item.color]}, height, width], got {_text(shapes[0])}"
        )
    for what in ("bias", "mean", "std"):
        count, rank = len(getattr(item, what)), len(shapes[0])
        if count > 1 and (rank < 2 or shapes[0][1] != count):
            raise UsageError(f"{where}: {what}: one number for each of axis 1 expected, got {count}")
    return replace(item, shapes=shapes, dtype="" if item.type == "image" else dtype)


def _check_fits(shape: Shape, own: Tensor, where: str, *, fixed: bool) -> None:
    """An exported program holds its sizes; what a module can take shows when it is asked."""
    sizes = own.shape or ()
    if len(shape) != len(sizes):
        raise UsageError(f"{where}: the source takes {_text(sizes)}, {len(sizes)} axes, got {_text(shape)}")
    for axis, (size, held) in enumerate(zip(shape, sizes, strict=True)):
        if fixed and held is not None and size != held:
            raise UsageError(
                f"{where}: axis {axis} was exported with {held}, got {_text((size,))}",
                hint="export it with dynamic_shapes, or convert a module:factory",
            )


def _text(shape: Sequence[Any]) -> str:
    def word(size: Any) -> str:
        return f"{size[0]}..{size[1]}" if isinstance(size, tuple) else "?" if size is None else str(size)

    return "[" + ", ".join(word(size) for size in shape) + "]"


def _check_names(made: Plan, options: ConvertOptions) -> None:
    """A name twice makes a model that no system loads."""
    names = [*(item.name for item in made.inputs), *(item.name for item in made.outputs)]
    label, answers = options.label_name, f"{options.label_name}_probs"
    if made.labels and made.outputs:
        own = [item.name for item in made.outputs if item.name in (label, answers)]
        if own:
            raise UsageError(
                f"output {own[0]}: a classifier's answers are called {label} and {answers} in any case",
                hint=f"any other name: the first output is what {answers} holds",
            )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(
            f"two inputs or outputs are called {twice[0]}",
            hint="name them: --input NAME=tensor,from=ITS_NAME_IN_THE_SOURCE, --output likewise",
        )


def _check_target(made: Plan, options: ConvertOptions) -> None:
    """What a system must be to have a feature at all. Source: Apple's release notes of Core ML."""
    listed = [item.name for item in made.inputs if len(item.shapes) > 1]
    features: tuple[Input | Output, ...] = (*made.inputs, *made.outputs)
    halves = [item.name for item in features if item.dtype == "float16"]
    grey = [item.name for item in features if item.type == "image" and item.color == "GRAYSCALE_FLOAT16"]
    for what, names, least in (
        ("float16 inputs and outputs", halves, "iOS16"),
        ("images of GRAYSCALE_FLOAT16", grey, "iOS16"),
        ("several inputs with listed shapes", listed if len(listed) > 1 else [], "iOS18"),
        ("states", list(options.states), "iOS18"),
    ):
        check_target(options.target, what, names, least)


def check_target(target: str, what: str, names: Sequence[str], least: str) -> None:
    """Raises UsageError where `names` need a system that is newer than `target`."""
    if names and TARGETS[target] < TARGETS[least]:
        raise UsageError(
            f"{what} ({', '.join(names)}) need {least}, the target is {target}", hint=f"--target {least}"
        )
