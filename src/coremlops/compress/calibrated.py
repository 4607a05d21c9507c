"""Compression of a PyTorch module before it is converted, by what data makes of it: coremltools' own methods.

    gptq              each layer's integers, found so that its outputs change least (Frantar et al., 2022)
    sparse_gpt        the same for zeros, and for integers of what stays (Frantar and Alistarh, 2023)
    sensitive_kmeans  tables, with each value weighing as much as the outputs depend on it (Kim et al., 2023)

The result is a saved program that carries how it was compressed; converted with the target iOS18, its weights
are compressed in the model. Everything random is seeded.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coremlops.compress.recipe import Setting
from coremlops.errors import ConversionError, DataError, InputError, MissingExtraError, UsageError
from coremlops.files import write_atomic
from coremlops.source import Reference, Samples, feed

METHODS = ("gptq", "sparse_gpt", "sensitive_kmeans")
SEED = 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was made. `layers`: the modules whose weights changed; `snr_db`: of the outputs on the same data,
    power over the error's, against the module as it was. `data`: what the samples are.
    """

    path: Path
    source: str
    setting: Setting
    layers: tuple[str, ...]
    snr_db: float
    samples: int
    data: str

    def to_json(self) -> dict[str, Any]:
        """The content of `calibration.json`: no paths."""
        return {
            "source": self.source,
            "setting": str(self.setting),
            "layers": list(self.layers),
            "snr_db": self.snr_db if math.isfinite(self.snr_db) else None,
            "samples": self.samples,
            "data": self.data,
        }


def compress_module(reference: Reference, out: Path, setting: Setting, samples: Samples) -> Calibration:
    """Compress a module by data, and write it to `out`, a `.pt2` that `convert` takes; whole or not at all.

    `reference`: a `module:factory`, whose layers can be replaced; a saved program has none left. Layers are
    compressed one after the other, each with what those before it give.
    Raises UsageError for another source or method, MissingExtraError without coremltools or torch, DataError
    for data that does not fit, ConversionError for a module that the method does not take.
    """
    if setting.method not in METHODS:
        raise UsageError(f"one of {', '.join(METHODS)} expected, got {setting.method}")
    if reference.kind != "torch.nn.Module":
        raise UsageError(
            f"{reference.name}: {setting.method} needs the PyTorch module itself, got {reference.kind}",
            hint="give module:factory, a function that returns (module, example inputs)",
        )
    if out.suffix != ".pt2":
        raise UsageError(f"{out}: a name that ends in .pt2 expected")
    torch = _torch()
    batches = _batches(reference, samples)
    module = copy.deepcopy(reference.raw).eval()
    torch.manual_seed(SEED)
    try:
        with _quiet():
            made = _compressed(module, setting, batches)
            made.eval()
            program = torch.export.export(made, tuple(reference.examples or batches[0]))
    except Exception as error:  # coremltools and torch let anything out
        first = (str(error).splitlines() or [""])[0]
        in_order = "the module's children must follow each other, as in torch.nn.Sequential"
        raise ConversionError(
            f"{reference.name}: {setting} does not go: {type(error).__name__}: {first}",
            hint="" if setting.method == "sensitive_kmeans" else in_order,
        ) from error
    layers = tuple(
        sorted({key.rsplit("._COREML_", 1)[0] for key in made.state_dict() if "._COREML_/" in key})
    )
    if not layers:
        raise UsageError(
            f"{reference.name}: {setting}: no layer takes this setting; its sizes may not divide"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, _saved(program))
    return Calibration(
        out, reference.digest, setting, layers, _snr_db(reference, made, batches), len(batches), samples.about
    )


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "convert,torch") from None
    try:
        import coremltools  # noqa: F401
    except ImportError:
        raise MissingExtraError("coremltools", "convert") from None
    return torch


@contextmanager
def _quiet() -> Iterator[None]:
    """coremltools' logs and progress bars, and torch's warnings, left out."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _batches(reference: Reference, samples: Samples) -> list[tuple[Any, ...]]:
    import numpy as np
    import torch

    found = []
    for sample in samples:
        values = [np.array(value) for value in reference.ordered(feed(sample, reference))]
        if any(value.dtype.kind == "f" and not np.isfinite(value).all() for value in values):
            raise DataError(f"{sample.name}: finite numbers expected")
        found.append(tuple(torch.from_numpy(value) for value in values))
    if not found:
        raise DataError("calibration: at least one sample expected, got none")
    try:
        reference(dict(zip((item.name for item in reference.inputs), found[0], strict=True)))
    except InputError as error:
        raise DataError(f"calibration: {error.message}", hint=error.hint) from error
    return found


def _compressed(module: Any, setting: Setting, batches: list[tuple[Any, ...]]) -> Any:
    """The module with its layers replaced; coremltools' optimizers."""
    data = [batch if len(batch) > 1 else batch[0] for batch in batches]
    if setting.method == "sensitive_kmeans":
        from coremltools.optimize.torch.palettization import SKMPalettizer, SKMPalettizerConfig

        options: dict[str, Any] = {"n_bits": setting.bits, "granularity": "per_tensor"}
        if setting.group:
            options |= {"granularity": "per_grouped_channel", "group_size": setting.group}
        config = SKMPalettizerConfig.from_dict({"global_config": options, "calibration_nsamples": len(data)})
        return SKMPalettizer(module, config).compress(dataloader=data, loss_fn=_sensitivity)
    from coremltools.optimize.torch.layerwise_compression import (
        LayerwiseCompressor,
        LayerwiseCompressorConfig,
    )

    options = {"algorithm": setting.method}
    if setting.bits:
        options["weight_dtype"] = f"uint{setting.bits}"
    elif setting.method == "sparse_gpt":
        options["weight_dtype"] = "float32"
    if setting.block:
        options["block_size"] = setting.block
    if setting.sparsity:
        options["target_sparsity"] = setting.sparsity
    if setting.pattern:
        options["n_m_ratio"] = setting.zeros_of
    config = LayerwiseCompressorConfig.from_dict(
        {"global_config": options, "input_cacher": "default", "calibration_nsamples": len(data)}
    )
    return LayerwiseCompressor(module, config).compress(data, device="cpu")


def _sensitivity(module: Any, data: Any) -> Any:
    """A number whose squared gradient is, in the mean, how much the outputs depend on a weight.

    Outputs times seeded noise: the square of its gradient is, in expectation, the diagonal of J^T J, so no
    labels and no loss of the user's are needed.
    """
    import torch
    from torch.utils import _pytree

    given = data if isinstance(data, tuple) else (data,)
    noise = torch.Generator().manual_seed(SEED)
    outputs = [leaf for leaf in _pytree.tree_leaves(module(*given)) if leaf.is_floating_point()]
    return sum((output * torch.randn(output.shape, generator=noise)).sum() for output in outputs)


def _saved(program: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def _snr_db(reference: Reference, made: Any, batches: list[tuple[Any, ...]]) -> float:
    import numpy as np
    import torch
    from torch.utils import _pytree

    power = error = 0.0
    names = [item.name for item in reference.inputs]
    for batch in batches:
        expected = reference(dict(zip(names, batch, strict=True)))
        with torch.no_grad():
            found = [leaf for leaf in _pytree.tree_leaves(made(*batch)) if isinstance(leaf, torch.Tensor)]
        for before, after in zip(expected.values(), found, strict=True):
            wide = before.astype(np.float64)
            power += float(np.square(wide).sum())
            error += float(np.square(after.double().numpy() - wide).sum())
    return 10 * math.log10(power / error) if error and power else math.inf
