"""Where a project ships to: its repository, collection, models and MLflow store. Nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coremlops.errors import ConfigError, UsageError
from coremlops.pipeline.config import Config, Pipeline, Step
from coremlops.pipeline.project import find_project, load_project
from coremlops.tracking.address import DEFAULT_URI, absolute_uri


@dataclass(frozen=True, slots=True)
class Shipping:
    """`repository`: the folder of the signed repository. `collection`, `model`: None means its only one.

    `names`: what models are called in MLflow's registry, by (collection, model); the model is "" where a
    publish step names none and means the collection's only one. `tracking_uri`: empty when there is no
    MLflow store to mirror to.
    """

    repository: Path
    collection: str | None = None
    model: str | None = None
    names: Mapping[tuple[str, str], str] = field(default_factory=dict)
    tracking_uri: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        """Those that the project's steps publish to this collection by name."""
        return tuple(sorted({model for where, model in self.names if where == self.collection and model}))

    def check_unnamed(self, held: Sequence[str]) -> None:
        """Raise `UsageError` where a model without a name would become a version of one that another step
        publishes by its name. `held`: the models that the collection holds."""
        if self.model is None and (self.collection or "", "") in self.names and {*held} & {*self.models}:
            raise UsageError(
                f"a publish step to {self.collection} names no model, and others publish there "
                f"{', '.join(self.models)}",
                hint="add `model_name: NAME` to its params",
            )

    def registered(self, collection: str, model: str, *, only: bool = True) -> str:
        """The registry's name for a model. `only`: it is the one model of the collection."""
        unnamed = self.names.get((collection, ""), "") if only else ""
        return self.names.get((collection, model), "") or unnamed or model


def shipping(start: Path, environment: Mapping[str, str] | None = None, model: str | None = None) -> Shipping:
    """Where the project at or above `start` ships to; `start/repository` when there is no project.

    `model`: the name of one in its collection; of several publish steps the first with that `model_name` is
    meant. None: the first, and its model where no other step publishes another one to the same collection.
    Raises `ConfigError` for a `coremlops.yaml` that cannot be accepted.
    """
    values = os.environ if environment is None else environment
    uri = values.get("MLFLOW_TRACKING_URI", "")
    try:
        root = find_project(start)
    except ConfigError:
        return Shipping(start.absolute() / "repository", model=model, tracking_uri=uri)
    config = load_project(root).config
    names: dict[tuple[str, str], str] = {}
    steps = list(_publish_steps(config))
    for pipeline, step in steps:
        _check_alone(pipeline, step)
        registered = step.params.get("name") or _registered(pipeline, step)
        names.setdefault((step.params.get("collection", ""), _model_name(step)), registered)
    meant = [step for _, step in steps if model is None or _model_name(step) == model]
    params = next((step.params for step in (*meant, *(step for _, step in steps))), {})
    collection = params.get("collection")
    published = [name for where, name in names if where == collection]
    if model is None and len(published) == 1:
        model = published[0] or None
    return Shipping(
        repository=root / params.get("repository", "repository"),
        collection=collection,
        model=model,
        names=names,
        tracking_uri=absolute_uri(uri or config.tracking_uri or DEFAULT_URI, root),
    )


def _publish_steps(config: Config) -> Iterator[tuple[Pipeline, Step]]:
    """Every publish step, those of the default pipeline first."""
    for pipeline in sorted(config.pipelines.values(), key=lambda each: each.name != "main"):
        for step in pipeline.steps:
            if step.uses == "publish":
                yield pipeline, step


def _check_alone(pipeline: Pipeline, step: Step) -> None:
    """Raise `ConfigError` when another step of the pipeline publishes another model in this one's place."""
    for other in pipeline.steps:
        if other.uses == "publish" and _line(other) == _line(step) and _source(other) != _source(step):
            names = " and ".join(sorted((other.name, step.name)))
            raise ConfigError(
                f"{pipeline.name}: {names} publish two models as versions of one",
                hint="give each step's params a `model_name: NAME`",
            )


def _line(step: Step) -> tuple[str, ...]:
    """Where a publish step puts its model."""
    keys = {"repository": "repository", "collection": "", "channel": "staging", "model_name": ""}
    return tuple(step.params.get(key, default) for key, default in keys.items())


def _model_name(step: Step) -> str:
    return step.params.get("model_name", "")


def _registered(pipeline: Pipeline, publish: Step) -> str:
    """The name that the pipeline registers this step's model by; that of its only register step, if it has
    one for another source of the model."""
    steps = [step for step in pipeline.steps if step.uses == "register"]
    same = [step for step in steps if _source(step) == _source(publish)]
    chosen = same or (steps if len(steps) == 1 else [])
    return chosen[0].params.get("name", "") if chosen else ""


def _source(step: Step) -> str:
    return next((each.source for each in step.inputs if each.name == "model"), "")
