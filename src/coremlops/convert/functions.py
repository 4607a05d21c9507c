"""Several functions in one package: each converted, or taken from a package, and their weights kept once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from coremlops.convert.options import ConvertOptions
from coremlops.convert.origin import origins_beside
from coremlops.convert.plan import check_target
from coremlops.convert.words import near
from coremlops.errors import ConversionError, UsageError
from coremlops.files import working_folder
from coremlops.model import ModelAsset

MAIN = "main"
MAX_FUNCTIONS = 100


def check_functions(options: ConvertOptions) -> str:
    """The name of the default function. Raises UsageError for names or a target that cannot be."""
    names = list(options.functions)
    if len(names) > MAX_FUNCTIONS:
        raise UsageError(f"functions: at most {MAX_FUNCTIONS} expected, got {len(names)}")
    for name in names:
        if not name.isidentifier() or not name.isascii():
            raise UsageError(f"functions: a name of letters, digits and _ expected, got {name!r}")
    check_target(options.target, "several functions", names, "iOS18")
    chosen = options.default_function or names[0]
    if chosen not in names:
        raise UsageError(
            f"default_function: one of {', '.join(names)} expected, got {chosen!r}", hint=near(chosen, names)
        )
    return chosen


def merge(
    options: ConvertOptions, out: Path, one: Callable[[str, Path, ConvertOptions], Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a package with all functions to `out`, and return what `one` gave for each that was converted,
    and where the ops of each came from, as far as a file beside its package says.

    `one` converts a source to a path. Raises UsageError for a package that is no ML Program or of which it is
    not clear what is meant, and what `one` raises.
    """
    import coremltools as ct

    default = check_functions(options)
    made: dict[str, Any] = {}
    origins: dict[str, Any] = {}
    described = ct.utils.MultiFunctionDescriptor()
    with working_folder(out.parent, ".functions-") as folder:
        for name, source in options.functions.items():
            path = Path(source)
            if path.suffix != ".mlpackage":
                path = Path(folder, f"{name}.mlpackage")
                made[name] = one(source, path, replace(options, functions={}, default_function=""))
            if ops := origins_beside(path):
                origins[name] = ops
            described.add_function(str(path), _function_of(path), name)
        described.default_function_name = default
        try:
            ct.utils.save_multifunction(described, str(out))
        except Exception as error:  # coremltools lets anything out
            raise ConversionError(f"the functions do not merge: {error}") from error
    return made, origins


def _function_of(path: Path) -> str:
    asset = ModelAsset.open(path)
    if asset.kind != "mlProgram":
        raise UsageError(f"{path}: an ML Program expected, got {asset.kind}")
    names = list(asset.spec.mlProgram.functions)
    if len(names) != 1:
        raise UsageError(f"{path}: one function expected, got {', '.join(names)}")
    return str(names[0])
