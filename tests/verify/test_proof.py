"""Proofs of a small net: what passes, what is refused, what is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coremlops.errors import DataError, InputError, ModelError
from coremlops.model import ModelAsset, model_digest
from coremlops.source import open_source, read_labelled
from coremlops.verify import Gates, VerifyOptions, verify
from tests.verify.fixtures import SIDE, Trained, card, save, tiny_data, tiny_net, valid
from tests.verify.mutations import (
    convolutions,
    drop_scale,
    swap_labels,
    weight_data,
    without_preparation,
    zero_channel,
)

pytestmark = pytest.mark.slow


def test_a_faithful_conversion_passes_and_the_report_keeps_the_contract(tiny: Trained) -> None:
    report = verify(tiny.float16, tiny.source, tiny.data)
    value = valid(report)
    assert value["ok"], report.failed
    assert (value["format"], value["proof"], value["precision"]) == (1, "emulated", "typed")
    assert value["model"]["digest"] == model_digest(tiny.float16)
    assert value["model"]["bytes"] == sum(p.stat().st_size for p in tiny.float16.rglob("*") if p.is_file())
    digest = open_source(tiny.source).digest
    assert value["source"] == {"digest": digest, "kind": "torch.export", "rests_on": "source"}
    assert value["data"] == {
        "digest": read_labelled(tiny.data).digest,
        "examples": 6,
        "about": "6 pictures",
    }
    assert value["accuracy"] == {"model": 1.0, "source": 1.0}
    assert value["snr_db"] == min(item["snr_db"] for item in value["outputs"].values())
    assert [gate["name"] for gate in value["gates"] if not gate["ok"]] == []
    assert value["layers"]["compared"] == 2
    assert len(value["worst"]) == 6


def test_fp32_is_nearer_than_fp16(tiny: Trained) -> None:
    half = verify(tiny.float16, tiny.source, tiny.data)
    full = verify(tiny.float32, tiny.source, tiny.data)
    assert full.ok
    assert full.snr_db > half.snr_db + 20


@pytest.mark.parametrize("channel", range(8))
def test_every_live_channel_that_dies_is_caught(tiny: Trained, tmp_path: Path, channel: int) -> None:
    middle = convolutions(tiny.float16)[0]
    hurt = zero_channel(tiny.float16, tmp_path / "m.mlpackage", middle, channel)
    report = verify(hurt, tiny.source, tiny.data)
    assert not report.ok
    assert report.worst_layers[0].worst_db <= 0.1


def test_a_dropped_scale_is_caught(tiny: Trained, tmp_path: Path) -> None:
    assert not verify(drop_scale(tiny.float16, tmp_path / "m.mlpackage"), tiny.source, tiny.data).ok


def test_swapped_labels_are_caught_and_noted(tiny: Trained, tmp_path: Path) -> None:
    report = verify(swap_labels(tiny.float16, tmp_path / "m.mlpackage"), tiny.source, tiny.data)
    failed = {verdict.name for verdict in report.verdicts if not verdict.ok}
    assert {"snr_db", "top1_agreement", "accuracy_drop", "max_abs"} <= failed
    assert (report.top1_agreement, report.accuracy_model, report.accuracy_source) == (0.0, 0.0, 1.0)
    assert any("another order" in note for note in report.notes)
    valid(report)


def test_labels_in_another_order_on_both_sides_of_the_file_pass(tiny: Trained, tmp_path: Path) -> None:
    """A source whose card and outputs are both exchanged is the same classifier."""
    import torch

    class Flipped(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.inner = open_source(tiny.source).load().raw.module()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).flip(1)

    about = card(SIDE, SIDE, 1 / 255, 0.0, ["blue", "red"])
    other = save(Flipped(), tmp_path / "other", about)
    report = verify(tiny.float16, other, tiny.data)
    assert report.top1_agreement == 1.0
    assert report.snr_db > 40


def test_a_source_without_a_card_is_fed_from_the_metadata_and_it_is_said(
    tiny: Trained, tmp_path: Path
) -> None:
    shutil.copy(tiny.source / "model.pt2", tmp_path / "model.pt2")
    report = verify(tiny.float16, tmp_path, tiny.data)
    assert report.ok
    assert any("no model.json" in note for note in report.notes)
    bare = without_preparation(tiny.float16, tmp_path / "bare.mlpackage")
    with pytest.raises(InputError, match="says how to feed it"):
        verify(bare, tmp_path, tiny.data)


def test_a_torchscript_source_is_compared_by_its_outputs_alone(tiny: Trained, tmp_path: Path) -> None:
    import torch

    module = open_source(tiny.source).load().raw.module()
    torch.jit.trace(module, torch.zeros(1, 3, SIDE, SIDE)).save(str(tmp_path / "model.pt"))
    shutil.copy(tiny.source / "model.json", tmp_path)
    report = verify(tiny.float16, tmp_path, tiny.data)
    assert report.ok
    assert report.layers == ()
    assert "channel_snr_db" not in {verdict.name for verdict in report.verdicts}
    assert any("gate channel_snr_db was left out" in note for note in report.notes)


def test_gates_decide(tiny: Trained) -> None:
    report = verify(tiny.float16, tiny.source, tiny.data, VerifyOptions(gates=Gates(snr_db=190)))
    assert [line.split(":")[0] for line in report.failed] == ["snr_db"]


def test_other_labels_than_the_sources_are_refused(tiny: Trained, tmp_path: Path) -> None:
    other = save(tiny_net(), tmp_path / "s", card(SIDE, SIDE, 1 / 255, 0.0, ["red", "green"]))
    with pytest.raises(InputError, match="not in both: blue, green"):
        verify(tiny.float16, other, tiny.data)


def test_a_source_with_more_outputs_than_labels_is_refused(tiny: Trained, tmp_path: Path) -> None:
    other = save(tiny_net(3), tmp_path / "s", card(SIDE, SIDE, 1 / 255, 0.0, ["red", "blue"]))
    with pytest.raises(InputError, match=r"expected, \[1, 2\], got \[1, 3\]"):
        verify(tiny.float16, other, tiny.data)


def test_a_source_that_answers_nan_is_refused(tiny: Trained, tmp_path: Path) -> None:
    import torch

    net = tiny_net()
    with torch.no_grad():
        net[0].weight[0] = float("nan")
    other = save(net, tmp_path / "s", card(SIDE, SIDE, 1 / 255, 0.0, ["red", "blue"]))
    with pytest.raises(InputError, match="not finite"):
        verify(tiny.float16, other, tiny.data)


def test_a_model_that_answers_nan_fails_its_gates(tiny: Trained, tmp_path: Path) -> None:
    """All bits of a weight set: NaN on its way to every output."""
    hurt = tmp_path / "m.mlpackage"
    shutil.copytree(tiny.float32, hurt)
    start = weight_data(hurt, convolutions(hurt)[1])
    weights = hurt / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(weights.read_bytes())
    data[start : start + 4] = np.array([np.nan], "<f4").tobytes()
    weights.write_bytes(data)
    report = verify(hurt, tiny.source, tiny.data)
    assert not report.ok
    assert valid(report)["outputs"]["classLabel_probs"]["max_abs"] is None


def test_pictures_of_an_unknown_label_are_refused(tiny: Trained, tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "data")
    (data / "red").rename(data / "green")
    with pytest.raises(DataError) as caught:
        verify(tiny.float16, tiny.source, data)
    assert caught.value.message.endswith("labels that the model does not know: green")
    assert "it knows red, blue" in caught.value.hint


def test_a_corrupt_picture_is_named(tiny: Trained, tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "data")
    (data / "red" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"red/1\.png"):
        verify(tiny.float16, tiny.source, data)


def test_what_is_no_model_is_refused(tiny: Trained, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        verify(tmp_path / "none.mlpackage", tiny.source, tiny.data)


def test_pictures_of_any_kind_and_size_are_prepared(tiny: Trained, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "red").mkdir(parents=True)
    (data / "blue").mkdir()
    Image.new("L", (7, 300), 90).save(data / "red" / "grey.png")
    Image.new("RGBA", (64, 5), (10, 20, 220, 128)).save(data / "blue" / "clear.png")
    report = verify(tiny.float16, tiny.source, data)
    assert report.top1_agreement == 1.0


def test_labels_that_are_whole_numbers(tiny: Trained, tmp_path: Path) -> None:
    spec = ModelAsset.open(tiny.float16).spec
    function = spec.mlProgram.functions["main"]
    classes = function.block_specializations[function.opset].operations[-1].inputs["classes"]
    value = classes.arguments[0].value
    value.type.listType.type.tensorType.dataType = 24  # int64
    for number, entry in enumerate(value.immediateValue.list.values):
        entry.immediateValue.tensor.longInts.values.append(number)
    package = shutil.copytree(tiny.float16, tmp_path / "m.mlpackage")
    (package / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())
    source = shutil.copytree(tiny.source, tmp_path / "source")
    about = json.loads((source / "model.json").read_text())
    (source / "model.json").write_text(json.dumps(about | {"labels": ["0", "1"]}))
    data = shutil.copytree(tiny.data, tmp_path / "data")
    for number, label in enumerate(about["labels"]):
        (data / label).rename(data / str(number))
    assert verify(package, source, data).ok
