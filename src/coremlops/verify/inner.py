"""Look inside: compare what each convolution and linear layer gives, channel by channel.

A net of a thousand channels forgives the loss of one: its outputs move less than fp16 rounding moves them.
Inside, a dead channel is all error and no signal, 0 dB, where the worst faithful one of EfficientNet-Lite0 in
fp16 keeps 19 dB. coremltools names an operation after the node of the exported program that it came from, so
both sides can be matched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.source import Sample, Samples
from coremlops.verify.sides import ModelSide, ReferenceSide
from coremlops.verify.statistics import CEILING_DB

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SAMPLES = 4
LISTED_CHANNELS = 8
# Channels weaker than this share of their layer's mean power are measured against it: a channel that is
# almost silent in the source may be all rounding, and means nothing.
WEAK = 0.01
_CAST = re.compile(r"_cast_fp(16|32)$")


@dataclass(frozen=True, slots=True)
class Layer:
    """One matched layer: its name in the Core ML file, channels, worst channel, and SNRs in dB."""

    name: str
    channels: int
    worst_channel: int
    worst_db: float
    median_db: float

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "channels": self.channels,
            "worst_channel": self.worst_channel,
            "worst_db": self.worst_db,
            "median_db": self.median_db,
        }


def inner_layers(model: ModelSide, other: ReferenceSide, samples: Samples) -> tuple[Layer, ...]:
    """Compare the layers that both sides name alike, in the source's order; empty when there are none.

    A few samples serve, spread over the truths.
    """
    by_node = {_CAST.sub("", item): item for item in model.loaded.inner_names}
    powers: dict[str, list[NDArray[np.float64]]] = {}
    matched: dict[str, str] = {}
    if not by_node or other.reference.kind != "torch.export" or len(other.reference.inputs) != 1:
        return ()
    for sample in _spread(samples):
        expected = other.reference.layers(other.fed(sample))
        if not matched:
            matched = {node: by_node[node] for node in expected if node in by_node}
        if not matched:
            return ()
        state = model.loaded.make_state() if model.description.states else None
        got = model.loaded.predict(model.fed(sample), intermediates=matched.values(), state=state)
        for node, item in matched.items():
            pair = _powers(expected[node], np.asarray(got[item]))
            if pair is not None:
                powers.setdefault(node, []).append(pair)
    return tuple(_layer(matched[node], np.mean(pairs, axis=0)) for node, pairs in powers.items())


def _spread(samples: Samples) -> list[Sample]:
    """The first sample of each truth, up to a few, then others from the start."""
    firsts: dict[str, Sample] = {}
    others: list[Sample] = []
    for sample in samples:
        if len(firsts) >= MAX_SAMPLES or (len(others) >= MAX_SAMPLES and len(firsts) > 1):
            break
        key = "" if sample.truth is None or np.ndim(sample.truth) else str(sample.truth)
        if key in firsts:
            others.append(sample)
        else:
            firsts[key] = sample
    return [*firsts.values(), *others][:MAX_SAMPLES]


def _powers(expected: NDArray[Any], got: NDArray[Any]) -> NDArray[np.float64] | None:
    """[2, channels]: power of the signal and of the error; None for values that do not correspond."""
    if expected.shape != got.shape or expected.ndim < 2 or expected.shape[0] != 1:
        return None
    if not np.isfinite(expected).all():  # a mask of infinities, say: no signal to measure an error against
        return None
    signal = expected[0].reshape(expected.shape[1], -1).astype(np.float64)
    other = got[0].reshape(expected.shape[1], -1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.mean((signal - other) ** 2, axis=1)
    return np.stack([np.mean(signal**2, axis=1), np.nan_to_num(error, nan=np.inf, posinf=np.inf)])


def _layer(name: str, powers: NDArray[np.float64]) -> Layer:
    signal, error = powers
    signal = np.maximum(signal, WEAK * signal.mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = 10 * np.log10(signal / error)
    # A layer that is silent in both is equal: 0 / 0.
    ratios = np.clip(np.where(error == 0, CEILING_DB, ratios), -CEILING_DB, CEILING_DB)
    worst = int(np.argmin(ratios))
    return Layer(name, len(ratios), worst, float(ratios[worst]), float(np.median(ratios)))
