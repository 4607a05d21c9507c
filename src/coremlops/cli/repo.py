"""`coremlops repo`: make and inspect the signed repository."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.pipeline.shipping import Shipping
    from coremlops.release import Repository, RoleStatus
    from coremlops.release.keys import KeyPlan
    from coremlops.release.review import Review


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "example: coremlops repo init --collection faces"
    commands = parser.add_subparsers(dest="repo_command", metavar="COMMAND", required=True)
    init = commands.add_parser("init", help="a new repository with new keys")
    init.epilog = "example: coremlops repo init repository --collection faces"
    init.add_argument("--collection", help="what its models are called (default: the project's, or faces)")
    status = commands.add_parser("status", help="roles, versions, ends, keys; exit 3 when something is due")
    status.epilog = "example: coremlops repo status --json"
    renew = commands.add_parser("renew", help="sign anew what is due and whose key is here")
    renew.epilog = "example: coremlops repo renew   (every day, by a scheduler)"
    sign = commands.add_parser("sign", help="list the changes that wait for signatures, or sign one")
    sign.epilog = "example: coremlops repo sign 3f2a90c41d7e   (exit 3 while it wants further signatures)"
    sign.add_argument("change", nargs="?", help="its id, or how it begins; without: list them")
    sign.add_argument("--drop", action="store_true", help="forget the change instead")
    _key_options(init)
    for sub in (init, status, renew):
        sub.add_argument("folder", type=Path, nargs="?", help="default: the project's, or ./repository")
    sign.add_argument(
        "--repository", type=Path, dest="folder", help="default: the project's, or ./repository"
    )
    for sub in (init, status, renew, sign):
        sub.add_argument("--json", action="store_true", help="print one JSON object")


def _key_options(parser: argparse.ArgumentParser) -> None:
    keys = parser.add_argument_group("keys: root, targets, release, halt, staging, snapshot, timestamp")
    for option, metavar, text in (
        ("--threshold", "KEY=N", "so many of these keys must sign (default: 1)"),
        ("--keys", "KEY=N", "make so many (default: as many as must sign)"),
        ("--key-uri", "KEY=URI", "one that a device or service has: hsm:2, awskms:ID, ...; docs/keys.md"),
    ):
        keys.add_argument(option, metavar=metavar, action="append", default=[], help=text)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 3 when `status` finds a role that is due or has expired."""
    from coremlops.release import Repository

    if args.repo_command == "init":
        folder = args.folder or _project().repository
        name = args.collection or _project().collection or "faces"
        return _init(args, Repository.init(folder, name, plan=_plan(args)))
    repository = Repository.open(args.folder or _project().repository)
    if args.repo_command == "renew":
        renewed = repository.renew()
        if args.json:
            print(json.dumps({"repository": str(repository.folder), "renewed": list(renewed)}))
        else:
            print(f"signed anew: {', '.join(renewed)}" if renewed else "nothing is due")
        return 0
    if args.repo_command == "sign":
        return _sign(args, repository)
    return _status(args, repository)


def _plan(args: argparse.Namespace) -> KeyPlan:
    """What `init`'s options say of keys."""
    from coremlops.errors import UsageError
    from coremlops.release.keys import KeyPlan

    numbers: dict[str, dict[str, int]] = {"threshold": {}, "keys": {}}
    for option, found in numbers.items():
        for each in getattr(args, option):
            name, _, number = each.partition("=")
            if not number.isdecimal() or len(number) > 3:
                raise UsageError(f"--{option}: such as release=2 expected, got {each!r:.60}")
            found[name] = int(number)
    uris: dict[str, list[str]] = {}
    for each in args.key_uri:
        name, _, uri = each.partition("=")
        if not uri:
            raise UsageError(f"--key-uri: such as timestamp=hsm:2 expected, got {each!r:.60}")
        uris.setdefault(name, []).append(uri)
    return KeyPlan(numbers["threshold"], numbers["keys"], uris)


def _sign(args: argparse.Namespace, repository: Repository) -> int:
    """List what waits, or sign one change; 3 while it waits for further signatures."""
    if args.change is None:
        waiting = repository.pending()
        if args.json:
            shown = [asdict(each) | {"at": _moment(each.at)} for each in waiting]
            print(json.dumps({"repository": str(repository.folder), "pending": shown}))
            return 0
        for each in waiting:
            print(f"{each.id}  {each.what}, by {each.actor} at {_moment(each.at)}")
            for line in each.differences:
                print(f"  {line}")
            print(f"  refused: {each.refused}" if each.refused else f"  waits for {_wanted(each)}")
        if not waiting:
            print("nothing waits for a signature")
        return 0
    if args.drop:
        repository.drop(args.change)
        done = "dropped"
    else:
        repository.sign(args.change)
        done = "committed"
    if args.json:
        print(json.dumps({"repository": str(repository.folder), "change": args.change, "action": done}))
    else:
        print(f"{args.change}: {done}")
    return 0


def _wanted(change: Review) -> str:
    lacks = [f"{each.need - each.have} of {each.role} ({each.key} key)" for each in change.lacks]
    return ", ".join(lacks) or f"`coremlops repo sign {change.id}`"


def _moment(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _project() -> Shipping:
    """Where the project that this folder belongs to ships to."""
    from coremlops.pipeline.shipping import shipping

    return shipping(Path.cwd())


def _init(args: argparse.Namespace, repository: Repository) -> int:
    keys = repository.keys
    if args.json:
        made = {
            "repository": str(repository.folder),
            "id": keys.repository_id,
            "collection": repository.collection,
            "keys": str(keys.folder),
            "root": str(repository.root_file),
        }
        print(json.dumps(made))
        return 0
    print(f"{repository.folder}: collection {repository.collection}, channels staging and release")
    print(f"keys:  {keys.folder}")
    print(f"  root/     take these two offline: they are needed again in a year ({keys.folder / 'root'})")
    print("  release/  give this one to whoever decides about releases")
    print("  online/   stay on the machine that publishes")
    print(f"root:  {repository.root_file}  (goes into the app: devices trust what it names)")
    return 0


def _status(args: argparse.Namespace, repository: Repository) -> int:
    roles = repository.status()
    indexes = repository.list()
    due = [each for each in roles if each.due or each.expired]
    if args.json:
        print(
            json.dumps(
                {
                    "ok": not due,
                    "repository": str(repository.folder),
                    "id": repository.keys.repository_id,
                    "collection": repository.collection,
                    "channels": {
                        index.channel: None if index.current is None else index.current.version
                        for index in indexes
                    },
                    "roles": [asdict(each) | {"expires": _time(each)} for each in roles],
                }
            )
        )
    else:
        print(f"{repository.folder}: collection {repository.collection}, id {repository.keys.repository_id}")
        for index in indexes:
            version = "no version" if index.current is None else f"version {index.current.version}"
            print(f"  {index.channel:9} {version}{' (rolled back)' if index.rolled_back else ''}")
        print(f"  {'role':16} {'version':>7}  {'expires':20}  key")
        for each in roles:
            key = each.key if each.key_present else f"{each.key} (not here)"
            mark = "  EXPIRED" if each.expired else "  due" if each.due else ""
            print(f"  {each.role:16} {each.version:7}  {_time(each):20}  {key}{mark}")
    for each in due:
        _warn(each)
    return 3 if due else 0


def _warn(role: RoleStatus) -> None:
    what = "expired, and devices take nothing new from it" if role.expired else "is due to be signed anew"
    if role.role == "root":
        how = "it is signed anew by hand, with the root key"
    elif role.key_present:
        how = "run `coremlops repo renew`"
    else:
        how = f"run `coremlops repo renew` where the {role.key} key is"
    print(f"warning: {role.role} {what}; {how}", file=sys.stderr)


def _time(role: RoleStatus) -> str:
    return _moment(role.expires)
