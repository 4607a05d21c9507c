"""Activations of 8 bits: what flows through a Core ML model is measured on data, and rounded to integers.

coremltools' own `linear_quantize_activations`, whose calibration predicts with the model; `coremlops.bridge`
executes those predictions here. With weights of 8 bits (`quantize:8`, before or after) this is W8A8.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coremlops.compress.recipe import Setting
from coremlops.compress.targets import name_of, version_of
from coremlops.errors import ConversionError, DataError, InputError, MissingExtraError, ModelError, UsageError
from coremlops.model import ModelAsset
from coremlops.model.writing import make_reproducible, placed
from coremlops.runtime import load
from coremlops.source import Samples, feed

NEEDED = 8  # the specification version that knows quantize and dequantize: iOS17


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was made. `operations`: how many now take integers that were dequantized again."""

    path: Path
    digest: str
    bytes: int
    bytes_before: int
    source: str
    target: str
    operations: int
    samples: int
    data: str

    def to_json(self) -> dict[str, Any]:
        """The content of `compression.json`: no paths."""
        return {
            "digest": self.digest,
            "bytes": self.bytes,
            "bytes_before": self.bytes_before,
            "source": self.source,
            "target": self.target,
            "setting": "activations:8",
            "operations": self.operations,
            "samples": self.samples,
            "data": self.data,
        }


def quantize_activations(
    model: Path, out: Path, setting: Setting, samples: Samples, *, target: str | None = None
) -> Quantized:
    """Write the model to `out` with activations of 8 bits where the system computes with them.

    The ranges are the least and largest values on `samples`. Raises UsageError for a target before iOS17 that
    was not raised, DataError for data that does not fit, ConversionError when coremltools gives up,
    MissingExtraError without coremltools.
    """
    if setting.method != "activations":
        raise UsageError(f"activations expected, got {setting.method}")
    asset = ModelAsset.open(model)
    if asset.kind != "mlProgram":
        raise ModelError(f"{model}: an ML Program expected, got a model of the kind {asset.kind}")
    version = asset.spec.specificationVersion if target is None else version_of(target)
    if version < max(NEEDED, asset.spec.specificationVersion):
        raise UsageError(
            f"{model}: activations of 8 bits need iOS17 or newer, and the model is for {name_of(version)}",
            hint="--target iOS17 raises it, and older systems then no longer run the model",
        )
    if target is not None and version > max(NEEDED, asset.spec.specificationVersion):
        raise UsageError(f"activations: --target iOS17 is the one that can be raised to here, got {target}")
    description = asset.description
    given = [feed(sample, description) for sample in samples]
    if not given:
        raise DataError("calibration: at least one sample expected, got none")
    loaded = load(model, precision="float32")
    for sample, inputs in zip(samples, given, strict=True):
        try:
            loaded.predict(inputs)
        except InputError as error:
            raise DataError(f"calibration: {sample.name}: {error.message}", hint=error.hint) from None
    with placed(out) as partial:
        made = _quantized(model, setting, given)
        made.save(str(partial))
        make_reproducible(partial)
        result = ModelAsset.open(partial)
        operations = sum(
            operation.type == "dequantize"
            for function in result.spec.mlProgram.functions.values()
            for operation in function.block_specializations[function.opset].operations
        )
        if not operations:
            raise UsageError(f"{model}: no operation of it takes activations of 8 bits; nothing to compress")
        digest, size = result.digest, result.package.bytes
    return Quantized(
        path=out,
        digest=digest,
        bytes=size,
        bytes_before=asset.package.bytes,
        source=asset.digest,
        target=name_of(result.spec.specificationVersion),
        operations=operations,
        samples=len(given),
        data=samples.about,
    )


@contextlib.contextmanager
def _all_samples() -> Iterator[None]:
    """Ranges over all samples: coremltools 9.0 sets one before it compares, so the last sample's stays."""
    from coremltools.optimize.coreml.experimental import _post_training_quantization as calibration
    from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger as Debugger

    before = calibration._update_tensor_range, Debugger.record_intermediate_output
    calibration._update_tensor_range = _widen
    Debugger.record_intermediate_output = staticmethod(
        lambda value, name, ranges: _widen(name, value, ranges)
    )
    try:
        yield
    finally:
        calibration._update_tensor_range, Debugger.record_intermediate_output = (
            before[0],
            staticmethod(before[1]),
        )


def _widen(name: str, value: Any, ranges: dict[str, dict[str, float]]) -> None:
    """Take a value into the range of a tensor."""
    import numpy as np

    values, known = np.asarray(value), ranges[name]
    known["rmin"] = min(values.min(), known.get("rmin", np.inf))
    known["rmax"] = max(values.max(), known.get("rmax", -np.inf))


def _quantized(model: Path, setting: Setting, given: list[dict[str, Any]]) -> Any:
    """The `coremltools.models.MLModel`, not yet saved."""
    import coremlops.bridge

    coremlops.bridge.install(precision="float32")
    try:
        import coremltools as ct
        import coremltools.optimize.coreml as optimize
    except ImportError:
        raise MissingExtraError("coremltools", "convert") from None
    mode = "linear_symmetric" if setting.how == "symmetric" else "linear"
    config = optimize.OptimizationConfig(global_config=optimize.OpLinearQuantizerConfig(mode=mode))
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), _all_samples():
            warnings.simplefilter("ignore")
            return optimize.linear_quantize_activations(ct.models.MLModel(str(model)), config, given)
    except Exception as error:  # coremltools lets anything out
        raise ConversionError(
            f"{model}: activations do not go: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from error
    finally:
        logging.disable(before)
