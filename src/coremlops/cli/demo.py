"""`coremlops demo`: the whole story on real photos, in a minute."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from coremlops.project.demo import Demo


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="where to make the project (default: ./coremlops-demo)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="also draw the result as a picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "example: coremlops demo --dir /tmp/faces"


def run(args: argparse.Namespace) -> int:
    """Tell the story, then show what it came to."""
    from coremlops.cli import main
    from coremlops.project import demo

    folder = (args.dir or _free_folder()).absolute()
    told = demo.tell(folder, lambda line: print(line, file=sys.stderr, flush=True), main)
    if args.json:
        print(json.dumps(told.to_dict()))
    if args.picture or not args.json:
        from rich.console import Console

        console = Console(stderr=args.json, record=bool(args.picture), width=100 if args.picture else None)
        show(told, console)
        if args.picture:
            drawn = console.export_svg(title="coremlops demo")
            # Rich names fonts on a public server; a reader's own will do.
            args.picture.write_text(re.sub(r"@font-face \{.*?\}\n", "", drawn, flags=re.S), encoding="utf-8")
    return 0 if told.ok else 1


def show(told: Demo, console: Console) -> None:
    """Print the table of what was done and found, and where to look next."""
    from rich.table import Table

    facts, model = told.facts, told.facts["model"]
    table = Table(title="ten photos of two people, on a device", title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in told.steps.items())
    table.add_row("steps, seconds", steps)
    table.add_row("accuracy", f"{facts['accuracy']:.1%} of the photos that were never trained on")
    table.add_row(
        "Core ML = PyTorch",
        f"same answer on {facts['parity']['top1_agreement']:.0%}, SNR {facts['parity']['snr_db']:.1f} dB"
        f" ({facts['parity']['proof']})",
    )
    table.add_row("model", f"{model['bytes'] / 1e6:.1f} MB, sha256 {model['digest'][:16]}")
    for title, key in (
        ("staging device", "device"),
        ("release device", "release_device"),
        ("a third person", "newcomer"),
        ("after rollback", "rollback"),
    ):
        fact = facts[key]
        before = ""
        if key == "release_device":
            early = fact["version_before_promote"]
            before = f"{'nothing' if early is None else f'VERSION {early}'} before it was promoted, then "
        verdict = "right" if fact["predicted"] == fact["expected"] else "WRONG"
        said = f"says {fact['predicted']}, it is {fact['expected']}: {verdict}"
        table.add_row(title, f"{before}version {fact['version']} {said}")
    rerun = facts["rerun"]
    table.add_row("nothing changed", f"{rerun['cached_steps']} steps known in {rerun['noop_s']:.2f} s")
    table.add_row("all of it", f"{told.elapsed_s:.0f} s")
    for line in told.failed:
        table.add_row("NOT as told", line)
    console.print(table)
    console.print(f"next: cd {told.folder}", highlight=False, soft_wrap=True)
    if shutil.which("coremlops") is None:
        activate = Path(sys.executable).with_name("activate")
        console.print(f"      source {activate}", highlight=False, soft_wrap=True)
    for command, why in (
        ("coremlops ui", "the runs, in MLflow"),
        ("coremlops why train", "what changed since it last ran"),
        ("coremlops run -P epochs=20", "train again, and see what follows"),
        ("coremlops release list", "versions and channels"),
    ):
        console.print(f"  {command:28} {why}", highlight=False)


def _free_folder() -> Path:
    for number in itertools.count(1):
        folder = Path("coremlops-demo" if number == 1 else f"coremlops-demo-{number}")
        if not folder.exists():
            return folder
    raise AssertionError("unreachable")
