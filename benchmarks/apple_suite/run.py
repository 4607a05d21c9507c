"""coremltools' own tests, with every prediction made by us: the whole suite, or CI's subset.

python benchmarks/apple_suite/run.py whole     all cases: hours; goes on where it stopped (--minutes, --again)
python benchmarks/apple_suite/run.py judge     mismatches: is the tolerance finer than fp16?
python benchmarks/apple_suite/run.py control   a spread sample: answered by zeros, and through the bridge
python benchmarks/apple_suite/run.py report    writes ../apple-suite.json and judges it
python benchmarks/apple_suite/run.py choose    writes subset.txt anew, from results of `whole`
python benchmarks/apple_suite/run.py subset    what `make check` runs: minutes

The plugin that stands in for Apple's framework is `../shared/apple-suite` beside the work tree, or
$COREMLOPS_APPLE_SUITE. Exits 3 when a case ends otherwise than `allowed.txt` or `subset.txt` say.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cases import (
    AREAS,
    EXPLAINS,
    PREDICTED,
    area_of,
    counts,
    explain,
    judge,
    read_allowed,
    read_rows,
    spread,
    unfinished,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULT = HERE.parent / "apple-suite.json"
PLUGIN = Path(os.environ.get("COREMLOPS_APPLE_SUITE", ROOT.parent / "shared" / "apple-suite"))
# Versions that coremltools' tests need and we do not: `pip install --no-deps --target DIR scikit-learn==1.5.1
# libsvm-official`. Without them, the tests of its converters for these are skipped.
OLDER = os.environ.get("COREMLOPS_APPLE_SUITE_OLDER", "")
PACKAGES = ("coremltools", "torch", "numpy", "onnx", "onnxruntime", "pytest")
BATCH = 1000  # cases a process: what a test leaves in memory goes with it
CASE_LIMIT_S = 300.0
WATCH_S = 60.0
SAMPLE = 1200
SUBSET = {"compared": 620, "predicted-only": 80}  # the latter: areas whose tests compare in their own ways
QUICK_S = 1.5
# `through`: what answers -> the backend that the plugin is given, and further plugins
THROUGH = {
    "ours": ("backend:predict", ()),
    "zeros": ("zeros_backend:predict", ()),
    "bridge": ("backend:predict", ("bridged",)),
    "oracle": ("oracle:predict", ()),
    "float32": ("backend:predict", ()),
    "float16": ("backend:predict", ()),
}


def tests() -> Path:
    """Where coremltools lies, found without importing it."""
    spec = importlib.util.find_spec("coremltools")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("coremltools is not installed: pip install 'coremlops[convert,dev]'")
    return Path(spec.submodule_search_locations[0])


def commit() -> str:
    """The commit that is checked out, in short."""
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def pytest_command(through: str, paths: list[str]) -> list[str]:
    _, plugins = THROUGH[through]
    given = [option for plugin in ("coreml_predict_plugin", "journal", *plugins) for option in ("-p", plugin)]
    quiet = ["-q", "--tb=no", "--disable-warnings", "-p", "no:cacheprovider", "-o", "addopts="]
    where = ["--rootdir", str(tests()), "--continue-on-collection-errors"]
    return [sys.executable, "-m", "pytest", *given, *quiet, *where, *(str(tests() / path) for path in paths)]


def environment(through: str, folder: str, **settings: str) -> dict[str, str]:
    ways = (*filter(None, [OLDER]), HERE, PLUGIN, PLUGIN / "stubs", ROOT / "src", ROOT)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, ways)),
        # What NumPy sorts with these has no stable order of ties, which these tests count on.
        "NPY_DISABLE_CPU_FEATURES": "AVX2 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
        "COREML_PREDICT_BACKEND": THROUGH[through][0],
        "OMP_NUM_THREADS": "1",
        "TMPDIR": folder,
        "SUITE_COMMIT": commit(),
        "SUITE_PRECISION": through if through.startswith("float") else "typed",
        **settings,
    }


def collect(work: Path) -> dict[str, list[str]]:
    """The keys of all cases by file, remembered in the work folder.

    Each file in a process of its own: several at once share iterators of parameters, which the first uses up,
    and a conftest that names cases.
    """
    file = work / "collected.jsonl"
    if not file.exists():
        below = [tests() / path for paths in AREAS.values() for path in paths]
        files = sorted({found for folder in below for found in folder.rglob("test_*.py")})
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
            parts = [Path(folder) / str(number) for number in range(len(files))]
            list(pool.map(_collect, files, parts))
            rows = "".join(part.read_text() for part in parts if part.exists())
            (work / "collected.part").write_text(rows)
        (work / "collected.part").rename(file)
    keys: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        key = json.loads(line).get("key")
        if key is not None:
            keys.setdefault(file_of(key), []).append(key)
    return keys


def _collect(file: Path, part: Path) -> None:
    path = str(file.relative_to(tests()))
    with tempfile.TemporaryDirectory() as folder:
        settings = environment("ours", folder, SUITE_COLLECT=str(part))
        command = pytest_command("ours", [path])
        subprocess.run(command, cwd=folder, env=settings, check=False, stdout=subprocess.DEVNULL)


def file_of(key: str) -> str:
    """The file that a case stands in."""
    return key.split("::")[0]


def run_batch(through: str, keys: list[str], journal: Path, log: Path) -> None:
    """Run these cases in processes of their own until each has a result in the journal.

    A process that dies or no longer moves is ended; the case that it was at is `crashed` or `hung`.
    """
    pending = set(keys) - set(read_rows([journal] if journal.exists() else []))
    while pending:
        with tempfile.TemporaryDirectory() as folder:
            only = Path(folder) / "only"
            only.write_text("\n".join(sorted(pending)))
            settings = environment(
                through,
                folder,
                SUITE_JOURNAL=str(journal),
                SUITE_ONLY=str(only),
                SUITE_LIMIT_S=str(CASE_LIMIT_S),
            )
            paths = sorted(set(map(file_of, pending)))
            with log.open("a") as output:
                process = subprocess.Popen(
                    pytest_command(through, paths), cwd=folder, env=settings, stdout=output, stderr=output
                )
                ending = watch(process, journal)
        case = unfinished(journal)
        if case is not None:
            with journal.open("a") as file:
                file.write(
                    json.dumps({"key": case, "cls": ending, "why": f"exit {process.returncode}"}) + "\n"
                )
        left = set(keys) - set(read_rows([journal] if journal.exists() else []))
        if len(left) == len(keys):
            sys.exit(f"the tests do not start: see {log}")
        if left == pending:
            with journal.open("a") as file:
                file.writelines(json.dumps({"key": key, "cls": "not-found"}) + "\n" for key in sorted(left))
            return
        pending = left


def watch(process: subprocess.Popen[bytes], journal: Path) -> str:
    """Wait for a process, and end it when it stands still; says what its unfinished case is, if any."""
    moved, size = time.monotonic(), -1
    while True:
        try:
            process.wait(timeout=0.5)
            return "crashed"
        except subprocess.TimeoutExpired:
            now = journal.stat().st_size if journal.exists() else 0
            if now != size:
                moved, size = time.monotonic(), now
            elif time.monotonic() - moved > CASE_LIMIT_S + WATCH_S:
                process.kill()
                process.wait()
                return "hung"


def run_cases(through: str, keys: list[str], work: Path, *, jobs: int, minutes: float = 1e9) -> bool:
    """Run cases that have no result yet, in batches; True when all have one."""
    end = time.monotonic() + 60 * minutes
    journals = sorted(work.glob(f"{through}-*.jsonl"))
    done = read_rows(journals)
    pending = [key for key in keys if key not in done]
    batches = [
        found[first : first + BATCH]
        for found in (list(group) for _, group in itertools.groupby(sorted(pending), file_of))
        for first in range(0, len(found), BATCH)
    ]

    def run(number: int) -> bool:
        if time.monotonic() > end:
            return False
        stamp = f"{through}-{time.time_ns()}"
        run_batch(through, batches[number], work / f"{stamp}.jsonl", work / f"{through}.log")
        print(f"{through}: {number + 1} of {len(batches)} batches", file=sys.stderr, flush=True)
        return True

    with ThreadPoolExecutor(jobs) as pool:
        return all(list(pool.map(run, range(len(batches)))))


def forget(work: Path, classes: set[str]) -> None:
    """Drop the results of these classes, so that the cases run again."""
    for file in work.glob("ours-*.jsonl"):
        lines = file.read_text().splitlines()
        kept = [line for line in lines if json.loads(line).get("cls") not in classes]
        file.write_text("".join(line + "\n" for line in kept))


def sample(rows: dict[str, dict[str, Any]], size: int) -> list[str]:
    """A fixed, spread choice of the cases that compared numbers: each area's share, and at least 40 of it."""
    by_area: dict[str, list[str]] = {}
    for key in sorted(key for key, row in rows.items() if row["cls"] == "compared"):
        by_area.setdefault(area_of(key), []).append(key)
    total = sum(map(len, by_area.values()))
    chance = random.Random(1)
    return [
        key
        for keys in by_area.values()
        for key in chance.sample(keys, min(len(keys), max(40, round(size * len(keys) / total))))
    ]


def by_chance(key: str) -> bool:
    """Whether a case holds or not with the numbers it draws: halves, at the tolerance of fp32."""
    return "precision='fp32'" in key and ("float16" in key or "dtype=fp16" in key)


def choose(work: Path) -> int:
    """Write subset.txt: quick cases that predict, spread over the areas and the tests in each."""
    rows = read_rows(sorted(work.glob("ours-*.jsonl")))
    quick = {
        key: row
        for key, row in rows.items()
        if row.get("seconds", QUICK_S) < QUICK_S and "0x" not in key and not by_chance(key)
    }
    keys = sorted(
        key
        for cls, size in SUBSET.items()
        for key in spread([key for key, row in quick.items() if row["cls"] == cls], size)
    )
    head = "# Cases of coremltools' own tests that CI runs, and how each must end: `class | case`.\n"
    (HERE / "subset.txt").write_text(head + "".join(f"{rows[key]['cls']} | {key}\n" for key in keys))
    print(f"{len(keys)} cases, {sum(rows[key]['seconds'] for key in keys):.0f} s one after another")
    return 0


def explained(work: Path) -> dict[str, dict[str, Any]]:
    """The results, with those of `judge`."""
    rows = read_rows(sorted(work.glob("ours-*.jsonl")))
    explain(rows, {way: read_rows(sorted(work.glob(f"{way}-*.jsonl"))) for way in EXPLAINS})
    return rows


def report(work: Path) -> int:
    """Write ../apple-suite.json from the work folder, and judge it."""
    rows = explained(work)
    keys = {key for found in collect(work).values() for key in found}
    rows = {key: row for key, row in rows.items() if key in keys}
    allowed = read_allowed((HERE / "allowed.txt").read_text())
    wrong = judge(rows, allowed, whole=len(rows) == len(keys))
    for key, row in rows.items():
        if any(entry.cls == "disputed" and entry.holds(key, row["cls"]) for entry in allowed):
            row["cls"] = "disputed"
    total = Counter(row["cls"] for row in rows.values())
    predicting = sum(total[cls] for cls in PREDICTED)
    files = [json.loads(line) for line in (work / "collected.jsonl").read_text().splitlines()]
    result = {
        "command": "python benchmarks/apple_suite/run.py whole && ... judge && ... control && ... report",
        "settings": {
            "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
            "COREML_PREDICT_MACOS": "15.0",
            "precision": "typed",
        },
        "versions": {
            "coremlops": Counter(row.get("commit", "") for row in rows.values()),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "what": "all cases" if len(rows) == len(keys) else "a sample: not every case has been run yet",
        "cases_collected": len(keys),
        "cases_with_a_result": len(rows),
        "total": dict(total.most_common()),
        "unsupported_share_of_predicting": round(total["unsupported"] / max(1, predicting), 5),
        "areas": counts(rows),
        "not_collected": {entry["file"]: entry["why"] for entry in files if "file" in entry},
        "allowed_lines": len(allowed),
        "not_allowed": len(wrong),
    }
    for through in ("zeros", "bridge"):
        found = read_rows(sorted(work.glob(f"{through}-*.jsonl")))
        if found:
            tally = Counter(row["cls"] for row in found.values())
            result[through] = {
                "cases": len(found),
                "total": dict(tally.most_common()),
                "areas": counts(found),
            }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(
        "\n".join(
            [*wrong[:200], f"{len(rows)} of {len(keys)} cases; {len(wrong)} lines not allowed; {RESULT}"]
        )
    )
    return 3 if wrong else 0


def subset(jobs: int) -> int:
    """Run CI's cases: each must end as subset.txt says."""
    lines = [line for line in (HERE / "subset.txt").read_text().splitlines() if line and line[0] != "#"]
    expected = {key: cls for cls, _, key in (line.partition(" | ") for line in lines)}
    by_file: dict[str, list[str]] = {}
    for key in expected:
        by_file.setdefault(file_of(key), []).append(key)
    shares: list[list[str]] = [[] for _ in range(jobs)]
    for found in sorted(by_file.values(), key=len, reverse=True):
        min(shares, key=len).extend(found)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        work = Path(folder)
        list(
            pool.map(
                lambda share: run_batch("ours", share, work / f"{share[0].__hash__()}.jsonl", work / "log"),
                filter(None, shares),
            )
        )
        rows = read_rows(work.glob("*.jsonl"))
    wrong = [f"{r['cls']}: {key}: {r.get('why')}" for key, r in rows.items() if r["cls"] != expected[key]]
    print("\n".join([*wrong, f"apple-suite: {len(expected) - len(wrong)} of {len(expected)} cases held"]))
    return 3 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("whole", "judge", "control", "report", "choose", "subset"))
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "apple-suite", help="results so far")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no batch after this time")
    parser.add_argument("--slice", default="0/1", metavar="I/N", help="every N-th case, from the I-th (0)")
    parser.add_argument("--area", action="append", choices=tuple(AREAS), help="these areas alone")
    parser.add_argument("--again", default="", metavar="CLASS,...", help="run cases that ended so once more")
    args = parser.parse_args()
    if not (PLUGIN / "coreml_predict_plugin.py").exists():
        print(f"apple-suite: skipped. {PLUGIN} is not here; coremltools' own tests need the plugin in it")
        return 0
    if args.what == "subset":
        return subset(args.jobs)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.what == "report":
        return report(args.work)
    if args.what == "choose":
        return choose(args.work)
    if args.what == "judge":
        rows, ended = explained(args.work), True
        for way in EXPLAINS:
            keys = [key for key, row in rows.items() if row["cls"] == "mismatch"]
            ended &= run_cases(way, keys, args.work, jobs=args.jobs, minutes=args.minutes)
            rows = explained(args.work)
        return 0 if ended else 1
    if args.what == "control":
        rows = read_rows(sorted(args.work.glob("ours-*.jsonl")))
        keys = sample(rows, SAMPLE)
        ended = [
            run_cases(way, keys, args.work, jobs=args.jobs, minutes=args.minutes)
            for way in ("zeros", "bridge")
        ]
        return 0 if all(ended) else 1
    forget(args.work, set(args.again.split(",")) - {""})
    areas = args.area or list(AREAS)
    keys = [key for found in collect(args.work).values() for key in found if area_of(key) in areas]
    first, step = map(int, args.slice.split("/"))
    return 0 if run_cases("ours", keys[first::step], args.work, jobs=args.jobs, minutes=args.minutes) else 1


if __name__ == "__main__":
    sys.exit(main())
