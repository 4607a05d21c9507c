"""An audit finds whatever is wrong with a repository; what nothing names goes, and no device notices."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from coremlops import golden
from coremlops.client import Device
from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release import members as members_module
from coremlops.release.rotation import Rotation
from coremlops.release.terms import Form
from coremlops.release.upkeep import audit, collect
from tests.release.models import write_model, write_pictures


@pytest.fixture
def filled(repository: Repository, models: tuple[Path, Path, Path], golden: Path) -> Repository:
    """Three versions on staging, the first on release."""
    for model in models:
        repository.publish([Form(model, golden)])
    repository.promote(1)
    return repository


def test_a_whole_repository_has_no_problem(filled: Repository) -> None:
    found = audit(filled)
    assert found.problems == ()
    assert (found.versions, found.lines) == (3, 4)
    assert found.targets > 10
    assert found.bytes > 1500


def test_bins_that_were_split_further_are_no_problem(
    repository: Repository,
    models: tuple[Path, Path, Path],
    golden: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TUF lets no role leave the snapshot, so those that nothing delegates to any more stay named there."""
    for limit, value in {"FLAT": 2, "FULL": 1, "SPLIT": 1}.items():
        monkeypatch.setattr(members_module, limit, value)
    for model in models:
        repository.publish([Form(model, golden)])
    kinds = {
        path.name.split(".")[1].rsplit("-", 1)[0]
        for path in repository.folder.glob("metadata/*.*-members*-*")
    }
    assert len(kinds) > 1
    assert audit(repository).problems == ()
    collect(repository, grace=timedelta(0))
    assert audit(repository).problems == ()


def test_a_new_repository_is_whole(repository: Repository) -> None:
    found = audit(repository)
    assert (found.problems, found.lines, found.versions) == ((), 0, 0)
    assert repository.audit() == 0


def one(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def spoiled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def lines(folder: Path, kept: slice) -> None:
    log = folder / "audit.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[kept]))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a member is damaged": (lambda at: spoiled(one(at, "targets/faces/members/*")), "SHA-256"),
    "a member is gone": (lambda at: one(at, "targets/faces/members/*").unlink(), "No such file"),
    "a member is longer": (lambda at: longer(one(at, "targets/faces/members/*")), "bytes are signed"),
    "an index is damaged": (
        lambda at: list(map(spoiled, at.glob("targets/faces/release/*index.json"))),
        "SHA-256",
    ),
    "a role is damaged": (lambda at: spoiled(one(at, "metadata/2.faces-release.json")), "faces-release"),
    "a role is gone": (lambda at: one(at, "metadata/2.faces-release.json").unlink(), "cannot be read"),
    "the log begins late": (lambda at: lines(at, slice(1, None)), "chain is broken"),
    "the log ends early": (lambda at: lines(at, slice(-1)), "lines are missing"),
    "a gzip is of another": (
        lambda at: one(at, "metadata/*.gz").write_bytes(gzip.compress(b"{}")),
        "no gzip of",
    ),
    "a gzip is none": (lambda at: one(at, "metadata/*.gz").write_bytes(b"{}"), "no gzip of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_audit_finds(filled: Repository, fault: str) -> None:
    spoil, words = FAULTS[fault]
    spoil(filled.folder)
    problems = audit(filled).problems
    assert any(words in problem for problem in problems), problems


def test_a_root_that_the_one_before_did_not_sign_is_found(filled: Repository) -> None:
    filled.rotate(Rotation(("root",)))
    assert audit(filled).problems == ()
    other = Repository.init(filled.folder.parent / "other", config=filled.folder.parent / "other-config")
    other.rotate(Rotation(("root",)))
    target = filled.folder / "metadata/2.root.json"
    target.write_bytes((other.folder / "metadata/2.root.json").read_bytes())
    with pytest.raises(RepositoryError):
        audit(filled)


def age(folder: Path, days: float) -> None:
    """As if everything had been written so long ago."""
    then = time.time() - days * 86_400
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def test_nothing_goes_within_the_grace_period(filled: Repository) -> None:
    age(filled.folder, 10)
    assert collect(filled, grace=timedelta(days=30)).files == ()


def test_what_nothing_names_goes_and_everything_else_stays(filled: Repository) -> None:
    stray = filled.folder / "targets/faces/members" / ("0" * 64 + "." + "0" * 64)
    stray.write_bytes(b"left by a crash")
    (filled.folder / "metadata/9.faces-staging.json").write_bytes(b"{}")
    age(filled.folder, 40)
    tried = collect(filled, dry_run=True)
    assert stray.exists()
    removed = collect(filled)
    assert removed == tried
    assert stray.relative_to(filled.folder).as_posix() in removed.files
    assert "metadata/9.faces-staging.json" in removed.files
    assert "metadata/2.snapshot.json" in removed.files
    assert not any(name.endswith((".root.json", ".targets.json", "timestamp.json")) for name in removed.files)
    found = audit(filled)
    assert (found.problems, found.unneeded, found.versions) == ((), 0, 3)
    assert collect(filled).files == ()
    assert filled.rollback("staging", 1).version == 1


def test_what_was_replaced_lately_stays_as_long_as_the_grace_period(filled: Repository) -> None:
    age(filled.folder, 40)
    before = filled.line("staging")
    filled.rollback("staging", 2)
    removed = collect(filled, grace=timedelta(days=1))
    kept = {path.relative_to(filled.folder).as_posix() for path in filled.folder.rglob("*")}
    assert "metadata/5.snapshot.json" in kept  # ended a moment ago
    assert "metadata/4.snapshot.json" in removed.files
    name = [path for path in kept if path.endswith(".index.json") and "/staging/" in path]
    assert len(name) == 2
    assert before.current is not None


def test_a_device_in_the_middle_of_an_update_finishes_it(tmp_path: Path, config: Path) -> None:
    """It has read the metadata of before; then a release replaces it, and the repository is cleaned."""
    repository, forms = Repository.init(tmp_path / "repository"), []
    pictures = write_pictures(tmp_path / "pictures")
    for gain in (0.02, 0.03):
        model = write_model(tmp_path / f"{gain}.mlpackage", gain=gain, extra_bytes=500)
        golden.make(model, pictures, tmp_path / f"golden-{gain}")
        forms.append(Form(model, tmp_path / f"golden-{gain}"))
    repository.publish([forms[0]])
    age(repository.folder, 40)
    device = Device.install(
        tmp_path / "phone", repository.folder.as_uri(), "faces", "staging", repository.root_file
    )
    from coremlops.client import trust

    real = trust.Trusted.refresh

    def refresh(*given: object, **named: object) -> object:
        found = real(*given, **named)  # type: ignore[arg-type]
        repository.publish([forms[1]])
        repository.rollback("staging", 1)
        assert collect(repository, grace=timedelta(hours=1)).files
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust.Trusted, "refresh", staticmethod(refresh))
        assert device.update().version == 1
    assert device.update().version == 1


def test_a_pending_change_keeps_its_files(
    tmp_path: Path, config: Path, models: tuple[Path, Path, Path], golden: Path
) -> None:
    from coremlops.errors import PendingError
    from coremlops.release.keys import KeyPlan

    plan = KeyPlan(counts={"release": 2}, thresholds={"release": 2})
    repository = Repository.init(tmp_path / "repository", plan=plan)
    repository.publish([Form(models[0], golden)])
    second = repository.keys.folder / "release" / "release-2.pem"
    data = second.read_bytes()
    second.unlink()
    with pytest.raises(PendingError) as waits:
        Repository.open(repository.folder).promote()
    age(repository.folder, 40)
    collect(repository)
    second.write_bytes(data)
    second.chmod(0o600)
    opened = Repository.open(repository.folder)
    opened.sign(waits.value.change)
    assert opened.line("release").current is not None
    assert audit(opened).problems == ()
