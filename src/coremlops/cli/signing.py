"""`coremlops repo init|sign|rotate`: the keys of roles, and signatures from several machines."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.release.keeping import Keeper
    from coremlops.release.keys import KeyPlan
    from coremlops.release.review import Review


def configure(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Declare `sign` and `rotate`."""
    sign = commands.add_parser("sign", help="list the changes that wait for signatures, or sign one")
    sign.epilog = "example: coremlops repo sign 3f2a90c41d7e   (exit 3 while it wants further signatures)"
    sign.add_argument(
        "words",
        nargs="*",
        metavar="CHANGE",
        help="its id, or how it begins; without: list them. FOLDER of the repository may stand before it",
    )
    sign.add_argument("--drop", nargs="*", metavar="CHANGE", help="forget the change instead")
    rotate = commands.add_parser("rotate", help="give roles other keys; devices follow")
    rotate.epilog = "example: coremlops repo rotate timestamp snapshot   (the old keys' files are put aside)"
    rotate.add_argument(
        "words",
        nargs="+",
        metavar="KEY",
        help="root, targets, release, halt, staging, snapshot, timestamp. FOLDER of the repository may stand "
        "before them",
    )
    for option, text in (
        ("--replace", "replace this key (its id, or how it begins); needs no key that is lost, but root's"),
        ("--remove", "take this key away, without a new one"),
    ):
        rotate.add_argument(option, metavar="ID", action="append", default=[], help=text)
    rotate.add_argument("--add", action="store_true", help="one key more; none is replaced")
    rotate.add_argument("--threshold", type=int, metavar="N", help="so many must sign from now on")
    rotate.add_argument(
        "--key-uri", metavar="KEY=URI", action="append", default=[], help="the new key of this name is there"
    )
    return sign, rotate


def take_dropped(args: argparse.Namespace) -> None:
    """`sign FOLDER --drop CHANGE` names what `sign FOLDER CHANGE --drop` does."""
    args.words += getattr(args, "drop", None) or []


def init_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `init` takes of keys."""
    keys = parser.add_argument_group("keys: root, targets, release, halt, staging, snapshot, timestamp")
    for option, metavar, text in (
        ("--threshold", "KEY=N", "so many of these keys must sign (default: 1)"),
        ("--keys", "KEY=N", "make so many (default: as many as must sign)"),
        ("--key-uri", "KEY=URI", "one that a device or service has: hsm:2, awskms:ID, ...; docs/keys.md"),
    ):
        keys.add_argument(option, metavar=metavar, action="append", default=[], help=text)


def plan(args: argparse.Namespace) -> KeyPlan:
    """What `init`'s options say of keys."""
    from coremlops.errors import UsageError
    from coremlops.release.keys import KeyPlan

    numbers: dict[str, dict[str, int]] = {"threshold": {}, "keys": {}}
    for option, found in numbers.items():
        for each in getattr(args, option):
            name, _, number = each.partition("=")
            if not number.isdecimal() or len(number) > 3:
                raise UsageError(f"--{option}: such as release=2 expected, got {each!r:.60}")
            found[_check_name(name)] = int(number)
    return KeyPlan(numbers["threshold"], numbers["keys"], _uris(args))


def _check_name(name: str) -> str:
    """`name`, when a key is called so. Raises `UsageError`."""
    from coremlops.errors import UsageError
    from coremlops.release.keys import HOLDERS

    if name not in HOLDERS:
        raise UsageError(f"no key is called {name!r:.40}; they are {', '.join(HOLDERS)}")
    return name


def _uris(args: argparse.Namespace) -> dict[str, list[str]]:
    """What `--key-uri` says, by key."""
    from coremlops.errors import UsageError

    uris: dict[str, list[str]] = {}
    for each in args.key_uri:
        name, _, uri = each.partition("=")
        if not uri:
            raise UsageError(f"--key-uri: such as timestamp=hsm:2 expected, got {each!r:.60}")
        uris.setdefault(_check_name(name), []).append(uri)
    return uris


def rotate(args: argparse.Namespace, repository: Keeper) -> int:
    """Give roles other keys, and say where the old ones are."""
    from coremlops.errors import UsageError
    from coremlops.release.rotation import Rotation

    if not args.words:
        raise UsageError("which key? root, targets, release, halt, staging, snapshot or timestamp")
    for name in args.words:
        _check_name(name)
    uris = {name: found[0] for name, found in _uris(args).items()}
    names, replace, remove = tuple(args.words), tuple(args.replace), tuple(args.remove)
    done = repository.rotate(Rotation(names, replace, remove, args.add, args.threshold, uris))
    retired = [str(path) for path in done.retired]
    if args.json:
        print(json.dumps({"repository": str(repository.folder), "made": done.made, "retired": retired}))
        return 0
    for name, keyids in done.made.items():
        print(f"{name}: {', '.join(f'new key {keyid[:16]}' for keyid in keyids) or 'changed'}")
    for path in retired:
        print(f"put aside: {path}  (no device that is up to date trusts it; delete it)")
    return 0


def sign(args: argparse.Namespace, repository: Keeper) -> int:
    """List what waits, or sign one change; 3 while it waits for further signatures."""
    from coremlops.errors import UsageError

    if len(args.words) > 1:
        raise UsageError(f"one change expected, got {' '.join(args.words)!r:.80}")
    if not args.words:
        if args.drop is not None:
            raise UsageError("--drop: which change? `coremlops repo sign` lists them")
        waiting = repository.pending()
        if args.json:
            shown = [asdict(each) | {"at": moment(each.at)} for each in waiting]
            print(json.dumps({"repository": str(repository.folder), "pending": shown}))
            return 0
        for each in waiting:
            print(f"{each.id}  {each.what}, by {each.actor} at {moment(each.at)}")
            for line in each.differences:
                print(f"  {line}")
            print(f"  refused: {each.refused}" if each.refused else f"  waits for {_wanted(each)}")
        if not waiting:
            print("nothing waits for a signature")
        return 0
    if args.drop is not None:
        change, done = repository.drop(args.words[0]), "dropped"
    else:
        change, done = repository.sign(args.words[0]).id, "committed"
    if args.json:
        print(json.dumps({"repository": str(repository.folder), "change": change, "action": done}))
    else:
        print(f"{change}: {done}")
    return 0


def _wanted(change: Review) -> str:
    lacks = [f"{each.need - each.have} of {each.role} ({each.key} key)" for each in change.lacks]
    return ", ".join(lacks) or f"`coremlops repo sign {change.id}`"


def moment(time: datetime) -> str:
    """RFC 3339 in UTC, seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
