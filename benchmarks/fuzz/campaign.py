"""Damages real Core ML files and runs them: `python benchmarks/fuzz/campaign.py SEEDS --cases 100000`.

SEEDS is a folder of `.mlpackage` and `.mlmodel` files, such as `corpus.py` collects and `handmade.py` writes.
Each case is read, described, loaded and run in a child process under a limit of memory; the parent sees a
crash, a hang and what is no error of ours, and reports them with the seed and the number that make the case
again (`--only SEED:NUMBER` runs one). The report is written after each seed; the same command at the same
commit goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import platform
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, where `tests` lies

from coremlops.runtime import memory
from tests.fuzz.mutate import write_case
from tests.fuzz.victim import attempt

ADDRESS_SPACE_BYTES = 12 << 30
PEAK_BYTES = (
    2 << 30
)  # of a child that ran small models: above it, something was allocated because a file said so
HANG_S = 120.0  # a value of a gigabyte, on a machine that has other work
MEMORY_LIMIT_BYTES = 1 << 29  # of each model: a fourth of that, as results and constants are beside it
BATCH = 250


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("seeds", type=Path)
    parser.add_argument("--cases", type=int, default=100_000, help="in all, spread over the seeds")
    parser.add_argument("--first", type=int, default=0, help="number of each seed's first case")
    parser.add_argument("--only", help="SEED:NUMBER: run this case here, with its traceback")
    parser.add_argument("--report", type=Path, default=Path(__file__).with_name("campaign.json"))
    args = parser.parse_args()
    os.environ[memory.LIMIT_VARIABLE] = str(MEMORY_LIMIT_BYTES)
    seeds = sorted(path for path in args.seeds.iterdir() if path.suffix in (".mlpackage", ".mlmodel"))
    if args.only:
        name, number = args.only.rsplit(":", 1)
        return one(args.seeds / name, int(number))
    each = -(-args.cases // len(seeds))
    report = _begun(args.report, len(seeds))
    counts = Counter(report["outcomes"])
    findings = report["findings"]
    began = time.monotonic() - report["elapsed_s"]
    for index, seed in enumerate(seeds[report["done"] :], report["done"]):
        for outcome, finding in campaign(seed, range(args.first, args.first + each)):
            counts[outcome] += 1
            if finding:
                findings.append(finding)
                print(json.dumps(finding)[:500], flush=True)
        print(
            f"{index + 1}/{len(seeds)} {seed.name}: {sum(counts.values())} cases, {len(findings)} findings",
            flush=True,
        )
        report |= {
            "done": index + 1,
            "cases": sum(counts.values()),
            "outcomes": dict(counts),
            "elapsed_s": round(time.monotonic() - began),
        }
        args.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if findings else 0


def _begun(path: Path, seeds: int) -> dict[str, Any]:
    """The report of this very command at this commit, if seeds are left to do; or a new one."""
    repository = Path(__file__).resolve().parents[2]
    asked = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    empty = {
        "command": " ".join(["python", *sys.argv]),
        "commit": asked.stdout.strip(),
        "python": platform.python_version(),
        "seeds": seeds,
        "done": 0,
        "cases": 0,
        "outcomes": {},
        "elapsed_s": 0,
        "findings": [],
    }
    with contextlib.suppress(OSError, ValueError, KeyError):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = all(found[key] == empty[key] for key in ("command", "commit", "seeds"))
        if same and found["done"] < seeds:
            return found
    return empty


def one(seed: Path, number: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(folder)
    print(attempt(write_case(seed, number, folder), number))
    return 0


def campaign(seed: Path, numbers: range) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(outcome, finding or None) of each case."""
    waiting = list(numbers)
    while waiting:
        done = 0
        for number, outcome, detail in _batch(seed, waiting[:BATCH]):
            done += 1
            finding = (
                {"seed": seed.name, "number": number, "outcome": outcome, "detail": detail}
                if detail
                else None
            )
            yield outcome, finding
        waiting = waiting[max(done, 1) :]


def _batch(seed: Path, numbers: list[int]) -> Iterator[tuple[int, str, str]]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(seed, numbers, writer)
        os._exit(0)
    os.close(writer)
    buffer, answered = b"", 0
    try:
        while True:
            ready, _, _ = select.select([reader], [], [], HANG_S)
            data = os.read(reader, 1 << 16) if ready else b""
            if not data:
                break
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                number, outcome, detail = json.loads(line)
                answered += 1
                yield number, outcome, detail
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9) if not ready else None
        _, status = os.waitpid(child, 0)
    if answered < len(numbers):
        how = "hang" if not ready else f"crash (wait status {status})"
        yield numbers[answered], how.split(" ")[0], how


def _work(seed: Path, numbers: list[int], writer: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm") as folder:
        for number in numbers:
            path = write_case(seed, number, Path(folder))
            detail = ""
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.monotonic()
            try:
                outcome = attempt(path, number)
            except BaseException as error:
                outcome = "escaped"
                frame = traceback.extract_tb(error.__traceback__)[-1]
                detail = f"{type(error).__name__}: {error} at {frame.filename}:{frame.lineno}"[:600]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if not detail and peak > before and peak * 1024 > PEAK_BYTES:
                outcome, detail = "allocation", f"{peak >> 10} MB"
            if not detail and time.monotonic() - began > HANG_S / 3:
                outcome, detail = "slow", f"{time.monotonic() - began:.1f} s"
            os.write(writer, json.dumps([number, outcome, detail]).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
