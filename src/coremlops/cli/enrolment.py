"""What a device says, at the device's side: `coremlops device enrol`, `report` and `count`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.client import Device

COMMANDS = ("enrol", "report", "count")
_SHOWN = ("name", "version", "ok", "failure", "proof")


def configure(commands: Any) -> tuple[argparse.ArgumentParser, ...]:
    """Declare the three below `device`, and return their parsers."""
    enrol = commands.add_parser("enrol", help="become a tester's device, whose signed reports count")
    enrol.epilog = "example: coremlops device enrol --device phone --code 0110-ABCD-2345-WXYZ"
    enrol.add_argument("--code", required=True, help="from `coremlops release enrol`, good once")
    report = commands.add_parser(
        "report",
        help="check the active models' golden sets again, and send those reports and what waits",
        description="Exit code 1 when a report was refused or could not be sent; what may be sent later waits"
        " in the device's folder.",
    )
    report.epilog = "example: coremlops device report --device phone"
    report.add_argument("--model", dest="name", metavar="NAME", help="one of several; default: all")
    count = commands.add_parser(
        "count",
        help="add to anonymous sums after an update, or no longer",
        description="Off unless the user agreed. An enrolled device signs reports instead.",
    )
    count.epilog = "example: coremlops device count on --device phone"
    count.add_argument("switch", choices=("on", "off"))
    for sub in (enrol, count):
        sub.add_argument("--url", help="the intake's; default: /intake below the repository's")
    return enrol, report, count


def run(args: argparse.Namespace, device: Device) -> int:
    """Do what was asked; 1 when a report could not be sent."""
    from coremlops.client import reports

    if args.device_command == "enrol":
        action = reports.enrol(device.folder, args.code, args.url)
        enrolment = reports.Enrolment.load(device.folder)
        url = enrolment.url if enrolment is not None else ""
        print(json.dumps({"action": action, "url": url}) if args.json else f"{action} at {url}")
        return 0
    if args.device_command == "count":
        reports.count(device.folder, on=args.switch == "on", url=args.url)
        print(json.dumps({"counting": args.switch == "on"}) if args.json else f"counting is {args.switch}")
        return 0
    told, done = reports.report_now(device, args.name)
    several = len(device.status().models) > 1
    if args.json:
        models = {said.name: {key: getattr(said, key) for key in _SHOWN} for said in told}
        only = models[told[0].name] if len(told) == 1 else dict.fromkeys(_SHOWN)
        ended = {"sent": done.sent, "refused": done.refused, "waiting": done.waiting, "why": done.why}
        print(json.dumps(only | {"ok": all(said.ok for said in told), "models": models} | ended))
    else:
        for said in told:
            result = f"{'pass' if said.ok else 'FAIL ' + said.failure} ({said.proof})"
            print(f"{f'{said.name} ' if several else ''}version {said.version}: {result}")
        print(f"sent {done.sent}" + "".join(f", refused: {why}" for why in done.refused))
        if done.waiting:
            print(f"{done.waiting} wait: {done.why}")
    return 1 if done.refused or done.waiting else 0
