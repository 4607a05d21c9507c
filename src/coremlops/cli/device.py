"""`coremlops device`: be a device that follows one channel of a collection of models."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.cli import enrolment
from coremlops.cli.describe import terminal_text
from coremlops.errors import UsageError

if TYPE_CHECKING:
    from coremlops.client import Device, ModelPlan, ModelResult, Plan, Slot, State, Step, UpdateResult

CHANNELS = ("staging", "release")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "example: coremlops device update --device phone"
    commands = parser.add_subparsers(dest="device_command", metavar="COMMAND", required=True)
    update = commands.add_parser(
        "update",
        help="take the channel's version of each model, if it can be trusted and answers its golden set",
        description="Exit code 1 when the repository cannot be reached or an offer is refused; what was"
        " active of that model stays active, and the others are updated.",
    )
    update.epilog = (
        "example: coremlops device update --device phone --url https://models.example/repository"
        " --root 1.root.json --channel staging   (the first time; later --device alone)"
    )
    update.add_argument(
        "--model",
        dest="names",
        action="append",
        metavar="NAME",
        help="this model alone; may be repeated (default: all of the collection)",
    )
    update.add_argument("--plan", action="store_true", help="say what would be fetched, and fetch nothing")
    first = update.add_argument_group("the first time")
    first.add_argument("--url", help="where the repository is: http://, https:// or file:///")
    first.add_argument("--root", type=Path, help="the repository's root.json, as the app would embed it")
    first.add_argument("--collection", help="default: the repository's only one")
    first.add_argument("--channel", choices=CHANNELS, help="default: release")
    predict = commands.add_parser("predict", help="run the active model")
    predict.epilog = "example: coremlops device predict --device phone --input image=photo.jpg"
    predict.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="NAME=FILE",
        help="a picture, or an .npy or .json file with numbers or text; once for each input",
    )
    predict.add_argument(
        "--image-option",
        choices=("metadata", "centerCrop", "scaleFit", "scaleFill"),
        default="metadata",
        help="how pictures are prepared (default: as the model's metadata says)",
    )
    start = commands.add_parser(
        "start",
        help="count a start of the model and say where it is; confirm it with `started`",
        description="After three starts in a row that were not confirmed the device returns to the model"
        " before, or to the one that the app carries. Needs no network.",
    )
    start.epilog = "example: coremlops device start --device phone --json"
    started = commands.add_parser("started", help="the model that was started has answered")
    started.epilog = "example: coremlops device started --device phone"
    started.add_argument("--failed", metavar="REASON", help="it could not be loaded, or did not answer")
    status = commands.add_parser("status", help="what the device runs, ran and refused")
    status.epilog = "example: coremlops device status --device phone --json"
    for sub in (predict, start, started):
        sub.add_argument(
            "--model", dest="name", metavar="NAME", help="which, where the collection holds several"
        )
    for sub in (update, predict, start, started, status, *enrolment.configure(commands)):
        sub.add_argument("--device", type=Path, required=True, metavar="DIR", help="the device's folder")
        sub.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 1 when an update was refused or could not be looked for."""
    from coremlops.client import Device

    if args.device_command == "update":
        return (_plan if args.plan else _update)(args, _device(args))
    device = Device(args.device)
    if args.device_command == "start":
        return _start(args, device)
    if args.device_command == "started":
        return _started(args, device)
    if args.device_command in enrolment.COMMANDS:
        return enrolment.run(args, device)
    return _predict(args, device) if args.device_command == "predict" else _status(args, device)


def _device(args: argparse.Namespace) -> Device:
    from coremlops.client import Device

    given = {name: getattr(args, name) for name in ("url", "root", "collection", "channel")}
    if all(value is None for value in given.values()):
        return Device(args.device)
    if args.url is None or args.root is None:
        raise UsageError(
            "the first time a device needs --url and --root; later --device alone is enough",
            hint="--url http://127.0.0.1:8000 --root repository/metadata/1.root.json",
        )
    return Device.install(args.device, args.url, args.collection, args.channel or "release", args.root)


def _update(args: argparse.Namespace, device: Device) -> int:
    with _shown() as progress:
        result = device.update(progress, names=args.names)
    state = device.status()
    channel = f"{state.collection}/{state.channel}"
    if args.json:
        about = {"outcome": result.outcome, "collection": state.collection, "channel": state.channel}
        models = {each.name: {"outcome": each.outcome, **_result(each)} for each in result.models}
        print(json.dumps({**about, **_result(result), "models": models}))
    elif len(result.models) < 2:
        print(terminal_text(_words(result, channel)))
    else:
        for each in result.models:
            said = _words(each, channel).removeprefix(f"{channel}: ").replace("\n", "; ")
            print(terminal_text(f"{each.name}: {said}"))
    return 0 if result.ok else 1


def _result(result: UpdateResult | ModelResult) -> dict[str, Any]:
    keys = ("version", "digest", "changed", "offered", "refused", "reason", "received_bytes")
    return {key: getattr(result, key) for key in keys}


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[Step], None]]:
    """A bar of bytes on a terminal, else a line for each file."""
    if not sys.stderr.isatty():
        seen: list[str] = []

        def line(step: Step) -> None:
            if step.phase in ("download", "check") and step.what not in seen[-1:]:
                seen.append(step.what)
                print(step.what, file=sys.stderr)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
    from rich.table import Column

    # What is done now, a long path, has what the bar and the bytes leave over.
    what = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    columns = (what, BarColumn(20), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        task = bar.add_task("looking for an update", total=None)

        def show(step: Step) -> None:
            bar.update(task, description=step.what, completed=step.done, total=step.total or None)

        yield show


def _plan(args: argparse.Namespace, device: Device) -> int:
    plan = device.plan(args.names)
    if args.json:
        keys = ("outcome", "version", "variant", "total", "missing", "reason")
        models = {each.name: {key: getattr(each, key) for key in keys} for each in plan.models}
        print(json.dumps({**{key: getattr(plan, key) for key in keys}, "models": models}))
    elif len(plan.models) < 2:
        print(terminal_text(_plan_words(plan)))
    else:
        for each in plan.models:
            print(terminal_text(f"{each.name}: {_plan_words(each)}".replace("\n", "; ")))
        print(f"would get {plan.missing} bytes in all")
    return 0 if plan.outcome not in ("refused", "offline") else 1


def _plan_words(plan: Plan | ModelPlan) -> str:
    if plan.outcome != "get":
        return f"{plan.outcome}: {plan.reason}" if plan.reason else plan.outcome
    size = f"{plan.missing} of {plan.total} bytes"
    return f"would get version {plan.version}, {plan.variant}: {size}\n{plan.reason}"


def _start(args: argparse.Namespace, device: Device) -> int:
    found = device.start(args.name)
    if found.returned:
        print(terminal_text(f"warning: returned: {found.returned}"), file=sys.stderr)
    if args.json:
        path = None if found.path is None else str(found.path)
        print(json.dumps({"path": path, "version": found.version, "returned": found.returned}))
    else:
        print("the app's own model" if found.path is None else found.path)
    return 0


def _started(args: argparse.Namespace, device: Device) -> int:
    if args.failed is None:
        device.started(args.name)
    else:
        device.failed(args.failed, args.name)
    if args.json:
        print(json.dumps({"failed": args.failed}))
    return 0


def _words(result: UpdateResult | ModelResult, channel: str) -> str:
    has = "no model" if result.version is None else f"version {result.version} ({str(result.digest)[:12]})"
    if result.outcome == "updated":
        return f"now at {has} of {channel}"
    if result.outcome == "current":
        return f"{channel}: nothing newer than {has}"
    if result.outcome == "empty":
        return f"{channel} has no version yet"
    if result.outcome in ("kept", "embedded"):
        use = "use the app's own model" if result.outcome == "embedded" else f"stays at {has}"
        return f"{channel}: {use} ({result.reason})"
    offered = "" if result.offered is None else f" version {result.offered}"
    if result.outcome == "cancelled":
        return f"{result.reason}\nstays at {has}"
    verb = "could not look for an update" if result.outcome == "offline" else f"refused{offered}"
    stays = "" if result.version is None else f"\nstays at {has}"
    return f"{verb}: {result.reason}{stays}"


def _predict(args: argparse.Namespace, device: Device) -> int:
    from coremlops.cli.predict import inputs_of, json_of, text_of

    outputs = device.predict(inputs_of(args.input), args.name, image_option=args.image_option)
    print(json.dumps(json_of(outputs), allow_nan=False) if args.json else text_of(outputs))
    return 0


def _status(args: argparse.Namespace, device: Device) -> int:
    state = device.status()
    if args.json:
        print(json.dumps(_status_json(state)))
        return 0
    print(f"{device.folder}: {state.collection}/{state.channel} at {state.url}")
    if len(state.models) < 2:
        _show(state.slot(), "  ")
    else:
        for slot in state.models:
            print(f"  {slot.name}")
            _show(slot, "    ")
    if state.last is not None:
        ended = state.last.outcome + (f": {state.last.reason}" if state.last.reason else "")
        print(terminal_text(f"  last look {state.last.at:%Y-%m-%d %H:%M:%S} UTC: {ended}"))
    return 0


def _show(slot: Slot, indent: str) -> None:
    for word, entry in (("active", slot.active), ("previous", slot.previous)):
        has = "none" if entry is None else f"version {entry.version} ({entry.model[:12]})"
        print(f"{indent}{word:9} {has}")
    for each in slot.refused:
        print(terminal_text(f"{indent}refused   version {each.version}: {each.reason}"))


def _status_json(state: State) -> dict[str, Any]:
    """The state, its models by name, with what is here of its only one beside it: null where there are
    several."""
    shown: dict[str, Any] = json.loads(state.to_bytes())
    shown["models"] = {each.pop("name"): each for each in shown["models"]}
    slot = state.slot() if len(state.models) < 2 else None
    for key in ("active", "previous", "embedded", "refused"):
        shown[key] = None if slot is None else slot.to_json()[key]
    active = None if slot is None else slot.active
    shown["version"] = None if active is None else active.version
    shown["digest"] = None if active is None else active.model
    del shown["format"]
    return shown
