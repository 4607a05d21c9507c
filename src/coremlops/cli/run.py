"""`coremlops run`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.errors import CoremlopsError, GateError, StepError, UsageError

if TYPE_CHECKING:
    from coremlops.pipeline import RunResult, StepResult


def configure(parser: argparse.ArgumentParser) -> None:
    project_options(parser)
    parser.add_argument("--to", metavar="STEP", help="run only this step and what it needs")
    parser.add_argument(
        "--force", metavar="STEP", action="append", default=[], help="run this step even if it is done"
    )
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="steps at once; default: one a CPU core, 4 at most"
    )
    parser.add_argument("--tracking-uri", metavar="URI", help="where MLflow keeps runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "example: coremlops run -P train.epochs=50"


def project_options(parser: argparse.ArgumentParser) -> None:
    """The options that `run`, `why` and `watch` share."""
    parser.add_argument("--project", metavar="DIR", type=Path, help="default: found upward from here")
    parser.add_argument("--pipeline", metavar="NAME", default="main", help="default: main")
    parser.add_argument(
        "-P", dest="params", metavar="NAME=VALUE", action="append", default=[],
        help="set a parameter, of every step that has it or of one (STEP.NAME=VALUE)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from coremlops.pipeline.runner import run as run_pipeline

    progress = reporter()
    try:
        result = run_pipeline(
            project_folder(args),
            pipeline=args.pipeline,
            overrides=overrides(args),
            to=args.to,
            force=args.force,
            tracking_uri=args.tracking_uri,
            progress=progress,
            check=False,
            jobs=args.jobs,
        )
    finally:
        progress.close()
    if args.json:
        print(json.dumps(result.as_json()))
    elif result.steps:
        print(table(result))
    if result.error is not None:
        show_error(result.error)
        return result.error.exit_code
    return 0


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value


def project_folder(args: argparse.Namespace) -> Path:
    """The project that the options name, or the one around the working directory."""
    if args.project is not None:
        return Path(args.project)
    from coremlops.pipeline.project import find_project

    return find_project(Path.cwd())


def overrides(args: argparse.Namespace) -> dict[str, str]:
    """The `-P` options. Raises `UsageError` for one without `=`."""
    found = {}
    for text in args.params:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"-P expects NAME=VALUE, got {text!r}")
        found[name] = value
    return found


def table(result: RunResult) -> str:
    """Steps, what became of them, and seconds."""
    width = max(len(step.name) for step in result.steps)
    lines = [f"{step.name:{width}}  {step.status:7}  {step.elapsed_s:8.2f} s" for step in result.steps]
    lines.append(f"{'':{width}}  {'':7}  {result.elapsed_s:8.2f} s")
    return "\n".join(lines)


def show_error(error: CoremlopsError) -> None:
    """An error on stderr, with the last lines of the step that failed."""
    print(f"error: {error.message}", file=sys.stderr)
    if isinstance(error, StepError):
        for line in error.log_tail:
            print(f"  | {line}", file=sys.stderr)
    elif isinstance(error, GateError):
        for line in error.failed:
            print(f"  {line}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


class Lines:
    """Progress as plain lines on stderr; steps that were done already say nothing."""

    def started(self, step: str, index: int, total: int, log: Path) -> None:
        print(f"[{index + 1}/{total}] {step} ...", file=sys.stderr, flush=True)

    def finished(self, result: StepResult, index: int, total: int) -> None:
        if result.status in ("ran", "failed"):
            print(
                f"[{index + 1}/{total}] {result.name} {result.status} in {result.elapsed_s:.2f} s",
                file=sys.stderr,
                flush=True,
            )

    def tell(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


def reporter() -> Lines:
    """Progress for this stderr: bars on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        return Bars()
    return Lines()


class Bars(Lines):
    """Progress as a bar with the last line of the step's log, drawn by rich once there is work."""

    def __init__(self) -> None:
        from typing import Any

        self._live: Any = None
        self._task: Any = None
        self._running: dict[str, Path] = {}
        self._done = 0

    def started(self, step: str, index: int, total: int, log: Path) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
            )

            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:12}"),
                BarColumn(24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("[dim]{task.fields[line]}", markup=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._live.add_task(step, total=total, line="")
            self._live.start()
            self._follow()
        self._running[step] = log
        self._live.update(self._task, description=" ".join(self._running), completed=self._done)

    def finished(self, result: StepResult, index: int, total: int) -> None:
        self._done += 1
        self._running.pop(result.name, None)
        if self._live is None:
            return
        self._live.update(self._task, description=" ".join(self._running), completed=self._done)
        if result.status in ("ran", "failed"):
            self._live.console.print(
                f"{result.name:12} {result.status} in {result.elapsed_s:.2f} s", highlight=False
            )

    def tell(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            super().tell(text)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _follow(self) -> None:
        import threading
        import time

        from rich.markup import escape

        from coremlops.pipeline.process import tail

        def follow() -> None:
            while (live := self._live) is not None:
                logs = list(self._running.values())
                lines = tail(logs[-1], 1) if logs else ()
                live.update(self._task, line=escape(lines[-1][:60]) if lines else "")
                time.sleep(0.25)

        threading.Thread(target=follow, daemon=True).start()
