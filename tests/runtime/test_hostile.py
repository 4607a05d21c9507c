"""Whatever stands in a model's files, only errors of ours come out."""

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coremlops
from coremlops.errors import CoremlopsError
from coremlops.model import ModelAsset
from coremlops.runtime import describe

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
