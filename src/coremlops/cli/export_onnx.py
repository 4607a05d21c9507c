"""`coremlops export-onnx`: a Core ML model for other engines."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from coremlops.cli.describe import size_text, terminal_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", help="an .mlpackage folder or an .mlmodel file")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the ONNX file to write")
    parser.add_argument(
        "--precision",
        choices=("typed", "float32", "float16"),
        default="float32",
        help="float32: a plain fp32 graph, for any engine (default); typed, float16: values are rounded as "
        "`coremlops predict` rounds them, which costs time",
    )
    parser.add_argument("--function", metavar="NAME", help="of a model with several functions")
    parser.add_argument(
        "--external-data",
        action="store_true",
        help="weights in FILE.data beside it, even below 2 GB",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "example: coremlops export-onnx faces.mlpackage -o faces.onnx"


def run(args: argparse.Namespace) -> int:
    """Write the file and say what it takes and gives."""
    from coremlops.runtime import load
    from coremlops.runtime.export import export_onnx

    model = load(args.model, precision=args.precision, function_name=args.function)
    found = export_onnx(model, args.output, external_data=args.external_data)
    if args.json:
        print(json.dumps(asdict(found) | {"files": [str(file) for file in found.files]}))
        return 0
    for file in found.files:
        print(f"{file}  {size_text(file.stat().st_size)}")
    for what, entries in (("input", found.inputs), ("output", found.outputs)):
        for name, (dtype, *axes) in entries.items():
            print(terminal_text(f"{what:<7} {name}  {dtype} [{', '.join(map(str, axes))}]"))
    return 0
