"""What each setting needs of the system that will run the model."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from coremlops.compress.recipe import Setting
from coremlops.errors import UsageError
from coremlops.model import ModelAsset

# The oldest system -> specification version, and that version's set of operations (facts: coreml-format).
TARGETS = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9, "iOS26": 10}
OPSETS = {6: "CoreML5", 7: "CoreML6", 8: "CoreML7", 9: "CoreML8", 10: "CoreML9"}
BLOCKWISE = 9  # the version from which constexpr operations take blocks, groups and each other

# Operations with other inputs from that version on: a program that holds one cannot just be declared newer.
# Source: the registry of coremltools 9.0 (a test compares).
CHANGED = {
    8: ("crop_resize", "non_maximum_suppression"),
    9: ("constexpr_lut_to_dense", "constexpr_sparse_to_dense"),
}


def needs(setting: Setting) -> tuple[int, str]:
    """The specification version that a setting needs, and which feature of it."""
    if setting.method == "none":
        return 6, "weights as they are"
    if setting.method != "prune" and setting.sparsity:
        return 9, f"{setting.method} of pruned weights"
    if setting.method == "palettize":
        if setting.group:
            return 9, "a table a group of channels"
        if setting.bits == 3:
            return 9, "tables of 3 bits"
        if setting.lut_bits:
            return 9, "tables of int8"
        return 7, "palettized weights"
    if setting.method == "quantize":
        if setting.bits == 4:
            return 9, "integers of 4 bits"
        if setting.block > 0:
            return 9, "a scale a block"
        return 7, "quantized weights"
    return 7, "sparse weights"


def name_of(version: int) -> str:
    """`iOS18` for 9."""
    return next((name for name, number in TARGETS.items() if number == version), f"specification {version}")


def version_of(target: str) -> int:
    """9 for `iOS18`. Raises UsageError."""
    if target not in TARGETS:
        near = get_close_matches(target, TARGETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else ""
        raise UsageError(f"target: one of {', '.join(TARGETS)} expected, got {target!r}", hint=hint)
    return TARGETS[target]


def check_target(asset: ModelAsset, setting: Setting, version: int, weight: str) -> None:
    """Raise UsageError when a model of that version cannot hold the setting."""
    least, feature = needs(setting)
    if version < least:
        raise UsageError(
            f"{weight}: {setting}: {feature} need {name_of(least)} or newer, and {asset.path} is for "
            f"{name_of(version)}",
            hint=f"--target {name_of(least)} raises it, and older systems then no longer run the model",
        )


def raise_target(asset: ModelAsset, spec: Any, version: int) -> None:
    """Declare the program for a newer system, in place.

    Raises UsageError for an older one, and for operations that have another form there.
    """
    before = spec.specificationVersion
    if version < before:
        raise UsageError(f"{asset.path} is for {name_of(before)}; a target can be raised, not lowered")
    if version == before:
        return
    changed = {name for number, names in CHANGED.items() if before < number <= version for name in names}
    for function in spec.mlProgram.functions.values():
        block = function.block_specializations[function.opset]
        used = {operation.type for operation in _operations(block)} & changed
        if used:
            raise UsageError(
                f"{asset.path} cannot be raised to {name_of(version)}: {', '.join(sorted(used))} has another "
                "form there",
                hint=f"convert the source again with --target {name_of(version)}",
            )
    for function in spec.mlProgram.functions.values():
        old, new = function.opset, OPSETS[version]
        if old == new:
            continue
        function.block_specializations[new].CopyFrom(function.block_specializations[old])
        del function.block_specializations[old]
        function.opset = new
    spec.specificationVersion = version


def _operations(block: Any) -> Any:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)
