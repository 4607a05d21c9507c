"""Whether inputs of a golden set may be published: the data of a project's steps may not, as it lies."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from pathlib import Path

from coremlops.digest import members_digest, sha256_file
from coremlops.errors import CoremlopsError, DataError
from coremlops.pipeline.findings import MAX_BYTES
from coremlops.pipeline.project import find_project, load_project

OWN = ".coremlops"
DATASET = "dataset.json"
# These read data to judge a model, and not to make it.
_JUDGES = ("bundle", "lint", "publish", "register", "verify")
_MOST_FILES = 1000
_HINT = (
    "a golden set goes to everyone who gets the model: copy the inputs that may be published into a folder "
    "of their own, and name that"
)


def check_publishable(inputs: str | Path) -> None:
    """Raise DataError for data of a step: what one wrote, what one reads, or the same files again.

    Looked at are the project of `inputs`, that of $COREMLOPS_PROJECT and that of the working directory.
    """
    path = Path(inputs)
    if not path.exists():
        return  # `module:function`, or what open_samples will not find
    real = path.resolve()
    if OWN in real.parts:
        raise DataError(f"{inputs} is what a step of the pipeline wrote", hint=_HINT)
    folder = real if real.is_dir() else real.parent
    for each in (folder, folder.parent):
        if (each / DATASET).is_file():
            raise DataError(f"{inputs} is data that a step prepared: {each / DATASET} says so", hint=_HINT)
    projects = _projects(path)
    for root in projects:
        for step, source in _sources(root):
            if real.is_relative_to(source) or (source.is_relative_to(real) and source != real):
                raise DataError(f"{inputs} is what the step {step} of {root} reads: {source}", hint=_HINT)
    known = {digest: file for root in projects for digest, file in _datasets(root)}
    if known and (digest := _digest(real)) in known:
        raise DataError(f"{inputs} holds the very files of the data set {known[digest]}", hint=_HINT)


def _projects(path: Path) -> list[Path]:
    found = []
    for start in (path, Path(os.environ.get("COREMLOPS_PROJECT") or "."), Path.cwd()):
        try:
            found.append(find_project(start.absolute()).resolve())
        except CoremlopsError:
            continue
    return list(dict.fromkeys(found))


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    """What the project's own steps, and those that train or calibrate, read from its folders."""
    try:
        pipelines = load_project(root).config.pipelines.values()
    except CoremlopsError:
        return
    for pipeline in pipelines:
        for step in pipeline.steps:
            if step.uses in _JUDGES:
                continue
            for source in step.inputs:
                if source.step is None:
                    yield step.name, (root / source.path).resolve()


def _datasets(root: Path) -> Iterator[tuple[str, Path]]:
    """The digest in each `dataset.json` that a step of the project left."""
    for file in (root / OWN / "store" / "objects").glob(f"*/{DATASET}"):
        try:
            if file.stat().st_size <= MAX_BYTES:
                yield str(json.loads(file.read_bytes())["digest"]), file
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue


def _digest(inputs: Path) -> str:
    """As `dataset.json` has it: over paths and contents; empty for a folder with very many files."""
    folder = inputs if inputs.is_dir() else inputs.parent
    patterns = ("*", "*/*") if inputs.is_dir() else (glob.escape(inputs.name),)
    files = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    if len(files) > _MOST_FILES:
        return ""
    return members_digest({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})
