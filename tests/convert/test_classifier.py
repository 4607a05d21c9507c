"""Conversions of a small net: the contract of the model, reproducible bytes, clear refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.convert import TARGETS, ConvertOptions, Provenance, convert
from coremlops.digest import sha256_file
from coremlops.errors import ConversionError, InputError, UsageError
from coremlops.model import ImageFeature, ModelAsset, model_digest
from tests.verify.fixtures import SIDE, Trained, card, save, tiny_net

pytestmark = pytest.mark.slow

ABOUT = card(SIDE, SIDE, 1 / 255, -0.25, ["red", "blue"])


def _tree(package: Path) -> dict[str, str]:
    return {
        path.relative_to(package).as_posix(): sha256_file(path)
        for path in package.rglob("*")
        if path.is_file()
    }


def test_the_model_keeps_its_contract(tmp_path: Path) -> None:
    source = save(tiny_net(), tmp_path / "s", ABOUT)
    options = ConvertOptions(target="iOS17", provenance=Provenance("run-7", "data-7", "code-7"), author="us")
    made = convert(source, tmp_path / "m.mlpackage", options)
    asset = ModelAsset.open(made.path)
    about = asset.description
    assert asset.kind == "mlProgram"
    assert about.specification_version == TARGETS["iOS17"]
    assert about.labels == ("red", "blue")
    assert (about.predicted_label, about.predicted_probabilities) == ("classLabel", "classLabel_probs")
    (image,) = about.inputs
    assert isinstance(image, ImageFeature)
    assert (image.name, image.width, image.height, image.colour) == ("image", SIDE, SIDE, "RGB")
    ours = {k: v for k, v in about.user_defined.items() if k.startswith("com.coremlops.")}
    assert json.loads(ours.pop("com.coremlops.preparation")) == ABOUT["input"]
    assert ours.pop("com.coremlops.version")
    assert ours == {
        "com.coremlops.run": "run-7",
        "com.coremlops.data": "data-7",
        "com.coremlops.code": "code-7",
    }
    assert about.author == "us"
    assert made.digest == model_digest(made.path)
    assert made.bytes == sum(path.stat().st_size for path in made.path.rglob("*") if path.is_file())
    assert set(_tree(made.path)) == {
        "Manifest.json",
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
    }
    assert json.loads((tmp_path / "m.debug.json").read_text())


@pytest.mark.parametrize("script", [False, True])
def test_scale_and_bias_are_in_the_model(tmp_path: Path, script: bool) -> None:
    import torch
    from PIL import Image

    import coremlops

    net = tiny_net()
    source = save(net, tmp_path / "s", ABOUT, script=script)
    made = convert(source, tmp_path / "m.mlpackage", ConvertOptions(precision="float32"))
    pixels = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    got = coremlops.load(made.path).predict({"image": Image.fromarray(pixels)})["classLabel_probs"]
    x = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255 - 0.25
    with torch.no_grad():
        expected = net(x)[0].numpy()
    # fp32 in both: the order of additions alone differs.
    np.testing.assert_allclose([got["red"], got["blue"]], expected, atol=1e-5)


def test_three_processes_make_one_digest_and_the_same_bytes(tmp_path: Path) -> None:
    """coremltools alone gives three different trees: random UUIDs, unordered maps, the day."""
    source = save(tiny_net(), tmp_path / "s", ABOUT)
    code = (
        "import sys; from pathlib import Path; from coremlops.convert import *;"
        "print(convert(Path(sys.argv[1]), Path(sys.argv[2]),"
        "ConvertOptions(provenance=Provenance('r', 'd', 'c'))).digest)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(source), str(tmp_path / f"{i}.mlpackage")],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONHASHSEED": str(i), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )
        for i in range(3)
    ]
    digests = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(digests)) == 1
    assert digests[0] == model_digest(tmp_path / "0.mlpackage")
    trees = [_tree(tmp_path / f"{i}.mlpackage") for i in range(3)]
    assert trees[0] == trees[1] == trees[2]


def test_another_run_is_another_model(tiny: Trained, tmp_path: Path) -> None:
    """The run stands in the model, so it is part of the digest; the step store is what avoids reruns."""
    made = convert(tiny.source, tmp_path / "m.mlpackage", ConvertOptions(provenance=Provenance("other")))
    assert made.digest != model_digest(tiny.float16)


def test_a_grey_input(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    net = torch.nn.Sequential(net, torch.nn.Softmax(1)).eval()
    about = card(8, 8, 1 / 255, 0.0, ["a", "b"])
    about["input"] |= {"color": "L", "bias": [0.5]}
    (tmp_path / "s").mkdir()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 8, 8),)), tmp_path / "s" / "model.pt2")
    (tmp_path / "s" / "model.json").write_text(json.dumps(about))
    made = convert(tmp_path / "s", tmp_path / "m.mlpackage")
    (image,) = ModelAsset.open(made.path).description.inputs
    assert isinstance(image, ImageFeature)
    assert image.colour == "GRAYSCALE"


class _Unsupported:
    """Modules that cannot become a classifier, each with what must be said."""

    @staticmethod
    def logits() -> Any:
        return tiny_net(softmax=False)

    @staticmethod
    def three() -> Any:
        return tiny_net(3)

    @staticmethod
    def op() -> Any:
        import torch

        class Net(torch.nn.Module):  # type: ignore[misc, unused-ignore]
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.softmax(torch.special.bessel_j0(x.mean((2, 3)))[:, :2], 1)

        return Net().eval()

    @staticmethod
    def training() -> Any:
        import torch

        class Net(torch.nn.Module):  # type: ignore[misc, unused-ignore]
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.softmax(torch.dropout(x.mean((2, 3))[:, :2] + 1, 0.5, True), 1)

        return Net()


@pytest.mark.parametrize(
    ("kind", "error", "message", "hint"),
    [
        ("logits", ConversionError, "are no probabilities", "torch.softmax"),
        ("three", InputError, "expected, [1, 2], got [1, 3]", ""),
        ("op", ConversionError, "bessel_j0", "without the named op"),
        ("training", ConversionError, "answers one input in two ways", "model.eval()"),
    ],
)
def test_what_does_not_convert_says_why_and_leaves_nothing(
    tmp_path: Path, kind: str, error: type[Exception], message: str, hint: str
) -> None:
    source = save(getattr(_Unsupported, kind)(), tmp_path / "s", ABOUT)
    with pytest.raises(error) as caught:
        convert(source, tmp_path / "out" / "m.mlpackage")
    assert message in str(caught.value)
    assert hint in getattr(caught.value, "hint", "")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_script_without_a_card_needs_its_shape(tmp_path: Path) -> None:
    source = save(tiny_net(), tmp_path / "s", None, script=True)
    with pytest.raises(UsageError) as caught:
        convert(source, tmp_path / "m.mlpackage")
    assert caught.value.message == "input input: its shape is not known, the source says nothing"
    assert "--shape input=1,3,224,224" in caught.value.hint


def test_a_numpy_that_breaks_coremltools_is_named(
    tiny: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "__version__", "2.4.1")
    with pytest.raises(UsageError) as caught:
        convert(tiny.source, tmp_path / "m.mlpackage")
    assert "got numpy 2.4.1" in caught.value.message
    assert caught.value.hint == "pip install 'numpy<2.4'"


def test_a_missing_coremltools_names_the_command(
    tiny: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(UsageError) as caught:
        convert(tiny.source, tmp_path / "m.mlpackage")
    expected = "coremltools is not installed, and this needs it: pip install 'coremlops[convert]'"
    assert caught.value.message == expected
