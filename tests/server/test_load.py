"""Over a network that drops and cuts, each device ends with a model that was signed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from coremlops import golden
from coremlops.client import Device
from coremlops.model import model_digest
from coremlops.release import Repository
from coremlops.release.terms import Form
from tests.release.models import write_model, write_pictures
from tests.server.conftest import serve_ours
from tests.server.load import bad_network, copies, summary, update_all


@pytest.mark.slow
def test_no_device_ends_with_anything_but_a_verified_model(repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(repository.folder, folder, symlinks=True)
    changed = Repository(folder, "faces", keys=repository.keys)
    first = changed.line("staging").current
    assert first is not None
    model = write_model(tmp_path / "two.mlpackage", gain=0.03, extra_bytes=100_000)
    golden.make(model, write_pictures(tmp_path / "pictures"), tmp_path / "golden")
    digests = {1: first.models[0], 2: model_digest(model)}
    with serve_ours(folder, tmp_path) as url, bad_network(url, share=0.04) as (bad, seen):
        Device.install(tmp_path / "phone", url, "faces", "staging", changed.root_file).update()
        folders = copies(tmp_path / "phone", bad, 24, tmp_path / "phones")
        changed.publish([Form(model, tmp_path / "golden")])
        begun = time.time()
        ended = update_all(folders, digests, at_once=12, processes=2)
    said = summary(ended, begun)
    assert said["unverified"] == 0, said
    assert said["versions"] == {"2": 24}, said
    assert seen.dropped > 0
    assert seen.cut > 0
    assert seen.shortened > 0
    assert any(len(each.outcomes) > 1 for each in ended)
