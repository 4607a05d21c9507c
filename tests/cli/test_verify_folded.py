"""A model whose inputs and outputs were changed at conversion is held against its own source all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.cli import main

NETS = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one = torch.nn.Linear(4, 8)
        self.two = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.one(x), self.two(x)


def net():
    return Net().eval(), (torch.zeros(1, 4),)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--output", "best=tensor,post=argmax,from=output_0"],
        ["--output", "p=tensor,post=softmax,from=output_1", "--output", "y=tensor,from=output_0"],
        ["--output", "second=tensor,from=output_1"],
        ["--input", "features=tensor,from=x,scale=2,bias=1", "--output", "y=tensor,from=output_0"],
        ["--output", "p=tensor,post=softmax,from=output_0", "--labels", "a,b,c,d,e,f,g,h"],
    ],
)
def test_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    source, out = f"{tmp_path}/nets.py:net", tmp_path / "m.mlpackage"
    assert main(["convert", source, "-o", str(out), *words]) == 0, capsys.readouterr().err
    name = "features" if "features" in words[1] else "x"
    data = np.random.default_rng(1).normal(size=(6, 1, 4)).astype(np.float32)
    arrays: dict[str, Any] = {name: data}
    np.savez(tmp_path / "data.npz", **arrays)
    capsys.readouterr()
    code = main(["verify", str(out), "--against", source, "--data", str(tmp_path / "data.npz"), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    report = json.loads(said.out)
    assert report["ok"] is True
    assert any("would not show" in note for note in report["notes"])
