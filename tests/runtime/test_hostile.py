"""Whatever stands in a model's files, only errors of ours come out."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coremlops
from coremlops.errors import CoremlopsError, ModelFormatError
from coremlops.model import ModelAsset
from coremlops.model.proto import message_class
from coremlops.runtime import describe
from tests.handmade import add_blob_const, add_operation, blob_bytes, program_spec, write_package

SPEC = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
MANIFEST = "Manifest.json"

edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def victim(tiny_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(tiny_classifier, tmp_path_factory.mktemp("hostile") / "victim.mlpackage")


@pytest.mark.parametrize("member", [SPEC, WEIGHTS, MANIFEST])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=edits, cut=st.one_of(st.none(), st.floats(0, 1)))
def test_a_damaged_member(
    victim: Path, tiny_classifier: Path, member: str, edits: list[tuple[float, bytes]], cut: float | None
) -> None:
    data = bytearray((tiny_classifier / member).read_bytes())
    for place, patch in edits:
        start = int(place * len(data))
        data[start : start + len(patch)] = patch
    (victim / member).write_bytes(data if cut is None else data[: int(cut * len(data))])
    try:
        for read in (describe, coremlops.load):
            with contextlib.suppress(CoremlopsError):
                read(victim)
    finally:
        shutil.copy(tiny_classifier / member, victim / member)


def test_the_undamaged_victim_runs(victim: Path) -> None:
    # otherwise the test above would prove nothing
    assert ModelAsset.open(victim).description.labels == ("ada", "bob")
    coremlops.load(victim)


def test_a_pipeline_whose_parts_say_nothing(tmp_path: Path) -> None:
    model = message_class("Model")(specificationVersion=4)
    model.pipelineClassifier.pipeline.models.add(specificationVersion=4)
    path = tmp_path / "a.mlmodel"
    path.write_bytes(model.SerializeToString())
    assert describe(path)["labels"] == []


def test_an_empty_blob_of_impossible_size(tmp_path: Path) -> None:
    weights, offsets = blob_bytes([np.zeros(0, np.float32)])
    spec, block = program_spec()
    add_blob_const(block, "w", (0, 1 << 40, 1 << 40), offsets[0])
    add_operation(block, "add", "y", (2, 3), {"x": "x", "y": "w"})
    with pytest.raises(ModelFormatError, match="array is too big"):
        coremlops.load(write_package(tmp_path / "a.mlpackage", spec, weights))
