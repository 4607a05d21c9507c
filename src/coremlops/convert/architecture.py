"""An untrained PyTorch architecture as a Core ML model, to judge it before anyone trains it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from coremlops.convert.classifier import coremltools_here, useful
from coremlops.convert.noise import listening
from coremlops.errors import ConversionError, UsageError


def convert_architecture(name: str, out: Path) -> Path:
    """Convert what `module:factory` gives, (module, example inputs), to an ML Program in fp16 at `out`.

    The module is imported as `python -m` would find it, the working folder first: it is the user's own code.
    Inputs become arrays `x`, `x1`, ... of the examples' shapes. Raises UsageError for a name that gives no
    such pair, MissingExtraError, ConversionError.
    """
    ct = coremltools_here()
    module, examples = _made(name)
    import numpy as np
    import torch

    kinds = dict.fromkeys((torch.int64, torch.int32, torch.bool), np.int32)
    inputs = [
        ct.TensorType(
            name=f"x{number}" if number else "x",
            shape=tuple(example.shape),
            dtype=kinds.get(example.dtype, np.float32),
        )
        for number, example in enumerate(examples)
    ]
    try:
        with listening():
            traced = torch.jit.trace(module.eval(), examples)
            made = ct.convert(
                traced,
                convert_to="mlprogram",
                inputs=inputs,
                minimum_deployment_target=ct.target.iOS16,
                skip_model_load=True,
            )
            made.save(str(out))
    except Exception as error:  # coremltools and the user's own code let anything out
        raise ConversionError(f"{name} does not convert: {useful(error)}") from error
    return out


def _made(name: str) -> tuple[Any, tuple[Any, ...]]:
    import torch

    home, _, factory = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(importlib.import_module(home), factory)()
    except (ImportError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{name}: {error}", hint="expected module:factory, a function without arguments"
        ) from error
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], torch.nn.Module):
        raise UsageError(f"{name} gives {type(made).__name__}; expected (torch.nn.Module, example inputs)")
    examples = made[1] if isinstance(made[1], tuple) else (made[1],)
    if not examples or not all(isinstance(example, torch.Tensor) for example in examples):
        raise UsageError(f"{name}: the example inputs are no tensors")
    return made[0], examples
