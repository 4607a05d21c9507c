"""Latency of Core ML files here, against the same nets elsewhere, in one process and on the same input.

    ours        coremltools' fp32 ML Program -> coremlops.load(precision="float32")
    typed       its fp16 ML Program -> coremlops.load(precision="typed"): every op rounds to fp16
    native      torch.onnx.export of the net, in ONNX Runtime
    self        a second session of `native`: what noise alone does
    openvino    the file of `native` in OpenVINO
    eager       the PyTorch module
    compiled    torch.compile of it (with --compile; it takes up to a minute to start)

A round runs each once, in random order; the sessions are made anew in each repeat, because where memory lies
matters. A ratio of two is the geometric mean over rounds of their times' ratio; its 95 % interval comes from
a bootstrap over the repeats. Sessions take tensors: preparing pictures is no part of it.

    PYTHONPATH=SITE python benchmarks/runtime/latency.py [NET ...] [--write] [--threads 1] [--repeats 6]

`--write` puts the nets that were measured into latency.json beside this file, and sums up all that it holds.
SITE: see proof.py; openvino is left out when it is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).with_suffix(".json")
VERSIONS = ("coremlops", "coremltools", "numpy", "onnx", "onnxruntime", "openvino", "torch")
# Each against what; the last two are what the design promises.
PAIRS = {
    "self": ("self", "native"),
    "ours": ("ours", "native"),
    "openvino": ("openvino", "native"),
    "eager": ("eager", "native"),
    "compiled": ("compiled", "native"),
    "typed_to_fp32": ("typed", "ours"),
}
Run = Callable[[], Any]
Taken = list[dict[str, list[float]]]


def make_models(name: str, folder: Path) -> tuple[Any, tuple[Any, ...]]:
    """The net, and `NAME.fp32.mlpackage`, `NAME.fp16.mlpackage`, `NAME.onnx`; what is there is kept."""
    import torch
    from nets import NETS
    from proof import convert
    from real_nets import NETS as REAL_NETS

    with contextlib.redirect_stdout(io.StringIO()):
        net, examples = {**NETS, **REAL_NETS}[name]()
    for kind in ("fp32", "fp16"):
        path = folder / f"{name}.{kind}.mlpackage"
        if not path.exists():
            convert(net, examples, half=kind == "fp16").save(str(path))
    if not (folder / f"{name}.onnx").exists():
        torch.onnx.export(
            net,
            examples,
            str(folder / f"{name}.onnx"),
            dynamo=False,
            opset_version=18,
            input_names=[f"x{index}" for index in range(len(examples))],
        )
    return net, examples


def native(path: Path, feeds: dict[str, Any], threads: int) -> Run:
    """A session on an ONNX file with the engine's defaults, as ours has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def ours(path: Path, feeds: dict[str, Any], precision: str, threads: int) -> Run:
    """The engine inside `coremlops.load`, on tensors."""
    import coremlops
    from coremlops.runtime.engines import open_session

    model = coremlops.load(path, precision=precision, threads=threads)
    session = open_session(model.lowered, threads=threads)
    return lambda: list(session.run(feeds).values())


def openvino(path: Path, feeds: dict[str, Any], threads: int) -> Run:
    """OpenVINO on the file of `native`, fp32."""
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = ov.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda: request.infer(feeds)


def open_runs(
    name: str, folder: Path, net: Any, examples: tuple[Any, ...], threads: int, compiled: Any
) -> dict[str, Run]:
    """One of each, new."""
    import torch

    feeds = {f"x{index}": example.numpy() for index, example in enumerate(examples)}

    def eager(module: Any) -> Run:
        def run() -> Any:
            with torch.inference_mode():
                return module(*examples)

        return run

    path = folder / f"{name}.onnx"
    runs = {
        "native": native(path, feeds, threads),
        "self": native(path, feeds, threads),
        "ours": ours(folder / f"{name}.fp32.mlpackage", feeds, "float32", threads),
        "typed": ours(folder / f"{name}.fp16.mlpackage", feeds, "typed", threads),
        "eager": eager(net),
    }
    if importlib.util.find_spec("openvino"):
        runs["openvino"] = openvino(path, feeds, threads)
    if compiled is not None:
        runs["compiled"] = eager(compiled)
    return runs


def measure(name: str, folder: Path, args: argparse.Namespace) -> Taken:
    """Seconds by repeat and name, one number a round."""
    import torch

    torch.set_num_threads(args.threads)
    with contextlib.redirect_stdout(sys.stderr):
        net, examples = make_models(name, folder)
    compiled = torch.compile(net) if args.compile else None
    order = random.Random(0)
    taken: Taken = []
    for _ in range(args.repeats):
        runs = open_runs(name, folder, net, examples, args.threads, compiled)
        for run in runs.values():
            for _ in range(3):
                run()
        times: dict[str, list[float]] = {key: [] for key in runs}
        end = time.perf_counter() + args.seconds
        while time.perf_counter() < end:
            for key in order.sample(sorted(runs), len(runs)):
                started = time.perf_counter()
                runs[key]()
                times[key].append(time.perf_counter() - started)
        taken.append(times)
    return taken


def logs(taken: Taken, one: str, other: str) -> list[float]:
    """The mean of log(one / other) of each repeat."""
    return [
        round(statistics.fmean(np.log(np.array(times[one]) / np.array(times[other])).tolist()), 5)
        for times in taken
    ]


def ratio(by_net: Iterable[list[float]]) -> dict[str, Any]:
    """Geometric mean over nets and repeats, with the 95 % interval of a bootstrap over each net's repeats."""
    nets = list(by_net)
    chance = random.Random(0)
    means = sorted(
        statistics.fmean(statistics.fmean(chance.choices(net, k=len(net))) for net in nets)
        for _ in range(4000)
    )
    centre = statistics.fmean(statistics.fmean(net) for net in nets)
    return {
        "geomean": round(float(np.exp(centre)), 3),
        "interval_95": [round(float(np.exp(means[index])), 3) for index in (100, 3899)],
    }


def report(name: str, taken: Taken, args: argparse.Namespace) -> dict[str, Any]:
    """One net's numbers."""
    pooled = {key: [value for times in taken for value in times[key]] for key in taken[0]}
    found = {key: logs(taken, *pair) for key, pair in PAIRS.items() if pair[0] in taken[0]}
    return {
        "median_ms": {key: round(statistics.median(values) * 1e3, 3) for key, values in pooled.items()},
        "minimum_ms": {key: round(min(values) * 1e3, 3) for key, values in pooled.items()},
        "ratio": {key: ratio([values]) for key, values in found.items()},
        "logs": found,
        "rounds": len(pooled["native"]),
        "threads": args.threads,
        "load_1min": round(os.getloadavg()[0], 1),
    }


def summary(nets: dict[str, Any]) -> dict[str, Any]:
    """Over all nets: what was promised, and whether it holds."""
    ratios = {
        key: ratio([net["logs"][key] for net in nets.values() if key in net["logs"]])
        for key in PAIRS
        if any(key in net["logs"] for net in nets.values())
    }
    return {
        "targets": {
            "ours / native": "the 95 % interval of the geomean includes or lies below 1.00",
            "typed / ours": "at most 1.5 geomean",
        },
        "met": {
            "ours / native": ratios["ours"]["interval_95"][0] <= 1.0,
            "typed / ours": ratios["typed_to_fp32"]["geomean"] <= 1.5,
        },
        "ratio": ratios,
    }


def table(result: dict[str, Any]) -> str:
    """The result as a table in Markdown: medians of `native`, and each other against it."""
    keys = [key for key in PAIRS if key in result["ratio"]]
    head = ["net", "ONNX Runtime, ms", *(" / ".join(PAIRS[key]) for key in keys)]
    rows = [head, ["---"] * len(head)]
    for name, net in [*result["nets"].items(), ("**geomean**", result)]:
        medians = net.get("median_ms", {})
        cells = [f"{net['ratio'][key]['geomean']:.2f}" if key in net["ratio"] else "" for key in keys]
        rows.append([name, f"{medians['native']:.2f}" if medians else "", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main() -> int:
    from nets import NETS
    from real_nets import NETS as REAL_NETS

    known = [*NETS, *REAL_NETS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--threads", type=int, default=1, help="threads in an op")
    parser.add_argument("--repeats", type=int, default=6, help="how often the sessions are made anew")
    parser.add_argument("--seconds", type=float, default=4, help="of rounds with one set of sessions")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--work", type=Path, help="folder that keeps the models for the next time")
    parser.add_argument("--table", action="store_true", help="print latency.json as a table, and do no more")
    parser.add_argument("--write", action="store_true", help="put the result into latency.json")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(RESULT.read_text())))
        return 0
    warnings.simplefilter("ignore")
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in args.nets or known:
            found[name] = report(name, measure(name, folder, args), args)
            print(name, json.dumps(found[name]["ratio"]), file=sys.stderr)
    held = json.loads(RESULT.read_text())["nets"] if args.write and RESULT.exists() else {}
    nets = dict(sorted({**held, **found}.items()))
    result = {
        "command": "PYTHONPATH=SITE python benchmarks/runtime/latency.py NET --write, for each net",
        **summary(nets),
        "nets": nets,
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
    }
    if args.write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("met", "ratio")}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
