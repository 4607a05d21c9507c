"""`coremlops convert`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.source import Card


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from coremlops.convert.options import PRECISIONS, TARGETS

    parser.epilog = "example: coremlops convert train/model.pt2 -o faces.mlpackage --target iOS16"
    parser.add_argument("source", type=Path, help="model.pt2, a TorchScript model.pt, or the folder of one")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.mlpackage")
    parser.add_argument("--target", choices=tuple(TARGETS), default="iOS16", help="the oldest system")
    parser.add_argument("--precision", choices=PRECISIONS, default="float16", help="what it computes in")
    parser.add_argument(
        "--keep-float32",
        action="append",
        default=[],
        metavar="OP",
        help="an op that computes in float32 all the same: a pattern of names, or type:softmax; may be "
        "repeated (verify --fix finds which)",
    )
    parser.add_argument("--author", default="", help="written into the model")
    parser.add_argument("--description", default="", help="written into the model")
    card = parser.add_argument_group("instead of the model.json beside the source, or over what it says")
    card.add_argument("--labels", metavar="A,B,...", help="class labels, in the order of the outputs")
    card.add_argument("--width", type=int, help="pixels")
    card.add_argument("--height", type=int, help="pixels")
    card.add_argument("--color", choices=("RGB", "L"))
    card.add_argument("--scale", type=float, help="the net takes pixels * scale + bias")
    card.add_argument("--bias", metavar="R,G,B", help="one number a channel (write --bias=-1,-1,-1)")
    card.add_argument("--image-option", choices=("scaleFit", "centerCrop", "scaleFill"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Convert, and print what was made."""
    from coremlops.convert import ConvertOptions, Provenance, convert
    from coremlops.source import open_source

    options = ConvertOptions(
        target=args.target,
        precision=args.precision,
        card=_card(args, open_source(args.source).card),
        provenance=Provenance.from_environment(),
        author=args.author,
        description=args.description,
        keep_float32=tuple(args.keep_float32),
    )
    made = convert(args.source, args.out, options)
    for line in made.warnings:
        print(f"coremltools: {line}", file=sys.stderr)
    if args.json:
        print(json.dumps({"path": str(made.path)} | made.to_json()))
    else:
        print(f"{made.path}: {made.bytes / 1e6:.1f} MB, {made.target}, {made.precision}")
        print(f"digest {made.digest}")
        shown = ", ".join(made.labels[:8]) + (", ..." if len(made.labels) > 8 else "")
        print(f"labels {shown}")
    return 0


def _card(args: argparse.Namespace, found: Card | None) -> Card | None:
    """What `model.json` says with the flags over it; None when there are neither."""
    from coremlops.errors import InputError, UsageError
    from coremlops.source.card import CHANNELS, Card, parse_image_input, parse_labels

    flags = {
        "width": args.width,
        "height": args.height,
        "color": args.color,
        "scale": args.scale,
        "bias": None if args.bias is None else [_number(part) for part in args.bias.split(",")],
        "image_option": args.image_option,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    if not given and args.labels is None:
        return found
    color = given.get("color", "RGB")
    before = {
        "name": "image",
        "color": color,
        "scale": 1 / 255,
        "bias": [0.0] * CHANNELS[color],
        "image_option": "scaleFit",
    }
    if found is not None:
        before = found.input.to_json()
    labels: object = list(found.labels) if found is not None else None
    if args.labels is not None:
        labels = [label.strip() for label in args.labels.split(",")]
    try:
        return Card(parse_image_input(before | given, "flags"), parse_labels(labels, "--labels"))
    except InputError as error:  # said on the command line, so a mistake in using it
        raise UsageError(error.message, hint=error.hint) from error


def _number(text: str) -> float:
    from coremlops.errors import UsageError

    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--bias: numbers with commas between expected, got {text!r}") from None
