"""The whole story on real photos: from a folder of faces to a device, and back.

Each line is a command that a user could type, run as a process of its own, so the demo shows what the
commands do and can do nothing that they cannot.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from coremlops.errors import CoremlopsError
from coremlops.project import samples, scaffold

PEOPLE = {"ada": "s1", "ben": "s2"}
NEWCOMER = {"cleo": "s3"}
PHOTOS = range(1, 11)
WATCH_LIMIT_S = 120.0

Say = Callable[[str], None]


@dataclass
class Demo:
    """What the story showed; `to_dict` is what `coremlops demo --json` prints.

    `steps` maps a step to its seconds in the first run. Times are wall-clock seconds of whole processes.
    """

    folder: Path
    started: float = field(default_factory=time.monotonic)
    steps: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    ok: bool = False
    elapsed_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the facts beside the times."""
        return {
            "ok": self.ok,
            "elapsed_s": round(self.elapsed_s, 2),
            "project": str(self.folder),
            "steps": self.steps,
            **self.facts,
        }


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Serve `folder` as a CDN would, on a free port of this machine; yields the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def command(folder: Path, say: Say, *args: str, follow: bool = False) -> dict[str, Any]:
    """Run `coremlops ARGS --json` in the project and return its object.

    `follow` shows the command's own progress. Raises CoremlopsError with what it said when it failed.
    """
    say("$ coremlops " + " ".join(args))
    done = subprocess.run(
        [sys.executable, "-m", "coremlops", *args, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=None if follow else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()[-12:]
        raise CoremlopsError(
            "\n".join([f"`coremlops {' '.join(args)}` ended with exit code {done.returncode}", *said]),
            hint=f"the project is in {folder}",
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def watching(folder: Path, say: Say) -> Iterator[subprocess.Popen[str]]:
    """`coremlops watch`, running beside the story; ended as Ctrl-C would."""
    say("$ coremlops watch &")
    process = subprocess.Popen(
        [sys.executable, "-m", "coremlops", "watch", "--settle-s", "0.5", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tell(folder: Path, say: Say) -> Demo:
    """Run the story in `folder`, which must not exist yet, and return what it showed.

    `say` gets one line at a time, for people. Raises CoremlopsError when a part of it fails.
    """
    demo = Demo(folder)
    say(f"ten photos each of {' and '.join(PEOPLE)}, from AT&T Laboratories Cambridge's faces")
    scaffold.create(folder, people=PEOPLE)
    with static_server(folder / "repository") as url:
        _first_model(demo, say, url)
        _newcomer(demo, say, url)
        _rollback(demo, say)
    demo.elapsed_s = time.monotonic() - demo.started
    facts = demo.facts
    demo.ok = bool(
        facts["device"]["predicted"] == facts["device"]["expected"]
        and facts["release_device"]["version_before_promote"] is None
        and facts["release_device"]["predicted"] == facts["release_device"]["expected"]
        and facts["newcomer"]["predicted"] == facts["newcomer"]["expected"]
        and facts["newcomer"]["version"] > facts["device"]["version"]
        and facts["rollback"]["version"] == facts["device"]["version"]
        and facts["rerun"]["ran_steps"] == 0
    )
    return demo


def _first_model(demo: Demo, say: Say, url: str) -> None:
    """Two people become version 1 on staging; a rerun does nothing."""
    facts = demo.facts
    run = command(demo.folder, say, "run", follow=True)
    demo.steps.update({step["name"]: round(step["elapsed_s"], 2) for step in run["steps"]})
    outputs = {step["name"]: Path(step["output"]) for step in run["steps"]}
    report = _read(outputs["verify"] / "report.json")
    facts["accuracy"] = _read(outputs["evaluate"] / "metrics.json")["accuracy"]
    facts["parity"] = {
        "top1_agreement": report["top1_agreement"],
        "snr_db": report["snr_db"],
        "proof": report["proof"],
    }
    facts["model"] = {"digest": report["model"]["digest"], "bytes": report["model"]["bytes"]}

    photo, person = unseen_photo(demo.folder, outputs["prepare"], next(iter(PEOPLE)))
    facts["device"] = {
        "channel": "staging",
        "version": command(demo.folder, say, *install("staging", url))["version"],
        "predicted": ask(demo.folder, say, "staging", photo),
        "expected": person,
        "photo": photo,
    }
    started = time.monotonic()
    again = command(demo.folder, say, "run")
    facts["rerun"] = {
        "noop_s": round(time.monotonic() - started, 3),
        "cached_steps": again["cached_steps"],
        "ran_steps": again["ran_steps"],
    }


def _newcomer(demo: Demo, say: Say, url: str) -> None:
    """A third person's photos arrive while `coremlops watch` runs; the rest happens by itself.

    While it does, version 1 is promoted to the release channel, as people do not wait for machines.
    """
    (name,) = NEWCOMER
    started = time.monotonic()
    with watching(demo.folder, say) as watch:
        next_run(watch)  # the photos that are there: nothing to do
        say(f"ten photos of {name} arrive in photos/, and watch starts the pipeline; meanwhile:")
        samples.write_people(demo.folder / "photos", NEWCOMER, PHOTOS)
        _promotion(demo, say, url)
        say(f"waiting for the model that knows {name}")
        run = next_run(watch)
    if not run["ok"]:
        raise CoremlopsError(f"the watch's run failed: {run['error']}", hint=f"see {demo.folder}")
    prepared = next(Path(step["output"]) for step in run["steps"] if step["name"] == "prepare")
    update = command(demo.folder, say, *device("staging"))
    photo, person = unseen_photo(demo.folder, prepared, name)
    demo.facts["newcomer"] = {
        "version": update["version"],
        "predicted": ask(demo.folder, say, "staging", photo),
        "expected": person,
        "elapsed_s": round(time.monotonic() - started, 2),
    }


def _promotion(demo: Demo, say: Say, url: str) -> None:
    """A device on the release channel sees nothing until version 1 is promoted."""
    tested = demo.facts["device"]
    before = command(demo.folder, say, *install("release", url))
    command(demo.folder, say, "release", "promote", "--version", str(tested["version"]))
    after = command(demo.folder, say, *device("release"))
    demo.facts["release_device"] = {
        "channel": "release",
        "version_before_promote": before["version"],
        "version": after["version"],
        "predicted": ask(demo.folder, say, "release", tested["photo"]),
        "expected": tested["expected"],
    }


def _rollback(demo: Demo, say: Say) -> None:
    """Staging goes back to version 1, by newer metadata."""
    command(demo.folder, say, "release", "rollback", "--channel", "staging")
    update = command(demo.folder, say, *device("staging"))
    demo.facts["rollback"] = {
        "version": update["version"],
        "predicted": ask(demo.folder, say, "staging", demo.facts["device"]["photo"]),
        "expected": demo.facts["device"]["expected"],
    }


def device(channel: str) -> tuple[str, ...]:
    """The start of an update command for the demo's device on `channel`."""
    return ("device", "update", "--device", f"devices/{channel}")


def install(channel: str, url: str) -> tuple[str, ...]:
    """A device's first update: where to ask, and the root of trust that an app embeds."""
    root = "repository/metadata/1.root.json"
    return (*device(channel), "--url", url, "--root", root, "--channel", channel)


def ask(folder: Path, say: Say, channel: str, photo: str) -> str:
    """What the device on `channel` says that `photo` shows."""
    answer = command(
        folder, say, "device", "predict", "--device", f"devices/{channel}", "--input", f"image={photo}"
    )
    return str(answer["classLabel"])


def unseen_photo(folder: Path, prepared: Path, person: str) -> tuple[str, str]:
    """A photo of `person` that `prepare` held out, relative to the project, and who it is."""
    held_out = sorted((prepared / "test" / person).iterdir())[0]
    original = held_out.stem.rsplit("-", 1)[0]
    return str(Path("photos", person, f"{original}.png")), person


def next_run(watch: subprocess.Popen[str]) -> dict[str, Any]:
    """The next run that `coremlops watch --json` reports.

    Raises CoremlopsError when the watch ends or takes too long.
    """
    timer = threading.Timer(WATCH_LIMIT_S, watch.kill)
    timer.start()
    try:
        for line in watch.stdout or ():
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "finished":
                return event
    finally:
        timer.cancel()
    raise CoremlopsError("`coremlops watch` ended, or reported no run in time")


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
