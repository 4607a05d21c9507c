"""The whole story on real photos: from a folder of faces to a device, and back.

Each line is a command that a user could type, and the demo does what it says and no more.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
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

    `steps` maps a step to its seconds in the first run. `failed`: what came out otherwise than told. Times
    are wall-clock seconds of whole processes.
    """

    folder: Path
    started: float = field(default_factory=time.monotonic)
    steps: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    failed: tuple[str, ...] = ("it did not end",)
    elapsed_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all came out as told."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the facts beside the times."""
        return {
            "ok": self.ok,
            "failed": list(self.failed),
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


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands in the project's folder and says each before. `call` is the command line's `main`."""

    folder: Path
    say: Say
    call: Callable[[Sequence[str]], int]

    def run(self, *args: str) -> dict[str, Any]:
        """Run `coremlops ARGS --json` as a process, its progress shown, and return its object.

        Raises CoremlopsError when it fails.
        """
        self.say("$ coremlops " + " ".join(args))
        argv = [sys.executable, "-m", "coremlops", *args, "--json"]
        done = subprocess.run(argv, cwd=self.folder, stdout=subprocess.PIPE, text=True, check=False)
        return self._answer(args, done.returncode, done.stdout, "")

    def here(self, *args: str) -> dict[str, Any]:
        """The same inside this process, which has imported already what a device's commands need."""
        self.say("$ coremlops " + " ".join(args))
        with chdir(self.folder), redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = self.call([*args, "--json"])
        return self._answer(args, code, out.getvalue(), err.getvalue())

    def _answer(self, args: tuple[str, ...], code: int, out: str, err: str) -> dict[str, Any]:
        if code:
            said = err.strip().splitlines()[-12:]
            raise CoremlopsError(
                "\n".join([f"`coremlops {' '.join(args)}` ended with exit code {code}", *said]),
                hint=f"the project is in {self.folder}",
            )
        answer: dict[str, Any] = json.loads(out)
        return answer


@contextmanager
def watching(shell: Shell) -> Iterator[subprocess.Popen[str]]:
    """`coremlops watch`, running beside the story; ended as Ctrl-C would."""
    shell.say("$ coremlops watch &")
    process = subprocess.Popen(
        [sys.executable, "-m", "coremlops", "watch", "--settle-s", "0.5", "--json"],
        cwd=shell.folder,
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


def tell(folder: Path, say: Say, call: Callable[[Sequence[str]], int]) -> Demo:
    """Run the story in `folder`, which must not exist yet, and return what it showed.

    `say` gets one line at a time, for people; `call` is `coremlops.cli.main`. Raises CoremlopsError when a
    part of it fails.
    """
    demo, shell = Demo(folder), Shell(folder, say, call)
    samples.sample_photo(next(iter(PEOPLE.values())), PHOTOS[0])  # missing ones are the first thing to know
    say(f"ten photos each of {' and '.join(PEOPLE)}, from AT&T Laboratories Cambridge's faces")
    scaffold.create(folder, people=PEOPLE)
    with static_server(folder / "repository") as url:
        _first_model(demo, shell, url)
        _newcomer(demo, shell, url)
        _rollback(demo, shell)
    demo.elapsed_s = time.monotonic() - demo.started
    facts = demo.facts
    told = {
        f"the {name.replace('_', ' ')} recognises the photo": facts[name]["predicted"]
        == facts[name]["expected"]
        for name in ("device", "release_device", "newcomer", "rollback")
    }
    told |= {
        "a release device has nothing before it is promoted": (
            facts["release_device"]["version_before_promote"] is None
        ),
        "a third person makes a newer version": facts["newcomer"]["version"] > facts["device"]["version"],
        "a rollback returns to the first version": facts["rollback"]["version"] == facts["device"]["version"],
        "a rerun with nothing changed runs no step": facts["rerun"]["ran_steps"] == 0,
    }
    demo.failed = tuple(line for line, held in told.items() if not held)
    return demo


def _first_model(demo: Demo, shell: Shell, url: str) -> None:
    """Two people become version 1 on staging; a rerun does nothing."""
    facts = demo.facts
    run = shell.run("run")
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
        "version": shell.here(*install("staging", url))["version"],
        "predicted": ask(shell, "staging", photo),
        "expected": person,
        "photo": photo,
    }
    started = time.monotonic()
    again = shell.run("run")
    facts["rerun"] = {
        "noop_s": round(time.monotonic() - started, 3),
        "cached_steps": again["cached_steps"],
        "ran_steps": again["ran_steps"],
    }


def _newcomer(demo: Demo, shell: Shell, url: str) -> None:
    """A third person's photos arrive while `coremlops watch` runs; the rest happens by itself.

    While it does, version 1 is promoted to the release channel, as people do not wait for machines.
    """
    (name,) = NEWCOMER
    started = time.monotonic()
    with watching(shell) as watch:
        next_run(watch)  # the photos that are there: nothing to do
        shell.say(f"ten photos of {name} arrive in photos/, and watch starts the pipeline; meanwhile:")
        samples.write_people(demo.folder / "photos", NEWCOMER, PHOTOS)
        _promotion(demo, shell, url)
        shell.say(f"waiting for the model that knows {name}")
        run = next_run(watch)
    if not run["ok"]:
        raise CoremlopsError(f"the watch's run failed: {run['error']}", hint=f"see {demo.folder}")
    prepared = next(Path(step["output"]) for step in run["steps"] if step["name"] == "prepare")
    update = shell.here(*device("staging"))
    photo, person = unseen_photo(demo.folder, prepared, name)
    demo.facts["newcomer"] = {
        "version": update["version"],
        "predicted": ask(shell, "staging", photo),
        "expected": person,
        "elapsed_s": round(time.monotonic() - started, 2),
    }


def _promotion(demo: Demo, shell: Shell, url: str) -> None:
    """A device on the release channel sees nothing until version 1 is promoted."""
    tested = demo.facts["device"]
    before = shell.here(*install("release", url))
    shell.here("release", "promote", "--version", str(tested["version"]))
    after = shell.here(*device("release"))
    demo.facts["release_device"] = {
        "channel": "release",
        "version_before_promote": before["version"],
        "version": after["version"],
        "predicted": ask(shell, "release", tested["photo"]),
        "expected": tested["expected"],
    }


def _rollback(demo: Demo, shell: Shell) -> None:
    """Staging goes back to version 1, by newer metadata."""
    shell.here("release", "rollback", "--channel", "staging")
    update = shell.here(*device("staging"))
    demo.facts["rollback"] = {
        "version": update["version"],
        "predicted": ask(shell, "staging", demo.facts["device"]["photo"]),
        "expected": demo.facts["device"]["expected"],
    }


def device(channel: str) -> tuple[str, ...]:
    """The start of an update command for the demo's device on `channel`."""
    return ("device", "update", "--device", f"devices/{channel}")


def install(channel: str, url: str) -> tuple[str, ...]:
    """A device's first update: where to ask, and the root of trust that an app embeds."""
    root = "repository/metadata/1.root.json"
    return (*device(channel), "--url", url, "--root", root, "--channel", channel)


def ask(shell: Shell, channel: str, photo: str) -> str:
    """What the device on `channel` says that `photo` shows."""
    asked = ("device", "predict", "--device", f"devices/{channel}", "--input", f"image={photo}")
    answer = shell.here(*asked)
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
