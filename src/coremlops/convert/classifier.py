"""One conversion: a PyTorch program in, an ML Program classifier with an image input out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coremlops import __version__
from coremlops.convert.noise import listening
from coremlops.convert.options import TARGETS, ConvertOptions
from coremlops.convert.package import make_reproducible, placed
from coremlops.convert.precision import Precision
from coremlops.errors import ConversionError, InputError, MissingExtraError, UsageError
from coremlops.model import model_digest
from coremlops.source import Card, Source, open_source

# What apps and our other rooms call the outputs. coremltools 9 uses these names; held here, not hoped for.
LABEL_OUTPUT = "classLabel"
PROBABILITIES_OUTPUT = "classLabel_probs"
NUMPY_LIMIT = (2, 4)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was made. `source` is the source's digest, `warnings` what the converter said that may matter."""

    path: Path
    digest: str
    bytes: int
    target: str
    precision: str
    source: str
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The content of `conversion.json`: no paths, so that equal conversions write equal files."""
        values = asdict(self)
        del values["path"]
        return values | {"labels": list(self.labels), "warnings": list(self.warnings)}


def convert(source: Path, out: Path, options: ConvertOptions | None = None) -> Conversion:
    """Convert a trained model to `out`, an `.mlpackage` that appears whole or not at all.

    `source`: `model.pt2`, a TorchScript `model.pt`, or the folder of one; see `coremlops.source.program` for
    what is trusted. The debug map that coremltools writes goes beside the package, as `<stem>.debug.json`.

    Equal sources and options give equal bytes, in any process on any day.
    Raises InputError or UsageError for a source or options that cannot be right, MissingExtraError without
    coremltools or torch, ConversionError when the net does not convert.
    """
    options = options or ConvertOptions()
    found = open_source(source)
    if options.card is not None:
        found = found.with_card(options.card)
    card = found.card
    if card is None:
        raise InputError(
            f"{found.path}: no model.json beside it says the image's size, scale and labels",
            hint="write one, or give --labels, --width, --height, --scale and --bias",
        )
    with placed(out) as partial:
        with listening() as heard:
            made = _convert(found, card, options)
            made.save(str(partial))
        debug = make_reproducible(partial)
        _check_names(partial, card)
        digest = model_digest(partial)
        size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    beside = out.with_name(f"{out.stem}.debug.json")
    if debug is not None:
        beside.write_bytes(debug)
    else:
        beside.unlink(missing_ok=True)
    return Conversion(
        path=out,
        digest=digest,
        bytes=size,
        target=options.target,
        precision=options.precision,
        source=found.digest,
        labels=card.labels,
        warnings=heard.lines,
    )


def _convert(source: Source, card: Card, options: ConvertOptions) -> Any:
    """The `coremltools.models.MLModel`, not yet saved."""
    ct = coremltools_here()
    program = source.load()
    _check_program(program, card)
    image = card.input
    raw = program.raw
    precision = Precision(options.precision, options.keep_float32)
    try:
        if source.kind == "torch.export":
            # The raw program is in a TRAINING dialect that coremltools refuses; decomposed before saving, it
            # would not load. So: saved raw, loaded, decomposed here.
            raw = raw.run_decompositions({})
        made = ct.convert(
            raw,
            convert_to="mlprogram",
            inputs=[
                ct.ImageType(
                    name=image.name,
                    shape=(1, image.channels, image.height, image.width),
                    scale=image.scale,
                    bias=list(image.bias) if image.channels > 1 else image.bias[0],
                    color_layout=ct.colorlayout.RGB if image.color == "RGB" else ct.colorlayout.GRAYSCALE,
                )
            ],
            classifier_config=ct.ClassifierConfig(list(card.labels)),
            minimum_deployment_target=getattr(ct.target, options.target),
            compute_precision=precision.for_coremltools(ct),
            skip_model_load=True,
        )
    except Exception as error:  # coremltools lets anything out: ValueError, KeyError, AssertionError, ...
        raise ConversionError(
            f"{source.path} does not convert: {useful(error)}",
            hint="rewriting the module without the named op is the usual way",
        ) from error
    precision.check()
    made.author = options.author
    made.short_description = options.description or f"Tells {_names(card.labels)} apart in a picture."
    made.user_defined_metadata.update(_metadata(card, options))
    return made


def _metadata(card: Card, options: ConvertOptions) -> dict[str, str]:
    values = {
        "run": options.provenance.run,
        "data": options.provenance.data,
        "code": options.provenance.code,
        "version": __version__,
        "preparation": json.dumps(card.input.to_json(), sort_keys=True, separators=(",", ":")),
    }
    return {f"com.coremlops.{key}": value for key, value in values.items() if value}


def _check_program(program: Any, card: Card) -> None:
    """The source takes the declared image, is a function, and returns one probability a label."""
    import numpy as np

    image = card.input
    zeros = np.zeros((1, image.channels, image.height, image.width), np.float32)
    first, second = program(zeros), program(zeros)
    if first.shape != (1, len(card.labels)):
        raise InputError(
            f"the source: one probability a label expected, [1, {len(card.labels)}], got {list(first.shape)}"
        )
    if not np.array_equal(first, second, equal_nan=True):
        raise ConversionError(
            "the source answers one input in two ways",
            hint="it was saved in training mode: call model.eval()",
        )
    total = float(first.sum())
    if not np.isfinite(first).all() or first.min() < 0 or abs(total - 1) > 1e-3:
        raise ConversionError(
            f"the source's outputs are no probabilities: from {first.min():.4g} to {first.max():.4g}, "
            f"sum {total:.4g}",
            hint="end the module with torch.softmax(logits, dim=1)",
        )


def _check_names(package: Path, card: Card) -> None:
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((package / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())
    got = (spec.description.predictedFeatureName, spec.description.predictedProbabilitiesName)
    if got != (LABEL_OUTPUT, PROBABILITIES_OUTPUT) or spec.description.input[0].name != card.input.name:
        raise ConversionError(f"outputs {LABEL_OUTPUT} and {PROBABILITIES_OUTPUT} expected, got {got}")
    if spec.specificationVersion not in TARGETS.values():
        raise ConversionError(f"an ML Program expected, got specification {spec.specificationVersion}")


def coremltools_here() -> Any:
    """The module, where it can convert. Raises MissingExtraError and UsageError."""
    try:
        import numpy as np
        import torch  # noqa: F401  (coremltools without torch imports, and then cannot convert)
    except ImportError:
        raise MissingExtraError("torch", "convert,torch") from None
    if tuple(int(part) for part in np.__version__.split(".")[:2]) >= NUMPY_LIMIT:
        raise UsageError(
            f"coremltools 9 needs numpy below 2.4 to convert (aten::Int fails), got numpy {np.__version__}",
            hint="pip install 'numpy<2.4'",
        )
    try:
        import coremltools
    except ImportError:
        raise MissingExtraError("coremltools", "convert") from None
    return coremltools


def useful(error: Exception) -> str:
    """What an error of coremltools or torch says, in one line."""
    from coremlops.source.program import last_line

    return f"{type(error).__name__}: {last_line(error)}"


def _names(labels: tuple[str, ...]) -> str:
    if len(labels) > 4:
        return f"{len(labels)} classes"
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


__all__ = ["LABEL_OUTPUT", "PROBABILITIES_OUTPUT", "Conversion", "convert"]
