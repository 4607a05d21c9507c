"""The examples of docs/devices.md run as they stand, but for where the repository is."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

import coremlops
from coremlops.cli import main
from coremlops.model import model_digest
from tests.client.conftest import Pair, World

PAGE = Path(__file__).parents[2] / "docs" / "devices.md"


def example(place: int) -> str:
    found: list[str] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return found[place]


def test_the_example_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = example(0).replace("https://models.example/repository", world.server.url)
    code = code.replace('"release"', '"staging"').replace('"phone"', '"another-phone"')
    shutil.copy(world.repository.root_file, tmp_path / "1.root.json")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert names["result"].version == 1
    assert model_digest(names["model"].path) == world.one.digest
    assert names["loaded"].digest == world.one.digest
    assert not (tmp_path / "another-phone" / "starts-faces.json").exists()


def test_the_example_of_several_models_runs(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    pair.publish("detector", pair.versions[3])
    names: dict[str, Any] = {"device": pair.again(), "coremlops": coremlops}
    exec(compile(example(1), str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert capsys.readouterr().out.split("\n")[:2] == ["classifier current 1 ", "detector updated 2 "]
    assert names["detector"].digest == pair.versions[3].digest
    assert not (pair.device.folder / "starts-detector.json").exists()


def test_its_commands_run(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for `start` and `started`, which name a model where there are several."""
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    monkeypatch.chdir(pair.folder)
    pair.publish_two()
    for line in block[1].splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "coremlops"
        named = ["--model", "detector"] if words[2] in ("start", "started") else []
        assert main([*words[1:], *named]) == 0, line
    assert pair.active() == {"classifier": 2, "detector": 2}
