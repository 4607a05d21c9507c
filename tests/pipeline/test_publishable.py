"""Nothing is published that nobody named: a step's data is refused as a golden set's inputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from coremlops.digest import members_digest, sha256_file
from coremlops.errors import DataError, UsageError
from coremlops.pipeline import forms, releases
from coremlops.pipeline.publishable import check_publishable
from coremlops.pipeline.shipping import Shipping
from tests.release.models import write_model, write_pictures

PROJECT = """
project: faces
pipelines:
  main:
    steps:
      prepare: {path: prepare, inputs: {photos: ./photos}}
      convert: {uses: convert, inputs: {upstream: ./trained}}
      verify: {uses: verify, inputs: {model: convert, source: ./trained, data: ./golden}}
      publish: {uses: publish, inputs: {model: convert, report: verify, golden: ./golden}, params: {
        repository: repository, collection: faces}}
"""


def publish(
    model: Path, golden: Path | None, where: Shipping, *, report: Path | None = None, again: bool = False
) -> releases.Receipt:
    return releases.publish([forms.Given(model, golden, report)], where, again=again)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "faces"
    root.mkdir()
    (root / "coremlops.yaml").write_text(PROJECT)
    write_pictures(root / "photos" / "ada")
    write_pictures(root / "golden")
    monkeypatch.chdir(tmp_path)
    return root


def test_a_folder_of_its_own_may_be_published(project: Path, tmp_path: Path) -> None:
    check_publishable(project / "golden")
    check_publishable(write_pictures(tmp_path / "elsewhere"))
    check_publishable("module:function")


@pytest.mark.parametrize("place", ["photos", "photos/ada", "."])
def test_what_a_step_trains_on_is_refused(project: Path, place: str) -> None:
    with pytest.raises(DataError, match=r"is what the step prepare of .* reads") as caught:
        check_publishable(project / place)
    assert "copy the inputs that may be published" in caught.value.hint


def test_a_link_to_it_is_refused(project: Path) -> None:
    (project / "mine").symlink_to(project / "photos" / "ada")
    with pytest.raises(DataError, match="step prepare"):
        check_publishable(project / "mine")


def test_what_a_step_wrote_is_refused(project: Path, tmp_path: Path) -> None:
    pictures = write_pictures(project / ".coremlops" / "store" / "objects" / "ab" / "test" / "ada")
    with pytest.raises(DataError, match="is what a step of the pipeline wrote"):
        check_publishable(pictures.parent)
    shutil.copytree(pictures.parent, tmp_path / "out" / "test")
    (tmp_path / "out" / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="is data that a step prepared"):
        check_publishable(tmp_path / "out" / "test")


def test_the_same_files_elsewhere_are_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(project / "photos", tmp_path / "copy")
    check_publishable(copy)
    files = {path.relative_to(copy).as_posix(): sha256_file(path) for path in copy.rglob("*.png")}
    output = project / ".coremlops" / "store" / "objects" / "ab"
    output.mkdir(parents=True)
    (output / "dataset.json").write_text(json.dumps({"name": "photos", "digest": members_digest(files)}))
    monkeypatch.setenv("COREMLOPS_PROJECT", str(project))
    with pytest.raises(DataError, match="holds the very files of the data set"):
        check_publishable(copy)
    (copy / "ada" / "red.png").unlink()
    check_publishable(copy)  # a choice of them that somebody made


def test_publishing_without_inputs_says_what_to_do(tmp_path: Path) -> None:
    model = write_model(tmp_path / "one.mlpackage")
    with pytest.raises(UsageError, match="no inputs are named") as caught:
        publish(model, None, Shipping(tmp_path / "repository"))
    assert "everyone who gets the model may see" in caught.value.hint


def test_publishing_training_data_publishes_nothing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coremlops.release import Repository

    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    repository = Repository.init(project / "repository")
    model = write_model(tmp_path / "one.mlpackage")
    with pytest.raises(DataError, match="step prepare"):
        publish(model, project / "photos", Shipping(project / "repository"))
    assert repository.line("staging").current is None
