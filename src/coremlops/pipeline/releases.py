"""Publish, promote and roll back for a project: the signed repository, then MLflow's alias as its mirror."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.collection import Entry
from coremlops.errors import RepositoryError, UsageError
from coremlops.model import model_digest
from coremlops.pipeline.components.proven import check_report
from coremlops.pipeline.forms import Given, decisions, ready
from coremlops.pipeline.mirror import mirror
from coremlops.pipeline.publishable import check_publishable
from coremlops.pipeline.shipping import Shipping
from coremlops.pipeline.standing import open_repository
from coremlops.release.payload import check_model
from coremlops.release.terms import Terms

if TYPE_CHECKING:
    from coremlops.release import Repository
    from coremlops.telemetry.requirement import Requirement


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a release operation did, and how the model stands in the channel now.

    `action`: "done" or "present". `name`: of the model in its collection. `version`, `model`, `manifest`: the
    version that was asked for, and of its first variant. `current`: the version that devices get; another one
    after a rollback. `alias`: whether MLflow's alias of the channel's name is at `current`; `warning` says
    why not, when there is an MLflow to mirror to. `notes`: what a person should know of the golden set that
    was made, and of a model that is new in its collection.
    """

    action: str
    collection: str
    name: str
    channel: str
    version: int
    model: str
    manifest: str
    current: int
    rolled_back: bool
    alias: bool
    warning: str = ""
    notes: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """In words: `app/staging`, or `classifier of app/staging` for a model of another name."""
        channel = f"{self.collection}/{self.channel}"
        return channel if self.name == self.collection else f"{self.name} of {channel}"

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `receipt.json` and `--json`."""
        return asdict(self)


def publish(
    forms: Sequence[Given],
    where: Shipping,
    *,
    channel: str = "staging",
    terms: Terms | None = None,
    again: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Receipt:
    """Publish a version with its golden sets to a channel; each is checked as every device will check it.

    `forms`: in the order in which a device tries them. `terms`: for whom, how many, from when. `progress`: is
    told what is done next, since a large model takes its time. Raises `UsageError` for a missing report,
    `GateError` for one that says no, `RepositoryError`, `GoldenError` and others for what cannot be
    published.
    """
    digests = []
    for form in forms:
        if channel == "release" and form.report is None:
            raise UsageError(
                f"the release channel takes no model without a report that proves it: {form.model.name}",
                hint="give the --report of `coremlops verify`, or publish to staging and promote",
            )
        if form.golden is None:
            raise UsageError(
                "a model travels with a golden set, and no inputs are named for one",
                hint="--golden FOLDER: a few pictures, or an .npz with arrays by input name, that everyone "
                "who gets the model may see; nothing is taken from training data by itself",
            )
    if where.model is None and len(where.models) > 1:
        raise UsageError(
            f"the project publishes several models to {where.collection}: {', '.join(where.models)}",
            hint="name one: --model NAME",
        )
    repository = open_repository(where)
    before, names = repository.line(channel), repository.names
    where.check_unnamed(names)
    for form in forms:
        check_model(form.model, most_bytes=repository.most_bytes)
        progress(f"reading {form.model.name}")
        digests.append(model_digest(form.model))
        if form.report is not None:
            check_report(form.report, digests[-1], done="published")
    known = None if again else repository.published(channel, digests)
    if known is not None:
        # Nothing to make a golden set for; publishing again renews what is about to expire.
        repository.renew_online()
        return _unchanged(_receipt("present", repository, channel, known, where), known, terms)
    with tempfile.TemporaryDirectory(prefix="coremlops-golden-") as scratch:
        made, notes = ready(forms, digests, Path(scratch), progress)
        detail = decisions(made[0].golden)
        progress("writing and signing")
        entry = repository.publish(made, channel, terms=terms, again=again, detail=detail)
    action = "present" if before == repository.line(channel) else "done"
    receipt = _receipt(action, repository, channel, entry, where)
    if action == "present":
        receipt = _unchanged(receipt, entry, terms)
    if names and receipt.name not in names:
        notes.append(f"{receipt.name} is a new model of {receipt.collection}, beside {', '.join(names)}")
    return replace(receipt, notes=tuple(notes))


def check(golden: Path | None, where: Shipping, channel: str) -> None:
    """Raise for what would make a step fail whatever the model is: no repository, no key, no pictures, no
    name where the collection holds several models.

    `golden`: None when it is not made yet.
    """
    repository = open_repository(where)
    repository.require_keys(channel)
    names = repository.names
    if where.model is None and len(names) > 1:
        raise RepositoryError(
            f"{repository.collection} holds several models: {', '.join(names)}",
            hint="add `model_name: NAME` to the step's params",
        )
    where.check_unnamed(names)
    if golden is not None and not (golden / "golden.json").is_file():
        from coremlops.golden import check_inputs

        check_publishable(golden)
        check_inputs(golden)


def promote(
    where: Shipping,
    version: int | None = None,
    *,
    from_channel: str = "staging",
    to_channel: str = "release",
    terms: Terms | None = None,
    require: Requirement | None = None,
    reports: Path | None = None,
) -> Receipt:
    """Offer a version of one channel in another.

    `require`: what enrolled devices must have said of it, in the intake's file `reports`. Raises
    `RepositoryError`, `GateError` when they did not, `ReportError` when the file cannot be read.
    """
    repository = open_repository(where)
    gate = None
    if require is not None and reports is not None:
        from coremlops.telemetry.store import Store

        store = Store(reports)

        def gate(entry: Entry) -> dict[str, Any]:
            name = repository.model_name
            found = store.reports(repository.collection, name, entry.version)
            return require.judge(name, entry, (each for _, each in found))

    before = repository.line(to_channel)
    entry = repository.promote(version, from_channel, to_channel, terms=terms, gate=gate)
    action = "present" if before == repository.line(to_channel) else "done"
    receipt = _receipt(action, repository, to_channel, entry, where)
    if repository.halts(to_channel).halted(receipt.name, entry):
        halted = (
            f"version {entry.version} is halted, so no further device takes it; "
            "`release rollout --percent` takes the halt back"
        )
        receipt = replace(receipt, warning="; ".join(filter(None, (receipt.warning, halted))))
    return receipt


def rollback(where: Shipping, channel: str = "release", to_version: int | None = None) -> Receipt:
    """Make an older version current again, the one before unless named. Raises `RepositoryError`."""
    repository = open_repository(where)
    before = repository.line(channel)
    entry = repository.rollback(channel, to_version)
    action = "present" if before == repository.line(channel) else "done"
    return _receipt(action, repository, channel, entry, where)


def reset(where: Shipping) -> tuple[Receipt, ...]:
    """Make staging of all models of the collection what release is. Raises `RepositoryError`."""
    from coremlops.release.resetting import reset as begin_anew

    repository = open_repository(where)
    lines = begin_anew(repository, repository.collection)
    return tuple(
        _receipt("done", replace(repository, name=line.name), "staging", line.current, where)
        for line in lines
        if line.current is not None
    )


def rollout(
    where: Shipping, channel: str, share: int, version: int | None = None, *, lower: bool = False
) -> Receipt:
    """Offer a version to another share of all devices, in basis points. Raises `RepositoryError`."""
    repository = open_repository(where)
    before = repository.line(channel)
    entry = repository.rollout(channel, share, version, lower=lower)
    action = "present" if before == repository.line(channel) else "done"
    return _receipt(action, repository, channel, entry, where)


def halt(where: Shipping, channel: str, version: int | None = None) -> Receipt:
    """Let no further device take a version. Raises `RepositoryError`."""
    repository = open_repository(where)
    before = repository.halts(channel)
    entry = repository.halt(channel, version)
    action = "present" if before == repository.halts(channel) else "done"
    return _receipt(action, repository, channel, entry, where)


def offer_embedded(where: Shipping, channel: str, terms: Terms | None = None) -> Receipt:
    """Send devices to the model that their app carries, as a version of its own. Raises `RepositoryError`."""
    repository = open_repository(where)
    entry = repository.offer_embedded(channel, terms=terms)
    return _receipt("done", repository, channel, entry, where)


def _unchanged(receipt: Receipt, entry: Entry, terms: Terms | None) -> Receipt:
    """The receipt, with a warning when a version that was published already keeps other terms."""
    if terms is None or terms.applied(entry) == entry:  # which keeps the salt of a share
        return receipt
    said = (
        f"version {entry.version} was published already and keeps its rule, share, start and hold; "
        "`release rollout` changes the share, `release promote` takes new terms along"
    )
    return replace(receipt, warning="; ".join(filter(None, (receipt.warning, said))))


def _receipt(action: str, repository: Repository, channel: str, entry: Entry, where: Shipping) -> Receipt:
    line, names = repository.line(channel), repository.names
    current = line.current
    if current is None:
        raise RepositoryError(f"{channel} has no version of {line.name}")
    registered = where.registered(line.collection, line.name, only=len(names) == 1)
    model = current.models[0] if current.models else ""
    alias, warning = mirror(where.tracking_uri, registered, channel, model) if model else (False, "")
    return Receipt(
        action=action,
        collection=line.collection,
        name=line.name,
        channel=channel,
        version=entry.version,
        model=entry.models[0] if entry.models else "",
        manifest=entry.variants[0].manifest if entry.variants else "",
        current=current.version,
        rolled_back=line.rolled_back,
        alias=alias,
        warning=warning,
    )
