"""The last resort: a scale and an offset for an output, fitted on calibration data, written into the model.

It hides an error instead of mending it. So it is never done unasked, is proven on other data than it was
fitted on, and stands in the model's metadata.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.errors import InputError, UnsupportedOpsError, UsageError
from coremlops.model import ModelAsset, model_digest
from coremlops.model.writing import placed
from coremlops.runtime import load
from coremlops.source.reference import Reference
from coremlops.source.samples import Samples, feed
from coremlops.verify.locate.numeric import decibel, powers

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY = "com.coremlops.output_correction"
_SPEC = Path("Data", "com.apple.CoreML", "model.mlmodel")
_FLOATS: dict[int, np.dtype[Any]] = {10: np.dtype("<f2"), 11: np.dtype("<f4")}  # MILSpec.DataType


@dataclass(frozen=True, slots=True)
class Line:
    """What an output is multiplied with and what is added then; its signal to noise before and after, in dB,
    on data that it was not fitted on."""

    scale: float
    offset: float
    before_db: float
    after_db: float


@dataclass(frozen=True, slots=True)
class Correction:
    """`lines` by output; `data`, `held_out`: the digests of what they were fitted and proven on."""

    path: Path
    digest: str
    lines: Mapping[str, Line]
    data: str
    held_out: str
    samples: int

    def summary(self) -> str:
        """A few lines for a terminal."""
        rows = [
            f"  {name}: {line.scale:.6g} * y {line.offset:+.6g}: "
            f"{line.before_db:.1f} -> {line.after_db:.1f} dB"
            for name, line in self.lines.items()
        ]
        head = f"corrected: {self.path}; fitted on {self.samples} samples, proven on others"
        return "\n".join([head, *rows])

    def to_json(self) -> dict[str, Any]:
        """What stands in the metadata of the model and in a report."""
        lines = {name: {"scale": line.scale, "offset": line.offset} for name, line in self.lines.items()}
        proven = {
            name: {"before_db": line.before_db, "after_db": line.after_db}
            for name, line in self.lines.items()
        }
        return {
            "outputs": lines,
            "data": self.data,
            "held_out": {"data": self.held_out, "outputs": proven},
            "samples": self.samples,
        }


def correct_outputs(
    model: Path, reference: Reference, calibration: Samples, held_out: Samples, out: Path
) -> Correction:
    """Fit every float output of an ML Program to the source's; write the model with the correction to `out`.

    The least squares of all values of an output over the calibration data. An output that the line does not
    bring nearer on `held_out` stays as it is.

    Raises UnsupportedOpsError for a model that is no ML Program or a classifier, UsageError when nothing is
    to be corrected or the model is corrected already, InputError for outputs that do not correspond.
    """
    asset = ModelAsset.open(model)
    if asset.kind != "mlProgram" or asset.description.predicted_label:
        got = "a classifier" if asset.kind == "mlProgram" else f"a {asset.kind} model"
        raise UnsupportedOpsError(f"{model}: an ML Program that gives numbers expected, got {got}", ())
    if KEY in asset.description.user_defined:
        raise UsageError(f"{model}: its outputs are corrected already", hint="correct the model before that")
    if calibration.digest == held_out.digest:
        raise UsageError(
            "the data that the correction is fitted on is the data that should prove it",
            hint="give --data other samples than --correct-outputs",
        )
    fitted, judged = (_answers(model, reference, samples) for samples in (calibration, held_out))
    lines = {name: _line(*fitted[name], *judged[name]) for name in fitted}
    lines = {name: line for name, line in lines.items() if line.after_db > line.before_db}
    if not lines:
        raise UsageError(f"{model}: no output comes nearer to the source by a scale and an offset")
    made = Correction(out, "", lines, calibration.digest, held_out.digest, len(calibration))
    with placed(out) as partial:
        shutil.copytree(model, partial)
        spec = asset.spec
        function = spec.mlProgram.functions[spec.description.defaultFunctionName or "main"]
        block = function.block_specializations[function.opset]
        for name, line in lines.items():
            _append(block, name, line)
        about = json.dumps(made.to_json(), sort_keys=True)
        spec.description.metadata.userDefined[KEY] = about
        (partial / _SPEC).write_bytes(spec.SerializeToString(deterministic=True))
        load(partial)  # what does not load is not left behind
        digest = model_digest(partial)
    return replace(made, digest=digest)


def _answers(
    model: Path, reference: Reference, samples: Samples
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """By output: all values of the source, and of the model."""
    loaded = load(model)
    expected: dict[str, list[NDArray[Any]]] = {}
    got: dict[str, list[NDArray[Any]]] = {}
    for sample in samples:
        answer = loaded.predict(feed(sample, loaded.description))
        floats = {name: np.asarray(value, np.float64) for name, value in answer.items() if _is_float(value)}
        said = {name: np.asarray(value) for name, value in reference(feed(sample, reference)).items()}
        for name, value in _paired(floats, said, str(model)).items():
            expected.setdefault(name, []).append(value.astype(np.float64).ravel())
            got.setdefault(name, []).append(floats[name].ravel())
    return {name: (np.concatenate(expected[name]), np.concatenate(got[name])) for name in expected}


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _paired(floats: dict[str, Any], said: dict[str, Any], where: str) -> dict[str, NDArray[Any]]:
    """The source's outputs by the model's names: the same name, or the same place."""
    if not set(floats) <= set(said) and len(said) == len(floats):
        said = dict(zip(floats, said.values(), strict=True))
    found = {
        name: said[name] for name, value in floats.items() if name in said and said[name].size == value.size
    }
    if not found:
        raise InputError(
            f"{where}: no output of the source has the name or place, and size, of one of its own"
        )
    return found


def _line(
    expected: NDArray[np.float64],
    got: NDArray[np.float64],
    expected_then: NDArray[np.float64],
    got_then: NDArray[np.float64],
) -> Line:
    """Fitted on the first two, judged on the others."""
    known = np.isfinite(expected) & np.isfinite(got)
    if known.sum() < 2 or np.ptp(got[known]) == 0:
        scale, offset = 1.0, float(np.mean(expected[known] - got[known])) if known.any() else 0.0
    else:
        scale, offset = map(float, np.polyfit(got[known], expected[known], 1))
    before = decibel(*powers(expected_then, got_then))
    return Line(scale, offset, before, decibel(*powers(expected_then, scale * got_then + offset)))


def _append(block: Any, name: str, line: Line) -> None:
    """Rename what gives the output, and let a multiplication and an addition give it."""
    maker = next(
        (entry for entry in block.operations for output in entry.outputs if output.name == name), None
    )
    if maker is None:
        raise UnsupportedOpsError(f"the output {name} is an input itself", ())
    before = f"{name}_before_correction"
    output = next(entry for entry in maker.outputs if entry.name == name)
    type_ = output.type
    dtype = _FLOATS.get(type_.tensorType.dataType)
    if dtype is None:
        raise UnsupportedOpsError(f"the output {name} is no float", ())
    output.name = before
    for operation in block.operations:
        for bindings in operation.inputs.values():
            for argument in bindings.arguments:
                if argument.name == name:
                    argument.name = before
    scaled = f"{name}_scaled"
    steps = (("mul", before, scaled, line.scale), ("add", scaled, name, line.offset))
    for kind, source, target, number in steps:
        constant = _constant(block, f"{target}_correction", number, dtype)
        operation = block.operations.add(type=kind)
        operation.inputs["x"].arguments.add(name=source)
        operation.inputs["y"].arguments.add(name=constant)
        operation.outputs.add(name=target).type.CopyFrom(type_)
        _name(operation, target)


def _constant(block: Any, name: str, number: float, dtype: np.dtype[Any]) -> str:
    operation = block.operations.add(type="const")
    value = operation.attributes["val"]
    code = next(code for code, known in _FLOATS.items() if known == dtype)
    value.type.tensorType.dataType = code
    tensor = value.immediateValue.tensor
    if dtype.itemsize == 2:
        tensor.bytes.values = np.array(number, dtype).tobytes()
    else:
        tensor.floats.values.append(number)
    operation.outputs.add(name=name).type.CopyFrom(value.type)
    _name(operation, name)
    return name


def _name(operation: Any, name: str) -> None:
    value = operation.attributes["name"]
    value.type.tensorType.dataType = 2  # string
    value.immediateValue.tensor.strings.values.append(name)
