"""Packages: what is read, and what is refused."""

import json
import os
from pathlib import Path

import pytest

from coremlops.errors import ModelFormatError, WeightsError
from coremlops.model.package import normalised_manifest, open_package
from tests.handmade import adder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return adder(tmp_path / "adder.mlpackage")


def edit_manifest(package: Path, old: str, new: str) -> None:
    file = package / "Manifest.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_members_are_listed_with_their_sizes(package: Path) -> None:
    opened = open_package(package)
    assert list(opened.members) == [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ]
    assert opened.model == "Data/com.apple.CoreML/model.mlmodel"
    assert opened.bytes == sum(file.stat().st_size for file in package.rglob("*") if file.is_file())


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"no Core ML model at .*nowhere: No such file"):
        open_package(tmp_path / "nowhere")


def test_a_folder_that_is_no_package_is_told_so_before_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ModelFormatError, match=r"no Manifest\.json"):
        open_package(tmp_path)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"no Manifest\.json"):
        open_package(tmp_path)


def test_a_missing_member_is_named(package: Path) -> None:
    (package / "Data/com.apple.CoreML/model.mlmodel").unlink()
    with pytest.raises(ModelFormatError, match=r"there is no Data/com\.apple\.CoreML/model\.mlmodel"):
        open_package(package)


@pytest.mark.parametrize(
    "path", ["../../../etc/passwd", "/etc/passwd", "a/../b", "", "a//b", "./a", "a\\\\b"]
)
def test_a_manifest_path_that_leaves_the_package(package: Path, path: str) -> None:
    edit_manifest(package, "com.apple.CoreML/model.mlmodel", path)
    with pytest.raises(ModelFormatError, match="path"):
        open_package(package)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        "[" * 100_000,
        '{"itemInfoEntries": {}}',
        '{"itemInfoEntries": {"a": 1}, "rootModelIdentifier": "a"}',
    ],
)
def test_a_manifest_of_another_shape(package: Path, text: str) -> None:
    (package / "Manifest.json").write_text(text)
    with pytest.raises(ModelFormatError, match=r"Manifest\.json"):
        open_package(package)


def test_weights_of_a_model_that_has_none_are_an_empty_folder(package: Path) -> None:
    # coremltools writes it so.
    (package / "Data/com.apple.CoreML/weights/weight.bin").unlink()
    assert list(open_package(package).members) == ["Data/com.apple.CoreML/model.mlmodel", "Manifest.json"]


def test_two_items_with_one_path(package: Path) -> None:
    edit_manifest(package, "com.apple.CoreML/weights", "com.apple.CoreML/model.mlmodel")
    with pytest.raises(ModelFormatError, match="two items name one path"):
        open_package(package)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_out_of_the_package(package: Path, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir() if kind == "folder" else secret.write_text("secret")
    (package / "Data" / "link").symlink_to(secret)
    with pytest.raises(ModelFormatError, match="Data/link is a link"):
        open_package(package)


def test_a_special_file(package: Path) -> None:
    os.mkfifo(package / "Data" / "pipe")
    with pytest.raises(ModelFormatError, match="Data/pipe is a link or a special file"):
        open_package(package)


def test_too_many_members(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coremlops.model.package.MAX_MEMBERS", 2)
    with pytest.raises(ModelFormatError, match="more than 2 members"):
        open_package(package)


def test_folders_nested_too_deep(package: Path) -> None:
    (package / "/".join("d" * 40)).mkdir(parents=True)
    with pytest.raises(ModelFormatError, match="deeper than 32"):
        open_package(package)


def test_a_compiled_model_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "coremldata.bin").write_bytes(b"")
    with pytest.raises(ModelFormatError, match="compiled model"):
        open_package(tmp_path)


@pytest.mark.parametrize("name", ["@model_path/../../secret", "@model_path//etc/passwd", "@model_path/"])
def test_weights_outside_the_package(package: Path, name: str) -> None:
    with pytest.raises(ModelFormatError, match="leaves the package"):
        open_package(package).weight_file(name)


def test_weights_with_an_unknown_prefix(package: Path) -> None:
    with pytest.raises(WeightsError, match="expected @model_path/"):
        open_package(package).weight_file("/etc/passwd")


def test_weights_that_are_not_there(package: Path) -> None:
    with pytest.raises(WeightsError, match=r"'Data/com\.apple\.CoreML/weights/other\.bin' are missing"):
        open_package(package).weight_file("@model_path/weights/other.bin")


def test_the_normalised_manifest_forgets_the_random_names_alone(package: Path) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    renamed = json.loads(json.dumps(manifest).replace(manifest["rootModelIdentifier"], "another-name"))
    assert renamed != manifest
    assert normalised_manifest(renamed) == normalised_manifest(manifest)
    renamed["fileFormatVersion"] = "2.0.0"
    assert normalised_manifest(renamed) != normalised_manifest(manifest)


@pytest.mark.parametrize("name", [b"Data/\xff", b"Data/a\x7f"])
def test_a_member_whose_name_does_not_print(package: Path, name: bytes) -> None:
    (package / os.fsdecode(name)).write_bytes(b"x")
    with pytest.raises(ModelFormatError, match="do not print"):
        open_package(package)
