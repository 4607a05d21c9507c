"""How wide the tolerances of golden sets are on real nets: false alarms, and the share of faults that fail.

For each package (trained nets, converted by coremltools 9.0; benchmarks/runtime makes them) a set from
four inputs: drawn pictures with words where a net takes [1, 3, height, width], else seeded normal values.
Alarms: the same model in other hands, which must pass: every numeric mode, OpenVINO, and each input moved
by one unit in the last place of fp16. Stress: each weight of the file moved so, up or down, in five
draws: no silicon does that, and it says how much room there is. Faults: in a copy of the weights, at six
places spread over the net: an output channel zeroed, two exchanged, the tensor 1.25 times as large, the
highest bit of an exponent set in one weight, a bias moved by its own spread; and inputs of the wrong
preparation: channels (or the last axis) reversed, twice as large, moved by a half. A fault that moves no
output by 1 % of its size is none.

    python benchmarks/golden/tolerances.py MODELS --write

MODELS is a folder of `*.fp16.mlpackage`; it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["COREMLOPS_CACHE_BYTES"] = "0"  # every load is of another file

import numpy as np

from coremlops import golden
from coremlops.golden.checking import Judgement
from coremlops.model import ModelAsset
from coremlops.source import open_samples

RESULT = Path(__file__).with_suffix(".json")
WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
DTYPES = {1: "<f2", 2: "<f4"}
PLACES, DRAWS, EXAMPLES = 6, 5, 4
LEAST_EFFECT = 0.01
Array = np.ndarray[Any, Any]


class Weights:
    """The float tensors in a copy of a package's weight.bin, to be changed and put back."""

    def __init__(self, package: Path, folder: Path) -> None:
        self.path = Path(shutil.copytree(package, folder / "changed.mlpackage"))
        self.original = (package / WEIGHTS).read_bytes()
        program = ModelAsset.open(package).spec.mlProgram.functions["main"]
        operations = next(iter(program.block_specializations.values())).operations
        blobs = [
            (item.attributes["val"].blobFileValue.offset, item.attributes["val"].type.tensorType)
            for item in operations
            if item.type == "const" and item.attributes["val"].WhichOneof("value") == "blobFileValue"
        ]
        self.tensors = []
        for offset, type_ in blobs:
            _, code, size, start = struct.unpack_from("<IIQQ", self.original, offset)
            shape = [dimension.constant.size for dimension in type_.dimensions]
            if code in DTYPES:
                self.tensors.append((start, size, DTYPES[code], shape))

    def matrices(self) -> list[int]:
        """Places of tensors with two axes and more, evenly spread over the net."""
        found = [i for i, (*_, shape) in enumerate(self.tensors) if len(shape) > 1 and shape[0] > 1]
        return [found[i * len(found) // PLACES] for i in range(min(PLACES, len(found)))]

    def biases(self) -> list[int]:
        found = [i for i, (*_, shape) in enumerate(self.tensors) if len(shape) == 1]
        return [found[i * len(found) // PLACES] for i in range(min(PLACES, len(found)))]

    def write(self, places: list[int], change: Callable[[Array], Array]) -> Path:
        data = bytearray(self.original)
        for place in places:
            start, size, dtype, shape = self.tensors[place]
            array = np.frombuffer(self.original, dtype, size // int(dtype[-1]), start).reshape(shape)
            data[start : start + size] = change(array.copy()).astype(dtype).tobytes()
        (self.path / WEIGHTS).unlink()
        (self.path / WEIGHTS).write_bytes(data)
        return self.path


def picture(seed: int, height: int, width: int) -> Array:
    """Shapes and words on a ground of a few colours, [1, 3, height, width] from about -2 to 2."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    image = Image.fromarray(ground).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, size = (int(value) for value in rng.integers(0, height, 3))
        draw.ellipse((x, y, x + size, y + size), tuple(map(int, rng.integers(0, 256, 3))))
    for line in range(3):
        place = (int(rng.integers(width // 4)), int(rng.integers(height)))
        draw.text(place, f"golden {line}", fill=(0, 0, 0), font_size=max(8, height // 8))
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
    return (pixels - 127.5) / 64


def judged(path: Path, made: Path, promised: golden.GoldenSet, **options: Any) -> Judgement:
    """A model, as if the set were its own."""
    own = replace(promised, model=ModelAsset.open(path).digest)
    (made / "golden.json").write_bytes(own.to_bytes())
    return golden.check(path, made, **options)


def nudged(rng: np.random.Generator) -> Callable[[Array], Array]:
    """Each weight one unit in the last place of fp16 up or down."""

    def change(array: Array) -> Array:
        half = array.astype(np.float16)
        way = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(np.float16)
        step = np.nextafter(half, way).astype(np.float64) - half.astype(np.float64)
        return array.astype(np.float64) + step

    return change


def faults(weights: Weights, rng: np.random.Generator) -> Iterator[tuple[str, Path]]:
    def zeroed(array: Array) -> Array:
        array[rng.integers(len(array))] = 0
        return array

    def exchanged(array: Array) -> Array:
        a, b = rng.choice(len(array), 2, replace=False)
        array[[a, b]] = array[[b, a]]
        return array

    def flipped(array: Array) -> Array:
        flat = array.reshape(-1)
        bits = flat.view(f"<u{array.itemsize}")
        bits[rng.integers(len(flat))] |= 1 << (8 * array.itemsize - 2)
        return array

    for place in weights.matrices():
        yield "channel zeroed", weights.write([place], zeroed)
        yield "channels exchanged", weights.write([place], exchanged)
        yield "tensor scaled", weights.write([place], lambda array: array * 1.25)
        yield "exponent bit", weights.write([place], flipped)
    for place in weights.biases():
        yield "bias moved", weights.write([place], lambda array: array + np.std(array))


PREPARATIONS: dict[str, Callable[[Array], Array]] = {
    "input reversed": lambda x: x[:, ::-1] if x.ndim == 4 else x[..., ::-1],
    "input doubled": lambda x: x * 2,
    "input moved": lambda x: x + 0.5,
}


def prepared(made: Path, promised: golden.GoldenSet, how: Callable[[Array], Array]) -> golden.GoldenSet:
    """The set with other float inputs and the same promises."""
    from coremlops.digest import sha256_bytes

    digests = {}
    for calls in promised.examples:
        for call in calls:
            for given in call.inputs.values():
                data = (made / given.file).read_bytes()
                if given.dtype == "float32" and given.file not in digests:
                    array = np.frombuffer(data, "<f4").reshape(given.shape)
                    data = how(array).astype("<f4").tobytes()
                    (made / given.file).write_bytes(data)
                    digests[given.file] = sha256_bytes(data)
    examples = tuple(
        tuple(
            replace(call, inputs={
                name: replace(given, sha256=digests.get(given.file, given.sha256))
                for name, given in call.inputs.items()
            })
            for call in calls
        )
        for calls in promised.examples
    )  # fmt: skip
    return replace(promised, examples=examples)


def headroom(found: Judgement) -> float:
    """How much of its tolerance the nearest output takes: above 1, it fails."""
    return max((each.error / each.tolerance for each in found.outputs if each.tolerance), default=0.0)


def measure(package: Path, folder: Path) -> dict[str, Any]:
    """One net."""
    rng = np.random.default_rng(0)
    (folder / "inputs").mkdir()
    samples = open_samples(None, ModelAsset.open(package).description.inputs, count=EXAMPLES)
    for number, sample in enumerate(samples):
        drawn = {
            name: picture(number, *value.shape[2:])
            if value.shape[:2] == (1, 3) and value.ndim == 4
            else value
            for name, value in sample.inputs.items()
        }
        np.savez(folder / "inputs" / f"{number}.npz", **drawn)
    made = golden.make(package, folder / "inputs", folder / "set", max_bytes=16 << 20)
    promised, small = made.golden, golden.make(package, folder / "inputs", folder / "small")
    limits = [
        {"tolerance": each.tolerance, "spread": each.spread, "measure": each.measure}
        for each in promised.limits
    ]
    alarms: dict[str, Any] = {}
    for name, options in (
        ("typed", {}),
        ("float32", {"precision": "float32"}),
        ("float16", {"precision": "float16"}),
        ("openvino", {"engine": "openvino", "precision": "float32", "time_limit_s": None}),
    ):
        found = judged(package, folder / "set", promised, **options)
        alarms[name] = {"ok": found.ok, "of_tolerance": round(headroom(found), 3)}
    copy = Path(shutil.copytree(folder / "set", folder / "nudged"))
    found = judged(package, copy, prepared(copy, promised, nudged(rng)))
    alarms["inputs nudged"] = {"ok": found.ok, "of_tolerance": round(headroom(found), 3)}
    weights = Weights(package, folder)
    everything = list(range(len(weights.tensors)))
    stress = [
        round(headroom(judged(weights.write(everything, nudged(rng)), folder / "set", promised)), 3)
        for _ in range(DRAWS)
    ]
    hurt: dict[str, list[float]] = {}

    def count(fault: str, found: Judgement) -> None:
        if max(each.error for each in found.outputs) >= LEAST_EFFECT:
            hurt.setdefault(fault, []).append(float(f"{headroom(found):.3g}"))

    for fault, path in faults(weights, rng):
        count(fault, judged(path, folder / "set", promised))
    for fault, how in PREPARATIONS.items():
        copy = Path(shutil.copytree(folder / "set", folder / fault.replace(" ", "-")))
        count(fault, judged(package, copy, prepared(copy, promised, how)))
    return {
        "limits": limits,
        "bytes": small.bytes,
        "examples": len(small.golden.examples),
        "alarms": alarms,
        "stress": stress,
        "faults": hurt,
    }


def summary(nets: dict[str, Any]) -> dict[str, Any]:
    alarms = [each for net in nets.values() for each in net["alarms"].values()]
    stress = [each for net in nets.values() for each in net["stress"]]
    by_fault: dict[str, list[float]] = {}
    for net in nets.values():
        for fault, ratios in net["faults"].items():
            by_fault.setdefault(fault, []).extend(ratios)
    every = [ratio for ratios in by_fault.values() for ratio in ratios]
    tolerances = [each["tolerance"] for net in nets.values() for each in net["limits"]]
    return {
        "false_alarms": [sum(not each["ok"] for each in alarms), len(alarms)],
        "worst_of_tolerance": max(each["of_tolerance"] for each in alarms),
        "stress_passed": [sum(each <= 1 for each in stress), len(stress)],
        "faults_caught": [sum(ratio > 1 for ratio in every), len(every)],
        "caught_and_stress_passed_if_tolerances_were": {
            f"{times} times as wide": [
                sum(ratio > times for ratio in every),
                sum(each <= times for each in stress),
            ]
            for times in (0.33, 0.67, 1.67, 3, 6)
        },
        "by_fault": {
            fault: [sum(ratio > 1 for ratio in ratios), len(ratios)] for fault, ratios in by_fault.items()
        },
        "median_tolerance": float(np.median(tolerances)),
        "largest_tolerance": max(tolerances),
        "least_and_most_bytes": [
            min(net["bytes"] for net in nets.values()),
            max(net["bytes"] for net in nets.values()),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    done: dict[str, Any] = json.loads(RESULT.read_text()).get("nets", {}) if RESULT.exists() else {}
    for package in sorted(args.models.glob("*.fp16.mlpackage")):
        name = package.name.removesuffix(".mlpackage")
        if name in done:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done[name] = measure(package, Path(folder))
        near = max(each["of_tolerance"] for each in done[name]["alarms"].values())
        caught = [ratio > 1 for ratios in done[name]["faults"].values() for ratio in ratios]
        print(f"{name}: {near} of the tolerance, {sum(caught)} of {len(caught)} faults", file=sys.stderr)
        if args.write:
            import onnxruntime
            import openvino

            result = {
                "command": "python benchmarks/golden/tolerances.py MODELS --write",
                "versions": {
                    "python": platform.python_version(),
                    "onnxruntime": onnxruntime.__version__,
                    "openvino": openvino.__version__,
                    "processor": platform.processor() or platform.machine(),
                },
                "summary": summary(done),
                "nets": done,
            }
            RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(summary(done), indent=1))


if __name__ == "__main__":
    main()
