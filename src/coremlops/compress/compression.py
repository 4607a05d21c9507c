"""One compression: a Core ML model and a recipe in, a smaller model out."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from coremlops.compress.encoding import Encoding, Unfit, encode
from coremlops.compress.program import blob_values, encoded_operations, replace_operations
from coremlops.compress.recipe import NONE, Recipe, Setting
from coremlops.compress.targets import check_target, name_of, raise_target, version_of
from coremlops.compress.weights import Found, Weight, already_compressed, find_weights, values_of
from coremlops.digest import sha256_bytes
from coremlops.errors import UsageError
from coremlops.model import ModelAsset
from coremlops.model.blob_writer import BlobWriter
from coremlops.model.package import MANIFEST
from coremlops.model.proto import canonical_bytes
from coremlops.model.writing import placed, steady_manifest, write_synced

Progress: TypeAlias = Callable[[int, int, str], None]  # done, of, the weight that is next
Encodings: TypeAlias = MutableMapping[tuple[str, Setting], Encoding]

SMALLEST_WEIGHT = 2048  # values; a recipe's default leaves smaller ones alone, as coremltools does
AGAIN = "compress the model that it was made from: what was lost once does not come back"
METADATA = "com.coremlops.compression"


@dataclass(frozen=True, slots=True)
class Compressed:
    """What became of one weight. `bytes_before` and `bytes`: its values' in the file, without padding.

    `snr_db`: the weight's power over the error's, infinite when nothing changed. `kept`: why it stayed as it
    is although the recipe said otherwise, or empty.
    """

    name: str
    setting: Setting
    shape: tuple[int, ...]
    bytes_before: int
    bytes: int
    snr_db: float
    mean_squared_error: float
    kept: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields; an infinite `snr_db` is null."""
        return {
            "name": self.name,
            "setting": str(self.setting),
            "shape": list(self.shape),
            "bytes_before": self.bytes_before,
            "bytes": self.bytes,
            "snr_db": self.snr_db if math.isfinite(self.snr_db) else None,
            "mean_squared_error": self.mean_squared_error,
            "kept": self.kept,
        }


@dataclass(frozen=True, slots=True)
class Compression:
    """What was made. `bytes_before` and `bytes`: of the whole packages; `source`: the digest of the model.

    `already`: weights that were compressed before, which stay as they are.
    """

    path: Path
    digest: str
    bytes: int
    bytes_before: int
    source: str
    target: str
    recipe: Recipe
    weights: tuple[Compressed, ...]
    already: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The content of `compression.json`: no paths, so that equal compressions write equal files."""
        return {
            "digest": self.digest,
            "bytes": self.bytes,
            "bytes_before": self.bytes_before,
            "source": self.source,
            "target": self.target,
            "recipe": self.recipe.to_json(),
            "weights": [weight.to_json() for weight in self.weights],
            "already": list(self.already),
        }


def setting_for(weight: Weight, recipe: Recipe) -> Setting:
    """What the recipe says of a weight."""
    if weight.name in recipe.weights:
        return recipe.weights[weight.name]
    return recipe.default if weight.size > SMALLEST_WEIGHT else NONE


def compress(
    model: Path,
    out: Path,
    recipe: Recipe,
    *,
    target: str | None = None,
    progress: Progress | None = None,
    encodings: Encodings | None = None,
    workers: int = 2,
) -> Compression:
    """Write the model to `out` with its weights as `recipe` says; `out` appears whole or not at all.

    `target` (`iOS18`) declares the result for a newer system, which some settings need; nothing raises it
    otherwise. `encodings` keeps what was encoded, by weight and setting, for the next call with this model.
    A weight whose shape its setting does not fit stays as it is, and the result says why.

    Equal models and recipes give equal bytes, in any process on any day. Raises UsageError for a recipe that
    does not fit the model or its target, ModelError for a model without weights to compress, InputError for
    weights that are no numbers.
    """
    asset = ModelAsset.open(model)
    source = asset.digest
    spec = type(asset.spec)()
    spec.CopyFrom(asset.spec)
    raise_target(asset, spec, spec.specificationVersion if target is None else version_of(target))
    found = find_weights(replace(asset, spec=spec))  # in the program as it will be, for they are edited there
    _check_recipe(asset, source, found, recipe)
    for entry in found:
        check_target(asset, setting_for(entry.weight, recipe), spec.specificationVersion, entry.weight.name)
    chosen, results = _encode(asset, found, recipe, progress, {} if encodings is None else encodings, workers)
    spec.description.metadata.userDefined[METADATA] = json.dumps(
        {"from": source, "recipe": sha256_bytes(json.dumps(recipe.to_json(), sort_keys=True).encode())},
        sort_keys=True,
        separators=(",", ":"),
    )
    with placed(out) as partial:
        _write(asset, spec, chosen, partial)
        made = ModelAsset.open(partial)
        digest, size = made.digest, made.package.bytes
    return Compression(
        path=out,
        digest=digest,
        bytes=size,
        bytes_before=asset.package.bytes,
        source=source,
        target=name_of(spec.specificationVersion),
        recipe=recipe,
        weights=results,
        already=tuple(already_compressed(asset)),
    )


def _check_recipe(asset: ModelAsset, digest: str, found: tuple[Found, ...], recipe: Recipe) -> None:
    if recipe.model is not None and recipe.model != digest:
        raise UsageError(
            f"the recipe is for the model {recipe.model[:12]}, and {asset.path} is {digest[:12]}",
            hint='a recipe whose "model" is null fits every model that has its weights',
        )
    names = {entry.weight.name for entry in found}
    unknown, already = sorted(set(recipe.weights) - names), already_compressed(asset)
    if unknown and unknown[0] in already:
        raise UsageError(
            f"{asset.path}: {unknown[0]} is compressed already ({already[unknown[0]]})", hint=AGAIN
        )
    if unknown:
        from difflib import get_close_matches

        near = get_close_matches(unknown[0], names, n=1)
        raise UsageError(
            f"{asset.path} does not have {len(unknown)} weights of the recipe: {', '.join(unknown[:5])}",
            hint=f"did you mean {near[0]}?"
            if near
            else "`coremlops compress MODEL --list` prints its weights",
        )
    if not found:
        raise UsageError(
            f"{asset.path}: no weight of fp16 or fp32 with two axes or more; nothing to compress"
            + (f": {len(already)} are compressed already, such as {next(iter(already))}" if already else ""),
            hint=AGAIN if already else "",
        )


def _encode(
    asset: ModelAsset,
    found: tuple[Found, ...],
    recipe: Recipe,
    progress: Progress | None,
    encodings: Encodings,
    workers: int,
) -> tuple[list[tuple[Found, Encoding]], tuple[Compressed, ...]]:
    """The encodings to write, and what to report of every weight."""
    chosen: list[tuple[Found, Encoding]] = []
    results: list[Compressed] = []
    shared: dict[tuple[Any, ...], Encoding] = {}  # by place in the file: functions share their weights
    for done, entry in enumerate(found):
        weight, setting = entry.weight, setting_for(entry.weight, recipe)
        if progress is not None:
            progress(done, len(found), weight.name)
        kept = ""
        if setting.method != "none":
            try:
                place = (*entry.place, weight.shape, weight.output_axis, weight.input_axis, setting)
                encoding = encodings.get((weight.name, setting)) or shared.get(place)
                if encoding is None:
                    encoding = encode(values_of(asset, entry), setting, weight, workers=workers)
                encodings[weight.name, setting] = shared[place] = encoding
                chosen.append((entry, encoding))
                mean = encoding.error / weight.size
                results.append(
                    Compressed(
                        weight.name,
                        setting,
                        weight.shape,
                        weight.bytes,
                        encoding.bytes,
                        encoding.snr_db,
                        mean,
                    )
                )
                continue
            except Unfit as reason:
                kept = str(reason)
        results.append(
            Compressed(weight.name, setting, weight.shape, weight.bytes, weight.bytes, math.inf, 0.0, kept)
        )
    if progress is not None:
        progress(len(found), len(found), "")
    return chosen, tuple(results)


def _write(asset: ModelAsset, spec: Any, chosen: list[tuple[Found, Encoding]], partial: Path) -> None:
    """Fill the package: new weight files, the edited program, and everything else as it was."""
    package = asset.package
    if package.manifest is None:
        raise UsageError(f"{asset.path}: an ML Program is an .mlpackage, got one file")
    files = sorted({value.fileName for value in blob_values(spec.mlProgram)})
    members = {name: package.weight_file(name).relative_to(package.root) for name in files}
    replaced = {str(PurePosixPath(path)) for path in members.values()} | {package.model, MANIFEST}
    partial.mkdir()
    for member in package.members:
        (partial / member).parent.mkdir(parents=True, exist_ok=True)
        if member not in replaced:
            shutil.copyfile(package.file(member), partial / member)
    places = [entry.place[0] for entry, _ in chosen]
    for entry, _ in chosen:
        del entry.operation.attributes["val"]  # what is left in weight files stays, and only moves
    with contextlib.ExitStack() as stack:
        writers = {name: stack.enter_context(BlobWriter(partial / members[name])) for name in files}
        for value in blob_values(spec.mlProgram):
            blobs = asset.blobs(value.fileName)
            record = blobs.record(value.offset)
            value.offset = writers[value.fileName].add_raw(blobs.raw(record), record)
        operations = {
            (entry.function, entry.value): encoded_operations(spec, entry, encoding, file, writers[file].add)
            for (entry, encoding), file in zip(chosen, places, strict=True)
        }
    replace_operations(spec.mlProgram, operations)
    write_synced(partial / package.model, canonical_bytes(spec))
    write_synced(partial / MANIFEST, steady_manifest(package.manifest))
