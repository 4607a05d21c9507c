"""What devices report, at the publisher's side: `coremlops release enrol` and `coremlops release reports`."""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import UsageError

if TYPE_CHECKING:
    from coremlops.telemetry.report import Report

_UNITS = {"h": 1, "d": 24}
_LONGEST = timedelta(days=90)


def configure(commands: Any) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Declare `enrol` and `reports` below `release`, and return their parsers."""
    enrol = commands.add_parser("enrol", help="one-time codes with which testers enrol a device")
    enrol.epilog = "example: coremlops release enrol --reports reports.sqlite --count 3 --expires 7d"
    enrol.add_argument("--count", type=int, default=1, metavar="N", help="how many (default: %(default)s)")
    enrol.add_argument(
        "--expires", default="7d", metavar="TIME", help="hours or days: 12h, 7d (default: %(default)s)"
    )
    reports = commands.add_parser("reports", help="what devices reported of a version")
    reports.epilog = "example: coremlops release reports --reports reports.sqlite --version 3"
    reports.add_argument("--version", type=int, metavar="N", help="default: all")
    for sub in (enrol, reports):
        sub.add_argument("--reports", type=Path, required=True, metavar="FILE", help="the intake's file")
    return enrol, reports


def promote_options(parser: argparse.ArgumentParser) -> None:
    """What a promotion may ask of the reports."""
    group = parser.add_argument_group("what enrolled devices must have said; exit 3 when they did not")
    group.add_argument(
        "--require", metavar="WHAT", help="golden:devices=N[,classes=N][,failures=N][,proof=WORD]"
    )
    group.add_argument("--reports", type=Path, metavar="FILE", help="the intake's file")


def requirement(args: argparse.Namespace) -> dict[str, Any]:
    """`require` and `reports` for `releases.promote`. Raises `UsageError` for one without the other."""
    from coremlops.telemetry.requirement import Requirement

    if (args.require is None) != (args.reports is None):
        raise UsageError("--require and --reports go together", hint="--reports names the intake's file")
    return {
        "require": None if args.require is None else Requirement.parse(args.require),
        "reports": args.reports,
    }


def enrol(args: argparse.Namespace) -> int:
    """Print new codes."""
    from coremlops.telemetry.store import Store

    if not 1 <= args.count <= 1_000:
        raise UsageError(f"--count: 1 to 1000 expected, got {args.count}")
    lasts, now = _duration(args.expires), datetime.now(UTC)
    codes = Store(args.reports).make_codes(args.count, now=now, lasts=lasts)
    ends = (now + lasts).strftime("%Y-%m-%dT%H:%M:%SZ")
    if args.json:
        print(json.dumps({"reports": str(args.reports), "codes": list(codes), "expires": ends}))
        return 0
    for code in codes:
        print(code)
    return 0


def show(args: argparse.Namespace, collection: str) -> int:
    """Print reports and anonymous sums, by version."""
    from coremlops.telemetry.store import Store

    store = Store(args.reports)
    found = store.reports(collection, args.name, args.version)
    sums = store.sums(collection, args.name, args.version)
    if args.json:
        listed = {
            "collection": collection,
            "devices": store.devices(),
            "reports": [{"pseudonym": who} | json.loads(each.to_bytes()) for who, each in found],
            "anonymous": [
                {key: getattr(each, key) for key in ("name", "version", "what", "value", "n")}
                for each in sums
            ],
        }
        print(json.dumps(listed))
        return 0
    print(f"{collection}: {store.devices()} devices enrolled, {len(found)} reports")
    names = {each.name for _, each in found} | {each.name for each in sums}
    told = args.name is not None or names <= {collection}  # a column only where it says something
    width = 0 if told else max(map(len, (*names, "model")))
    if found:
        print(
            f"{_cell('model', width)}{'version':>7}  {'pseudonym':10}  {'result':12}  {'proof':8}"
            f"  {'load':>8}  {'latency':>8}  on"
        )
    for pseudonym, each in found:
        print(_cell(each.name, width) + _line(pseudonym, each))
    for total in sums:
        text = f"{total.version:7}  anonymous: {total.what} {total.value}: {total.n}"
        print(_cell(total.name, width) + text)
    return 0


def _cell(text: str, width: int) -> str:
    return f"{text:{width}}  " if width else ""


def _line(pseudonym: str, report: Report) -> str:
    result = "pass" if report.ok else f"FAIL {report.failure}"
    device = f"{report.kind_of_device}, {report.os} {report.os_version}".rstrip()
    times = "  ".join(f"{_milliseconds(each):>8}" for each in (report.load_s, report.latency_s))
    return f"{report.version:7}  {pseudonym[:10]}  {result:12}  {report.proof:8}  {times}  {device}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.3g} ms"


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,4})([hd])", text)
    lasts = timedelta(hours=int(match[1]) * _UNITS[match[2]]) if match else timedelta()
    if not timedelta() < lasts <= _LONGEST:
        raise UsageError(f"--expires: 1h to {_LONGEST.days}d expected, got {text!r:.40}")
    return lasts
