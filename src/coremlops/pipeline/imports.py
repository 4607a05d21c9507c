"""What Python code imports, read from its syntax, never by running it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_SOURCE_BYTES = 4 << 20
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def imported_names(source: bytes, module: str = "", is_package: bool = False) -> set[str]:
    """The dotted names that `source` imports, anywhere in it, guarded or not.

    `from a import b` gives `a.b` (b may be a module). Relative imports are resolved against `module`, the
    dotted name of the code itself, and left out when that is empty. Code with a syntax error imports nothing.
    """
    return _names(_tree(source), module, is_package)


def _tree(source: bytes) -> ast.Module:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def _names(tree: ast.Module, module: str, is_package: bool) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                if not module:
                    continue
                package = module.split(".")
                package = package[: len(package) - node.level + is_package]
                base = ".".join([*package, *([base] if base else [])])
            names.update(f"{base}.{alias.name}" for alias in node.names if base)
    return names


def names_in(paths: Iterable[Path]) -> set[str]:
    """The dotted names that these `.py` files import from outside the standard library."""
    found: set[str] = set()
    for path in paths:
        if path.stat().st_size <= MAX_SOURCE_BYTES:
            found |= imported_names(path.read_bytes())
    return {name for name in found if top(name) not in sys.stdlib_module_names}


def top(name: str) -> str:
    """`a` of `a.b.c`."""
    return name.partition(".")[0]


class Modules:
    """The modules of one package, each read once.

    `package` is the folder of the top-level package. The answers stand while its files do not change.
    """

    def __init__(self, package: Path) -> None:
        self._package = package
        self._files: dict[str, Path | None] = {}
        self._names: dict[str, set[str]] = {}

    def reached(self, starts: Iterable[str]) -> set[str]:
        """What the package's modules import from elsewhere, following only what `starts` lead to.

        A string in the code that is the dotted name of one of the modules counts as an import, because tables
        of lazily imported modules are written so.
        """
        outside: set[str] = set()
        seen: set[str] = set()
        pending = [module for start in starts for module in self._executed(start)]
        while pending:
            module = pending.pop()
            if module in seen:
                continue
            seen.add(module)
            for name in self._imports(module):
                if top(name) == self._package.name:
                    pending.extend(self._executed(name))
                elif top(name) not in sys.stdlib_module_names:
                    outside.add(name)
        return outside

    def _imports(self, module: str) -> set[str]:
        if module not in self._names:
            path = self._file(module)
            if path is None or path.stat().st_size > MAX_SOURCE_BYTES:
                return set()
            tree = _tree(path.read_bytes())
            self._names[module] = _names(tree, module, path.name == "__init__.py") | {
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and len(node.value) < 200
                and _DOTTED.fullmatch(node.value)
                and top(node.value) == self._package.name
            }
        return self._names[module]

    def _executed(self, name: str) -> Iterator[str]:
        """The modules that importing `name` executes: itself and the packages above it."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            module = ".".join(parts[:length])
            if self._file(module) is None:
                return
            yield module
        main = f"{name}.__main__"  # `python -m package` runs it
        if self._file(main) is not None:
            yield main

    def _file(self, module: str) -> Path | None:
        if module not in self._files:
            path = self._package.parent.joinpath(*module.split("."))
            candidates = (path.with_name(f"{path.name}.py"), path / "__init__.py")
            self._files[module] = next((file for file in candidates if file.is_file()), None)
        return self._files[module]
