"""The commands of the pages on converting and proving run as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from coremlops.cli import main
from tests.verify.fixtures import SIDE, Trained, tiny  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("convert.md", "verify.md", "repairs.md")
NETS = """
import torch


def make():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    return net, (torch.zeros(1, 4),)
"""
TRAIN = f"""
import numpy as np
from coremlops import prepare_image


def transform(picture):
    return np.asarray(prepare_image(picture, {SIDE}, {SIDE}), np.float32).transpose(2, 0, 1)[None] / 255
"""


def commands(page: str) -> list[str]:
    """The command lines of a page that stand alone, without their comments."""
    lines = re.findall(r"^    (coremlops .*)$", (DOCS / page).read_text(), flags=re.M)
    return [line.split("  #")[0].strip() for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(
    page: str,
    tiny: Trained,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.source, "train")
    shutil.copytree(tiny.data, "photos/test")
    shutil.copytree(tiny.float16, "faces.mlpackage")
    Path("net.py").write_text(NETS)
    Path("train.py").write_text(TRAIN)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    torch.save(net.state_dict(), "best.pt")
    np.savez("samples.npz", input=np.random.default_rng(0).normal(size=(6, 1, 4)).astype(np.float32))
    found = commands(page)
    assert found
    for command in found:
        assert main(shlex.split(command)[1:]) == 0, command
