"""Wider tolerances, by a decision that somebody makes, gives a reason for, and that the set records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from coremlops.collection import document
from coremlops.digest import sha256_bytes
from coremlops.errors import DataError, RepositoryError, UsageError
from coremlops.golden.document import (
    CEILING,
    LARGEST_CEILING,
    MAX_SET_BYTES,
    Decision,
    GoldenSet,
    Limit,
    read_file,
    read_golden,
)
from coremlops.golden.making import is_ours, write_set

# Beyond the worst that devices reported: the next device is another one.
ROOM = 1.5
MAX_REPORT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Reported:
    """What devices said about a model: the worst share of its tolerance that each output took, and where."""

    shares: dict[str, float]
    basis: str


def widen(
    golden: Path,
    out: Path,
    *,
    reason: str,
    by: str,
    at: datetime,
    factor: float | None = None,
    reports: Sequence[Path] = (),
    outputs: Sequence[str] = (),
) -> GoldenSet:
    """Write the set `golden` to `out` with wider tolerances, and the decision recorded in it.

    Either all tolerances are `factor` times as wide, or those that `reports` come near to or miss are as wide
    as the worst of them and half as much again. `outputs`: these alone. No tolerance passes its ceiling, and
    a label, which has none, stays as it is. `by`: who decided.

    Raises UsageError for a call that says not exactly one way, or no reason; DataError for reports of another
    model, and where nothing would change or a ceiling does not allow it; GoldenError for a damaged set.
    """
    if (factor is None) == (not reports) or not reason.strip():
        raise UsageError("a reason, and either a factor or reports expected")
    if factor is not None and not 1 < factor <= 100:
        raise UsageError(f"a factor above 1, at most 100, expected, got {factor:g}")
    before = read_golden(golden)
    names = {limit.name for limit in before.limits if limit.tolerance}
    unknown = sorted(set(outputs) - names)
    if unknown:
        raise UsageError(
            f"no output {unknown[0]!r} with a tolerance; the set has {', '.join(sorted(names)) or 'none'}"
        )
    said = None if factor is not None else read_reports(reports, before)
    limits = []
    for limit in before.limits:
        wanted = 1.0 if limit.name not in (outputs or names) else factor or _wanted(limit, said)
        limits.append(_wider(limit, wanted))
    changes = tuple(
        (old.name, (old.tolerance, old.largest), (new.tolerance, new.largest))
        for old, new in zip(before.limits, limits, strict=True)
        if old != new
    )
    if not changes:
        raise DataError("no tolerance would change: every output is well within, or at its ceiling")
    basis = said.basis if said else f"factor {factor:g}"
    decision = Decision(document.time_text(at), by[:200], reason.strip()[:2000], basis, changes)
    after = before.widened(tuple(limits), decision)
    files = {sha256: read_file(golden, name, MAX_SET_BYTES) for name, sha256 in before.files.items()}
    if any(sha256_bytes(data) != sha256 for sha256, data in files.items()):
        raise DataError(f"{golden}: its files are not those that golden.json names")
    if out.is_symlink() or (out.exists() and not is_ours(out)):
        raise DataError(f"{out} exists and is no golden set; it is left alone")
    write_set(after, files, out)
    return after


def read_reports(paths: Sequence[Path], golden: GoldenSet) -> Reported:
    """The worst of reports about this set's model: files of `golden check --json`, or of devices' reports.

    A file has one report or a list of them: objects with `model`, and `outputs` with `name`, `error`,
    `tolerance`. Raises DataError.
    """
    shares: dict[str, float] = {}
    digests, count = [], 0
    for path in paths:
        try:
            data = path.read_bytes()
            value = document.read(data, path.name, most_bytes=MAX_REPORT_BYTES)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        except RepositoryError as error:
            raise DataError(error.message) from None
        digests.append(sha256_bytes(data)[:12])
        for item in value if isinstance(value, list) else [value]:
            count += 1
            for name, share in _shares(item, golden, path).items():
                shares[name] = max(share, shares.get(name, 0.0))
    return Reported(shares, f"{count} report{'s' * (count != 1)} in {', '.join(digests)}"[:2000])


def _shares(item: Any, golden: GoldenSet, path: Path) -> dict[str, float]:
    """How much of its tolerance each output took, in one report."""
    try:
        if item["model"] != golden.model:
            raise DataError(
                f"{path}: a report of the model {golden.model[:12]} expected, "
                f"got one of {item['model']!s:.12}"
            )
        known = {limit.name for limit in golden.limits}
        found = {}
        for output in item["outputs"]:
            error, tolerance = output["error"], float(output["tolerance"])
            if output["name"] in known and tolerance > 0:
                found[output["name"]] = float("inf") if error is None else float(error) / tolerance
        return found
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(
            f"{path}: a report with model and outputs (name, error, tolerance) expected",
            hint="coremlops golden check MODEL SET --json writes one",
        ) from None


def _wanted(limit: Limit, said: Reported | None) -> float:
    return max(1.0, ROOM * said.shares.get(limit.name, 0.0)) if said else 1.0


def _wider(limit: Limit, factor: float) -> Limit:
    if factor <= 1 or not limit.tolerance:
        return limit
    tolerance, largest = limit.tolerance * factor, limit.largest * factor
    if factor > ROOM * CEILING / limit.tolerance:
        raise DataError(
            f"{limit.name}: a tolerance of {tolerance:.4g} would be needed, and {CEILING:g} is the most",
            hint="a device that is so far off computes something else: find out what before you widen",
        )
    return replace(
        limit,
        tolerance=float(f"{min(tolerance, CEILING):.4g}"),
        largest=float(f"{min(largest, LARGEST_CEILING):.4g}"),
    )
