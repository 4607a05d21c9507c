"""Programs: what loads, what is refused before torch follows a pickle."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import InputError
from coremlops.source import open_source
from tests.verify.fixtures import SIDE, card, save, tiny_net

torch = pytest.importorskip("torch")


def _card() -> dict[str, Any]:
    return card(SIDE, SIDE, 1 / 255, 0.0, ["a", "b"])


class _Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("script", [False, True])
def test_a_saved_program_answers_as_the_module(tmp_path: Path, script: bool) -> None:
    net = tiny_net()
    source = open_source(save(net, tmp_path / "m", _card(), script=script))
    assert source.kind == ("TorchScript" if script else "torch.export")
    assert source.card is not None
    batch = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(batch)).numpy()
    # Same kernels on the same machine: only fusion can differ, by the last bits.
    np.testing.assert_allclose(source.load()(batch), expected, atol=1e-6)


def test_the_digest_follows_the_card(tmp_path: Path) -> None:
    folder = save(tiny_net(), tmp_path / "m", _card())
    before = open_source(folder).digest
    assert open_source(folder / "model.pt2").digest == before
    (folder / "model.json").write_text(json.dumps(_card() | {"labels": ["b", "a"]}))
    assert open_source(folder).digest != before


def test_a_wrong_shape_names_the_card(tmp_path: Path) -> None:
    program = open_source(save(tiny_net(), tmp_path / "m", _card())).load()
    with pytest.raises(InputError) as caught:
        program(np.zeros((1, 3, SIDE + 1, SIDE), np.float32))
    assert f"[1, 3, {SIDE + 1}, {SIDE}]" in caught.value.message
    assert "model.json" in caught.value.hint


def test_a_pickled_module_is_never_opened(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save(_Bomb(mark), tmp_path / "model.pt")
    with pytest.raises(InputError, match="TorchScript expected"):
        open_source(tmp_path).load()
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Bomb(mark)))
    with pytest.raises(InputError, match="TorchScript expected"):
        open_source(tmp_path / "plain.pt").load()
    assert not mark.exists()


def _rewritten(path: Path, out: Path, change: Any) -> Path:
    """A copy of an archive in which `change(name, data)` gives each member's bytes."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            new.writestr(info, change(info.filename, old.read(info)))
    return out


def test_pickled_weights_in_a_pt2_are_not_followed(tmp_path: Path) -> None:
    folder = save(tiny_net(), tmp_path / "m", None)
    mark = tmp_path / "mark"

    def change(name: str, data: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true')
        return pickle.dumps(_Bomb(mark)) if "/weights/weight_" in name else data

    hostile = _rewritten(folder / "model.pt2", tmp_path / "hostile.pt2", change)
    with pytest.raises(InputError, match="got a pickle"):
        open_source(hostile).load()
    assert not mark.exists()


def test_sample_inputs_that_are_more_than_tensors_are_not_followed(tmp_path: Path) -> None:
    folder = save(tiny_net(), tmp_path / "m", None)
    mark, bomb = tmp_path / "mark", tmp_path / "bomb.pt"
    torch.save(_Bomb(mark), bomb)

    def change(name: str, data: bytes) -> bytes:
        return bomb.read_bytes() if "/sample_inputs/" in name else data

    hostile = _rewritten(folder / "model.pt2", tmp_path / "hostile.pt2", change)
    with pytest.raises(InputError, match="plain tensors and a graph expected"):
        open_source(hostile).load()
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + b"\0" * 18, b"x" * 1000])
def test_bytes_that_are_no_program(tmp_path: Path, content: bytes) -> None:
    for name in ("model.pt2", "other.pt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            open_source(tmp_path / name).load()


def test_where_a_program_may_lie(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got neither"):
        open_source(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "model.pt2")
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"ends in \.pt2 or \.pt expected, got '\.onnx'"):
        open_source(tmp_path / "model.onnx")
    (tmp_path / "model.pt").write_bytes(b"x")
    (tmp_path / "model.pt2").write_bytes(b"x")
    with pytest.raises(InputError, match=r"got model\.pt2 and model\.pt"):
        open_source(tmp_path)


def test_layers_carry_the_names_that_a_decomposed_program_has(tmp_path: Path) -> None:
    """coremltools names its operations after those, so they are what both sides are matched by."""
    torch.manual_seed(0)
    blocks = [
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
        torch.nn.Softmax(1),
    ]
    net = torch.nn.Sequential(*blocks).eval()
    program = open_source(save(net, tmp_path / "m", _card())).load()
    batch = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    layers = program.layers()(batch)
    decomposed = {node.name for node in program.raw.run_decompositions({}).graph.nodes}
    assert list(layers) == [
        "conv2d",
        "_native_batch_norm_legit_no_training",
        "conv2d_1",
        "_native_batch_norm_legit_no_training_1",
        "linear",
    ]
    assert set(layers) <= decomposed
    with torch.no_grad():
        expected = net[:2](torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(layers["_native_batch_norm_legit_no_training"], expected, atol=1e-5)
