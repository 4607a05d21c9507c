"""Loading a model of 100 MB in a fresh process, against ONNX Runtime loading the native file.

    native    import onnxruntime; InferenceSession(file of torch.onnx.export)
    first     import coremlops; load(fp32 ML Program, precision="float32"), no cache
    second    the same with the cache that a load before it has filled
    half      first, for the fp16 ML Program of the same net (half the bytes) in typed mode
    half2     second, for that

Seconds are from the first line of the program to a loaded model, Python's own start excluded; memory is the
process's peak. Rounds are interleaved; the file system's cache is warm, and all modules are compiled, ours as
those of the installed packages: what pip does. Ratios are of the medians.

    python benchmarks/runtime/load.py [--rounds 15] [--work DIR] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from latency import make_models, version

RESULT = Path(__file__).with_suffix(".json")
NET = "resnet50"
_TAIL = """
taken = time.perf_counter() - started
with open("/proc/self/status") as file:  # getrusage's maximum is that of the process which started this one
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(taken, peak * 1024)
"""
_NATIVE = f"""
import time; started = time.perf_counter()
import sys, numpy, onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
{_TAIL}"""
_OURS = f"""
import time; started = time.perf_counter()
import sys, coremlops
model = coremlops.load(sys.argv[1], precision=sys.argv[2])
{_TAIL}"""
_FIRST, _SECOND, _MEMORY = 1.3, 1.1, 1.2
TARGETS = {
    "first": _FIRST,
    "second": _SECOND,
    "first memory": _MEMORY,
    "half": _FIRST,
    "half2": _SECOND,
    "half memory": _MEMORY,
}


def once(code: str, *arguments: str, cache: Path | None, compiled: Path) -> tuple[float, float]:
    """Seconds and bytes of one fresh process. `compiled`: the folder of compiled modules."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(compiled)
    if cache is None:
        environment["COREMLOPS_CACHE_BYTES"] = "0"
    else:
        environment["XDG_CACHE_HOME"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", type=Path, help="folder that keeps the models for the next time")
    parser.add_argument("--write", action="store_true", help="put the result into load.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_models(NET, folder)
        cache = Path(temporary) / "cache"
        wide, half = (str(folder / f"{NET}.{kind}.mlpackage") for kind in ("fp32", "fp16"))
        fill = [sys.executable, "-m", "coremlops.runtime.cache"]
        for path, precision in ((wide, "float32"), (half, "typed")):
            environment = dict(os.environ) | {"XDG_CACHE_HOME": str(cache)}
            subprocess.run([*fill, path, precision, "main"], check=True, env=environment)
        kinds: dict[str, tuple[Any, ...]] = {
            "native": (_NATIVE, str(folder / f"{NET}.onnx"), None),
            "self": (_NATIVE, str(folder / f"{NET}.onnx"), None),
            "first": (_OURS, wide, "float32", None),
            "second": (_OURS, wide, "float32", cache),
            "half": (_OURS, half, "typed", None),
            "half2": (_OURS, half, "typed", cache),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        order = random.Random(0)
        for number in range(args.rounds + 1):
            for name in order.sample(sorted(kinds), len(kinds)):
                *arguments, place = kinds[name]
                found = once(*arguments, cache=place, compiled=Path(temporary) / "compiled")
                if number:  # the first round warms the file system's cache, and compiles
                    taken[name].append(found)
    seconds = {name: statistics.median(value for value, _ in values) for name, values in taken.items()}
    memory = {name: statistics.median(value for _, value in values) for name, values in taken.items()}
    ratio = {name: round(value / seconds["native"], 3) for name, value in seconds.items()}
    ratio |= {f"{name} memory": round(value / memory["native"], 3) for name, value in memory.items()}
    result = {
        "command": f"python benchmarks/runtime/load.py --rounds {args.rounds} --write",
        "targets": TARGETS,
        "met": {name: ratio[name] <= limit for name, limit in TARGETS.items()},
        "ratio_to_native": ratio,
        "median_s": {name: round(value, 4) for name, value in seconds.items()},
        "peak_mb": {name: round(value / 1e6) for name, value in memory.items()},
        "net": NET,
        "machine": {"cpus": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 1)},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("coremlops", "numpy", "onnx", "onnxruntime")},
    }
    if args.write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(
        json.dumps({key: result[key] for key in ("met", "ratio_to_native", "median_s", "peak_mb")}, indent=1)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
