"""Publish, promote and roll back for a project: the signed repository, then MLflow's alias as its mirror."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coremlops.collection import Entry, Index
from coremlops.errors import CoremlopsError, GoldenError, RepositoryError, UsageError
from coremlops.model import model_digest
from coremlops.pipeline.components.proven import check_report
from coremlops.pipeline.shipping import Shipping
from coremlops.tracking.address import shown, sqlite_file

_ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a release operation did, and how the channel stands now.

    `action`: "done" or "present". `version`, `model`, `manifest`: the version that was asked for.
    `current`: the version that devices get; another one after a rollback. `alias`: whether MLflow's alias of
    the channel's name is at `current`; `warning` says why not, when there is an MLflow to mirror to.
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

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `receipt.json` and `--json`."""
        return asdict(self)


def publish(
    model: Path,
    golden: Path,
    where: Shipping,
    *,
    channel: str = "staging",
    report: Path | None = None,
    again: bool = False,
) -> Receipt:
    """Publish a model with its golden set to a channel.

    `golden`: a golden set (with `golden.json`), or a folder of pictures to make one from by executing the
    model. Either is checked here as every device will check it. `report`: a `report.json` that must be ok and
    speak of this very model; the release channel takes no model without. Raises `UsageError` for a missing
    report, `GateError` for one that says no, `RepositoryError`, `GoldenError` and others for what cannot be
    published.
    """
    if channel == "release" and report is None:
        raise UsageError(
            "the release channel takes no model without a report that proves it",
            hint="give the --report of `coremlops verify`, or publish to staging and promote",
        )
    repository = _open(where)
    digest = model_digest(model)
    if report is not None:
        check_report(report, digest, done="published")
    if not again:
        before = repository.index(channel)
        if digest in {entry.model for entry in (before.latest, before.current) if entry is not None}:
            # Nothing to make a golden set for; publishing again renews what is about to expire.
            repository.renew_online()
            known = before.current if before.current and before.current.model == digest else before.latest
            assert known is not None  # noqa: S101 - the digest was found in one of the two
            return _receipt("present", before, known, where)
    from coremlops.golden import check, make

    with tempfile.TemporaryDirectory(prefix="coremlops-golden-") as scratch:
        made = Path(scratch) / "golden"
        if (golden / "golden.json").is_file():
            _copy_named(golden, made, digest)
        else:
            make(model, golden, made)
        check(model, made)  # a set that the model does not answer would make every device refuse it
        before = repository.index(channel)
        entry = repository.publish(model, made, channel, again=again)
    after = repository.index(channel)
    return _receipt("present" if before == after else "done", after, entry, where)


def check(golden: Path | None, where: Shipping, channel: str) -> None:
    """Raise for what would make `publish` fail whatever the model is: no repository, no key, no pictures.

    `golden`: None when it is not made yet.
    """
    _open(where).require_keys(channel)
    if golden is not None and not (golden / "golden.json").is_file():
        from coremlops.golden.making import pictures

        pictures(golden)


def promote(
    where: Shipping, version: int | None = None, *, from_channel: str = "staging", to_channel: str = "release"
) -> Receipt:
    """Make a version of one channel current in another. Raises `RepositoryError`."""
    repository = _open(where)
    before = repository.index(to_channel)
    entry = repository.promote(version, from_channel, to_channel)
    after = repository.index(to_channel)
    return _receipt("present" if before == after else "done", after, entry, where)


def rollback(where: Shipping, channel: str = "release", to_version: int | None = None) -> Receipt:
    """Make an older version current again, the one before unless named. Raises `RepositoryError`."""
    repository = _open(where)
    before = repository.index(channel)
    entry = repository.rollback(channel, to_version)
    after = repository.index(channel)
    return _receipt("present" if before == after else "done", after, entry, where)


def listing(where: Shipping) -> tuple[Index, ...]:
    """Both channels as they stand. Raises `RepositoryError`."""
    indexes: tuple[Index, ...] = _open(where).list()
    return indexes


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
    for name in ("golden.json", *(item.file for item in promised.examples)):
        if (golden / name).is_symlink() or not (golden / name).is_file():
            raise GoldenError(f"{golden / name}: a file expected, got none", hint="golden.json names it")
        try:
            shutil.copyfile(golden / name, made / name)
        except OSError as error:
            raise GoldenError(f"{golden / name} cannot be read: {error.strerror}") from None


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


def _open(where: Shipping) -> Any:
    from coremlops.release import Repository

    return Repository.open(where.repository, where.collection)


def _receipt(action: str, index: Index, entry: Entry, where: Shipping) -> Receipt:
    current = index.current
    if current is None:
        raise RepositoryError(f"{index.channel} has no version")
    alias, warning = mirror(where, index.collection, index.channel, current.model)
    return Receipt(
        action=action,
        collection=index.collection,
        channel=index.channel,
        version=entry.version,
        model=entry.model,
        manifest=entry.manifest,
        current=current.version,
        rolled_back=index.rolled_back,
        alias=alias,
        warning=warning,
    )
