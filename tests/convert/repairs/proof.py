"""Convert a PyTorch net with repairs, run it in our runtime, and hold it against torch."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coremlops.convert.noise import listening
from coremlops.convert.origin import Place, following
from coremlops.convert.repairs import Repair, mending
from coremlops.runtime import load

Arrays = list[NDArray[Any]]


class Net(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A function of (modules, inputs), or of inputs alone, as a module."""

    def __init__(self, function: Callable[..., Any], *modules: Any) -> None:
        super().__init__()
        self.function, self.parts = function, torch.nn.ModuleList(modules)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*self.parts, *inputs)


def program(net: Any, examples: tuple[Any, ...], way: str) -> Any:
    net.eval()
    if way == "script":
        return torch.jit.script(net)
    if way == "trace":
        return torch.jit.trace(net, examples, check_trace=False)
    return torch.export.export(net, examples)


def expected(net: Any, examples: tuple[Any, ...]) -> Arrays:
    with torch.no_grad():
        return [value.numpy() for value in torch.utils._pytree.tree_leaves(net(*examples))]


def converted(
    raw: Any,
    examples: tuple[Any, ...],
    *,
    skip: tuple[str, ...] = (),
    precision: str = "float16",
    target: str = "iOS16",
) -> tuple[Any, tuple[Repair, ...], dict[str, Place]]:
    """(the coremltools model, what was applied, origins). The rules of 16 bits act in float32, too."""
    import coremltools as ct

    inputs = [
        ct.TensorType(
            name=f"x{i}", shape=value.shape, dtype=np.float32 if value.is_floating_point() else np.int32
        )
        for i, value in enumerate(examples)
    ]
    with listening(), mending(raw, skip=skip, examples=examples) as mend, following() as trail:
        made = ct.convert(
            mend.raw,
            convert_to="mlprogram",
            inputs=inputs,
            pass_pipeline=mend.pipeline(),
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision.FLOAT16 if precision == "float16" else ct.precision.FLOAT32,
            skip_model_load=True,
        )
    return made, mend.repairs, trail.origins(made)


def executed(made: Any, examples: tuple[Any, ...], precision: str) -> Arrays:
    values = {
        f"x{i}": value.numpy().astype(np.float32 if value.is_floating_point() else np.int32)
        for i, value in enumerate(examples)
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.mlpackage")
        made.save(str(path))
        return list(load(path, precision=precision).predict(values).values())


def snr_db(want: Arrays, got: Arrays) -> float:
    """The worst output's; -inf where one is not finite and the other is, or shapes differ."""
    assert len(want) == len(got)
    return min(_snr(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(want, got, strict=True))


def _snr(want: NDArray[Any], got: NDArray[Any]) -> float:
    if want.shape != got.shape or not np.array_equal(np.isfinite(want), np.isfinite(got)):
        return -math.inf
    finite = np.isfinite(want)
    error, power = float(((want - got)[finite] ** 2).sum()), float((want[finite] ** 2).sum())
    return math.inf if error == 0 else 10 * math.log10(power / error) if power else -math.inf
