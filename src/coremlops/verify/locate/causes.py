"""Why an op of the file gives other values than the source: guesses, each tried by computing the op again.

A guess that makes the op agree with the source is proven: another mode, the source's own weight, axes in
another order. What is left is told by the shape of the error.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from coremlops.dialects.mil import Immediate, Operation, Ref, TensorType
from coremlops.verify.locate.cut import OWN, is_constant, piece, uses
from coremlops.verify.locate.numeric import LARGEST_FP16, decibel, powers
from coremlops.verify.locate.program import Program, Values

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROVEN_DB = 40.0
SAME_WEIGHT_DB = 60.0  # fp16 keeps more of a weight
MAX_SETTINGS = 40
SMALLEST_FP16 = 2.0**-24
MAX_WEIGHTS = 6

_BOTH = (True, False)
_SAMPLING = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")
# Op -> its inputs that are a mode, with what MIL allows. Source: coremltools, ops/defs/iOS15 and iOS17.
SETTINGS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "upsample_bilinear": {"align_corners": _BOTH, "half_pixel_centers": _BOTH},
    "resize_bilinear": {"sampling_mode": _SAMPLING},
    "resize": {"interpolation_mode": ("LINEAR", "NEAREST_NEIGHBOR"), "sampling_mode": _SAMPLING},
    "crop_resize": {"sampling_mode": _SAMPLING, "normalized_coordinates": _BOTH},
    "resample": {
        "align_corners": _BOTH,
        "sampling_mode": ("bilinear", "nearest"),
        "padding_mode": ("constant", "border", "reflection", "symmetric"),
    },
    "avg_pool": {"exclude_padding_from_average": _BOTH, "ceil_mode": _BOTH},
    "max_pool": {"ceil_mode": _BOTH},
    "pad": {"mode": ("constant", "reflect", "replicate")},
    "gelu": {"mode": ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")},
}
_TRANSPOSED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "matmul": {"transpose_x": _BOTH, "transpose_y": _BOTH}
}
# Ops that take the same inputs and differ in how they sample.
_KIN = {"upsample_bilinear": "upsample_nearest_neighbor", "resize_bilinear": "resize_nearest_neighbor"}
_KIN |= {nearest: linear for linear, nearest in _KIN.items()}


@dataclass(frozen=True)
class Trial:
    """One value that is wrong, and all that it takes to compute it again.

    `operations`: those between what is fed and the value. `feeds`: what they are fed with, by name; the
    model's own inputs are in `inputs`. `expected`: the source's value, in its own shape. `numbers`: those
    that the source's nodes were given. `weights`: the source's, nearest first.
    """

    program: Program
    operations: tuple[Operation, ...]
    name: str
    feeds: Values
    inputs: frozenset[str]
    expected: NDArray[Any]
    numbers: tuple[float, ...]
    weights: Mapping[str, NDArray[Any]]

    def run(self, operations: Sequence[Operation], feeds: Values | None = None) -> NDArray[Any] | None:
        """The value when it is computed so; None when it cannot be."""
        from coremlops.errors import CoremlopsError

        function = piece(self.program.function, operations, given=[self.name], wanted=[self.name])
        given = feeds or self.feeds
        try:
            session = self.program.open(function, "float32")
            results = session.run({entry.name: given[entry.name] for entry in function.inputs})
        except CoremlopsError:
            return None
        return results[self.name + OWN]

    def db(self, operations: Sequence[Operation], feeds: Values | None = None) -> float:
        value = self.run(operations, feeds)
        if value is None or value.size != self.expected.size:
            return -np.inf
        return decibel(*powers(self.expected.ravel(), value.ravel()))

    def with_input(self, place: int, input_: str, value: Any) -> tuple[Operation, ...]:
        """The operations with a constant in one place."""
        operation = self.operations[place]
        inputs = {**operation.inputs, input_: (_immediate(value),)}
        changed = replace(operation, inputs=inputs)
        return (*self.operations[:place], changed, *self.operations[place + 1 :])


Verdict: TypeAlias = tuple[str, str, Operation]


def proven(trial: Trial) -> Verdict | None:
    """(kind, words, the op to blame) of the first guess that makes the value agree with the source."""
    guesses = (guess(trial) for guess in (_layout, _setting, _weight, _number, _rounded))
    return next((found for found in guesses if found is not None), None)


def explain(trial: Trial) -> Verdict:
    """What is proven, else what the error looks like."""
    return proven(trial) or (*_by_shape(trial), _compressed(trial) or trial.operations[-1])


def _layout(trial: Trial) -> Verdict | None:
    value, last = trial.run(trial.operations), trial.operations[-1]
    if value is None or value.size != trial.expected.size:
        return None
    for axes in itertools.permutations(range(trial.expected.ndim)) if trial.expected.ndim <= 5 else ():
        turned = trial.expected.transpose(axes)
        moved = list(axes) != sorted(axes) and _squeezed(turned) == _squeezed(value)
        if moved and decibel(*powers(turned.ravel(), value.ravel())) > PROVEN_DB:
            return "layout", f"its values are the source's with the axes {list(axes)}", last
    for operation, settings, operations in _other_settings(trial, _TRANSPOSED):
        if trial.db(operations) > PROVEN_DB:
            return "layout", f"the source's values come with {settings}", operation
    for name in sorted(trial.inputs & trial.feeds.keys()):
        picture = trial.feeds[name]
        if picture.ndim == 4 and picture.shape[1] == 3:
            swapped = trial.feeds | {name: np.ascontiguousarray(picture[:, ::-1])}
            if trial.db(trial.operations, swapped) > PROVEN_DB:
                return (
                    "layout",
                    f"the source's values come with the channels of {name} in reverse: RGB is BGR",
                    last,
                )
    return None


def _setting(trial: Trial) -> Verdict | None:
    for operation, settings, operations in _other_settings(trial, SETTINGS):
        if trial.db(operations) > PROVEN_DB:
            return "setting", f"the source's values come with {settings}", operation
    return None


def _other_settings(
    trial: Trial, table: Mapping[str, Mapping[str, tuple[Any, ...]]]
) -> Iterator[tuple[Operation, str, tuple[Operation, ...]]]:
    """Each op with its modes set otherwise, those that change least first."""
    for place, operation in enumerate(trial.operations):
        choices = table.get(operation.type, {})
        now = {name: _constant(trial, operation, name) for name in choices}
        allowed = [dict.fromkeys((now[name], *values)) for name, values in choices.items()]
        sets = [dict(zip(choices, values, strict=True)) for values in itertools.product(*allowed)]
        sets.sort(key=lambda chosen: sum(chosen[name] != now[name] for name in chosen))
        for chosen in sets[:MAX_SETTINGS] if choices else ():
            new = {name: value for name, value in chosen.items() if value != now[name]}
            if not new:
                continue
            inputs = dict(operation.inputs) | {name: (_immediate(value),) for name, value in new.items()}
            changed = replace(operation, inputs=inputs)
            words = ", ".join(f"{name}={value}, not {_said(now[name])}" for name, value in new.items())
            yield operation, words, (*trial.operations[:place], changed, *trial.operations[place + 1 :])
        if table is SETTINGS and operation.type in _KIN:
            kin = _KIN[operation.type]
            inputs = {name: value for name, value in operation.inputs.items() if name not in choices}
            changed = replace(operation, type=kin, inputs=inputs)
            yield operation, kin, (*trial.operations[:place], changed, *trial.operations[place + 1 :])


def _said(value: Any) -> str:
    return "the default" if value is None else str(value)


def _weight(trial: Trial) -> Verdict | None:
    """The source's weight in the place of the file's."""
    for place, operation in enumerate(trial.operations):
        for input_, name, held in _weights(trial, operation):
            ranked = sorted(_candidates(held, trial.weights), key=lambda item: -item[0])[:MAX_WEIGHTS]
            if ranked and ranked[0][0] > SAME_WEIGHT_DB:
                continue  # it is right
            for near, source, value in ranked:
                if trial.db(trial.with_input(place, input_, value)) > PROVEN_DB:
                    return (*_weight_words(trial, name, held, value, source, near), operation)
    return None


def _weight_words(
    trial: Trial, name: str, held: NDArray[Any], value: NDArray[Any], source: str, near: float
) -> tuple[str, str]:
    holder = _holder(trial, name)
    if holder.type.startswith("constexpr_") and holder.type != "constexpr_cast":
        count = len(np.unique(held))
        return (
            "compression",
            f"its weight {name} ({holder.type}, {count} different values) keeps {near:.1f} dB of {source}",
        )
    off = ~np.isclose(held, value, rtol=2e-3, atol=1e-6)
    worst = float(np.abs(held - value).max())
    return (
        "constant",
        f"{name} differs from {source} in {int(off.sum())} of {off.size} values, by {worst:.3g} at most; "
        f"with the source's the op agrees",
    )


def _number(trial: Trial) -> Verdict | None:
    """A plain number of the source in the place of the file's."""
    for place, operation in enumerate(trial.operations):
        for input_, bindings in operation.inputs.items():
            held = _constant(trial, operation, input_)
            if len(bindings) != 1 or not isinstance(held, float):
                continue
            for number in trial.numbers:
                if number != held and trial.db(trial.with_input(place, input_, number)) > PROVEN_DB:
                    words = f"{input_} is {held:.4g}, and {number:.4g} in the source"
                    if 0 < abs(number) < SMALLEST_FP16 / 2:
                        words += f"; the smallest number of fp16 is {SMALLEST_FP16:.2g}"
                    return "constant", words, operation
    return None


def _rounded(trial: Trial) -> Verdict | None:
    """All weights are the source's, rounded to fp16, and that alone is too much for this op."""
    operations = list(trial.operations)
    loss: list[tuple[float, float, str, Operation]] = []
    for place, operation in enumerate(trial.operations):
        for input_, name, held in _weights(trial, operation):
            near, _, value = max(
                _candidates(held, trial.weights), key=lambda item: item[0], default=(0, "", held)
            )
            if near > SAME_WEIGHT_DB:
                inputs = {**operations[place].inputs, input_: (_immediate(value),)}
                operations[place] = replace(operations[place], inputs=inputs)
                loss.append((float(np.abs(value - held).max()), float(np.abs(held).max()), name, operation))
    if not loss or trial.db(operations) < max(PROVEN_DB, trial.db(trial.operations) + 10):
        return None
    most, peak, name, operation = max(loss, key=lambda item: item[0])
    words = (
        f"its weights are the source's, rounded to fp16; {name} reaches {peak:.4g} and loses {most:.2g}, and "
        "what is left of it after the other terms is small"
    )
    return "cancellation", words, operation


def _by_shape(trial: Trial) -> tuple[str, str]:
    value = trial.run(trial.operations)
    if value is None or value.size != trial.expected.size:
        return "unknown", "it cannot be computed alone"
    expected, got = trial.expected, value.reshape(trial.expected.shape)
    compressed = _compressed(trial)
    if compressed is not None:
        holder = next(iter(_holders(trial, compressed)))
        return (
            "compression",
            f"its weight is stored as {holder.type}; the source's could not be put in its place",
        )
    return error_words(expected, got)


def error_words(expected: NDArray[Any], got: NDArray[Any]) -> tuple[str, str]:
    """(kind, words) from two arrays of one shape: a lost term, a factor, a few channels, or none of these."""
    error = expected.astype(np.float64) - got
    largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    if largest > LARGEST_FP16 and np.isinf(got).any():
        return (
            "overflow",
            f"the source's values reach {largest:.3g}; fp16 ends at 65504, and the file says infinity",
        )
    if not np.isfinite(error).all():
        return "unknown", f"{int((~np.isfinite(got)).sum())} of its {got.size} values are not finite"
    mean = float(error.mean())
    if error.size > 1 and abs(mean) > 20 * float(error.std()):
        return "offset", f"the source's values are all {mean:+.4g} away: a term was lost"
    power = float(np.sum(got.astype(np.float64) ** 2))
    factor = float(np.sum(expected.astype(np.float64) * got)) / power if power else 0.0
    mended = decibel(*powers(expected, factor * got))
    if error.size > 1 and mended > max(PROVEN_DB, decibel(*powers(expected, got)) + 20):
        return "constant", f"the source's values are {factor:.4g} times as large"
    if expected.ndim > 1 and expected.shape[0] == 1 and expected.shape[1] > 1:
        off = (error**2).reshape(expected.shape[1], -1).sum(1)
        bad = np.flatnonzero(off > 1e-3 * off.sum())
        if bad.size <= max(1, expected.shape[1] // 4):
            shown = ", ".join(map(str, bad[:8].tolist()))
            return (
                "constant",
                f"only the channels {shown} of {expected.shape[1]} differ: numbers of theirs are wrong",
            )
    return (
        "unknown",
        f"it keeps {decibel(*powers(expected, got)):.1f} dB of the source's value, and no guess mends it",
    )


def _compressed(trial: Trial) -> Operation | None:
    return next(
        (operation for operation in trial.operations if any(True for _ in _holders(trial, operation))), None
    )


def _holders(trial: Trial, operation: Operation) -> Iterator[Operation]:
    for name in uses(operation):
        holder = _holder(trial, name)
        if holder.type.startswith("constexpr_") and holder.type != "constexpr_cast":
            yield holder


_NOTHING = Operation("", "", {}, (), (), {})


def _holder(trial: Trial, name: str) -> Operation:
    return next(
        (
            entry
            for entry in trial.program.function.block.operations
            if is_constant(entry) and any(output.name == name for output in entry.outputs)
        ),
        _NOTHING,
    )


def _weights(trial: Trial, operation: Operation) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """(input, name, decoded values) of each array of floats that the file gives an op."""
    names = {
        input_: bindings[0].name
        for input_, bindings in operation.inputs.items()
        if len(bindings) == 1
        and isinstance(bindings[0], Ref)
        and _holder(trial, bindings[0].name) is not _NOTHING
    }
    if not names:
        return
    lowered = trial.program.lower(piece(trial.program.function, [operation], given=[trial.name]), "float32")
    for input_, name in names.items():
        held = lowered.inner[name].constant if name in lowered.inner else None
        if held is not None and held.dtype.kind == "f" and held.size > 1:
            yield input_, name, held.astype(np.float32)


def _candidates(
    held: NDArray[Any], weights: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[float, str, NDArray[Any]]]:
    """(dB, name, values in the shape of `held`) of the source's weights that could be meant."""
    for name, value in weights.items():
        if value.size != held.size:
            continue
        turns = [value.reshape(held.shape)] if _squeezed(value) == _squeezed(held) else []
        if value.ndim == held.ndim and held.ndim > 1:
            turned = np.swapaxes(value, 0, 1)
            turns += [turned] if turned.shape == held.shape else []
        for turn in turns:
            yield decibel(*powers(turn, held)), name, np.ascontiguousarray(turn, np.float32)


def _constant(trial: Trial, operation: Operation, input_: str) -> Any:
    """A scalar that the file gives an op as Python value; None for what is not one."""
    bindings = operation.inputs.get(input_, ())
    if len(bindings) != 1:
        return None
    [entry] = bindings
    if isinstance(entry, Ref):
        held = _holder(trial, entry.name).attributes.get("val")
        entry = held if held is not None else entry
    if not isinstance(entry, Immediate):
        return None
    value = entry.value
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def _immediate(value: Any) -> Immediate:
    if isinstance(value, str):
        return Immediate(TensorType("string"), value)
    if isinstance(value, bool):
        return Immediate(TensorType("bool"), np.array(value))
    array = np.asarray(value, np.float32)
    return Immediate(TensorType("fp32", array.shape), array)


def _squeezed(value: NDArray[Any]) -> tuple[int, ...]:
    return tuple(size for size in value.shape if size != 1)
