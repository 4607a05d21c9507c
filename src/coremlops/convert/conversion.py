"""One conversion: a trained model in, a Core ML package out, whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from coremlops import __version__
from coremlops.convert.made import Made
from coremlops.convert.noise import listening
from coremlops.convert.options import LABEL, TARGETS, ConvertOptions
from coremlops.convert.origin import FORMAT
from coremlops.convert.package import make_reproducible, placed
from coremlops.convert.recorded import text_of
from coremlops.convert.repairs import Repair
from coremlops.digest import members_digest, sha256_bytes, sha256_file
from coremlops.errors import ConversionError, MissingExtraError, UsageError
from coremlops.files import working_folder
from coremlops.model import model_digest
from coremlops.model.writing import write_synced
from coremlops.source import Reference, open_reference
from coremlops.source.trees import TableReference

# What apps and our other rooms call the outputs of a classifier. coremltools 9 uses these names; held here,
# not hoped for.
LABEL_OUTPUT = LABEL
PROBABILITIES_OUTPUT = f"{LABEL}_probs"
NUMPY_LIMIT = (2, 4)
# Kind of source -> the module here whose `to_coreml(reference, options)` gives what was `Made` of it.
ROUTES = {
    "torch.export": "pytorch",
    "TorchScript": "pytorch",
    "torch.nn.Module": "pytorch",
    "onnx": "onnx",
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was made. `source` is the source's digest, `warnings` what the converter said that may matter.

    `repairs`: the known traps that were mended.
    """

    path: Path
    digest: str
    bytes: int
    target: str
    precision: str
    source: str
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()
    kind: str = "mlpackage"

    def to_json(self) -> dict[str, Any]:
        """The content of `conversion.json`: no paths, so that equal conversions write equal files."""
        values = asdict(self)
        del values["path"]
        return values | {
            "labels": list(self.labels),
            "warnings": list(self.warnings),
            "repairs": [asdict(repair) | {"where": list(repair.where)} for repair in self.repairs],
        }


def convert(
    source: str | Path | Reference | None, out: Path, options: ConvertOptions | None = None
) -> Conversion:
    """Convert a trained model to `out`, an `.mlpackage`, `.aimodel`, or `.mlmodel` of trees: whole or not.

    `source`: what `open_reference` takes, or what it gave; None where `options.functions` says it all.
    Beside the package: `<stem>.debug.json`, which coremltools writes, and `<stem>.origins.json`, where each
    op came from.

    Equal sources and options give equal bytes, in any process on any day.
    Raises InputError or UsageError for a source or options that cannot be right, MissingExtraError without
    coremltools or torch, ConversionError when the net does not convert.
    """
    options = options or ConvertOptions()
    if source is not None and not isinstance(source, Reference):
        source = open_reference(source, weights=options.weights)
    if source is not None and options.kind == "aimodel":
        return _aimodel(source, out, options)
    if isinstance(source, TableReference):
        return _table(source, out, options)
    coremltools_here()
    if (source is None) != bool(options.functions):
        raise UsageError("a source expected, or functions", hint="--function NAME=SOURCE, once for each")
    with placed(out) as partial, working_folder(out.parent, ".convert-") as work:
        with listening() as heard:
            made, origin = _one(source, options) if source is not None else _functions(options, work)
            _describe(made, options)
            made.model.save(str(partial))
        debug = make_reproducible(partial)
        _check_names(partial, made, options)
        digest = model_digest(partial)
        size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    origins = json.dumps(made.origins, sort_keys=True).encode() + b"\n" if made.origins else None
    _beside(out, "debug", debug)
    _beside(out, "origins", origins)
    return Conversion(
        path=out,
        digest=digest,
        bytes=size,
        target=options.target,
        precision=options.precision,
        source=origin,
        labels=made.labels,
        warnings=heard.lines,
        repairs=made.repairs,
        kind=options.kind,
    )


def _aimodel(reference: Reference, out: Path, options: ConvertOptions) -> Conversion:
    """Core AI's kind. Raises UsageError for what was asked and it has no word for here."""
    from coremlops.convert.aimodel import convert_aimodel

    for what in ("inputs", "outputs", "labels", "states", "keep_float32", "functions"):
        if getattr(options, what):
            raise UsageError(f"{what}: --kind aimodel takes the source as it is; they are for an .mlpackage")
    with contextlib.redirect_stdout(io.StringIO()):  # Apple's library greets
        convert_aimodel(reference, out)
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return Conversion(
        path=out,
        digest=members_digest({name: sha256_file(path) for name, path in files.items()}),
        bytes=sum(path.stat().st_size for path in files.values()),
        target="iOS27",
        precision="the source's own",
        source=reference.digest,
        labels=(),
        kind="aimodel",
    )


def _table(reference: TableReference, out: Path, options: ConvertOptions) -> Conversion:
    """Trees: one `.mlmodel`, which every system since iOS 11 reads."""
    from coremlops.convert.classic import convert_table

    convert_table(reference, out, options, labels=options.labels, label_name=options.label_name)
    return Conversion(
        path=out,
        digest=model_digest(out),
        bytes=out.stat().st_size,
        target="iOS11",
        precision="float64",
        source=reference.digest,
        labels=options.labels or tuple(str(label) for label in reference.labels or ()),
        kind="mlmodel",
    )


def _one(reference: Reference, options: ConvertOptions) -> tuple[Made, str]:
    """What was made of a source, and the source's digest."""
    if reference.kind not in ROUTES:
        raise ConversionError(
            f"{reference.name}: a source of kind {reference.kind} does not convert",
            hint=f"those of {', '.join(ROUTES)} do",
        )
    route = import_module(f"coremlops.convert.{ROUTES[reference.kind]}")
    return route.to_coreml(reference, options), reference.digest


def _functions(options: ConvertOptions, folder: Path) -> tuple[Made, str]:
    """All functions as one model, which needs the folder until it is saved."""
    import coremltools as ct

    from coremlops.convert.functions import merge

    merged = folder / "merged.mlpackage"
    parts, origins = merge(options, merged, convert)
    model = ct.models.MLModel(str(merged), skip_model_load=True)
    repairs = tuple(dict.fromkeys(repair for part in parts.values() for repair in part.repairs))
    members = {
        name: sha256_bytes(parts[name].source.encode()) if name in parts else model_digest(Path(source))
        for name, source in options.functions.items()
    }
    made = Made(model, repairs=repairs)
    if origins:
        made = replace(made, origins={"format": FORMAT, "ops": {}, "functions": origins})
    return made, members_digest(members)


def _beside(out: Path, what: str, data: bytes | None) -> None:
    path = out.with_name(f"{out.stem}.{what}.json")
    if data is None:
        path.unlink(missing_ok=True)
    else:
        write_synced(path, data)


def _describe(made: Made, options: ConvertOptions) -> None:
    """Metadata: what the user says, what made the model, and how its picture is prepared."""
    model = made.model
    model.author = options.author
    classes = f"Tells {_names(made.labels)} apart in a picture." if made.labels and made.picture else ""
    model.short_description = options.description or classes
    if options.version:
        model.version = options.version
    if options.license:
        model.license = options.license
    prepared = made.picture.to_json() if made.picture is not None else None
    values = {
        "run": options.provenance.run,
        "data": options.provenance.data,
        "code": options.provenance.code,
        "version": __version__,
        "options": text_of(options),
        "preparation": json.dumps(prepared, sort_keys=True, separators=(",", ":")) if prepared else "",
    }
    ours = {f"com.coremlops.{key}": value for key, value in values.items() if value}
    model.user_defined_metadata.update({**options.metadata, **ours})


def _check_names(package: Path, made: Made, options: ConvertOptions) -> None:
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((package / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())
    about = spec.description
    if made.labels:
        got = (about.predictedFeatureName, about.predictedProbabilitiesName)
        if not all(got) or (not options.outputs and got[1] != f"{options.label_name}_probs"):
            raise ConversionError(f"outputs {LABEL_OUTPUT} and {PROBABILITIES_OUTPUT} expected, got {got}")
    if made.inputs and tuple(item.name for item in about.input) != made.inputs:
        raise ConversionError(
            f"inputs {', '.join(made.inputs)} expected, got {', '.join(item.name for item in about.input)}"
        )
    if spec.WhichOneof("Type") == "mlProgram" and spec.specificationVersion not in TARGETS.values():
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
        with listening():
            import coremltools
    except ImportError:
        raise MissingExtraError("coremltools", "convert") from None
    return coremltools


def _names(labels: tuple[str, ...]) -> str:
    if len(labels) > 4:
        return f"{len(labels)} classes"
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


__all__ = ["LABEL_OUTPUT", "PROBABILITIES_OUTPUT", "ROUTES", "Conversion", "convert"]
