"""A tiny project of shell steps, with the sender kept from starting (it would import MLflow)."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

MLPROJECT = """\
name: {name}
entry_points:
  main:
    parameters:
{parameters}
    command: {command!r}
"""


class Tiny:
    """A project under `root`: steps are added, then `save` writes `coremlops.yaml`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[str] = []
        self.head = ""
        root.mkdir(parents=True, exist_ok=True)

    def step(
        self,
        name: str,
        command: str,
        inputs: Mapping[str, str],
        parameters: Mapping[str, str] | None = None,
        extra: str = "",
    ) -> Path:
        """Add a step whose shell `command` may use `{downstream}`, its inputs and parameters."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        declared = {**dict.fromkeys(inputs, "path"), "downstream": "path", **(parameters or {})}
        lines = "\n".join(f"      {key}: {value}" for key, value in declared.items())
        (folder / "MLproject").write_text(MLPROJECT.format(name=name, parameters=lines, command=command))
        listed = ", ".join(f"{key}: {value}" for key, value in inputs.items())
        self.steps.append(f"      {name}: {{path: {name}, inputs: {{{listed}}}{extra}}}")
        return folder

    def save(self) -> Path:
        text = f"project: tiny\n{self.head}pipelines:\n  main:\n    steps:\n" + "\n".join(self.steps) + "\n"
        (self.root / "coremlops.yaml").write_text(text)
        return self.root


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Keeps a project's sender from starting, as if one were at work already."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "COREMLOPS_STEP"):
        monkeypatch.delenv(name, raising=False)
    held = []

    def hold(root: Path) -> None:
        outbox = root / ".coremlops" / "outbox"
        outbox.mkdir(parents=True, exist_ok=True)
        file = (outbox / "sender.lock").open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        held.append(file)

    yield hold
    for file in held:
        file.close()


@pytest.fixture
def tiny(tmp_path: Path, quiet: Callable[[Path], None]) -> Tiny:
    """Three steps: a copies ./data, b appends a parameter and counts its runs, c reads one file of b."""
    project = Tiny(tmp_path / "tiny")
    quiet(project.root)
    (project.root / "data" / "ada").mkdir(parents=True)
    (project.root / "data" / "ada" / "1.txt").write_text("one")
    project.step("a", "cp -r {data}/. {downstream}", {"data": "./data"})
    project.step(
        "b",
        "cat {upstream}/*/* > {downstream}/all.txt && echo {word} >> {downstream}/all.txt"
        " && sh ./count.sh {downstream}",
        {"upstream": "a"},
        {"word": "{type: string, default: hello}", "epochs": "{type: float, default: 20}"},
    )
    (project.root / "b" / "count.sh").write_text('wc -c < "$1/all.txt" > "$1/count.txt"\n')
    project.step("c", "cp {upstream} {downstream}/copy.txt", {"upstream": "b/all.txt"})
    project.save()
    return project
