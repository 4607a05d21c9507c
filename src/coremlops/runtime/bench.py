"""How fast a model is here: load, first and steady latency, throughput, memory.

The measurement runs in a fresh process, so that load time and peak memory are the model's own:
`python -m coremlops.runtime.bench` reads a request from stdin and writes one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from coremlops.errors import ModelError, UsageError

if TYPE_CHECKING:
    from coremlops.model import Feature
    from coremlops.runtime.model import Model

MAX_SECONDS = 3600.0
_LEAST = 5  # predictions of a measurement, however slow they are


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is measured, and how. `seconds` is the time of each measurement; see `load` for the rest."""

    precision: str = "typed"
    engine: str = "auto"
    function_name: str | None = None
    threads: int | None = None
    batches: tuple[int, ...] = (1, 8)
    concurrency: tuple[int, ...] = (1, 2, 4)
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= MAX_SECONDS:
            raise UsageError(f"{self.seconds} seconds a measurement; expected more than 0, at most 3600")
        for what, values in (("batch", self.batches), ("concurrency", self.concurrency)):
            if any(not 1 <= value <= 1024 for value in values):
                raise UsageError(f"a {what} of {list(values)}; expected 1 to 1024")


def bench(path: str | os.PathLike[str], options: BenchOptions | None = None) -> dict[str, Any]:
    """Measure a model on made-up inputs of the declared kinds, in a fresh process.

    Keys: `load_s` (imports, parsing, lowering, the engine), `first_ms`, `steady_ms` ({"median", "p95",
    "count"}), `throughput` ([{"batch", "concurrency", "per_s"}]), `peak_memory_bytes`, and what was measured:
    `digest`, `precision`, `engine`, `threads`. Raises what `load` and `predict` raise.
    """
    request = json.dumps({"path": os.fspath(path), **asdict(options or BenchOptions())})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "coremlops.runtime.bench"],
        input=request,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["no word"]
        raise ModelError(f"the measurement ended with {done.returncode}: {lines[-1]}") from None
    if "error" in found:
        error = _ERRORS.get(found["exit_code"], ModelError)(found["error"])
        error.hint = found["hint"]
        raise error
    return found


_ERRORS: dict[int, type[ModelError | UsageError]] = {1: ModelError, 2: UsageError}


def measure(path: str, options: BenchOptions) -> dict[str, Any]:
    """What `bench` does, in this process."""
    started = time.perf_counter()
    from coremlops.runtime.model import load

    model = load(
        path,
        precision=options.precision,
        engine=options.engine,
        function_name=options.function_name,
        threads=options.threads,
    )
    load_s = time.perf_counter() - started
    inputs = made_up_inputs(model)
    first = _timed(lambda: model.predict(inputs))
    steady = _repeat(lambda: model.predict(inputs), options.seconds)
    return {
        "load_s": load_s,
        "first_ms": first * 1e3,
        "steady_ms": {
            "median": statistics.median(steady) * 1e3,
            "p95": sorted(steady)[int(0.95 * (len(steady) - 1))] * 1e3,
            "count": len(steady),
        },
        "throughput": [
            {
                "batch": batch,
                "concurrency": together,
                "per_s": _throughput(model, inputs, batch, together, options.seconds),
            }
            for batch in options.batches
            for together in options.concurrency
        ],
        "peak_memory_bytes": _peak_memory(),
        "digest": model.digest,
        "precision": model.precision,
        "engine": options.engine,
        "threads": options.threads,
    }


def made_up_inputs(model: Model) -> dict[str, Any]:
    """An input of the declared kind for each that is needed, from a fixed seed."""
    return {feature.name: _made_up(feature) for feature in model.description.inputs if not feature.optional}


def _made_up(feature: Feature) -> Any:
    import numpy as np

    from coremlops.model import ArrayFeature, ImageFeature
    from coremlops.model.description import DictionaryFeature, ScalarFeature

    chance = np.random.default_rng(0)
    if isinstance(feature, ImageFeature):
        grey = feature.colour.startswith("GRAY")
        shape = (feature.height, feature.width) if grey else (feature.height, feature.width, 3)
        return chance.integers(0, 256, shape, np.uint8)
    if isinstance(feature, ArrayFeature):
        if feature.dtype.startswith("float"):
            return chance.standard_normal(feature.shape).astype(feature.dtype)
        return chance.integers(0, 2, feature.shape).astype(feature.dtype)  # an index that any table has
    if isinstance(feature, ScalarFeature):
        return {"string": "a", "int64": 1}.get(feature.dtype, 1.0)
    if isinstance(feature, DictionaryFeature):
        return {"a" if feature.key == "string" else 1: 1.0}
    return ["a" if feature.element == "string" else 1]


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _repeat(call: Callable[[], object], seconds: float) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < _LEAST:
        taken.append(_timed(call))
    return taken


def _throughput(model: Model, inputs: Mapping[str, Any], batch: int, together: int, seconds: float) -> float:
    """Predictions a second when `together` threads each predict batches of `batch`."""
    examples = [inputs] * batch

    def work(end: float) -> int:
        count = 0
        while time.perf_counter() < end or not count:
            model.predict_batch(examples)
            count += batch
        return count

    started = time.perf_counter()
    with ThreadPoolExecutor(together) as pool:
        counts = list(pool.map(work, [started + seconds] * together))
    return sum(counts) / (time.perf_counter() - started)


def _peak_memory() -> int:
    import resource

    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status") as file:  # noqa: PTH123
        # getrusage's maximum is at least that of the process that started this one
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    """Read a request, write the result or the error."""
    from coremlops.errors import CoremlopsError

    request = json.loads(sys.stdin.read())
    path = request.pop("path")
    for name in ("batches", "concurrency"):
        request[name] = tuple(request[name])
    try:
        found = measure(path, BenchOptions(**request))
    except CoremlopsError as error:
        found = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
