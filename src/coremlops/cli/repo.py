"""`coremlops repo`: make and inspect the signed repository."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.cli import signing
from coremlops.cli.saying import saying
from coremlops.errors import UsageError

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from coremlops.pipeline.shipping import Shipping
    from coremlops.release import Repository, RoleStatus


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
    renew.add_argument(
        "--role", action="append", default=[], help="sign this one anew, due or not; root only by name"
    )
    renew.add_argument("--clock-checked", action="store_true", help="the clock is right, however it looks")
    signing.init_options(init)
    sign, rotate = signing.configure(commands)
    serving = commands.add_parser(
        "serve",
        help="serve it over HTTP, with the headers that caches need",
        description="TLS is left to a proxy in front. No request is logged.",
    )
    serving.epilog = "example: coremlops repo serve repository --port 8080"
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serving.add_argument(
        "--port", type=int, default=8000, help="port to listen on; 0: any that is free (default: %(default)s)"
    )
    serving.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    serving.add_argument(
        "--intake",
        type=Path,
        metavar="FILE",
        help="take what devices report, below /intake/, into this file; see docs/reports.md",
    )
    verify = commands.add_parser(
        "verify",
        help="audit all of it: signatures, every file, the log; exit 3 when something is wrong",
    )
    verify.epilog = "example: coremlops repo verify --json"
    gc = commands.add_parser("gc", help="remove files that no live metadata names")
    gc.epilog = "example: coremlops repo gc --grace 30d --dry-run"
    gc.add_argument(
        "--grace",
        default="30d",
        metavar="TIME",
        help="keep what was current within that time: 12h, 30d (default: %(default)s)",
    )
    gc.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    for sub in (init, status, renew, serving, verify, gc):
        sub.add_argument("folder", type=Path, nargs="?", help="default: the project's, or ./repository")
    for sub in (init, status, renew, sign, rotate, serving, verify, gc):
        sub.add_argument("--repository", type=Path, metavar="FOLDER", help="the same, as an option")
    for sub in (init, status, renew, sign, rotate, verify, gc):
        sub.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 3 when `status` finds a role that is due or has expired."""
    folder = _folder(args)
    if args.repo_command == "serve":
        from coremlops.server.app import serve

        intake = tuple if args.intake is None else partial(_intake, folder, args.intake)
        return serve(folder, host=args.host, port=args.port, workers=args.workers, intake=intake)
    from coremlops.release import Repository

    if args.repo_command == "init":
        name = args.collection or _project().collection or "faces"
        return _init(args, Repository.init(folder, name, plan=signing.plan(args)))
    repository = Repository.open(folder)
    if args.repo_command == "renew":
        return _renew(args, repository)
    if args.repo_command == "sign":
        return signing.sign(args, repository)
    if args.repo_command == "rotate":
        return signing.rotate(args, repository)
    if args.repo_command == "verify":
        return _verify(args, repository)
    if args.repo_command == "gc":
        return _collect(args, repository)
    return _status(args, repository)


def _intake(repository: Path, reports: Path) -> Sequence[BaseRoute]:
    """The intake's routes, in the process that serves them."""
    from coremlops.server.intake import open_routes

    return open_routes(repository, reports)


def _project() -> Shipping:
    """Where the project that this folder belongs to ships to."""
    from coremlops.pipeline.shipping import shipping

    return shipping(Path.cwd())


def _folder(args: argparse.Namespace) -> Path:
    """The repository that is meant: `--repository FOLDER`, or FOLDER before all else. Raises `UsageError`."""
    named: list[Path] = [args.repository] if args.repository else []
    if args.repo_command in ("sign", "rotate"):
        if args.words and (Path(args.words[0]) / "coremlops.json").is_file():
            named.append(Path(args.words.pop(0)))
    elif args.folder:
        named.append(args.folder)
    if len(named) > 1:
        raise UsageError(f"one repository expected, got {named[1]} and --repository {named[0]}")
    return named[0] if named else _project().repository


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
    for name, paths in ((name, keys.paths(name)) for name in keys.present()):
        if len(paths) > 1:
            need = next(each.threshold for each in repository.status() if each.key == name)
            files = ", ".join(path.name for path in paths)
            print(f"  {name}: {need} of {len(paths)} must sign; carry them to their machines: {files}")
    print(f"root:  {repository.root_file}  (goes into the app: devices trust what it names)")
    return 0


def _status(args: argparse.Namespace, repository: Repository) -> int:
    roles = repository.status()
    indexes = repository.list()
    due = [each for each in roles if each.due or each.expired]
    waiting = repository.waiting()
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
                    "pending": waiting,
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
            if len(each.keys) > 1:
                key = (
                    f"{each.key} ({each.threshold} of {len(each.keys)} sign, {sum(each.keys.values())} here)"
                )
            mark = "  EXPIRED" if each.expired else "  due" if each.due else ""
            print(f"  {each.role:16} {each.version:7}  {_time(each):20}  {key}{mark}")
        for change in waiting:
            print(f"  {change} waits for signatures: coremlops repo sign")
    for each in due:
        _warn(each)
    return 3 if due else 0


def _renew(args: argparse.Namespace, repository: Repository) -> int:
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


def _verify(args: argparse.Namespace, repository: Repository) -> int:
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


def _collect(args: argparse.Namespace, repository: Repository) -> int:
    from coremlops.release.upkeep import collect

    removed = collect(repository, grace=_time_span(args.grace), dry_run=args.dry_run)
    if args.json:
        print(json.dumps({"files": removed.files, "bytes": removed.bytes, "removed": not args.dry_run}))
        return 0
    for name in removed.files if args.dry_run else ():
        print(name)
    done = "would go" if args.dry_run else "removed"
    print(f"{done}: {len(removed.files)} files, {_size(removed.bytes)}")
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
    return signing.moment(role.expires)
