"""Our own client, as the conformance vectors drive it: one request a line in, one answer a line out."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.client import Device, Limits
from coremlops.collection import Halts, Index, Manifest, Profile, Rule, bucket, choose, document
from coremlops.errors import CoremlopsError
from coremlops.golden.checking import judge
from coremlops.golden.document import parse_golden
from coremlops.telemetry.report import Report
from coremlops.telemetry.signing import ENROL, REPORT, DeviceKey, Signed, plain_code

Request = Mapping[str, Any]
Answer = dict[str, Any]
QUICK = Limits(connect_s=5, read_s=5, retries=0)


def read(request: Request) -> Answer:
    """Whether a document can be believed."""
    data = base64.b64decode(request["document"])
    what = request["what"]
    named = {"collection": request.get("collection", ""), "channel": request.get("channel", "")}
    if what == "index":
        Index.from_bytes(data, **named)
    elif what == "halt":
        Halts.from_bytes(data, **named)
    elif what == "manifest":
        Manifest.from_bytes(data)
    else:
        return {"unsupported": what}
    return {"ok": True}


def bucket_of(request: Request) -> Answer:
    return {"bucket": bucket(request["salt"], request["install_id"])}


def rule(request: Request) -> Answer:
    found = Rule.from_json(request["rule"], "rule")
    return {"holds": found.why_not(Profile.from_json(request["profile"])) is None}


def chosen(request: Request) -> Answer:
    named = {"collection": request["collection"], "channel": request["channel"]}
    index = Index.from_bytes(base64.b64decode(request["index"]), **named)
    choice = choose(
        index.line(request["name"]),
        Halts.from_bytes(base64.b64decode(request["halt"]), **named),
        Profile.from_json(request["profile"]),
        document.time_of(request["now"]),
        active=request.get("active"),
        refused=dict.fromkeys(request.get("refused", ()), "before"),
    )
    return {
        "use": choice.use,
        "version": choice.entry.version if choice.entry is not None else None,
        "variant": choice.variant.name if choice.variant is not None else None,
    }


def judged(request: Request) -> Answer:
    """Whether answers keep a golden set, without a model."""
    promised = parse_golden(base64.b64decode(request["golden"]))
    answers = [
        [{name: value_of(each) for name, each in call.items()} for call in calls]
        for calls in request["answers"]
    ]
    return {"ok": not any(finding.reason for finding in judge(promised, answers).values())}


def value_of(said: Any) -> Any:
    """A model's answer, as the vector writes it down."""
    if isinstance(said, dict) and "dictionary" in said:
        return dict(said["dictionary"])
    if isinstance(said, dict):
        return np.array([float(each) for each in said["values"]]).astype(said["dtype"]).reshape(said["shape"])
    return said


def signed(key: str, purpose: bytes, data: bytes) -> Answer:
    """What is signed, and by which key."""
    made = Signed.make(DeviceKey.read(key), purpose, data)
    return {
        "data": data.decode("ascii"),
        "signed": (purpose + data).decode("ascii"),
        "key": made.key.hex(),
        "signature": made.signature.hex(),
    }


def report(request: Request) -> Answer:
    said = Report.from_bytes(json.dumps(request["report"]).encode())
    return signed(request["key"], REPORT, said.to_bytes())


def enrol(request: Request) -> Answer:
    return signed(request["key"], ENROL, plain_code(request["code"]).encode("ascii"))


def install(request: Request) -> Answer:
    Device.install(
        *(request["folder"], request["url"], request["collection"], request["channel"]),
        Path(request["root"]),
        limits=QUICK,
    )
    return {"ok": True}


def update(request: Request) -> Answer:
    """The golden set is executed here, so `verdict` is not needed."""
    result = Device(request["folder"], limits=QUICK).update()
    models = {each.name: {"outcome": each.outcome, "version": each.version} for each in result.models}
    return {
        "outcome": result.outcome,
        "version": result.version,
        "models": models,
        "reason": result.reason,
    }


def start(request: Request) -> Answer:
    """The app begins to load a model; without `started` after it, it crashed."""
    return {"version": Device(request["folder"], limits=QUICK).start(request.get("name")).version}


def started(request: Request) -> Answer:
    Device(request["folder"], limits=QUICK).started(request.get("name"))
    return {"ok": True}


def restart(request: Request) -> Answer:
    """What is active after the app was started again, with no network."""
    status, name = Device(request["folder"]).status(), request.get("name")
    active = status.active if name is None else status.slot(name).active
    return {"version": active.version if active is not None else None}


VERBS: Mapping[str, Callable[[Request], Answer]] = {
    "bucket": bucket_of,
    "choose": chosen,
    "enrol": enrol,
    "install": install,
    "judge": judged,
    "read": read,
    "report": report,
    "restart": restart,
    "rule": rule,
    "start": start,
    "started": started,
    "update": update,
}


def answer(request: Request) -> Answer:
    """What the client says. A refusal is an answer, too."""
    verb = VERBS.get(request.get("do", ""))
    if verb is None:
        return {"unsupported": request.get("do")}
    try:
        return verb(request)
    except CoremlopsError as error:
        return {"error": error.message}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
