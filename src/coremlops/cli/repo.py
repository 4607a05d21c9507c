"""`coremlops repo`: make and inspect the signed repository."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.cli import signing
from coremlops.errors import UsageError

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from coremlops.pipeline.shipping import Shipping
    from coremlops.release import Repository


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "example: coremlops repo init --collection faces"
    commands = parser.add_subparsers(dest="repo_command", metavar="COMMAND", required=True)
    init = commands.add_parser("init", help="a new repository with new keys")
    init.epilog = "example: coremlops repo init repository --collection faces"
    init.add_argument(
        "--collection", help="the name of its first collection (default: the project's, or faces)"
    )
    add = commands.add_parser("add", help="one more collection, signed by the keys of those that are here")
    add.epilog = "example: coremlops repo add shop --repository repository   (where the targets key is)"
    add.add_argument("collection", metavar="COLLECTION", help="its name: a-z, 0-9 and '-'")
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
    gc.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="before that, forget versions that are not on offer, but the N newest of each model and channel;"
        " needs the keys of both channels (default: every version can be gone back to)",
    )
    gc.add_argument("--dry-run", action="store_true", help="say what would go, remove nothing")
    for sub in (init, status, renew, serving, verify, gc):
        sub.add_argument("folder", type=Path, nargs="?", help="default: the project's, or ./repository")
    add.add_argument(
        "--repository", type=Path, metavar="FOLDER", help="default: the project's, or ./repository"
    )
    for sub in (init, status, renew, sign, rotate, serving, verify, gc):
        sub.add_argument("--repository", type=Path, metavar="FOLDER", help="the same, as an option")
    for sub in (init, add, status, renew, sign, rotate, verify, gc):
        sub.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 3 when `status` finds a role that is due or has expired."""
    folder = _folder(args)
    if args.repo_command == "serve":
        from coremlops.server.app import serve

        intake = tuple if args.intake is None else partial(_intake, folder, args.intake)
        return serve(folder, host=args.host, port=args.port, workers=args.workers, intake=intake)
    if args.repo_command == "init":
        from coremlops.release import Repository

        name = args.collection or _project().collection or "faces"
        return _init(args, Repository.init(folder, name, plan=signing.plan(args)))
    from coremlops.cli import keeping
    from coremlops.release.keeping import Keeper

    commands: dict[str, Callable[[argparse.Namespace, Keeper], int]] = {
        "add": keeping.add,
        "status": keeping.status,
        "renew": keeping.renew,
        "sign": signing.sign,
        "rotate": signing.rotate,
        "verify": keeping.verify,
        "gc": keeping.collect,
    }
    return commands[args.repo_command](args, Keeper.open(folder))


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
        signing.take_dropped(args)
        if args.words and (Path(args.words[0]) / "coremlops.json").is_file():
            named.append(Path(args.words.pop(0)))
    elif args.repo_command != "add" and args.folder:
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
