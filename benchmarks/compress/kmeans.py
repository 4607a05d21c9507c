"""Grouped k-means of a network's weights: ours against coremltools' own, a weight after the other in one run.

    coremltools   palettize_weights.grouped_channelwise_compress, num_kmeans_workers=1
    ours          coremlops.compress.encode with one thread, and with two
    optimum       kmeans1d's exact clustering of the same groups, where it is installed: not timed as a peer

All take a weight as it is in the file and give tables and indices. A weight whose channels the group does not
divide is left out by both. Errors are sums over all weights, after rounding to the weight's dtype. At the end
the whole model goes through `coremlops compress` once.

    PYTHONPATH=SITE python benchmarks/compress/kmeans.py MODEL.mlpackage ... [--bits 4] [--group 16] [--write]

MODEL: a network that `benchmarks/runtime/latency.py` converted (vit_s16, minilm); `--write` puts the models
that were measured into kmeans.json. `cpu_seconds` are of all threads together. SITE: a folder with kmeans1d
(pip install --target SITE kmeans1d). coremltools would take that library for fp16 groups of 10,000 values; it
is hidden from it, as `pip install coremltools` does not bring it, and version 0.5.0, which pip brings, has no
weights, without which coremltools cannot call it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import logging
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.compress import Recipe, Setting, compress, encode, read_weight, weights_of
from coremlops.compress.compression import SMALLEST_WEIGHT
from coremlops.model import ModelAsset

RESULT = Path(__file__).with_suffix(".json")
VERSIONS = ("coremlops", "coremltools", "numpy", "scikit-learn", "kmeans1d")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--only", type=int, help="the first so many weights, for a trial")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    exact = importlib.util.find_spec("kmeans1d") is not None
    theirs = coremltools_clusters()
    results = {}
    for model in args.models:
        results[model.name.split(".")[0]] = measure(model, args, theirs, exact)
    found = {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": {name: version(name) for name in VERSIONS},
        "bits": args.bits,
        "group": args.group,
        "models": results,
    }
    print(json.dumps(found, indent=1))
    if args.write:
        before = json.loads(RESULT.read_text("utf-8"))["models"] if RESULT.is_file() else {}
        RESULT.write_text(json.dumps(found | {"models": before | results}, indent=1) + "\n", "utf-8")
    return 0


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def coremltools_clusters() -> Any:
    """Their function, with scikit-learn behind it."""
    logging.disable(logging.ERROR)
    from coremltools.models.neural_network import quantization_utils
    from coremltools.optimize.coreml._quantization_passes import palettize_weights

    quantization_utils._HAS_KMEANS1D = False
    return palettize_weights


def measure(model: Path, args: argparse.Namespace, theirs: Any, exact: bool) -> dict[str, Any]:
    asset = ModelAsset.open(model)
    setting = Setting("palettize", bits=args.bits, group=args.group)
    seconds = dict.fromkeys(("coremltools", "ours_1_thread", "ours_2_threads"), 0.0)
    processor = dict(seconds)
    error = dict.fromkeys(("coremltools", "ours"), 0.0)
    best = 0.0
    groups = met = values = 0
    worst = 1.0

    def took(name: str, start: tuple[float, float]) -> None:
        seconds[name] += time.perf_counter() - start[0]
        processor[name] += time.process_time() - start[1]

    for weight in weights_of(asset)[: args.only]:
        if weight.size <= SMALLEST_WEIGHT or weight.output_axis is None:
            continue
        axis = weight.output_axis
        if weight.shape[axis] % args.group:
            continue
        array = np.array(read_weight(asset, weight))
        values += array.size
        start = time.perf_counter(), time.process_time()
        lut = theirs.grouped_channelwise_compress(
            array, "KMEANS", args.bits, axis, args.group, num_kmeans_workers=1
        )
        took("coremltools", start)
        start = time.perf_counter(), time.process_time()
        encode(array, setting, weight, workers=1)
        took("ours_1_thread", start)
        start = time.perf_counter(), time.process_time()
        ours = encode(array, setting, weight, workers=2)
        took("ours_2_threads", start)
        wide = array.astype(np.float64)
        error["coremltools"] += float(np.square(theirs.decompress(lut).astype(np.float64) - wide).sum())
        error["ours"] += ours.error
        if exact:
            import kmeans1d

            lines = np.moveaxis(wide, axis, 0).reshape(-1, array.size // (weight.shape[axis] // args.group))
            dense = np.moveaxis(ours.dense.astype(np.float64), axis, 0).reshape(lines.shape)
            for line, decoded in zip(lines, dense, strict=True):
                done = kmeans1d.cluster(line, 1 << args.bits)
                centres = np.array(done.centroids).astype(array.dtype).astype(np.float64)
                optimum = float((np.abs(line[:, None] - centres[None]).min(axis=1) ** 2).sum())
                excess = float(np.square(line - decoded).sum()) / optimum
                best, groups, met, worst = (
                    best + optimum,
                    groups + 1,
                    met + (excess < 1 + 1e-6),
                    max(worst, excess),
                )
        print(f"{weight.name}: {seconds}", file=sys.stderr)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        made = compress(model, Path(folder) / "out.mlpackage", Recipe(setting))
    whole = time.perf_counter() - start
    return {
        "values": values,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "cpu_seconds": {name: round(value, 2) for name, value in processor.items()},
        "seconds_of_coremlops_compress": round(whole, 2),
        "bytes": [made.bytes_before, made.bytes],
        "times_as_fast": {
            "1_thread": round(seconds["coremltools"] / seconds["ours_1_thread"], 1),
            "2_threads": round(seconds["coremltools"] / seconds["ours_2_threads"], 1),
        },
        "mean_squared_error": {name: value / values for name, value in error.items()},
        "error_to_coremltools": error["ours"] / error["coremltools"],
        **(
            {
                "error_to_optimum": error["ours"] / best,
                "groups": groups,
                "groups_at_the_optimum": met,
                "worst_group_to_optimum": worst,
            }
            if exact
            else {}
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
