"""`coremlops repo add|status|renew|verify|gc`: all collections of a repository together."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from coremlops.cli.saying import saying
from coremlops.cli.signing import moment
from coremlops.errors import UsageError

if TYPE_CHECKING:
    from coremlops.collection import Index
    from coremlops.release import RoleStatus
    from coremlops.release.keeping import Keeper


def add(args: argparse.Namespace, repository: Keeper) -> int:
    """Add a collection, and say which there are."""
    repository.add(args.collection)
    names = repository.collections
    if args.json:
        said = {"repository": str(repository.folder), "collection": args.collection, "collections": names}
        print(json.dumps(said))
        return 0
    print(f"{repository.folder}: collection {args.collection}, channels staging and release")
    print(f"collections: {', '.join(names)}")
    return 0


def status(args: argparse.Namespace, repository: Keeper) -> int:
    roles = repository.status()
    indexes = repository.indexes()
    due = [each for each in roles if each.due or each.expired]
    waiting = repository.waiting()
    if args.json:
        collections: dict[str, dict[str, dict[str, int | None]]] = {}
        for index in indexes:
            collections.setdefault(index.collection, {})[index.channel] = {
                each.name: None if each.current is None else each.current.version for each in index.lines
            }
        said = {
            "ok": not due,
            "repository": str(repository.folder),
            "id": repository.keys.repository_id,
            "collections": collections,
            "roles": [asdict(each) | {"expires": _time(each)} for each in roles],
            "pending": waiting,
        }
        print(json.dumps(said))
    else:
        print(f"{repository.folder}: id {repository.keys.repository_id}")
        wide = max(16, *(len(each.role) for each in roles))
        for index in indexes:
            print(f"  {index.collection:{wide}} {index.channel:9} {_offered(index)}")
        print(f"  {'role':{wide}} {'version':>7}  {'expires':20}  key")
        for each in roles:
            key = each.key if each.key_present else f"{each.key} (not here)"
            if len(each.keys) > 1:
                here = sum(each.keys.values())
                key = f"{each.key} ({each.threshold} of {len(each.keys)} sign, {here} here)"
            mark = "  EXPIRED" if each.expired else "  due" if each.due else ""
            print(f"  {each.role:{wide}} {each.version:7}  {_time(each):20}  {key}{mark}")
        for change in waiting:
            print(f"  {change} waits for signatures: coremlops repo sign")
    for each in due:
        _warn(each)
    return 3 if due else 0


def _offered(index: Index) -> str:
    """What a channel offers, each model by its name where it is not the collection's."""
    said = []
    for line in index.lines:
        what = "no version" if line.current is None else f"version {line.current.version}"
        name = "" if index.names == (index.collection,) else f"{line.name} "
        said.append(f"{name}{what}{' (rolled back)' if line.rolled_back else ''}")
    return ", ".join(said) or "no version"


def renew(args: argparse.Namespace, repository: Keeper) -> int:
    """Sign anew, and warn of what is due still: its key is elsewhere."""
    renewed = replace(repository, clock_checked=args.clock_checked).renew(args.role)
    due = [each for each in repository.status() if each.due or each.expired]
    if args.json:
        left = [each.role for each in due]
        print(json.dumps({"repository": str(repository.folder), "renewed": list(renewed), "due": left}))
    elif renewed:
        print(f"signed anew: {', '.join(renewed)}")
    else:
        print("nothing is due" if not due else "nothing that is due has its key here")
    for each in due:
        _warn(each)
    return 0


def verify(args: argparse.Namespace, repository: Keeper) -> int:
    from coremlops.release.upkeep import audit

    with saying() as progress:
        found = audit(repository, progress)
    if args.json:
        print(json.dumps({"ok": not found.problems, "repository": str(repository.folder)} | asdict(found)))
    else:
        size = _size(found.bytes)
        print(f"{found.roles} roles, {found.targets} targets of {size}, {found.versions} versions")
        print(f"{found.lines} changes in the log, each signed")
        if found.unneeded:
            print(f"{found.unneeded} files are named by nothing that is current: coremlops repo gc")
        if not found.problems:
            print("all of it is as it was signed")
    for problem in found.problems:
        print(f"wrong: {problem}", file=sys.stderr)
    return 3 if found.problems else 0


def collect(args: argparse.Namespace, repository: Keeper) -> int:
    from coremlops.release.forgetting import forget
    from coremlops.release.upkeep import collect

    grace = _time_span(args.grace)
    forgotten = () if args.keep is None else forget(repository, args.keep, dry_run=args.dry_run)
    removed = collect(repository, grace=grace, dry_run=args.dry_run)
    if args.json:
        said = {"files": removed.files, "bytes": removed.bytes, "removed": not args.dry_run}
        print(json.dumps(said | {"forgotten": [asdict(each) for each in forgotten]}))
        return 0
    for each in forgotten:
        verb = "would forget" if args.dry_run else "forgot"
        print(f"{verb} {each.collection}/{each.name}: versions {', '.join(map(str, each.versions))}")
    for name in removed.files if args.dry_run else ():
        print(name)
    done = "would go" if args.dry_run else "removed"
    print(f"{done}: {len(removed.files)} files, {_size(removed.bytes)}")
    if forgotten:
        print(f"files of forgotten versions go with a later gc, after {args.grace}")
    return 0


def _time_span(text: str) -> timedelta:
    """`12h`, `30d`. Raises `UsageError`."""
    match = re.fullmatch(r"([0-9]{1,5})([hd])", text)
    if match is None:
        raise UsageError(f"--grace: a time such as 12h or 30d expected, got {text!r:.40}")
    return timedelta(**{{"h": "hours", "d": "days"}[match[2]]: int(match[1])})


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _warn(role: RoleStatus) -> None:
    what = "expired, and devices take nothing new from it" if role.expired else "is due to be signed anew"
    if role.role == "root":
        how = "run `coremlops repo renew --role root` where the root key is"
    elif role.threshold > 1 and not role.key_present:
        where = f"where a {role.key} key is; {role.threshold} must sign"
        how = f"run `coremlops repo renew --role {role.role}` {where}"
    elif role.key_present:
        how = "run `coremlops repo renew`"
    else:
        how = f"run `coremlops repo renew` where the {role.key} key is"
    print(f"warning: {role.role} {what}; {how}", file=sys.stderr)


def _time(role: RoleStatus) -> str:
    return moment(role.expires)
