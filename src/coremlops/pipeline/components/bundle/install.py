"""Puts a proven model into an app's source folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coremlops.digest import sha256_bytes, sha256_file
from coremlops.errors import InputError
from coremlops.files import replace_folder
from coremlops.model import ImageFeature, ModelAsset
from coremlops.model.package import open_package
from coremlops.pipeline.components.bundle import reconcile, swift
from coremlops.pipeline.components.bundle.reconcile import Place
from coremlops.pipeline.components.proven import read_proven

METADATA = "com.coremlops."
PREPARATION = METADATA + "preparation"


def install(model: Path, report: Path, place: Place) -> dict[str, Any]:
    """Make the place hold the model in `model`; returns the receipt.

    The folder changes only when everything new lies beside it; a run that was killed is repaired by the next.
    Raises `InputError` for a model that is not proven or is no image classifier, or files that are not ours.
    """
    proven = read_proven(model, report, done="bundled")
    digest = proven.digest
    open_package(proven.model)  # plain files alone, before any is copied
    refuse_strangers(place)
    place.app.mkdir(parents=True, exist_ok=True)
    draft = place.app / f".{place.name}.bundling"
    _remove(draft)
    try:
        package = draft / place.package.name
        shutil.copytree(proven.model, package, symlinks=True)
        asset = ModelAsset.open(package)
        if asset.digest != digest:
            raise InputError(
                f"bundle: {proven.model} is not the model that was proven; "
                f"expected {digest[:12]}, got {asset.digest[:12]}"
            )
        facts = describe(asset, place.name, digest)
        text = swift.accessor(facts).encode()
        (draft / place.swift.name).write_bytes(text)
        version = version_file(asset, facts, proven.conversion)
        version["files"] = {
            f"{package.name}/{name}": {"sha256": sha256_file(package / name), "bytes": size}
            for name, size in asset.package.members.items()
        } | {place.swift.name: {"sha256": sha256_bytes(text), "bytes": len(text)}}
        (draft / place.version.name).write_text(
            json.dumps(version, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        # The version file goes first: it says that what follows is ours, also if we are killed in between.
        (draft / place.version.name).replace(place.version)
        replace_folder(package, place.package)
        (draft / place.swift.name).replace(place.swift)
    finally:
        _remove(draft)
    return reconcile.receipt("done", place, digest)


def refuse_strangers(place: Place) -> None:
    """Raises `InputError` if one of the three names is taken by something that we did not make."""
    ours = reconcile.recorded(place) is not None
    for path in (place.package, place.swift, place.version):
        if path.is_symlink() or (os.path.lexists(path) and not ours):
            raise InputError(
                f"bundle: {path} exists and was not made by coremlops",
                hint="move it away, or give the step another `name`",
            )


def describe(asset: ModelAsset, name: str, digest: str) -> swift.Accessor:
    """What the Swift file needs to know. Raises `InputError` if the model is no image classifier."""
    about = asset.description
    images = [feature for feature in about.inputs if isinstance(feature, ImageFeature)]
    labels = tuple(label for label in about.labels if isinstance(label, str))
    if len(about.inputs) != 1 or not images or not labels or len(labels) != len(about.labels):
        kinds = ", ".join(f"{feature.name}: {type(feature).__name__}" for feature in about.inputs)
        raise InputError(
            "bundle: expected a classifier with one image input and labels that are text, "
            f"got inputs ({kinds}) and {len(about.labels)} labels"
        )
    if not about.predicted_label or not about.predicted_probabilities:
        raise InputError("bundle: the classifier does not name its label and probability outputs")
    option = preparation(asset).get("image_option")
    if option not in swift.CROP_AND_SCALE:
        raise InputError(
            f"bundle: the model's metadata {PREPARATION} should name one of "
            f"{', '.join(swift.CROP_AND_SCALE)}, got {option!r:.80}",
            hint="convert it with coremlops, which writes how images are prepared",
        )
    return swift.Accessor(
        name=name,
        digest=digest,
        image=images[0].name,
        label=about.predicted_label,
        probabilities=about.predicted_probabilities,
        labels=labels,
        image_option=option,
        targets=about.minimum_targets,
    )


def preparation(asset: ModelAsset) -> dict[str, Any]:
    """How the model's images are prepared, as its metadata says; empty when it does not say."""
    try:
        value = json.loads(asset.description.user_defined.get(PREPARATION, "{}"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def version_file(asset: ModelAsset, facts: swift.Accessor, conversion: Mapping[str, Any]) -> dict[str, Any]:
    """What `<Name>.version.json` says, but for `files`."""
    made = {
        key.removeprefix(METADATA): value
        for key, value in asset.description.user_defined.items()
        if key.startswith(METADATA) and key != PREPARATION
    }
    return {
        "format": reconcile.FORMAT,
        "made_by": reconcile.MADE_BY,
        "generator": reconcile.GENERATOR,
        "name": facts.name,
        "digest": facts.digest,
        "bytes": asset.package.bytes,
        "target": conversion.get("target"),
        "precision": conversion.get("precision"),
        "preparation": preparation(asset),
        "from": made,
    }


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
