"""`coremlops compress`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.cli import searching

if TYPE_CHECKING:
    from coremlops.compress import Compression, Recipe, Setting

WORST = 5  # weights that are shown one by one
FLAGS = ("bits", "group", "block", "sparsity", "pattern", "lut_bits", "mode")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example: coremlops compress faces.mlpackage -o small.mlpackage --method palettize --bits 4\n"
        "         coremlops compress faces.mlpackage -o small.mlpackage --recipe recipe.json\n"
        "         coremlops compress faces.mlpackage -o small.mlpackage --search --data photos/test\n"
        "         coremlops compress faces.mlpackage --list\n"
        "         coremlops compress my_nets:vit -o vit.pt2 --method gptq --bits 4 --calibration x.npz\n"
        "methods: palettize, quantize, prune look at weights alone; activations (of a Core ML model), gptq,\n"
        "sparse_gpt and sensitive_kmeans (of a PyTorch module, before it is converted) take --calibration.\n"
        "A setting can be written as one word, as recipes and reports do: --method palettize:4:group=16"
    )
    parser.add_argument("model", metavar="MODEL", help="an .mlpackage, an .mlmodel, or module:factory")
    parser.add_argument("-o", "--out", type=Path, metavar="OUT")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--method", metavar="METHOD", help="what happens to every weight")
    what.add_argument("--recipe", type=Path, metavar="FILE", help="what happens to which weight, as JSON")
    what.add_argument("--search", action="store_true", help="find a recipe by executing the model on --data")
    what.add_argument("--list", action="store_true", help="print the weights, and exit")
    setting = parser.add_argument_group("of --method")
    setting.add_argument("--bits", metavar="N", help="of an index or an integer: 1, 2, 3, 4, 6 or 8")
    setting.add_argument("--group", metavar="N", help="palettize: output channels that share a table")
    setting.add_argument(
        "--block", metavar="N", help="quantize: input channels that share a scale; -1 for all"
    )
    setting.add_argument("--sparsity", metavar="SHARE", help="of values that become zero, such as 0.5")
    setting.add_argument("--pattern", metavar="N:M", help="prune: N zeros in each M neighbours, such as 2:4")
    setting.add_argument("--lut-bits", metavar="N", help="palettize: 8 for a table of int8")
    setting.add_argument("--mode", help="palettize: kmeans, uniform, unique; quantize: symmetric, asymmetric")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="GLOB", help="leave these weights as they are"
    )
    parser.add_argument(
        "--target", metavar="SYSTEM", help="declare the result for a newer one, such as iOS18"
    )
    parser.add_argument(
        "--calibration", metavar="DATA", help="pictures, an .npz, a folder of them, or module:function"
    )
    parser.add_argument(
        "--samples", type=int, metavar="N", help="of --calibration or --data, the first so many"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of module:factory: a state_dict")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    searching.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Compress, and print what was made."""
    from coremlops.compress.recipe import CALIBRATED
    from coremlops.errors import UsageError

    if args.list:
        return _list(args)
    if args.out is None:
        raise UsageError("-o OUT expected: where the result goes")
    if Path(args.model).exists() and args.out.resolve() == Path(args.model).resolve():
        raise UsageError(f"-o {args.out}: another name than the model's own expected; it would be lost")
    if args.weights is not None and Path(args.model).suffix in (".mlpackage", ".mlmodel"):
        raise UsageError("--weights is of a module:factory, and a Core ML file has its own")
    if args.samples is not None and (args.samples < 1 or (args.calibration is None and args.data is None)):
        raise UsageError("--samples N is how many of --calibration or --data are taken: 1 or more")
    if args.search:
        return searching.run(args)
    searching.refuse_without(args)
    setting = _setting(args)
    if setting is not None and setting.method in CALIBRATED:
        return _calibrated(args, setting)
    if args.weights is not None:
        raise UsageError("--weights is of a module:factory, and a Core ML file was expected here")
    if args.calibration is not None:
        raise UsageError(f"--calibration means nothing to {setting or 'a recipe'}: it looks at weights alone")
    from coremlops.compress import compress

    made = compress(
        Path(args.model), args.out, _recipe(args, setting), target=args.target, progress=_progress()
    )
    if args.json:
        print(json.dumps({"path": str(made.path)} | made.to_json()))
    else:
        print("\n".join(_lines(made)))
    return 0


def _setting(args: argparse.Namespace) -> Setting | None:
    """What --method and the flags beside it say; None with a recipe."""
    from coremlops.compress import Setting
    from coremlops.errors import UsageError

    given = [f"{name}={getattr(args, name)}" for name in FLAGS if getattr(args, name) is not None]
    if args.method is not None:
        given.sort(key=lambda flag: flag.startswith("pattern="))  # it holds a colon, and comes last
        return Setting.parse(":".join([args.method, *given]))
    if args.recipe is None:
        raise UsageError(
            "--method, --recipe or --search expected",
            hint="--method palettize --bits 4 is a common first try",
        )
    if given:
        raise UsageError(f"{', '.join(given)}: of --method alone; a recipe says it itself")
    return None


def _recipe(args: argparse.Namespace, setting: Setting | None) -> Recipe:
    from fnmatch import fnmatchcase

    from coremlops.compress import Recipe, Setting, weights_of
    from coremlops.errors import UsageError

    recipe = Recipe(setting) if setting is not None else Recipe.read(args.recipe)
    if not args.keep:
        return recipe
    names = [weight.name for weight in weights_of(args.model)]
    kept = {name: Setting("none") for name in names if any(fnmatchcase(name, glob) for glob in args.keep)}
    if not kept:
        raise UsageError(f"--keep {' '.join(args.keep)}: no weight of {args.model} is called so")
    return Recipe(recipe.default, {**recipe.weights, **kept}, recipe.model)


def _list(args: argparse.Namespace) -> int:
    from coremlops.cli.describe import terminal_text
    from coremlops.compress import weights_of

    weights = weights_of(args.model)
    if args.json:
        rows = [
            {
                "name": weight.name,
                "op_type": weight.op_type,
                "shape": list(weight.shape),
                "dtype": weight.dtype,
                "bytes": weight.bytes,
            }
            for weight in weights
        ]
        print(json.dumps({"weights": rows}))
        return 0
    for weight in sorted(weights, key=lambda weight: -weight.bytes):
        shape = " x ".join(map(str, weight.shape))
        print(f"{weight.bytes:>12}  {weight.op_type:16} {shape:24} {terminal_text(weight.name)}")
    return 0


def _lines(made: Compression) -> list[str]:
    """What a person wants to know: sizes, the weights that lost most, those that were left, the digest."""
    from coremlops.cli.describe import size_text, terminal_text
    from coremlops.compress.compression import SMALLEST_WEIGHT

    share = made.bytes / made.bytes_before
    lines = [
        f"{made.path}: {size_text(made.bytes_before)} -> {size_text(made.bytes)} ({share:.0%}), {made.target}"
    ]
    changed = [entry for entry in made.weights if entry.setting.method != "none" and not entry.kept]
    left = [entry for entry in made.weights if entry.kept]
    rest = [entry for entry in made.weights if entry.setting.method == "none"]
    small = [entry for entry in rest if math.prod(entry.shape) <= SMALLEST_WEIGHT]
    said = {
        "do not fit": left,
        f"of {SMALLEST_WEIGHT} values or fewer": small,
        "compressed before": made.already,
    }
    words = [f"{len(changed)} compressed", *(f"{len(of)} {what}" for what, of in said.items() if of)]
    words += [f"{len(rest) - len(small)} left by the recipe"] if len(rest) > len(small) else []
    lines.append(f"weights: {', '.join(words)}")
    if made.already:
        lines.append(
            f"  as they were, compressed before: {', '.join(map(terminal_text, made.already[:WORST]))}"
        )
    for entry in sorted(changed, key=lambda entry: entry.snr_db)[:WORST]:
        lines.append(f"  {entry.snr_db:6.1f} dB  {entry.setting!s:26} {terminal_text(entry.name)}")
    if len(changed) > WORST:
        lines.append(f"  the others are better; all {len(changed)} with --json")
    lines += [f"  as it was: {terminal_text(entry.name)}: {entry.kept}" for entry in left[: 2 * WORST]]
    if len(left) > 2 * WORST:
        lines.append(f"  as they were: {len(left) - 2 * WORST} more")
    return [*lines, f"digest {made.digest}"]


def _calibrated(args: argparse.Namespace, setting: Setting) -> int:
    from coremlops.cli.describe import size_text
    from coremlops.errors import UsageError
    from coremlops.source import open_reference, open_samples

    if args.calibration is None:
        raise UsageError(f"{setting}: --calibration DATA expected: it looks at what flows through the model")
    if args.keep:
        raise UsageError(f"--keep means nothing to {setting}: it takes the whole model")
    result: dict[str, Any]
    if setting.method == "activations":
        from coremlops.compress.activations import quantize_activations
        from coremlops.model import ModelAsset

        samples = open_samples(args.calibration, ModelAsset.open(args.model).description.inputs)
        samples = samples.head(args.samples) if args.samples else samples
        made = quantize_activations(Path(args.model), args.out, setting, samples, target=args.target)
        result = made.to_json()
        lines = [
            f"{made.path}: {size_text(made.bytes_before)} -> {size_text(made.bytes)}, {made.target}",
            f"{made.operations} activations of 8 bits, measured on {made.samples} samples: {made.data}",
            f"digest {made.digest}",
        ]
    else:
        from coremlops.compress.calibrated import compress_module

        if args.target is not None:
            raise UsageError(f"--target means nothing to {setting}: `coremlops convert` takes it")
        reference = open_reference(args.model, weights=args.weights)
        samples = open_samples(args.calibration, reference.inputs)
        samples = samples.head(args.samples) if args.samples else samples
        done = compress_module(reference, args.out, setting, samples)
        result = done.to_json()
        lines = [
            f"{done.path}: {len(done.layers)} layers, outputs {done.snr_db:.1f} dB on {done.samples} samples",
            "convert it with --target iOS18, and the weights are compressed in the model",
        ]
    print(json.dumps({"path": str(args.out)} | result) if args.json else "\n".join(lines))
    return 0


def _progress() -> Callable[[int, int, str], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int, name: str) -> None:
        from coremlops.cli.describe import terminal_text

        end = "\n" if done == of else ""
        print(
            f"\r\x1b[Kcompressing {done}/{of} {terminal_text(name)[:60]}",
            end=end,
            file=sys.stderr,
            flush=True,
        )

    return show
