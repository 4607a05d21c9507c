"""What running and explaining share: a project's store, caches and the ingredients of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from coremlops.errors import ConfigError, InputError
from coremlops.pipeline.code import CodeReader
from coremlops.pipeline.config import Input
from coremlops.pipeline.disk import read_json, write_json
from coremlops.pipeline.key import Ingredients, ingredients_of
from coremlops.pipeline.project import Project, ReadyPipeline, ReadyStep
from coremlops.pipeline.store import Output, Record, Store
from coremlops.pipeline.tree import TreeCache, skip_clutter, subtree


class Session(NamedTuple):
    """A project opened for one run or one question."""

    project: Project
    pipeline: ReadyPipeline
    store: Store
    trees: TreeCache
    code: CodeReader

    @classmethod
    def open(cls, project: Project, pipeline: ReadyPipeline) -> Session:
        trees = TreeCache(project.own / "cache" / "trees")
        return cls(project, pipeline, Store(project.own / "store"), trees, CodeReader(project, trees))

    def inputs(self, ready: ReadyStep, outputs: Mapping[str, Output]) -> dict[str, Output]:
        """Each input of a step: where it is and what it holds. `outputs`: of the steps before it.

        Raises `InputError` for one that is not there.
        """
        return {source.name: self.input(ready, source, outputs) for source in ready.step.inputs}

    def input(self, ready: ReadyStep, source: Input, outputs: Mapping[str, Output]) -> Output:
        """One input of a step. Raises `InputError` when it is not there."""
        where = f"step {ready.name}, input {source.name}"
        if source.step is None:
            path = self.project.root / source.path
            if not path.exists():
                raise InputError(
                    f"{where}: there is no {source.source} in {self.project.root}",
                    hint=_near(path, self.project.root),
                )
            return Output(path, self.trees.tree(path, skip_clutter))
        output = outputs[source.step]
        if not source.path:
            return output
        part = subtree(output.tree, source.path)
        if part is None:
            there = sorted({name.split("/")[0] for name in output.tree.files})
            raise InputError(
                f"{where}: the output of {source.step} has no {source.path}; it has {', '.join(there[:10])}"
            )
        return Output(output.path / source.path, part)

    def ingredients(self, ready: ReadyStep, inputs: Mapping[str, str]) -> Ingredients:
        """What the output of a step depends on. `inputs`: name to tree digest."""
        return ingredients_of(
            ready,
            inputs=inputs,
            code={name: tree.digest for name, tree in self.code.trees(ready).items()},
            distributions=self.code.distributions(ready),
            environment=self._environment(ready),
        )

    def _environment(self, ready: ReadyStep) -> dict[str, str]:
        found = {}
        for kind, name in ready.mlproject.environment.items():
            path = ready.folder / name
            if not path.is_file():
                raise ConfigError(f"{ready.mlproject.where}: {kind} names {name}, and there is no such file")
            found[kind] = self.trees.tree(path).digest
        return found

    def present(
        self, ready: ReadyStep, inputs: Mapping[str, Output], tracking_uri: str
    ) -> Mapping[str, Any] | None:
        """The receipt of an effect whose result is there already, or None when the step must run.

        A component finds MLflow's address under `tracking_uri`, unless the project gives it another.
        """
        assert ready.component is not None  # noqa: S101 (only components are effects)
        root = self.project.root
        params = ready.values(root)
        params["tracking_uri"] = params.get("tracking_uri") or tracking_uri
        return ready.component.present({name: item.path for name, item in inputs.items()}, params, root)

    def check(self, ready: ReadyStep) -> None:
        """Raise for what an effect would refuse whatever the steps before it make."""
        assert ready.component is not None  # noqa: S101 (only components are effects)
        own = [source for source in ready.step.inputs if source.step is None]
        sources = {source.name: self.input(ready, source, {}).path for source in own}
        ready.component.check(sources, ready.values(self.project.root), self.project.root)

    def effect_output(self, name: str) -> Output | None:
        """What an effect step left when it last ran or was found done."""
        path = self.project.own / "effects" / name
        return Output(path, self.trees.tree(path)) if path.is_dir() else None

    def last(self, name: str) -> tuple[str, Record | None]:
        """The key under which a step was last done, and its record; ("", None) when it never was."""
        keys = read_json(self._last_path)
        key = keys.get(name, "") if isinstance(keys, dict) else ""
        return key, self.store.record(key) if key else None

    def remember_last(self, keys: Mapping[str, str]) -> None:
        """Note under which keys steps were done now."""
        before = read_json(self._last_path)
        before = before if isinstance(before, dict) else {}
        after: dict[str, Any] = {**before, **keys}
        if after != before:
            write_json(self._last_path, after)

    @property
    def _last_path(self) -> Path:
        return self.project.own / "last" / f"{self.pipeline.name}.json"


def _near(path: Path, root: Path) -> str:
    """The folder beside a missing one that is called nearly so, if there is one."""
    from difflib import get_close_matches

    beside = [item.name for item in path.parent.glob("*") if item.is_dir() and item.name[0] != "."]
    near = get_close_matches(path.name, beside, n=1, cutoff=0.75)
    return f"did you mean './{path.with_name(near[0]).relative_to(root)}'?" if near else ""
