"""`coremlops convert`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.convert import Conversion, ConvertOptions

_IMAGE = ("width", "height", "color", "scale", "bias", "image_option")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from coremlops.convert.options import CAPTURES, KINDS, PRECISIONS, TARGETS

    parser.epilog = (
        "example: coremlops convert train/model.pt2 -o faces.mlpackage --target iOS16\n"
        "example: coremlops convert net.py:make --weights best.pt -o net.mlpackage \\\n"
        '    --input "x=image:RGB,224x224,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225" \\\n'
        '    --output "probabilities=tensor,post=softmax" --labels labels.txt\n'
        'example: coremlops convert ids.pt -o ids.mlpackage --shape "ids=1,128|1,256" --data samples.npz'
    )
    parser.add_argument(
        "source",
        nargs="?",
        help="model.pt2, model.pt, a folder of one, module:factory, .onnx, or trees",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="OUT")
    parser.add_argument("--kind", choices=KINDS, help="what is written (default mlpackage)")
    parser.add_argument("--target", choices=tuple(TARGETS), help="the oldest system (default iOS16)")
    parser.add_argument("--precision", choices=PRECISIONS, help="what it computes in (default float16)")
    parser.add_argument(
        "--options", type=Path, metavar="FILE", help="YAML or JSON with these options; flags win over it"
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="of a module:factory: a state_dict, or .safetensors"
    )
    parser.add_argument("--capture", choices=CAPTURES, help="how a module becomes a program (default trace)")
    parser.add_argument("--author", help="written into the model")
    parser.add_argument("--description", help="written into the model")
    parser.add_argument("--version", help="written into the model")
    parser.add_argument("--license", help="written into the model")
    parser.add_argument("--metadata", action="append", default=[], metavar="KEY=TEXT", help="a free key")
    _configure_interface(parser)
    _configure_card(parser)
    proof = parser.add_argument_group("the proof")
    proof.add_argument(
        "--data",
        metavar="DATA",
        help="what to prove it on: pictures, .npz, module:function; else random values",
    )
    proof.add_argument("--snr-db", type=float, help="least signal-to-noise ratio (default 40)")
    proof.add_argument("--no-verify", action="store_true", help="convert without proving")
    parser.add_argument("--list-repairs", action="store_true", help="print the known traps, and exit")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _configure_interface(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inputs, outputs and ops (docs/convert.md)")
    group.add_argument(
        "--input", action="append", default=[], metavar="NAME=TYPE:...", help="such as x=image:RGB,224x224"
    )
    group.add_argument(
        "--output", action="append", default=[], metavar="NAME=TYPE:...", help="such as p=tensor,post=softmax"
    )
    group.add_argument(
        "--shape", action="append", default=[], metavar="NAME=1,3,224..512,224..512", help="or 1,128|1,256"
    )
    group.add_argument(
        "--keep-float32",
        action="append",
        default=[],
        metavar="PATTERN",
        help="softmax_*, type:softmax, @FILE",
    )
    group.add_argument(
        "--state", action="append", default=[], metavar="PATTERN", help="buffers that are kept"
    )
    group.add_argument("--label-name", metavar="NAME", help="what a classifier's answer is called")
    group.add_argument("--no-repair", action="append", default=[], metavar="NAME", help="docs/repairs.md")
    group.add_argument(
        "--function", action="append", default=[], metavar="NAME=SOURCE", help="one of several (iOS18)"
    )
    group.add_argument("--default-function", metavar="NAME", help="the first, unless said")


def _configure_card(parser: argparse.ArgumentParser) -> None:
    card = parser.add_argument_group("instead of the model.json beside the source, or over what it says")
    card.add_argument(
        "--labels", metavar="A,B,...", help="class labels in the outputs' order, or a file of them"
    )
    card.add_argument("--width", type=int, help="pixels")
    card.add_argument("--height", type=int, help="pixels")
    card.add_argument("--color", choices=("RGB", "L"))
    card.add_argument("--scale", type=float, help="the net takes pixels * scale + bias")
    card.add_argument("--bias", metavar="R,G,B", help="one number a channel (write --bias=-1,-1,-1)")
    card.add_argument("--image-option", choices=("scaleFit", "centerCrop", "scaleFill"))


def run(args: argparse.Namespace) -> int:
    """Convert, prove, and print what was made. Raises GateError for a model that is not proven."""
    from coremlops.convert import convert
    from coremlops.errors import UsageError
    from coremlops.files import ended_cleanly
    from coremlops.improve.prove import ProveOptions, convert_and_prove

    if args.list_repairs:
        return _list_repairs(args)
    if args.out is None:
        raise UsageError("-o OUT expected: where the model goes")
    if args.no_verify and (args.data is not None or args.snr_db is not None):
        asked = "--data" if args.data is not None else "--snr-db"
        raise UsageError(f"{asked} is of the proof, and --no-verify says that there is none")
    options = _options(args)
    with ended_cleanly():
        if args.no_verify:
            made, proof = convert(args.source, args.out, options), None
        else:
            gate = {} if args.snr_db is None else {"snr_db": args.snr_db}
            wanted = ProveOptions(data=args.data, progress=_progress(), **gate)
            made, proof = convert_and_prove(args.source, args.out, options, wanted)
    for line in made.warnings:
        print(f"coremltools: {line}", file=sys.stderr)
    if args.json:
        proven = {"proof": proof.report} if proof is not None else {}
        print(json.dumps({"path": str(made.path)} | made.to_json() | proven, allow_nan=False))
    else:
        print("\n".join(_lines(made)))
        print(proof.summary() if proof is not None else "not proven: --no-verify")
    return 0


def _list_repairs(args: argparse.Namespace) -> int:
    from coremlops.convert.repairs import RULES

    if args.json:
        rules = [
            {
                "name": rule.name,
                "stage": rule.stage,
                "why": rule.why,
                "does": rule.does,
                "refuses": rule.refuses,
            }
            for rule in RULES
        ]
        print(json.dumps({"repairs": rules}))
        return 0
    for rule in RULES:
        print(f"{rule.name} ({rule.stage})\n  trap: {rule.why}")
        print(f"  {'refused' if rule.refuses else 'mended'}: {rule.does}")
    return 0


def _lines(made: Conversion) -> list[str]:
    lines = [
        f"{made.path}: {made.bytes / 1e6:.1f} MB, {made.target}, {made.precision}",
        f"digest {made.digest}",
    ]
    if made.labels:
        lines.append("labels " + ", ".join(made.labels[:8]) + (", ..." if len(made.labels) > 8 else ""))
    for repair in made.repairs:
        where = ", ".join(repair.where[:4]) + (", ..." if len(repair.where) > 4 else "")
        lines.append(f"repaired {repair.name}: {repair.does} ({where})")
    return lines


def _options(args: argparse.Namespace) -> ConvertOptions:
    """The file of options with the flags over it, and the environment's provenance."""
    from coremlops.convert import Provenance
    from coremlops.convert.options_file import parse_options, read_options
    from coremlops.errors import UsageError

    if args.source is None and not args.function and args.options is None:
        raise UsageError("a source expected, such as model.pt2, or --function NAME=SOURCE")
    value: dict[str, Any] = read_options(args.options) if args.options is not None else {}
    words = ("target", "precision", "kind", "capture", "weights", "label_name", "default_function")
    for key in (*words, "author", "description", "version", "license"):
        if getattr(args, key) is not None:
            value[key] = getattr(args, key)
    for key, given in (("states", args.state), ("without_repairs", args.no_repair)):
        if given:
            value[key] = given
    if args.keep_float32:
        file = args.keep_float32[0].removeprefix("@")
        value["keep_float32"] = file if args.keep_float32[0] != file else args.keep_float32
    if args.labels is not None:
        plain = [label.strip() for label in args.labels.split(",")]
        value["labels"] = args.labels if Path(args.labels).is_file() else plain
    for key, given in (("metadata", args.metadata), ("functions", args.function)):
        if given:
            value[key] = {**value.get(key, {}), **dict(_pair(item, key) for item in given)}
    if args.output:
        value["outputs"] = args.output
    value["inputs"] = _inputs(args, value.get("inputs", []))
    return parse_options(
        {key: item for key, item in value.items() if item != []}, provenance=Provenance.from_environment()
    )


def _inputs(args: argparse.Namespace, before: Any) -> list[Any]:
    """Those of the file, then --input over those of the same name, then --shape, then the image's flags."""
    from coremlops.convert.interface import Input, line_of
    from coremlops.errors import UsageError

    if not isinstance(before, list):
        raise UsageError(f"{args.options}: inputs: a list expected")
    found = {Input.of(item).name: line_of(item) for item in (*before, *args.input)}
    for text in args.shape:
        name, shape = _pair(text, "shape")
        found[name] = found.get(name, {"name": name, "source": name}) | {"shape": shape}
    flags = {key: getattr(args, key) for key in _IMAGE if getattr(args, key) is not None}
    if flags:
        image = _image(args, flags)
        found.setdefault(image["name"], image)
    return list(found.values())


def _image(args: argparse.Namespace, flags: dict[str, Any]) -> dict[str, Any]:
    """What `model.json` says of the picture with the flags over it."""
    from coremlops.errors import InputError, UsageError
    from coremlops.source import open_reference
    from coremlops.source.card import CHANNELS, parse_image_input

    if "bias" in flags:
        flags["bias"] = [_number(part) for part in args.bias.split(",")]
    color = flags.get("color", "RGB")
    card = None if args.source is None else open_reference(args.source).card
    before: dict[str, Any] = {
        "name": "image",
        "color": color,
        "scale": 1 / 255,
        "bias": [0.0] * CHANNELS[color],
        "image_option": "scaleFit",
    }
    try:
        image = parse_image_input((card.input.to_json() if card else before) | flags, "flags")
    except InputError as error:  # said on the command line, so a mistake in using it
        raise UsageError(error.message, hint=error.hint) from error
    return {
        "name": image.name,
        "type": "image",
        "color": "RGB" if image.color == "RGB" else "GRAYSCALE",
        "shape": [1, image.channels, image.height, image.width],
        "scale": image.scale,
        "bias": list(image.bias),
        "image_option": image.image_option,
    }


def _pair(text: str, what: str) -> tuple[str, str]:
    from coremlops.errors import UsageError

    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--{what.rstrip('s')}: NAME=VALUE expected, got {text!r}")
    return key.strip(), value.strip()


def _number(text: str) -> float:
    from coremlops.errors import UsageError

    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--bias: numbers with commas between expected, got {text!r}") from None


def _progress() -> Any:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        print(f"\rproving {done}/{of}", end="\n" if done == of else "", file=sys.stderr, flush=True)

    return show
