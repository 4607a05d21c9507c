"""`coremlops tuf-client`: the client protocol of TUF's conformance suite; no person needs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from coremlops.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options: they stand before the command."""
    parser.epilog = (
        "example: coremlops tuf-client --metadata-dir D init root.json\n"
        "         coremlops tuf-client --metadata-dir D --metadata-url URL refresh\n"
        "         coremlops tuf-client --metadata-dir D --metadata-url URL --target-name PATH"
        " --target-base-url URL --target-dir DIR download"
    )
    parser.add_argument("--metadata-dir", type=Path, required=True, help="what is trusted")
    parser.add_argument("--metadata-url", help="where the repository's metadata is")
    parser.add_argument(
        "--target-name", nargs="+", action="extend", metavar="PATH", help="targets, fetched in this order"
    )
    parser.add_argument("--target-base-url", help="where the repository's targets are")
    parser.add_argument("--target-dir", type=Path, help="where targets go")
    parser.add_argument("command", choices=("init", "refresh", "download"))
    parser.add_argument("root", nargs="?", type=Path, help="init: the root to trust")


def run(args: argparse.Namespace) -> int:
    """Do the command; 0, or 1 when what came cannot be trusted or did not come."""
    needed = {
        "init": ("root",),
        "refresh": ("metadata_url",),
        "download": ("metadata_url", "target_name", "target_base_url", "target_dir"),
    }[args.command]
    missing = [name for name in needed if getattr(args, name) is None]
    if missing:
        names = ", ".join(
            name.upper() if name == "root" else f"--{name.replace('_', '-')}" for name in missing
        )
        raise UsageError(f"{args.command} needs {names}")
    from coremlops.client import plain

    if args.command == "init":
        plain.init(args.metadata_dir, args.root)
    elif args.command == "refresh":
        plain.refresh(args.metadata_dir, args.metadata_url)
    else:
        plain.download(
            args.metadata_dir, args.metadata_url, args.target_name, args.target_base_url, args.target_dir
        )
    return 0
