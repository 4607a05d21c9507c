"""The code ingredients of a step's key: first-party folders, and the distributions that they import."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from coremlops.errors import ConfigError
from coremlops.pipeline.disk import keep_json, read_table
from coremlops.pipeline.distributions import Distribution, Installed, installed
from coremlops.pipeline.project import Project, ReadyStep
from coremlops.pipeline.tree import Tree, TreeCache, skip_not_code

if TYPE_CHECKING:
    from coremlops.pipeline.imports import Modules

FORMAT = 1
_MAX_SCANS = 500


class CodeReader:
    """Reads the code of a project's steps; what it had to parse is remembered across processes.

    `paths`: where distributions are looked for, by default this Python's `sys.path`.
    """

    def __init__(self, project: Project, trees: TreeCache, paths: Sequence[str] | None = None) -> None:
        self._project = project
        self._trees = trees
        self._paths = paths
        self._memory = project.own / "cache" / "imports.json"
        scans = read_table(self._memory, FORMAT, "scans")
        self._scans: dict[str, list[str]] = {
            key: names
            for key, names in scans.items()
            if isinstance(names, list) and all(isinstance(name, str) for name in names)
        }
        self._changed = False
        self._installed: Installed | None = None
        self._seen: dict[Path, Tree] = {}
        self._modules: dict[Path, Modules] = {}
        self._path: list[tuple[Path, frozenset[str]]] | None = None

    def trees(self, ready: ReadyStep) -> dict[str, Tree]:
        """The first-party code of a step: `step` is its own folder, the others are named by `code:`."""
        found = {"step": self._tree(ready.folder)}
        for name in self._project.config.code:
            folder = self._project.root / name
            if not folder.is_dir():
                raise ConfigError(f"coremlops.yaml: code names {name!r}, and there is no such folder")
            found[name] = self._tree(folder)
        return found

    def distributions(self, ready: ReadyStep) -> dict[str, str]:
        """Name to version of what a step's code imports and what that requires.

        A distribution installed in editable mode, and a module found elsewhere on the path, counts with the
        digest of its files; a name that nothing provides counts as `not installed`.
        """
        names = set(ready.mlproject.modules)
        local: set[str] = set()
        for name, tree in self.trees(ready).items():
            folder = ready.folder if name == "step" else self._project.root / name
            names.update(self._imports(folder, tree))
            local |= _local_modules(folder, tree)
        names = {name for name in names if _top(name) not in sys.stdlib_module_names}
        if not names:
            return {}
        found = self._resolve(names, local)
        return dict(sorted(found.items()))

    def save(self) -> None:
        """Remember what was parsed."""
        if self._changed:
            scans = dict(list(self._scans.items())[-_MAX_SCANS:])
            keep_json(self._memory, {"format": FORMAT, "scans": scans})
            self._changed = False

    def _tree(self, folder: Path) -> Tree:
        if folder not in self._seen:
            self._seen[folder] = self._trees.tree(folder, skip_not_code)
        return self._seen[folder]

    def _imports(self, folder: Path, tree: Tree) -> list[str]:
        if tree.digest not in self._scans:
            from coremlops.pipeline.imports import names_in

            files = [folder / name for name in tree.files if name.endswith(".py")]
            self._scans[tree.digest] = sorted(names_in(files))
            self._changed = True
        return self._scans[tree.digest]

    def _resolve(self, names: set[str], local: set[str]) -> dict[str, str]:
        if self._installed is None:
            self._installed = installed(self._project.own / "cache" / "installed.json", self._paths)
        known = self._installed
        found: dict[str, str] = {}
        done: set[str] = set()
        pending = dict.fromkeys(names, local)
        roots: set[str] = set()
        while pending:
            name, own = pending.popitem()
            done.add(name)
            place = self._on_path(_top(name), regular=True)  # before what is installed, as Python looks
            if place is not None:
                tree = self._tree(place)
                found[f"module {_top(name)}"] = f"path {tree.digest[:32]}"
                reached = self._reached(place, tree, name)
                pending.update({other: set() for other in reached if other not in done})
                continue
            providers = known.names.get(_top(name), ())
            for provider in providers:
                roots.add(provider)
                for package, tree in self._editable(known.distributions[provider]):
                    if package.stem == _top(name):
                        reached = self._reached(package, tree, name)
                        pending.update({other: set() for other in reached if other not in done})
            if not providers and _top(name) not in own:
                found.update(self._elsewhere(_top(name)))
        for distribution in known.closure(roots):
            sources = self._editable(distribution)
            text = "".join(f"{tree.digest}\n" for _, tree in sources)
            found[distribution.name] = (
                f"editable {blake3(text.encode()).hexdigest()[:32]}" if sources else distribution.version
            )
        return found

    def _editable(self, distribution: Distribution) -> list[tuple[Path, Tree]]:
        if not distribution.sources:
            return []
        return [(path, self._tree(path)) for path in map(Path, distribution.sources) if path.exists()]

    def _reached(self, package: Path, tree: Tree, start: str) -> list[str]:
        if not package.is_dir() and package.suffix != ".py":
            return []
        key = blake3(f"{tree.digest} {package.name} {start}".encode()).hexdigest()
        if key not in self._scans:
            from coremlops.pipeline.imports import Modules, names_in

            if package.is_dir():
                modules = self._modules.setdefault(package, Modules(package))
                self._scans[key] = sorted(modules.reached([start]))
            else:
                self._scans[key] = sorted(names_in([package]))
            self._changed = True
        return self._scans[key]

    def _elsewhere(self, name: str) -> Mapping[str, str]:
        """A module that no distribution provides: a bare folder on PYTHONPATH, or missing."""
        place = self._on_path(name, regular=False)
        return {f"module {name}": f"path {self._tree(place).digest[:32]}" if place else "not installed"}

    def _on_path(self, name: str, *, regular: bool) -> Path | None:
        """The package or module of this name on PYTHONPATH; without `regular`, a namespace package."""
        if self._path is None:
            self._path = [(Path(place), _listing(place)) for place in _python_path()]
        for place, names in self._path:
            if name in names and (place / name / "__init__.py").is_file() == regular:
                return place / name
            if regular:
                for suffix in all_suffixes():
                    if f"{name}{suffix}" in names:
                        return place / f"{name}{suffix}"
        return None


def _python_path() -> list[str]:
    return [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]


def _listing(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except OSError:
        return frozenset()


def _top(name: str) -> str:
    return name.partition(".")[0]


def _local_modules(folder: Path, tree: Tree) -> set[str]:
    """Names that code in `folder` can import from it: its modules, its packages, itself."""
    names = {folder.name}
    for path in tree.files:
        if path.endswith(".py"):
            parts = path[:-3].split("/")
            names.update(parts)
    return names


def code_digest(trees: Iterable[Mapping[str, Tree]]) -> str:
    """One digest for the first-party code of several steps."""
    lines = sorted({f"{name} {tree.digest}\n" for step in trees for name, tree in step.items()})
    return blake3("".join(lines).encode()).hexdigest()
