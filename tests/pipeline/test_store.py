"""The step store and what a step may leave behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from coremlops.pipeline import run
from coremlops.pipeline.store import Store, remove
from tests.pipeline.conftest import Tiny

NOBODY = 65534


def _closed(top: Path) -> Path:
    """A folder that holds a folder that even its owner may not enter."""
    (top / "inner" / "deep").mkdir(parents=True)
    (top / "inner" / "file.txt").write_text("x")
    (top / "inner").chmod(0)
    return top


def _as_a_user(top: Path, work: str) -> int:
    """The exit status of `work` done by a child that is not root, for whom a closed folder is closed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(top)  # first: pytest's folders are for their owner alone
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            _closed(Path("work"))
            if work == "remove":
                remove(Path("work"))
                status = int(Path("work").exists())
            else:
                output = Store(Path("store")).commit(Path("work"), "a")
                status = int(set(output.tree.files) != {"inner/deep/", "inner/file.txt"})
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("work", ["remove", "commit"])
def test_a_folder_that_a_step_closed_is_opened(tmp_path: Path, work: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)
    assert _as_a_user(place, work) == 0


def test_a_record_that_leads_out_of_the_store_removes_nothing(tiny: Tiny) -> None:
    key = run(tiny.root).step("a").key
    record = tiny.root / ".coremlops" / "store" / "steps" / f"{key}.json"
    value = json.loads(record.read_bytes())
    record.write_text(json.dumps({**value, "output": "../../../data"}))
    assert run(tiny.root).step("a").status == "ran"
    assert (tiny.root / "data" / "ada" / "1.txt").read_text() == "one"


def test_a_manifest_of_another_shape_is_made_anew(tiny: Tiny) -> None:
    run(tiny.root)
    manifests = list((tiny.root / ".coremlops" / "store" / "manifests").iterdir())
    for damage in ('{"format": 1}', '{"format": 1, "files": 3}', '{"format": 1, "files": {"ada/1.txt": 3}}'):
        for path in manifests:
            path.write_text(damage)
        assert not run(tiny.root).work
