"""How far one array is from another.

Probabilities of a confident classifier hide errors: 0.9995 and 0.9990 look alike, yet one says odds of 2000
and the other of 1000. So the same answers are also compared as log-odds, where an error in the net shows at
its full size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Bounds that stand for "equal, bit by bit" and "nothing in common": JSON knows no infinity, and two float32
# arrays that differ at all are below 160 dB.
CEILING_DB = 200.0

# Probabilities below fp16's smallest normal number (6.1e-5) are raised to it before the logarithm: under it
# steps are 6e-8 whatever the value, and hardware may flush them to zero, so they carry rounding, no evidence.
SMALLEST_PROBABILITY = 2.0**-14

# Log-odds smaller than this (root mean square, in nats) mean that the net does not decide; errors are then
# measured against this, so that a net that always says 50:50 is not failed for its last bit.
UNDECIDED_NATS = 0.1


@dataclass(frozen=True, slots=True)
class Difference:
    """`max_abs` and `mean_abs` in the arrays' own unit, None when the second array is not finite; the two
    ratios in dB, between -200 and 200. The peak of `psnr_db` is the largest magnitude of the first array."""

    max_abs: float | None
    mean_abs: float | None
    snr_db: float
    psnr_db: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def difference(expected: NDArray[Any], got: NDArray[Any], *, floor: float = 0.0) -> Difference:
    """Compare two arrays of one shape; `expected` is finite, `got` need not be.

    `floor`: least root mean square that the signal is taken to have.
    """
    signal = np.asarray(expected, np.float64)
    other = np.asarray(got, np.float64)
    if not signal.size:  # nothing to differ: a detector that found nothing
        return Difference(0.0, 0.0, CEILING_DB, CEILING_DB)
    if not np.isfinite(other).all():
        return Difference(None, None, -CEILING_DB, -CEILING_DB)
    error = np.abs(signal - other)
    noise = float(np.mean(error**2))
    power = max(float(np.mean(signal**2)), floor**2)
    peak = max(float(np.max(np.abs(signal))), floor)
    return Difference(
        max_abs=float(error.max()),
        mean_abs=float(error.mean()),
        snr_db=_decibel(power, noise),
        psnr_db=_decibel(peak**2, noise),
    )


@dataclass(slots=True)
class Running:
    """How far an output is off over many examples, of which none is kept. `floor`: see `difference`.

    `rows`: (power of the signal, power of the error, numbers) of each example, sums; the error is infinite
    where the model's numbers are not finite.
    """

    floor: float = 0.0
    rows: list[tuple[float, float, int]] = field(default_factory=list)
    _max_abs: float = 0.0
    _sum_abs: float = 0.0
    _peak: float = 0.0

    def add(self, expected: NDArray[Any], got: NDArray[Any]) -> Difference:
        """The example's own difference."""
        found = difference(expected, got, floor=self.floor)
        signal = np.asarray(expected, np.float64)
        power, count = float((signal**2).sum()), signal.size
        if found.max_abs is None or found.mean_abs is None:
            self.rows.append((power, np.inf, count))
            return found
        with np.errstate(over="ignore"):
            error = float(((signal - np.asarray(got, np.float64)) ** 2).sum())
        self.rows.append((power, error, count))
        self._max_abs = max(self._max_abs, found.max_abs)
        self._sum_abs += found.mean_abs * count
        self._peak = max(self._peak, float(np.abs(signal).max(initial=0)))
        return found

    def total(self) -> Difference:
        """Over all examples."""
        power, error, count = (sum(column) for column in zip(*self.rows, strict=True))
        if not np.isfinite(error):
            return Difference(None, None, -CEILING_DB, -CEILING_DB)
        peak = max(self._peak, self.floor)
        return Difference(
            max_abs=self._max_abs,
            mean_abs=self._sum_abs / count,
            snr_db=_decibel(max(power / count, self.floor**2), error / count),
            psnr_db=_decibel(peak**2, error / count),
        )

    def snr_of(self, chosen: NDArray[Any]) -> float:
        """Signal to noise over some examples alone, `chosen` their places."""
        power, error, count = np.array(self.rows)[chosen].sum(0)
        if not np.isfinite(error):
            return -CEILING_DB
        return _decibel(max(power / count, self.floor**2), error / count)

    def snr_of_means(self, means: NDArray[Any]) -> NDArray[Any]:
        """Means of `rows` [draws, 3] -> dB [draws]."""
        power = np.maximum(means[:, 0] / means[:, 2], self.floor**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = 10 * np.log10(power / (means[:, 1] / means[:, 2]))
        values = np.where(means[:, 1] == 0, CEILING_DB, values)
        clipped: NDArray[Any] = np.clip(values, -CEILING_DB, CEILING_DB)
        return clipped


def log_odds(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """[n, labels] -> [n, labels]: log probabilities less their mean over the labels, in nats.

    It is what a softmax took in, up to a constant, as far as the probabilities still tell it.
    """
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), SMALLEST_PROBABILITY, 1.0))
    centred: NDArray[np.float64] = logs - logs.mean(axis=1, keepdims=True)
    return centred


def _decibel(power: float, noise: float) -> float:
    if noise == 0:
        return CEILING_DB
    if power == 0:
        return -CEILING_DB
    return float(np.clip(10 * np.log10(power / noise), -CEILING_DB, CEILING_DB))
