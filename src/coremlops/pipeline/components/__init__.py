"""The built-in components: what `uses: NAME` in `coremlops.yaml` can name.

Each is a folder here with an `MLproject`, run like any other step. Pure ones are cached by content. An
effect is reconciled instead: `reconcile.present` compares what is with what should be, without a heavy
import, and the step runs when they differ.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Component(NamedTuple):
    """One built-in component; `effect` when it changes something outside its `downstream` folder."""

    name: str
    effect: bool

    @property
    def folder(self) -> Path:
        """Where its `MLproject` is."""
        return Path(__file__).parent / self.name

    def present(
        self, inputs: Mapping[str, Path], params: Mapping[str, str], project: Path
    ) -> Mapping[str, Any] | None:
        """The receipt of an effect whose result is there already, or None when the step must run."""
        module = importlib.import_module(f"{__name__}.{self.name}.reconcile")
        receipt: Mapping[str, Any] | None = module.present(inputs, params, project)
        return receipt

    def check(self, sources: Mapping[str, Path], params: Mapping[str, str], project: Path) -> None:
        """Raise for what an effect would refuse whatever comes before it, so that nothing is begun in vain.

        `sources`: its inputs that are paths of the project.
        """
        module = importlib.import_module(f"{__name__}.{self.name}.reconcile")
        if hasattr(module, "check"):
            module.check(sources, params, project)


COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in (
        Component("convert", effect=False),
        Component("distill", effect=False),
        Component("compress", effect=False),
        Component("compress_module", effect=False),
        Component("lint", effect=False),
        Component("search", effect=False),
        Component("verify", effect=False),
        Component("register", effect=True),
        Component("publish", effect=True),
        Component("bundle", effect=True),
    )
}
