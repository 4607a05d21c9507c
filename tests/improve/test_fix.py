"""Nets that fp16 breaks, mended with few ops in float32; coremltools converts, our runtime proves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.errors import GateError
from coremlops.improve.choice import smallest
from coremlops.improve.fix import Fix, FixOptions, Proof, fix
from coremlops.source.reference import open_reference
from coremlops.source.samples import feed, open_samples
from coremlops.verify.locate.numeric import decibel, powers
from coremlops.verify.locate.program import Program

pytestmark = pytest.mark.slow
parting: Any = pytest.importorskip("tests.verify.locate.parting")
pytest.importorskip("coremltools")


def _converter(source: Path) -> Callable[[Path, tuple[str, ...]], None]:
    def convert(out: Path, kept: tuple[str, ...]) -> None:
        parting.convert_to(source, out, keep=kept)

    return convert


def _prover(source: Path, data: Any, limit_db: float) -> Callable[[Path], Proof]:
    reference = open_reference(source)

    def prove(path: Path) -> Proof:
        """An oracle of its own: typed predictions against torch."""
        model = coremlops.load(path)
        worst = 200.0
        for sample in data:
            [expected] = reference(feed(sample, reference)).values()
            [got] = model.predict(feed(sample, model.description)).values()
            worst = min(worst, decibel(*powers(expected.ravel(), got.ravel())))
        failed = () if worst >= limit_db else (f"{worst:.1f} dB",)
        return Proof(not failed, failed, {"db": worst})

    return prove


def _fix(kind: Any, folder: Path, limit_db: float = 40.0) -> Fix:
    source = parting.saved(kind, folder)
    model = parting.converted(source, kind)
    reference = open_reference(source)
    data = open_samples(None, reference.inputs, count=4)
    prove = _prover(source, data, limit_db)
    assert not prove(model).ok
    options = FixOptions(limit_db=limit_db)
    out = folder / "fixed.mlpackage"
    return fix(model, reference, data, out, convert=_converter(source), prove=prove, options=options)


@pytest.mark.parametrize(
    ("kind", "needed", "most"),
    [
        (parting.Overflow, {"exp", "sum_1", "div"}, 4),
        (parting.Softplus, {"exp", "add_1", "log"}, 3),
        (parting.Underflow, {"mul", "log"}, 2),
        (parting.Variance, {"sub", "mean", "pow_1"}, 6),
        (parting.Epsilon, {"mul_1", "mean", "add", "rsqrt"}, 5),
    ],
)
def test_a_few_ops_in_float32_mend_the_net(kind: Any, needed: set[str], most: int, tmp_path: Path) -> None:
    made = _fix(kind, tmp_path)
    assert made.path.is_dir()
    assert made.proof.ok
    assert needed <= set(made.kept)
    assert len(made.kept) <= most
    assert made.in_float32 < made.operations or len(made.kept) == made.operations
    assert made.bytes_after > 0
    assert not list(tmp_path.glob(".fix-*"))


def test_none_of_the_ops_can_be_left_out(tmp_path: Path) -> None:
    """The choice is minimal: with any op less, the converted model fails."""
    made = _fix(parting.Overflow, tmp_path)
    source = tmp_path / "Overflow.pt2"
    data = open_samples(None, open_reference(source).inputs, count=4)
    prove, convert = _prover(source, data, 40.0), _converter(source)
    for name in made.kept:
        less = tmp_path / f"without-{name}.mlpackage"
        convert(less, tuple(item for item in made.kept if item != name))
        assert not prove(less).ok, name


def test_a_damaged_file_is_mended_by_converting_again(tmp_path: Path) -> None:
    source = parting.saved(parting.Picture, tmp_path)
    bad = parting.edited(
        parting.converted(source, parting.Picture),
        lambda ops: parting.set_bool(ops, "upsample_bilinear", "align_corners", True),
    )
    reference = open_reference(source)
    data = open_samples(None, reference.inputs, count=2)
    prove = _prover(source, data, 40.0)
    made = fix(bad, reference, data, tmp_path / "out.mlpackage", convert=_converter(source), prove=prove)
    assert made.kept == ()
    assert made.conversions == 1
    assert made.location.first is not None
    assert made.location.first.kind == "setting"


def test_what_cannot_be_mended_leaves_nothing_behind(tmp_path: Path) -> None:
    source = parting.saved(parting.Overflow, tmp_path)
    model = parting.converted(source, parting.Overflow)
    reference = open_reference(source)
    data = open_samples(None, reference.inputs, count=1)
    out = tmp_path / "out.mlpackage"
    with pytest.raises(GateError, match="never") as caught:
        fix(
            model,
            reference,
            data,
            out,
            convert=_converter(source),
            prove=lambda path: Proof(False, ("never",)),
            options=FixOptions(attempts=2),
        )
    assert caught.value.failed == ("never",)
    assert not out.exists()
    assert not list(tmp_path.glob(".fix-*"))


def test_the_emulated_choice_is_what_the_converted_model_gives(tmp_path: Path) -> None:
    """What a candidate gives, without a conversion, is what the conversion of it gives."""
    source = parting.saved(parting.Softplus, tmp_path)
    program = Program(parting.converted(source, parting.Softplus))
    x = np.linspace(-2, 2, 16, dtype=np.float32)[None]
    chosen = smallest(program, [{"x": x}], 40.0)
    out = tmp_path / "kept.mlpackage"
    parting.convert_to(source, out, keep=chosen.kept)
    exact = coremlops.load(out, precision="float32").predict({"x": x})
    typed = coremlops.load(out).predict({"x": x})
    [(expected, got)] = zip(exact.values(), typed.values(), strict=True)
    assert decibel(*powers(expected, got)) == pytest.approx(chosen.quality_db, abs=1.5)


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Path, Path, Path]:
    """(source, Core ML model, pictures) of a classifier whose own softmax overflows."""
    import torch

    from coremlops.convert import ConvertOptions, convert
    from tests.verify import fixtures

    class Overflowing(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.net = fixtures.tiny_net(softmax=False)

        def forward(self, x: Any) -> Any:
            e = torch.exp(self.net(x) + 12)
            return e / e.sum(1, keepdim=True)

    about = fixtures.card(fixtures.SIDE, fixtures.SIDE, 1 / 255, 0.0, ["red", "blue"])
    source = fixtures.save(Overflowing().eval(), tmp_path / "source", about)
    model = convert(source, tmp_path / "net.mlpackage", ConvertOptions(target="iOS17", author="ada")).path
    return source, model, fixtures.tiny_data(tmp_path / "data")


def test_the_command_mends_a_classifier_and_proves_it(
    broken: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from coremlops.cli import main
    from coremlops.model import ModelAsset

    source, model, data = broken
    common = ["verify", str(model), "--against", str(source), "--data", str(data)]
    common += ["--gate", "accuracy_drop=1", "--gate", "top1_agreement=0"]  # an untrained net
    assert main(common) == 3
    assert main([*common, "--fix"]) == 2
    out, page = tmp_path / "mended.mlpackage", tmp_path / "r.html"
    capsys.readouterr()
    assert main([*common, "--fix", "-o", str(out), "--html", str(page), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is True
    assert {"exp", "sum_1", "div"} <= set(said["fix"]["kept_float32"])
    assert said["fix"]["in_float32"] < said["fix"]["operations"]
    assert said["locate"]["first"]["op"] == "exp"
    assert "Proven" in page.read_text()
    asset = ModelAsset.open(out)
    assert asset.digest == said["model"]["digest"]
    assert (asset.description.author, asset.spec.specificationVersion) == ("ada", 8)
    assert main(["verify", str(out), *common[2:], "--fix", "-o", str(tmp_path / "again.mlpackage")]) == 0
    assert not (tmp_path / "again.mlpackage").exists()  # nothing to mend


def test_a_step_that_fails_says_where(broken: tuple[Path, Path, Path], tmp_path: Path) -> None:
    import json

    from coremlops.pipeline.components.verify.__main__ import main as step

    source, model, data = broken
    common = ["--model", str(model), "--source", str(source), "--data", str(data)]
    for choice, located in (("failure", True), ("never", False)):
        down = tmp_path / choice
        assert step([*common, "--downstream", str(down), "--locate", choice]) == 3
        report = json.loads((down / "report.json").read_text())
        assert ("locate" in report) is located
    assert report["ok"] is False


def test_a_factory_is_mended_whose_ops_are_called_by_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from coremlops.cli import main

    (tmp_path / "overflowing.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.head = torch.nn.Linear(8, 6)\n\n    def forward(self, x):\n"
        "        e = torch.exp(self.head(x) + 12)\n        return e / e.sum(1, keepdim=True)\n\n"
        "def make():\n    return Net(), torch.zeros(1, 8)\n"
    )
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x=np.random.default_rng(0).normal(size=(4, 1, 8)).astype("f"))
    source, mended = "overflowing.py:make", tmp_path / "mended.mlpackage"
    assert main(["convert", source, "-o", "net.mlpackage", "--no-verify"]) == 0
    capsys.readouterr()
    proving = ["verify", "net.mlpackage", "--against", source, "--data", "x.npz", "--json"]
    assert main([*proving, "--fix", "-o", str(mended)]) == 0
    kept = json.loads(capsys.readouterr().out)["fix"]["kept_float32"]
    assert any(name.startswith("op_") for name in kept)  # coremltools calls them 14 and 15 while it converts
    assert main(["verify", str(mended), *proving[2:]]) == 0
