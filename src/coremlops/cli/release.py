"""`coremlops release`: what devices get."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.collection import Index
    from coremlops.pipeline.releases import Receipt
    from coremlops.pipeline.shipping import Shipping

CHANNELS = ("staging", "release")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "example: coremlops release promote"
    commands = parser.add_subparsers(dest="release_command", metavar="COMMAND", required=True)
    publish = commands.add_parser("publish", help="make a model a channel's current version")
    publish.epilog = "example: coremlops release publish faces.mlpackage --golden golden --report report.json"
    publish.add_argument("model", type=Path, help="model.mlpackage or model.mlmodel")
    publish.add_argument(
        "--golden", type=Path, required=True, help="pictures that may be published, or a golden set"
    )
    publish.add_argument(
        "--report",
        type=Path,
        help="report.json, which must be ok and about this model; the release channel needs one",
    )
    publish.add_argument("--channel", choices=CHANNELS, default="staging", help="default: staging")
    publish.add_argument(
        "--again",
        action="store_true",
        help="return to the newest version after a rollback, if it is this one",
    )
    promote = commands.add_parser("promote", help="give staging's version to release; needs the release key")
    promote.epilog = "example: coremlops release promote --version 3"
    promote.add_argument("--version", type=int, metavar="N", help="default: staging's current one")
    rollback = commands.add_parser("rollback", help="make an older version current again")
    rollback.epilog = "example: coremlops release rollback --channel release"
    rollback.add_argument("--channel", choices=CHANNELS, default="release", help="default: release")
    rollback.add_argument("--to", type=int, metavar="N", help="default: the version before the current one")
    listing = commands.add_parser("list", help="the versions of both channels")
    listing.epilog = "example: coremlops release list --json"
    for sub in (publish, promote, rollback, listing):
        sub.add_argument("--repository", type=Path, help="default: the project's, or ./repository")
        sub.add_argument("--collection", help="default: the project's, or the repository's only one")
        sub.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    from coremlops.pipeline import releases

    where = _where(args)
    if args.release_command == "list":
        return _list(args, releases.listing(where), where)
    if args.release_command == "publish":
        receipt = releases.publish(
            args.model, args.golden, where, channel=args.channel, report=args.report, again=args.again
        )
    elif args.release_command == "promote":
        receipt = releases.promote(where, args.version)
    else:
        receipt = releases.rollback(where, args.channel, args.to)
    return _report(args, receipt)


def _where(args: argparse.Namespace) -> Shipping:
    from coremlops.pipeline.shipping import shipping

    where = shipping(Path.cwd())
    if args.repository is not None:
        where = replace(where, repository=args.repository, collection=None)
    return where if args.collection is None else replace(where, collection=args.collection)


def _report(args: argparse.Namespace, receipt: Receipt) -> int:
    if receipt.warning:
        print(f"warning: {receipt.warning}", file=sys.stderr)
    if args.json:
        print(json.dumps(receipt.to_json()))
        return 0
    channel = f"{receipt.collection}/{receipt.channel}"
    if receipt.current != receipt.version:
        print(f"version {receipt.version} ({receipt.model[:12]}) was published already")
        print(f"{channel} was rolled back: devices get version {receipt.current}")
        print(f"to return to version {receipt.version}: publish it with --again, or promote --version")
        return 0
    verb = "is now" if receipt.action == "done" else "is already"
    print(f"{channel} {verb} at version {receipt.version} ({receipt.model[:12]})")
    return 0


def _list(args: argparse.Namespace, indexes: tuple[Index, ...], where: Shipping) -> int:
    if args.json:
        channels = {
            index.channel: {
                "current": None if index.current is None else index.current.to_json(),
                "rolled_back": index.rolled_back,
                "history": [entry.to_json() for entry in index.history],
            }
            for index in indexes
        }
        listed = {
            "repository": str(where.repository),
            "collection": indexes[0].collection,
            "channels": channels,
        }
        print(json.dumps(listed))
        return 0
    versions = {entry.version: entry for index in indexes for entry in index.history}
    if not versions:
        print(f"{indexes[0].collection}: no version yet")
        return 0
    print(f"{'version':>7}  {'model':12}  {'published':20}  channels")
    for number, entry in sorted(versions.items(), reverse=True):
        marks = [
            f"{index.channel} (rolled back)" if index.rolled_back else index.channel
            for index in indexes
            if index.current is not None and index.current.version == number
        ]
        published = str(entry.to_json()["published"])
        print(f"{number:7}  {entry.model[:12]}  {published:20}  {', '.join(marks)}".rstrip())
    return 0
