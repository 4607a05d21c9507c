"""Puts the stand-in where coremltools looks for Apple's framework, whichever was imported first."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from coremlops.bridge import standin
from coremlops.errors import MissingExtraError

NATIVE = "coremltools.libcoremlpython"
# coremltools asks for the version of macOS before it compiles a model (10.13) or makes a state (15.0). It
# hears the oldest that has everything; `coremltools.utils._is_macos` still says the truth.
MACOS = (15, 0)


def install(*, precision: str = "typed") -> bool:
    """Let coremltools predict here; True when the stand-in serves, False where Apple's framework does.

    `precision`: of the models that are loaded from now on; see `coremlops.load`. A model that coremltools
    made before has to be loaded again. Calling this twice is harmless.

    Raises UsageError for an unknown precision, MissingExtraError without coremltools.
    """
    if sys.modules.get(NATIVE, standin) is not standin or _has_native_module():
        return False
    standin.set_precision(precision)
    if sys.modules.get(NATIVE) is standin:
        return True
    sys.modules[NATIVE] = standin
    _adapt_loaded()
    sys.meta_path.insert(0, _Adapter())
    return True


def _has_native_module() -> bool:
    spec = importlib.util.find_spec("coremltools")
    if spec is None:
        raise MissingExtraError("coremltools", "convert")
    folders = spec.submodule_search_locations or ()
    return any(True for folder in folders for _ in Path(folder).glob("libcoremlpython*"))


def _version() -> tuple[int, ...]:
    return MACOS


def _tell_version(module: ModuleType) -> None:
    module.__dict__["_macos_version"] = _version


def _tell_system(module: ModuleType) -> None:
    # `MLModel.make_state` asks this before it asks the framework; nothing else here depends on it.
    module.__dict__["_is_macos"] = lambda: True


# What coremltools' modules must hear. All others take `_macos_version` from `utils` when they are imported.
_CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "coremltools.models.utils": _tell_version,
    "coremltools.models.model": _tell_system,
}


class _Adapter(MetaPathFinder):
    """Applies `_CHANGES` to a module right after its import, so that `install` need not import coremltools.

    A script's own settings (threads, logging, environment) must still come before that import.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = _CHANGES.get(fullname)
        if change is None:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((entry for entry in found if entry is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _adapt_loaded() -> None:
    """Give what coremltools' modules looked for in vain to those that are already imported."""
    for name, module in list(sys.modules.items()):
        if name == "coremltools":
            module.__dict__["libcoremlpython"] = standin
        if not name.startswith("coremltools.models") or module is None:
            continue
        for proxy in standin.PROXIES:
            if vars(module).get(proxy, standin) is None:
                module.__dict__[proxy] = getattr(standin, proxy)
        if "_macos_version" in vars(module):
            _tell_version(module)
        if name in _CHANGES:
            _CHANGES[name](module)
