"""The base install describes, executes and receives models: what its rooms import is what it declares."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
BASE = (
    "model",
    "dialects",
    "lower",
    "runtime",
    "collection",
    "golden",
    "source",
    "client",
    "release",
    "lint",
)
# Of extras, imported lazily, with an error that names the extra.
EXTRAS = {
    *("torch", "safetensors", "coremltools", "openvino"),
    *("xgboost", "lightgbm", "catboost", "skops", "pandas"),  # pandas comes with scikit-learn's tables alone
}


def declared() -> dict[str, str]:
    """The base install's dependencies: distribution -> the whole requirement."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    lines: list[str] = project["dependencies"]
    names = (line.split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip() for line in lines)
    return {name.lower(): line for name, line in zip(names, lines, strict=True)}


def imported(room: str) -> set[str]:
    """The top-level modules of others that a room imports, at the top of a file or inside a function."""
    found: set[str] = set()
    for path in (HERE / "src" / "coremlops" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"coremlops"} - EXTRAS


@pytest.mark.parametrize("room", BASE)
def test_a_base_room_imports_only_what_the_base_install_has(room: str) -> None:
    homes = packages_distributions()
    missing = {
        module: homes.get(module)
        for module in imported(room)
        if not {name.lower() for name in homes.get(module, ())} & declared().keys()
    }
    assert missing == {}


def test_the_base_install_can_sign() -> None:
    """tuf alone brings no cryptography: `repo init` fails, and a device verifies in slow pure Python."""
    assert "cryptography" in declared()
    assert declared()["securesystemslib"].startswith("securesystemslib[crypto]")
