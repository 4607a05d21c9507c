"""The example of docs/devices.md runs as it stands, but for where the repository is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from coremlops.model import model_digest
from tests.client.conftest import World

PAGE = Path(__file__).parents[2] / "docs" / "devices.md"


def test_the_example_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    code = found[1].replace("https://models.example/repository", world.server.url)
    code = code.replace('"release"', '"staging"').replace('"phone"', '"another-phone"')
    shutil.copy(world.repository.root_file, tmp_path / "1.root.json")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102
    assert names["result"].version == 1
    assert model_digest(names["model"].path) == world.one.digest
    assert names["loaded"].digest == world.one.digest
    assert not (tmp_path / "another-phone" / "starts-faces.json").exists()
