"""`coremlops release`: what devices get."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.cli import reporting
from coremlops.cli import standing as shown
from coremlops.cli.saying import saying

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coremlops.pipeline.forms import Given
    from coremlops.pipeline.releases import Receipt
    from coremlops.pipeline.shipping import Shipping
    from coremlops.release.terms import Terms

CHANNELS = ("staging", "release")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "example: coremlops release promote"
    commands = parser.add_subparsers(dest="release_command", metavar="COMMAND", required=True)
    publish = commands.add_parser("publish", help="make a model a channel's current version")
    publish.epilog = "example: coremlops release publish faces.mlpackage --golden golden --report report.json"
    publish.add_argument("model", type=Path, help="model.mlpackage or model.mlmodel")
    publish.add_argument(
        "--golden",
        type=Path,
        help="inputs that may be published to every device (pictures, .npz), or a golden set; docs/golden.md",
    )
    publish.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=MODEL",
        help="another form of the model, tried before it, in this order; give --requires for each",
    )
    publish.add_argument(
        "--requires",
        action="append",
        default=[],
        metavar="NAME=RULE",
        help="a rule file: what a device must be to get that variant; `default` is the model itself",
    )
    publish.add_argument(
        "--report",
        type=Path,
        action="append",
        default=[],
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
    reporting.promote_options(promote)
    rollout = commands.add_parser("rollout", help="offer a version to another share of all devices")
    rollout.epilog = "example: coremlops release rollout --percent 25"
    rollout.add_argument("--percent", required=True, metavar="P", help="of all devices, in hundredths")
    rollout.add_argument("--version", type=int, metavar="N", help="default: the newest on offer")
    rollout.add_argument("--lower", action="store_true", help="take it from some devices again")
    halt = commands.add_parser("halt", help="let no further device take a version; needs the halt key alone")
    halt.epilog = "example: coremlops release halt   (release rollout --percent takes it back)"
    halt.add_argument("--version", type=int, metavar="N", help="default: the newest on offer")
    rollback = commands.add_parser("rollback", help="make an older version current again")
    rollback.epilog = "example: coremlops release rollback --channel release"
    rollback.add_argument("--to", type=int, metavar="N", help="default: the version before the current one")
    embedded = commands.add_parser("embedded", help="send devices to the model that their app carries")
    embedded.epilog = "example: coremlops release embedded --rule old-phones.json"
    explain = commands.add_parser("explain", help="what a device would get of each model, and why")
    explain.epilog = "example: coremlops release explain --device profile.json"
    explain.add_argument(
        "--device", type=Path, required=True, metavar="FILE", help="its profile; see docs/release.md"
    )
    for sub in (rollout, halt, rollback, embedded, explain):
        sub.add_argument("--channel", choices=CHANNELS, default="release", help="default: release")
    for sub in (publish, promote, embedded):
        _terms_options(sub)
    diff = commands.add_parser("diff", help="what differs between two versions")
    diff.epilog = (
        "example: coremlops release diff 3 5   (without numbers: what release has, what staging has)"
    )
    diff.add_argument("before", type=int, nargs="?", metavar="A", help="default: release's current version")
    diff.add_argument("after", type=int, nargs="?", metavar="B", help="default: staging's current version")
    listing = commands.add_parser("list", help="the versions of each model in both channels")
    listing.epilog = "example: coremlops release list --json"
    reset = commands.add_parser(
        "reset",
        help="make staging what release is, after a theft of staging's key or when it cannot be read",
        description="Models and versions that release never had are no longer offered on staging, and"
        " nothing that staging's key signed is believed. docs/keys.md says when.",
    )
    reset.epilog = "example: coremlops release reset --collection faces"
    enrol, reports = reporting.configure(commands)
    enrol.add_argument("--json", action="store_true", help="print one JSON object")
    each = "a model of the collection; default: all of them"
    only = "a model of the collection; default: the project's, or its only one"
    new = f"{only}; one that it has not is made"
    for sub in (publish, promote, rollout, halt, rollback, embedded, explain, diff, listing, reports):
        sub.add_argument("--repository", type=Path, help="default: the project's, or ./repository")
        sub.add_argument("--collection", help="default: the project's, or the repository's only one")
        meant = each if sub in (explain, listing, reports) else new if sub is publish else only
        sub.add_argument("--model", dest="name", metavar="NAME", help=meant)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
    reset.set_defaults(name=None)
    reset.add_argument("--repository", type=Path, help="default: the project's, or ./repository")
    reset.add_argument("--collection", help="default: the project's, or the repository's only one")
    reset.add_argument("--json", action="store_true", help="print one JSON object")


def _terms_options(parser: argparse.ArgumentParser) -> None:
    terms = parser.add_argument_group("for whom; all devices, at once, unless said")
    terms.add_argument(
        "--rule", type=Path, metavar="FILE", help="which devices, as JSON; see docs/release.md"
    )
    terms.add_argument("--percent", metavar="P", help="of these devices, in hundredths")
    terms.add_argument("--start", metavar="TIME", help="not before then: 2026-01-31T12:00:00Z")
    terms.add_argument(
        "--hold", action="store_true", help="it wins against a newer model that the app carries"
    )


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    from coremlops.collection import Profile
    from coremlops.pipeline import releases, standing

    if args.release_command == "enrol":
        return reporting.enrol(args)
    where, command = _where(args), args.release_command
    if command == "reports":
        return reporting.show(args, standing.collection(where, args.name))
    if command == "list":
        return shown.show_list(args, where)
    if command == "explain":
        return shown.show_choices(args, where, Profile.from_json(_document(args.device)))
    if command == "diff":
        return shown.show_difference(args, where)
    if command == "reset":
        return _reset(args, releases.reset(where))
    if command == "publish":
        with saying() as progress:
            receipt = releases.publish(
                _forms(args),
                where,
                channel=args.channel,
                terms=_terms(args),
                again=args.again,
                progress=progress,
            )
    elif command == "promote":
        receipt = releases.promote(where, args.version, terms=_terms(args), **reporting.requirement(args))
    elif command == "rollout":
        share = _share(args.percent)
        receipt = releases.rollout(where, args.channel, share, args.version, lower=args.lower)
    elif command == "halt":
        receipt = releases.halt(where, args.channel, args.version)
    elif command == "embedded":
        receipt = releases.offer_embedded(where, args.channel, _terms(args))
    else:
        receipt = releases.rollback(where, args.channel, args.to)
    return _report(args, receipt)


def _forms(args: argparse.Namespace) -> list[Given]:
    """The model and its variants, in the order in which a device tries them; the model itself comes last."""
    from coremlops.collection import EVERYONE, Rule
    from coremlops.errors import UsageError
    from coremlops.pipeline.forms import Given, report_of

    models = _named(args.variant, "--variant") | {"default": args.model}
    rules = {
        name: Rule.from_json(_document(path), path.name)
        for name, path in _named(args.requires, "--requires").items()
    }
    for name in rules.keys() - models.keys():
        raise UsageError(f"--requires {name}: no such variant; they are {', '.join(models)}")
    return [
        Given(model, args.golden, report_of(model, args.report), name, rules.get(name, EVERYONE))
        for name, model in models.items()
    ]


def _named(values: list[str], option: str) -> dict[str, Path]:
    from coremlops.errors import UsageError

    found: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path) or name in found or (option == "--variant" and name == "default"):
            raise UsageError(f"{option}: NAME=FILE expected, each name once, got {value!r:.80}")
        found[name] = Path(path)
    return found


def _terms(args: argparse.Namespace) -> Terms | None:
    """What the options say of for whom, how many and from when; None when they say nothing."""
    from coremlops.collection import ALL, EVERYONE, Rule, document
    from coremlops.errors import UsageError
    from coremlops.release.terms import Terms

    if (args.rule, args.percent, args.start) == (None, None, None) and not args.hold:
        return None
    rule = EVERYONE
    if args.rule is not None:
        rule = Rule.from_json(_document(args.rule), args.rule.name)
    start = None
    if args.start is not None:
        try:
            start = document.time_of(args.start)
        except ValueError:
            raise UsageError(
                f"--start: a time such as 2026-01-31T12:00:00Z expected, got {args.start!r:.60}"
            ) from None
    share = ALL if args.percent is None else _share(args.percent)
    return Terms(rule, share, start, args.hold)


def _share(percent: str) -> int:
    """`--percent` as basis points. Raises `UsageError`."""
    from coremlops.collection import basis_points
    from coremlops.errors import RepositoryError, UsageError

    try:
        return basis_points(percent)
    except RepositoryError as error:
        raise UsageError(f"--percent: {error.message}") from None


def _document(path: Path) -> object:
    from coremlops.collection import document
    from coremlops.errors import UsageError

    try:
        return document.read(path.read_bytes(), path.name, most_bytes=64_000)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _where(args: argparse.Namespace) -> Shipping:
    """What the project says, but for what the options say; another collection's models are not its own."""
    from coremlops.pipeline.shipping import shipping

    where = shipping(Path.cwd(), model=args.name)
    if args.repository is not None:
        where = replace(where, repository=args.repository, collection=None, model=args.name)
    if args.collection is not None and args.collection != where.collection:
        where = replace(where, collection=args.collection, model=args.name)
    return where


def _reset(args: argparse.Namespace, receipts: Sequence[Receipt]) -> int:
    for each in receipts:
        if each.warning:
            print(f"warning: {each.warning}", file=sys.stderr)
    if args.json:
        print(json.dumps({"models": {each.name: each.to_json() for each in receipts}}))
        return 0
    for each in receipts:
        print(f"{each.place} is now at version {each.version}, as release is")
    if not receipts:
        print("staging offers nothing now, as release does")
    return 0


def _report(args: argparse.Namespace, receipt: Receipt) -> int:
    if receipt.warning:
        print(f"warning: {receipt.warning}", file=sys.stderr)
    for note in receipt.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        print(json.dumps(receipt.to_json()))
        return 0
    channel = receipt.place
    model = receipt.model[:12] or "the app's model"
    version = f"version {receipt.version} ({model})"
    verb = "is now" if receipt.action == "done" else "is already"
    if args.release_command == "halt":
        print(f"{channel}: {version} {verb} halted")
    elif args.release_command == "rollout":
        print(f"{channel}: {version} {verb} offered to {args.percent.strip().rstrip('% ')} % of all devices")
    elif receipt.current != receipt.version:
        print(f"{version} was published already")
        print(f"{channel} was rolled back: devices get version {receipt.current}")
        print(f"to return to version {receipt.version}: publish it with --again, or promote --version")
    else:
        print(f"{channel} {verb} at {version}")
    return 0
