"""The digest of a model: what it ignores, and that it ignores nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coremlops.digest import members_digest, sha256_bytes, sha256_file
from coremlops.errors import ModelFormatError, WeightsError
from coremlops.model import ModelAsset, model_digest
from tests.handmade import adder, program_spec, write_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return adder(tmp_path / "adder.mlpackage")


def test_the_digest_is_that_of_the_sorted_members(package: Path) -> None:
    data = package / "Data/com.apple.CoreML"
    manifest = json.loads((package / "Manifest.json").read_text())
    items = {item["path"]: item for item in manifest["itemInfoEntries"].values()}
    plain = {**manifest, "itemInfoEntries": items, "rootModelIdentifier": "com.apple.CoreML/model.mlmodel"}
    normalised = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    spec = ModelAsset.open(package).spec.SerializeToString(deterministic=True)
    assert model_digest(package) == members_digest(
        {
            "Manifest.json": sha256_bytes(normalised),
            "Data/com.apple.CoreML/model.mlmodel": sha256_bytes(spec),
            "Data/com.apple.CoreML/weights/weight.bin": sha256_file(data / "weights/weight.bin"),
        }
    )


def test_two_writings_of_one_model_have_one_digest(tmp_path: Path) -> None:
    one, other = adder(tmp_path / "one.mlpackage"), adder(tmp_path / "other.mlpackage")
    assert (one / "Manifest.json").read_bytes() != (other / "Manifest.json").read_bytes()
    assert model_digest(one) == model_digest(other)


def test_every_file_of_the_package_counts(package: Path) -> None:
    before = model_digest(package)
    (package / "notes.txt").write_text("no item of the manifest names me")
    assert model_digest(package) != before


def test_one_bit_of_a_weight_counts(package: Path) -> None:
    before = model_digest(package)
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert model_digest(package) != before


def test_an_unknown_field_of_the_protobuf_counts(package: Path) -> None:
    before = model_digest(package)
    file = package / "Data/com.apple.CoreML/model.mlmodel"
    file.write_bytes(file.read_bytes() + b"\xf8\xff\x01\x01")  # field 4095, a varint
    assert model_digest(package) != before


def test_the_name_of_an_mlmodel_file_does_not_count(tmp_path: Path) -> None:
    spec, _ = program_spec()
    for name in ("one.mlmodel", "other.mlmodel"):
        (tmp_path / name).write_bytes(spec.SerializeToString())
    assert model_digest(tmp_path / "one.mlmodel") == model_digest(tmp_path / "other.mlmodel")


def test_a_digest_needs_no_numpy(package: Path) -> None:
    code = f"""
import sys
from coremlops.model import model_digest
model_digest({str(package)!r})
assert "numpy" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_truncated_weights_are_named(package: Path) -> None:
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    file.write_bytes(file.read_bytes()[:140])
    with pytest.raises(
        WeightsError, match="the weights are truncated: a blob ends at 152, and the file has 140"
    ):
        ModelAsset.open(package).blobs("@model_path/weights/weight.bin").read(64)


def test_a_garbled_protobuf(package: Path) -> None:
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"garbage" * 100)
    with pytest.raises(ModelFormatError, match=r"model\.mlmodel: not a Core ML model"):
        ModelAsset.open(package)


def test_a_copy_has_the_same_digest(tiny_classifier: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_classifier, tmp_path / "copy.mlpackage")
    assert model_digest(copy) == model_digest(tiny_classifier)


@pytest.mark.slow
def test_three_conversions_in_three_processes_have_one_digest(tmp_path: Path) -> None:
    make = Path(__file__).parents[1] / "make_tiny_classifier.py"
    digests, trees = set(), set()
    for seed in ("0", "1", "2"):
        path = tmp_path / f"{seed}.mlpackage"
        subprocess.run(
            [sys.executable, str(make), str(path)],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        digests.add(model_digest(path))
        trees.add(b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()))
    assert len(digests) == 1
    assert len(trees) == 3


def test_an_empty_package_is_written_and_read(tmp_path: Path) -> None:
    spec, _ = program_spec()
    assert ModelAsset.open(write_package(tmp_path / "a.mlpackage", spec)).kind == "mlProgram"
