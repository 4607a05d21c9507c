"""Models that hold or name other models: pipelines, and links to a model beside this one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.errors import ModelFormatError, UnsupportedOpsError, UsageError
from coremlops.lower import Lowered
from coremlops.model import ImageFeature, ModelAsset, ModelDescription
from coremlops.model.labels import pipeline_members
from coremlops.runtime.inputs import fitted
from coremlops.runtime.parts import Part, PartOptions, TensorPart, make_part

MAX_PIPELINE = 1000  # members, each of which may have a session of its own
MAX_LINKS = 8  # one after another: a chain longer than this is a circle
MAX_LINK_CHARS = 200


class PipelinePart:
    """Models one after another; features by name, a later one of the same name in the place of an earlier."""

    def __init__(self, asset: ModelAsset, options: PartOptions) -> None:
        """Load all members.

        Raises UnsupportedOpsError with everything that no member can run, ModelFormatError, WeightsError.
        """
        self._where = str(asset.path)
        members = [replace(asset, spec=spec) for spec in pipeline_members(asset.spec)]
        if not 1 <= len(members) <= MAX_PIPELINE:
            raise ModelFormatError(
                f"{self._where}: a pipeline of {len(members)} models; expected 1 to {MAX_PIPELINE}"
            )
        if any(member.kind is None for member in members):
            raise ModelFormatError(f"{self._where}: a member of the pipeline is of no kind")
        descriptions = [member.description for member in members]
        self._inputs, self._outputs = asset.description.inputs, asset.description.outputs
        self._check(asset.description, descriptions)
        self._members = list(zip(self._parts(members, options), descriptions, strict=True))

    def _check(self, whole: ModelDescription, descriptions: list[ModelDescription]) -> None:
        """Every member finds its inputs among those of the pipeline and what earlier members give."""
        known = {feature.name for feature in whole.inputs}
        for number, description in enumerate(descriptions):
            for feature in description.inputs:
                if feature.name not in known and not feature.optional:
                    raise ModelFormatError(
                        f"{self._where}: nothing before member {number} gives its input {feature.name!r}"
                    )
            known.update(feature.name for feature in description.outputs)
        missing = sorted({feature.name for feature in whole.outputs} - known)
        if missing:
            raise ModelFormatError(f"{self._where}: no member gives the output {missing[0]!r}")

    def _parts(self, members: list[ModelAsset], options: PartOptions) -> list[Part]:
        parts, refused = [], []
        for member in members:
            try:
                parts.append(make_part(member, replace(options, member=True)))
            except UnsupportedOpsError as error:
                refused.append(error)
        if len(refused) == 1:
            raise refused[0]
        if refused:
            raise UnsupportedOpsError(
                "\n".join(error.message for error in refused),
                tuple(line for error in refused for line in error.unsupported),
                hint=refused[0].hint,
            )
        return parts

    @property
    def lowered(self) -> Lowered:
        """The whole pipeline as one ONNX graph. Raises UnsupportedOpsError for one that ONNX cannot hold."""
        from coremlops.lower.compose import compose
        from coremlops.lower.registry import Unsupported

        stages = []
        for number, (part, _) in enumerate(self._members):
            found = part.lowered if isinstance(part, TensorPart | PipelinePart) else None
            found = found if isinstance(found, Lowered | None) else found.whole
            if found is None:
                raise UnsupportedOpsError(
                    f"{self._where}: member {number} of the pipeline runs in Python; ONNX cannot hold it",
                    (f"member {number}",),
                )
            stages.append(found)
        self._refuse_pictures_between()
        try:
            return compose(stages, [feature.name for feature in self._outputs])
        except Unsupported as reason:
            raise UnsupportedOpsError(
                f"{self._where}: as one ONNX graph, not supported: {reason}", (str(reason),)
            ) from None

    def _refuse_pictures_between(self) -> None:
        """A graph hands tensors on; a picture is rounded and clipped, and may be wanted in another colour."""
        given = {feature.name: feature for feature in self._inputs}
        for number, (_, description) in enumerate(self._members):
            for feature in description.inputs:
                source = given.get(feature.name)
                if isinstance(feature, ImageFeature) and (
                    not isinstance(source, ImageFeature) or source.colour != feature.colour
                ):
                    raise UnsupportedOpsError(
                        f"{self._where}: as one ONNX graph, not supported: the picture {feature.name!r}, "
                        f"which member {number} takes as {feature.colour}, is made or converted on the way",
                        (f"member {number}",),
                    )
            for feature in description.outputs:
                given.pop(feature.name, None)

    @property
    def inner_names(self) -> tuple[str, ...]:
        """The features that `intermediates` can name: the inputs, then what the members give."""
        given = [feature.name for feature in self._inputs]
        for _, description in self._members:
            given += [feature.name for feature in description.outputs]
        return tuple(dict.fromkeys(given))

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, np.ndarray[Any, Any]] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """See `Part.run`; the inner values of a pipeline are the features between its members."""
        values = dict(features)
        for part, description in self._members:
            given = {
                feature.name: fitted(feature, values[feature.name])
                for feature in description.inputs
                if feature.name in values
            }
            own = None if state is None or not description.states else state
            values.update(part.run(given, state=own))
        wanted = [feature.name for feature in self._outputs]
        for name in intermediates:
            if name not in values:
                raise UsageError(
                    f"{self._where}: no feature {name!r} between the members of the pipeline",
                    hint=f"there are {', '.join(self.inner_names)}",
                )
            wanted.append(name)
        return {name: values[name] for name in wanted}


def linked_part(asset: ModelAsset, options: PartOptions) -> Part:
    """The part of the model that a link names. Raises ModelFormatError for a path that leads elsewhere."""
    if options.links >= MAX_LINKS:
        raise ModelFormatError(f"{asset.path}: more than {MAX_LINKS} links, one to the next")
    link = asset.spec.linkedModel.linkedModelFile
    name, search = link.linkedModelFileName.defaultValue, link.linkedModelSearchPath.defaultValue
    found = _find(asset, name, search)
    return make_part(ModelAsset.open(found), replace(options, links=options.links + 1, member=False))


def _find(asset: ModelAsset, name: str, search: str) -> Path:
    """The file, in one of the folders of `search` (between colons; empty: beside this model)."""
    folders = [folder or "." for folder in search.split(":")]
    if any(folder.startswith("$") for folder in folders):
        raise UnsupportedOpsError(
            f"{asset.path}: it links to {name!r} in an app's bundle ({search}); here is no bundle",
            (f"linkedModel ({name})",),
            hint="load the model that it links to",
        )
    home = asset.path.parent
    for folder in folders:
        place = home / _inside(folder, asset) / _inside(name, asset)
        # An app links to the compiled form, which does not run here; what it was compiled from does.
        for path in (place, place.with_suffix(".mlpackage"), place.with_suffix(".mlmodel")):
            if path.suffix != ".mlmodelc" and path.exists():
                if not path.resolve().is_relative_to(home.resolve()):
                    raise ModelFormatError(f"{asset.path}: the linked model {path} lies elsewhere")
                return path
    raise ModelFormatError(
        f"{asset.path}: the linked model {name!r} is not there; looked in {search or '.'}",
        hint="put it beside this model, as an .mlpackage or .mlmodel",
    )


def _inside(part: str, asset: ModelAsset) -> str:
    odd = len(part) > MAX_LINK_CHARS or not part.isprintable()
    if not part or part.startswith("/") or ".." in part.split("/") or "\\" in part or odd:
        raise ModelFormatError(
            f"{asset.path}: the link {part[:80]!r} leads out of the model's folder, or is no plain path"
        )
    return part
