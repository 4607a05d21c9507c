"""coremltools' test cases, how each one ended, and which endings are allowed."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where the tests lie below coremltools. A path belongs to the first area that holds it.
AREAS: dict[str, tuple[str, ...]] = {
    "ops": ("converters/mil/mil/ops/tests",),
    "passes": ("converters/mil/mil/passes",),
    "torch front end": ("converters/mil/frontend/torch",),
    "backend": ("converters/mil/backend",),
    "ml_program": ("test/ml_program",),
    "optimize/coreml": ("test/optimize/coreml",),
    "optimize/torch": ("test/optimize/torch",),
    "neural_network": ("test/neural_network",),
    "trees": ("test/sklearn_tests", "test/xgboost_tests"),
    "pipelines": ("test/pipeline",),
    "the rest": ("converters/mil", "test/api", "test/blob", "test/modelpackage", "test/optimize"),
}
PREDICTED = (
    "compared",
    "predicted-only",
    "mismatch",
    "tolerance",
    "disputed",
    "backend-error",
    "unsupported",
)
NEVER = ("mismatch", "backend-error", "crashed", "hung", "not-found")
LISTED = ("unsupported", "before-predict", "setup-error", "disputed")

# An address, and arrays that are drawn anew each time.
_CHANGES = re.compile(
    r"(?<=0x)[0-9a-f]{6,}|(?<=id=')\d{6,}|(?<=symbol=\"is)\d+|(?<=array\()[^()]*|(?<=tensor\()[^()]*"
    r"|\[\[[-\d.\s\[\]]*\d\.\d[-\d.\s\[\]]*\]\]"
)


def keys_of(ids: Iterable[str]) -> list[str]:
    """Names of cases that are the same in every run, one line each: no addresses, no random numbers.

    Where several are equal then, they have a number.
    """
    seen: Counter[str] = Counter()
    keys = []
    for id_ in ids:
        name = _CHANGES.sub("", id_).replace("\n", " ")
        seen[name] += 1
        keys.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return keys


def area_of(key: str) -> str:
    """The area that a case belongs to."""
    return next(
        (area for area, paths in AREAS.items() if any(key.startswith(path + "/") for path in paths)),
        "the rest",
    )


def spread(keys: Iterable[str], size: int) -> list[str]:
    """`size` of the keys: as many of each area as of any other and, in it, of each test, as far as there are.

    The cases of a test are taken in an order that looks random and is always the same.
    """
    tests: dict[str, dict[str, list[str]]] = {area: {} for area in AREAS}
    for key in sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest()):
        tests[area_of(key)].setdefault(key.split("[")[0], []).append(key)
    areas = [_in_turn(list(found.values())) for found in tests.values()]
    return _in_turn(areas)[:size]


def _in_turn(lists: Sequence[Sequence[str]]) -> list[str]:
    """The first of each, the second of each, ..."""
    return [key for row in itertools.zip_longest(*lists) for key in row if key is not None]


def read_rows(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """The last result of each case. A case that was begun and has no result is missing.

    A process that was killed may leave half a line.
    """
    rows: dict[str, dict[str, Any]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if "cls" in row:
                rows[row["key"]] = row
    return rows


def unfinished(file: Path) -> str | None:
    """The case that was running when the process of this journal ended."""
    begun = None
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        begun = row["key"] if "begun" in row else None
    return begun


def counts(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Cases by area and by how they ended."""
    found: dict[str, Counter[str]] = {area: Counter() for area in AREAS}
    for key, row in rows.items():
        found[area_of(key)][row["cls"]] += 1
    return {area: dict(counter.most_common()) for area, counter in found.items() if counter}


# What shows that a mismatch is the test's: each answer is what `oracle` reads from the file, whether the test
# fails again or not; or the test holds once nothing is rounded, or everything is, as its own expectation.
EXPLAINS = {"oracle": ("mismatch", "compared"), "float32": ("compared",), "float16": ("compared",)}
_MISSES = "Not equal to tolerance"  # NumPy's words


def explain(
    rows: Mapping[str, dict[str, Any]], judged: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> None:
    """Give a mismatch that is the test's the class `tolerance`, and say what showed it.

    Only numbers that miss a tolerance can have it: not a missing error, nor a wrong shape or type.
    """
    for way, classes in EXPLAINS.items():
        for key, row in judged.get(way, {}).items():
            case = rows.get(key, {"cls": ""})
            if case["cls"] == "mismatch" and _MISSES in str(case.get("why")) and row["cls"] in classes:
                case.update(cls="tolerance", shown_by=way)


@dataclass(frozen=True, slots=True)
class Allowed:
    """One line of `allowed.txt`: cases that may end as `cls`, and why. `*` stands for anything.

    `disputed`: a mismatch where the file or another test of coremltools contradicts what this one expects.
    """

    cls: str
    pattern: str
    reason: str

    def holds(self, key: str, cls: str) -> bool:
        parts = map(re.escape, self.pattern.split("*"))
        found = "disputed" if cls == "mismatch" else cls
        return found == self.cls and re.fullmatch(".*".join(parts), key, re.DOTALL) is not None


def read_allowed(text: str) -> list[Allowed]:
    """`class | pattern | reason` a line. Raises ValueError for a line of another kind."""
    allowed = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        cls, _, rest = line.partition(" | ")
        pattern, _, reason = rest.partition(" | ")
        if cls not in LISTED or not pattern.strip() or not reason.strip():
            raise ValueError(f"expected `class | pattern | reason`, class one of {LISTED}: {line!r}")
        allowed.append(Allowed(cls, pattern.strip(), reason.strip()))
    return allowed


def judge(rows: Mapping[str, Mapping[str, Any]], allowed: Sequence[Allowed], *, whole: bool) -> list[str]:
    """What is wrong with these results, one line each; empty when all is well.

    `whole`: these are all cases, so a line of the list that holds for none is wrong, too.
    """
    wrong = []
    used: Counter[Allowed] = Counter()
    for key, row in rows.items():
        cls = row["cls"]
        if cls not in (*NEVER, *LISTED):
            continue
        entry = next((entry for entry in allowed if entry.holds(key, cls)), None)
        if entry is None:
            wrong.append(f"{cls}: {key}: {row.get('why')}")
        else:
            used[entry] += 1
    if whole:
        wrong += [f"allowed, and occurs no longer: {e.cls} | {e.pattern}" for e in allowed if not used[e]]
    return wrong
