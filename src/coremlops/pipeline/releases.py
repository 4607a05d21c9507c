"""Publish, promote and roll back for a project: the signed repository, then MLflow's alias as its mirror."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.collection import (
    CHANNELS,
    EVERYONE,
    Choice,
    Entry,
    Halts,
    History,
    Index,
    Profile,
    Range,
    Rule,
    System,
    choose,
    document,
)
from coremlops.errors import CoremlopsError, GoldenError, RepositoryError, UsageError
from coremlops.model import ModelAsset, ModelDescription, is_carried, model_digest
from coremlops.pipeline.components.proven import check_report, read_object
from coremlops.pipeline.publishable import check_publishable
from coremlops.pipeline.shipping import Shipping
from coremlops.release.terms import Form, Terms
from coremlops.tracking.address import shown, sqlite_file

if TYPE_CHECKING:
    from coremlops.release import Repository
    from coremlops.telemetry.requirement import Requirement

_ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a release operation did, and how the channel stands now.

    `action`: "done" or "present". `version`, `model`, `manifest`: the version that was asked for, and of
    its first variant.
    `current`: the version that devices get; another one after a rollback. `alias`: whether MLflow's alias of
    the channel's name is at `current`; `warning` says why not, when there is an MLflow to mirror to.
    `notes`: what a person should know of the golden set that was made.
    """

    action: str
    collection: str
    channel: str
    version: int
    model: str
    manifest: str
    current: int
    rolled_back: bool
    alias: bool
    warning: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `receipt.json` and `--json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Given:
    """One form of a model, as a person names it.

    `golden`: a golden set (with `golden.json`), or inputs to make one from by executing the model, which are
    published to every device; see `golden.make`. `report`: a `report.json` that must be ok and speak of this
    very model; the release channel takes none without. `requires`: what a device must be, besides what the
    model's own specification version needs.
    """

    model: Path
    golden: Path | None
    report: Path | None = None
    name: str = "default"
    requires: Rule = EVERYONE


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
    repository = _open(where)
    for form in forms:
        progress(f"reading {form.model.name}")
        digests.append(model_digest(form.model))
        if form.report is not None:
            check_report(form.report, digests[-1], done="published")
    known = None if again else repository.published(channel, digests)
    if known is not None:
        # Nothing to make a golden set for; publishing again renews what is about to expire.
        repository.renew_online()
        return _unchanged(_receipt("present", repository.index(channel), known, where), known, terms)
    with tempfile.TemporaryDirectory(prefix="coremlops-golden-") as scratch:
        notes: list[str] = []
        made: list[Form] = []
        folders = {form.name: Path(scratch) / f"golden-{place}" for place, form in enumerate(forms)}
        executed = [form.name for form in forms if not is_carried(form.model)]
        for form, digest in zip(forms, digests, strict=True):
            if form.name in executed:
                progress(f"golden set of {form.model.name}")
                notes += _golden(form, digest, folders[form.name])
        for form, digest in zip(forms, digests, strict=True):
            if form.name not in executed:
                notes.append(_carried_golden(form, digest, executed, folders))
            made.append(Form(form.model, folders[form.name], form.name, _needs(form)))
        before = repository.index(channel)
        detail = _decisions(made[0].golden)
        progress("writing and signing")
        entry = repository.publish(made, channel, terms=terms, again=again, detail=detail)
    after = repository.index(channel)
    receipt = _receipt("present" if before == after else "done", after, entry, where)
    if before == after:
        receipt = _unchanged(receipt, entry, terms)
    return replace(receipt, notes=tuple(dict.fromkeys(notes)))


def _unchanged(receipt: Receipt, entry: Entry, terms: Terms | None) -> Receipt:
    """The receipt, with a warning when a version that was published already keeps other terms."""
    if terms is None or terms.applied(entry) == entry:  # which keeps the salt of a share
        return receipt
    said = (
        f"version {entry.version} was published already and keeps its rule, share, start and hold; "
        "`release rollout` changes the share, `release promote` takes new terms along"
    )
    return replace(receipt, warning="; ".join(filter(None, (receipt.warning, said))))


def _needs(form: Given) -> Rule:
    """What a device must be: what the kind or the specification version needs, and what was said."""
    if not is_carried(form.model):
        return requirements(ModelAsset.open(form.model).description).both(form.requires)
    if form.requires == EVERYONE:
        raise UsageError(
            f"variant {form.name}: nothing here reads what a {form.model.suffix} needs",
            hint=f"say what a device must be to run it: --requires {form.name}=RULE.json",
        )
    return form.requires


def _carried_golden(form: Given, digest: str, executed: Sequence[str], folders: Mapping[str, Path]) -> str:
    """The golden set of a form that nothing here executes: another form's, for this digest; and a note."""
    from coremlops.golden import read_golden

    if not executed:
        raise UsageError(
            f"{form.model.name}: nothing here executes a {form.model.suffix}, so it gets no golden set",
            hint="publish it as a --variant of the .mlpackage that it was compiled from",
        )
    shutil.copytree(folders[executed[-1]], folders[form.name])
    promised = replace(read_golden(folders[executed[-1]]), model=digest)
    (folders[form.name] / "golden.json").write_bytes(promised.to_bytes())
    return (
        f"variant {form.name}: a {form.model.suffix} is not executed here; its golden set is that of "
        f"{executed[-1]}, and devices are the first to check it"
    )


def report_of(model: Path, reports: Sequence[Path]) -> Path | None:
    """Of several reports the one about this model; the first where none is, so that the error names it."""
    if len(reports) < 2:
        return reports[0] if reports else None
    digest = model_digest(model)
    for path in reports:
        about = read_object(path).get("model")
        if isinstance(about, dict) and about.get("digest") == digest:
            return path
    return reports[0]


def _golden(form: Given, digest: str, made: Path) -> tuple[str, ...]:
    """Put the form's golden set at `made`, copied or made new, and check it; what a person should know."""
    from coremlops.golden import check as judge
    from coremlops.golden import make

    assert form.golden is not None  # noqa: S101 - `publish` looked
    notes: tuple[str, ...] = ()
    if (form.golden / "golden.json").is_file():
        _copy_named(form.golden, made, digest)
    else:
        check_publishable(form.golden)
        notes = make(form.model, form.golden, made).notes
    judged = judge(form.model, made)  # a set that the model does not answer would make every device refuse it
    if not judged.ok:
        raise GoldenError(judged.reason)
    return notes


def check(golden: Path | None, where: Shipping, channel: str) -> None:
    """Raise for what would make `publish` fail whatever the model is: no repository, no key, no pictures.

    `golden`: None when it is not made yet.
    """
    _open(where).require_keys(channel)
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
    repository = _open(where)
    gate = None
    if require is not None and reports is not None:
        from coremlops.telemetry.store import Store

        store = Store(reports)

        def gate(entry: Entry) -> dict[str, Any]:
            name = repository.model_name
            found = store.reports(repository.collection, name, entry.version)
            return require.judge(name, entry, (each for _, each in found))

    before = repository.index(to_channel)
    entry = repository.promote(version, from_channel, to_channel, terms=terms, gate=gate)
    after = repository.index(to_channel)
    receipt = _receipt("present" if before == after else "done", after, entry, where)
    if repository.halts(to_channel).halted(entry):
        halted = (
            f"version {entry.version} is halted, so no further device takes it; "
            "`release rollout --percent` takes the halt back"
        )
        receipt = replace(receipt, warning="; ".join(filter(None, (receipt.warning, halted))))
    return receipt


def rollback(where: Shipping, channel: str = "release", to_version: int | None = None) -> Receipt:
    """Make an older version current again, the one before unless named. Raises `RepositoryError`."""
    repository = _open(where)
    before = repository.index(channel)
    entry = repository.rollback(channel, to_version)
    after = repository.index(channel)
    return _receipt("present" if before == after else "done", after, entry, where)


def rollout(
    where: Shipping, channel: str, share: int, version: int | None = None, *, lower: bool = False
) -> Receipt:
    """Offer a version to another share of all devices, in basis points. Raises `RepositoryError`."""
    repository = _open(where)
    before = repository.index(channel)
    entry = repository.rollout(channel, share, version, lower=lower)
    after = repository.index(channel)
    return _receipt("present" if before == after else "done", after, entry, where)


def halt(where: Shipping, channel: str, version: int | None = None) -> Receipt:
    """Let no further device take a version. Raises `RepositoryError`."""
    repository = _open(where)
    before = repository.halts(channel)
    entry = repository.halt(channel, version)
    action = "present" if before == repository.halts(channel) else "done"
    return _receipt(action, repository.index(channel), entry, where)


def offer_embedded(where: Shipping, channel: str, terms: Terms | None = None) -> Receipt:
    """Send devices to the model that their app carries, as a version of its own. Raises `RepositoryError`."""
    repository = _open(where)
    entry = repository.offer_embedded(channel, terms=terms)
    return _receipt("done", repository.index(channel), entry, where)


def explain(where: Shipping, channel: str, profile: Profile, now: datetime | None = None) -> Choice:
    """What a device with this profile would get, and why. Raises `RepositoryError`."""
    repository = _open(where)
    index, halts = repository.index(channel), repository.halts(channel)
    return choose(index, halts, profile, now or datetime.now(UTC))


def requirements(about: ModelDescription) -> Rule:
    """What a device must be to run a model: the first systems that read its specification version."""
    systems = [System(name, Range(min=version)) for name, version in about.minimum_targets.items()]
    pads = [System("iPadOS", system.versions) for system in systems if system.name == "iOS"]
    return Rule(os=(*systems, *pads, System("Linux"))) if systems else EVERYONE


@dataclass(frozen=True, slots=True)
class Standing:
    """A channel as it stands."""

    index: Index
    history: History
    halts: Halts

    def words(self, version: int) -> str:
        """The channel, where this is its newest version on offer or one with a share, and how it stands."""
        entry = self.index.find(version)
        if entry is None or (entry != self.index.current and entry.rollout is None):
            return ""
        parts = ["rolled back"] if entry == self.index.current and self.index.rolled_back else []
        if entry.rollout is not None:
            parts.append(entry.rollout.percent)
        if entry.start is not None:
            parts.append(f"from {document.time_text(entry.start)}")
        if self.halts.halted(entry):
            parts.append("halted")
        return self.index.channel + (f" ({', '.join(parts)})" if parts else "")

    def to_json(self) -> dict[str, Any]:
        """The channel in `release list --json`."""
        current = self.index.current
        return {
            "current": None if current is None else current.to_json(),
            "rolled_back": self.index.rolled_back,
            "offers": [entry.to_json() for entry in self.index.offers],
            "halted": [entry.version for entry in self.index.offers if self.halts.halted(entry)],
            "history": [entry.to_json() for entry in self.history.entries],
        }


def collection(where: Shipping) -> str:
    """Which collection of the repository is meant. Raises `RepositoryError`."""
    return _open(where).collection


def listing(where: Shipping) -> tuple[Standing, ...]:
    """Both channels as they stand. Raises `RepositoryError`."""
    repository = _open(where)
    return tuple(
        Standing(repository.index(each), repository.history(each), repository.halts(each))
        for each in CHANNELS
    )


def _copy_named(golden: Path, made: Path, digest: str) -> None:
    """Copy a golden set of this model: the files that `golden.json` names, and none that lies beside them.

    All of it goes to every device, so nothing is published that nobody named. Raises `GoldenError`.
    """
    from coremlops.golden import read_golden

    promised = read_golden(golden)
    if promised.model != digest:
        raise GoldenError(
            f"a golden set of model {digest[:12]} expected, got one of {promised.model[:12]} in {golden}",
            hint="give the pictures instead, and the set is made from them",
        )
    made.mkdir()
    for name in ("golden.json", *promised.files):
        if (golden / name).is_symlink() or not (golden / name).is_file():
            raise GoldenError(f"{golden / name}: a file expected, got none", hint="golden.json names it")
        try:
            shutil.copyfile(golden / name, made / name)
        except OSError as error:
            raise GoldenError(f"{golden / name} cannot be read: {error.strerror}") from None


def _decisions(golden: Path) -> dict[str, Any]:
    """What the audit log says of tolerances that somebody widened: the newest decision."""
    from coremlops.golden import read_golden

    decisions = read_golden(golden).decisions
    if not decisions:
        return {}
    newest = decisions[-1]
    words = {"at": newest.at, "by": newest.by, "basis": newest.basis[:200], "reason": newest.reason[:200]}
    return {"widened": {**words, "outputs": [name for name, _, _ in newest.changes[:32]]}}


def mirror(where: Shipping, collection: str, channel: str, digest: str) -> tuple[bool, str]:
    """Point MLflow's alias at the version with this digest; whether it is there now, and a warning if not.

    The signed repository is the authority: whatever is wrong with MLflow is a warning and never an error.
    """
    if not where.tracking_uri:
        return False, ""
    from coremlops.tracking import mirror_alias, peek_alias

    uri, name = where.tracking_uri, where.registered(collection)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return False, f"MLflow's alias {name}@{channel} is not set: there is no {file}"
    if peek_alias(uri, name, channel) == digest:
        return True, ""
    if not _answers(uri):
        return False, f"MLflow's alias {name}@{channel} is not set: nothing answers at {shown(uri)}"
    try:
        if mirror_alias(uri, name, channel, digest):
            return True, ""
        why = f"no version of {name} holds the model {digest[:12]}"
    except CoremlopsError as error:
        why = error.message
    except Exception as error:  # MLflow and its transports raise anything; none of it concerns the release.
        why = f"{type(error).__name__}: {error}"
    return False, shown(f"MLflow's alias {name}@{channel} is not set: {why}")


def _answers(uri: str) -> bool:
    """Whether a server answers at all: MLflow itself would go on trying for minutes."""
    if not uri.startswith(("http://", "https://")):
        return True
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=_ANSWER_S):  # noqa: S310 - http or https, see above
            return True
    except HTTPError:
        return True
    except (OSError, ValueError, HTTPException):
        return False


def _open(where: Shipping) -> Repository:
    from coremlops.release import Repository

    return Repository.open(where.repository, where.collection)


def _receipt(action: str, index: Index, entry: Entry, where: Shipping) -> Receipt:
    current = index.current
    if current is None:
        raise RepositoryError(f"{index.channel} has no version")
    model = current.models[0] if current.models else ""
    alias, warning = mirror(where, index.collection, index.channel, model) if model else (False, "")
    return Receipt(
        action=action,
        collection=index.collection,
        channel=index.channel,
        version=entry.version,
        model=entry.models[0] if entry.models else "",
        manifest=entry.variants[0].manifest if entry.variants else "",
        current=current.version,
        rolled_back=index.rolled_back,
        alias=alias,
        warning=warning,
    )
