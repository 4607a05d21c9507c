"""`coremlops watch`."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.cli.run import overrides, project_folder, project_options, reporter, show_error, table
from coremlops.errors import ConfigError, CoremlopsError

if TYPE_CHECKING:
    from coremlops.trigger import Change, FolderTrigger


def configure(parser: argparse.ArgumentParser) -> None:
    project_options(parser)
    parser.add_argument("--once", action="store_true", help="look once: run if the content is new, then end")
    parser.add_argument(
        "--settle-s", type=_seconds, default=2.0, metavar="S", help="how long files must be still; default: 2"
    )
    parser.add_argument("--tracking-uri", metavar="URI", help="where MLflow keeps runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each event")
    parser.epilog = (
        "A content is run once; one that comes back after another is not run again (`coremlops run` does it)."
        "\n\nexample: coremlops watch"
    )


def run(args: argparse.Namespace) -> int:
    from coremlops.pipeline.interrupt import Interrupts
    from coremlops.pipeline.project import load_project
    from coremlops.trigger import FolderTrigger, PictureCheck

    project = load_project(project_folder(args))
    paths = watched_paths(project.root, project.ready(args.pipeline, overrides(args)).steps)
    state = "watch" if args.pipeline == "main" else f"watch-{args.pipeline}"
    trigger = FolderTrigger(
        paths,
        project.own / f"{state}.json",
        settle_s=args.settle_s,
        ready=PictureCheck(),
        digest=lambda roots: _content(project.own, roots),
        tell=lambda text: _event(args, "waiting", text, reason=text),
    )
    names = [f"./{path.relative_to(project.root)}" for path in paths]
    _event(args, "watching", f"watching {', '.join(names)}", paths=[str(path) for path in paths])
    try:
        with Interrupts().raised():
            if args.once:
                change = trigger.check()
                if change is None:
                    _event(args, "unchanged", "this content was run before")
                    return 0
                return _run(args, project.root, trigger, change)
            for change in trigger.changes():
                _run(args, project.root, trigger, change)
    finally:
        trigger.close()
    return 0


def watched_paths(root: Path, steps: Sequence[Any]) -> list[Path]:
    """The paths of the project that steps read. Raises `ConfigError` when there are none."""
    sources = [source for ready in steps for source in ready.step.inputs if source.step is None]
    paths = list(dict.fromkeys(root / source.path for source in sources))
    if not paths:
        raise ConfigError(
            "no step reads a path of the project, so there is nothing to watch",
            hint="give a step an input that begins with ./",
        )
    return paths


def _content(own: Path, roots: Sequence[Path]) -> str:
    """The digest of all roots together, reading only what changed."""
    from coremlops.pipeline.tree import TreeCache, digest_of, skip_clutter

    trees = TreeCache(own / "cache" / "trees")
    return digest_of({str(root): trees.tree(root, skip_clutter).digest for root in roots})


def _run(args: argparse.Namespace, root: Path, trigger: FolderTrigger, change: Change) -> int:
    """Run the pipeline for a content; whoever reads `finished` finds the content noted as done."""
    from coremlops.pipeline.runner import run as run_pipeline

    content = change.digest
    _event(args, "started", f"{time.strftime('%H:%M:%S')} new content {content[:12]}", content=content)
    progress = reporter()
    try:
        result = run_pipeline(
            root,
            pipeline=args.pipeline,
            overrides=overrides(args),
            tracking_uri=args.tracking_uri,
            progress=progress,
            check=False,
        )
    except CoremlopsError as error:
        trigger.done(change, "failed")
        show_error(error)
        failure = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        _event(args, "finished", "failed", ok=False, content=content, error=failure)
        return error.exit_code
    finally:
        progress.close()
    trigger.done(change, "ok" if result.ok else "failed")
    _event(args, "finished", table(result), content=content, **result.as_json())
    if result.error is not None:
        show_error(result.error)
        return result.error.exit_code
    return 0


def _event(args: argparse.Namespace, name: str, text: str, **fields: Any) -> None:
    if args.json:
        print(json.dumps({"event": name, **fields}), flush=True)
    else:
        print(text, file=sys.stdout if name == "finished" else sys.stderr, flush=True)


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 3600):
        raise argparse.ArgumentTypeError(f"expected 0 to 3600 seconds, got {text}")
    return value
