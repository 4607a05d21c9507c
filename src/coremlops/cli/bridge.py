"""`coremlops bridge`: run a Python script in which coremltools predicts here."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.usage = "coremlops bridge [--precision MODE] [-m] SCRIPT ..."
    parser.add_argument(
        "--precision",
        choices=("typed", "float32", "float16"),
        default="typed",
        help="typed: as the file declares (default); float32: fast; float16: round everything",
    )
    parser.add_argument("-m", dest="module", action="store_true", help="SCRIPT is the name of a module")
    parser.add_argument("script", metavar="SCRIPT", help="a Python file that uses coremltools")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="the script's arguments")
    parser.epilog = (
        "On a Mac with Apple's framework the script runs as it always did. Exits as the script does.\n"
        "example: coremlops bridge evaluate.py --batch 8"
    )


def run(args: argparse.Namespace) -> int:
    """Run the script and return its exit code."""
    from coremlops.bridge import install
    from coremlops.bridge.script import run_script

    install(precision=args.precision)
    return run_script(args.script, args.arguments, module=args.module)
