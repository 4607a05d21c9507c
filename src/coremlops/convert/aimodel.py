"""PyTorch to Core AI's `.aimodel` (iOS 27), through Apple's `coreai-torch`, which converts on Linux.

What was made is executed by `coremlops.runtime.aimodel`; this room does not judge.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from coremlops.convert.noise import listening
from coremlops.errors import ConversionError, UsageError
from coremlops.files import replace_folder
from coremlops.runtime.aimodel import extra_module
from coremlops.source import Reference, open_reference

TORCH_KINDS = ("torch.export", "torch.nn.Module")


@dataclass(frozen=True, slots=True)
class AIConversion:
    """What was made: the package, its inputs and outputs, and the source's digest."""

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: str


def convert_aimodel(source: str | Path | Reference, out: Path) -> AIConversion:
    """Convert an exported program or a `module:factory` to `out`, an `.aimodel` that appears whole or not.

    It computes in the source's own types; inputs and outputs are called as the reference calls them.
    Raises UsageError for another suffix or source, MissingExtraError without `coreai-torch`,
    ConversionError when the net does not convert.
    """
    if out.suffix != ".aimodel":
        raise UsageError(f"{out}: a Core AI model's name ends in .aimodel")
    if out.is_symlink() or (out.exists() and not (out / "main.mlirb").is_file()):
        raise UsageError(f"{out} exists and is no .aimodel; it is left alone")
    reference = source if isinstance(source, Reference) else open_reference(source)
    if reference.kind not in TORCH_KINDS:
        raise UsageError(
            f"{reference.name}: Core AI takes {' or '.join(TORCH_KINDS)}, got {reference.kind}",
            hint="export it with torch.export",
        )
    coreai_torch = extra_module("coreai_torch")
    import torch

    out.parent.mkdir(parents=True, exist_ok=True)
    names = [item.name for item in reference.inputs]
    try:
        program = reference.raw
        if not isinstance(program, torch.export.ExportedProgram):
            program = torch.export.export(program, reference.examples)
        program = program.run_decompositions(coreai_torch.get_decomp_table())
        count = len(program.graph_signature.user_outputs)
        outputs = [f"output_{i}" for i in range(count)]
        with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder, listening():
            asset = Path(folder, out.name)
            converter = coreai_torch.TorchConverter()
            converter.add_exported_program(program, input_names=names, output_names=outputs)
            converter.to_coreai().save_asset(asset)
            replace_folder(asset, out)
    except Exception as error:  # coreai-torch and torch raise anything
        raise ConversionError(
            f"{reference.name}: it does not convert to Core AI: {str(error).splitlines()[0]}"
        ) from error
    return AIConversion(out, tuple(names), tuple(outputs), reference.digest)
