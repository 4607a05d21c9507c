"""A history lets go of what nobody goes back to, and the files go when no device can be fetching them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release import members as members_module
from coremlops.release.forgetting import Forgotten, forget
from coremlops.release.terms import Form
from coremlops.release.upkeep import audit, collect
from tests.release.models import write_model
from tests.release.test_upkeep import age

VERSIONS = 5


@pytest.fixture
def grown(
    repository: Repository, tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> Repository:
    """Five versions on staging and one of another model; release is at version 1. Old offers do not stay."""
    monkeypatch.setattr("coremlops.collection.index.MAX_OFFERS", 2)
    for number in range(VERSIONS):
        model = write_model(tmp_path / f"{number}.mlpackage", gain=0.02 + number / 100, extra_bytes=500)
        replace(repository, name="detector").publish([Form(model, golden)])
        if number == 0:
            replace(repository, name="other").publish([Form(model, golden)])
            replace(repository, name="detector").promote()
    return repository


def files(repository: Repository) -> set[str]:
    return {path.name for path in (repository.folder / "targets/faces/members").iterdir()}


def test_what_is_on_offer_anywhere_and_the_newest_stay(grown: Repository) -> None:
    before = files(grown)
    assert forget(grown, 3, dry_run=True) == (Forgotten("faces", "detector", (2,)),)
    assert files(grown) == before
    assert not any("members/" in name for name in collect(grown, grace=timedelta(0), dry_run=True).files)
    assert forget(grown, 3) == (Forgotten("faces", "detector", (2,)),)
    detector = replace(Repository.open(grown.folder), name="detector")
    assert [each.version for each in detector.history("staging").entries] == [3, 4, 5]
    assert [each.version for each in detector.history("release").entries] == [1]
    age(grown.folder, 1)  # the clock stands, what was just written is later
    removed = collect(grown, grace=timedelta(0)).files
    assert any(name.startswith("targets/faces/members/") for name in removed)
    assert audit(grown).problems == ()
    assert forget(grown, 3) == ()
    with pytest.raises(RepositoryError, match="no version 2"):
        detector.rollback("staging", 2)
    assert detector.rollback("staging", 3).version == 3


def test_files_stay_as_long_as_a_device_may_be_fetching_them(grown: Repository) -> None:
    before = files(grown)
    forget(grown, 1)
    assert not any("members" in name for name in collect(grown, grace=timedelta(hours=1)).files)
    assert files(grown) == before


def test_a_version_that_was_rolled_back_from_is_still_known(grown: Repository) -> None:
    detector = replace(grown, name="detector")
    detector.rollback("staging", 2)
    forget(grown, 1)
    contents = replace(Repository.open(grown.folder), name="detector").contents()
    latest = contents.latest(contents.line("staging"))
    assert latest is not None
    assert latest.version == VERSIONS
    assert audit(grown).problems == ()


def test_it_works_with_bins_and_signs_nothing_when_nothing_changes(
    grown: Repository, tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, value in {"FLAT": 2, "FULL": 1, "SPLIT": 1}.items():
        monkeypatch.setattr(members_module, limit, value)
    model = write_model(tmp_path / "more.mlpackage", gain=0.5, extra_bytes=500)
    replace(grown, name="detector").publish([Form(model, golden)])
    assert forget(grown, 2) == (Forgotten("faces", "detector", (2, 3, 4)),)
    assert audit(grown).problems == ()
    before = (grown.folder / "metadata" / "timestamp.json").read_bytes()
    assert forget(grown, 2) == ()
    assert (grown.folder / "metadata" / "timestamp.json").read_bytes() == before


def test_none_cannot_be_kept(grown: Repository) -> None:
    with pytest.raises(RepositoryError, match="1 or more versions are kept, got 0"):
        forget(grown, 0)


def test_every_collection_forgets_in_one_commit(
    grown: Repository, models: tuple[Path, Path, Path], golden: Path
) -> None:
    grown.add("other")
    for model in models:
        Repository.open(grown.folder, "other").publish([Form(model, golden)])
    lines = grown.audit()
    assert forget(grown, 1) == (
        Forgotten("faces", "detector", (2, 3)),
        Forgotten("other", "other", (1,)),
    )
    assert grown.audit() == lines + 1
    assert audit(grown).problems == ()
