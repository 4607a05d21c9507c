"""Real nets, converted by coremltools, that overflow, underflow and cancel, and files damaged on purpose."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.verify.locate import LocateOptions, Location, locate
from coremlops.verify.locate.numeric import plain
from tests.verify import mutations

pytestmark = pytest.mark.slow
parting: Any = pytest.importorskip("tests.verify.locate.parting")
pytest.importorskip("coremltools")


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(source, package) of a net, made once."""
    folder = tmp_path_factory.mktemp("nets")

    @cache
    def make(kind: Any, script: bool) -> tuple[Path, Path]:
        source = parting.saved(kind, folder, script=script)
        package = parting.converted(source, kind)
        kept = package.with_name(f"{package.stem}-{source.suffix[1:]}.mlpackage")
        return source, package.rename(kept)

    return lambda kind, script=False: make(kind, script)


def _both(nets: Any, kind: Any, script: bool) -> Location:
    source, package = nets(kind, script)
    return locate(package, source)


SCRIPTS = pytest.mark.parametrize("script", [False, True], ids=["exported", "scripted"])


@SCRIPTS
@pytest.mark.parametrize(
    ("kind", "op_type", "cause", "said"),
    [
        (parting.Overflow, "exp", "overflow", "65504"),
        (parting.Softplus, "exp", "overflow", "65504"),
        (parting.Underflow, "mul", "underflow", "fp16 loses digits"),
        (parting.Variance, "sub", "cancellation", "steps of 1"),
        (parting.LogSoftmax, "log", "underflow", "become 0 in fp16"),
        (parting.Residual, "mul", "overflow", "65504"),
        (parting.Masked, "cast", "overflow", "reach 1e+09"),
    ],
)
def test_what_fp16_cannot_hold_is_found_in_the_first_op(
    nets: Any, kind: Any, op_type: str, cause: str, said: str, script: bool
) -> None:
    found = _both(nets, kind, script)
    assert found.first is not None
    assert (found.first.question, found.first.type, found.first.kind) == ("numeric", op_type, cause)
    assert said in found.first.words
    assert found.of("conversion") == ()
    assert found.first.source.startswith("parting.py:")


@SCRIPTS
def test_an_epsilon_that_fp16_has_no_number_for_is_a_wrong_constant(nets: Any, script: bool) -> None:
    [finding] = _both(nets, parting.Epsilon, script).of("conversion")
    assert (finding.type, finding.kind) == ("add", "constant")
    assert "5.96e-08, and 1e-12 in the source" in finding.words


@pytest.mark.parametrize(
    ("kind", "op_type", "cause", "said"),
    [
        (parting.Normed, "layer_norm", "constant", "epsilon is 5.96e-08, and 1e-12 in the source"),
        (parting.MaskedByMin, "mul", "constant", "y is -inf, and -3.403e+38 in the source"),
        (parting.Filled, "select", "constant", "is -inf, and -3.403e+38 in the source"),
    ],
)
def test_what_the_converter_could_not_write_in_fp16_is_a_fault_of_the_conversion(
    nets: Any, kind: Any, op_type: str, cause: str, said: str
) -> None:
    [finding] = _both(nets, kind, False).of("conversion")
    assert (finding.type, finding.kind) == (op_type, cause)
    assert said in finding.words


@pytest.mark.parametrize("kind", [parting.Deep, parting.Folded, parting.Picture, parting.Attention])
@SCRIPTS
def test_a_faithful_conversion_has_no_finding(nets: Any, kind: Any, script: bool) -> None:
    found = _both(nets, kind, script)
    assert found.findings == ()
    assert found.matched >= 2


def test_roundings_that_add_up_are_said_to(nets: Any) -> None:
    source, package = nets(parting.Deep)
    found = locate(package, source, options=LocateOptions(limit_db=65))
    assert found.first is not None
    assert found.first.kind == "rounding"
    assert "roundings add up" in found.first.words


def _damaged(package: Path, source: Path) -> Any:
    [finding] = locate(package, source).of("conversion")
    return finding


@SCRIPTS
def test_one_wrong_weight(nets: Any, script: bool) -> None:
    source, package = nets(parting.Picture, script)

    def change(weight: np.ndarray[Any, Any]) -> None:
        weight[5] += 1

    finding = _damaged(parting.change_weight(package, "conv", change), source)
    assert (finding.type, finding.kind, finding.module) == ("conv", "constant", "first")
    assert "differs from first.weight in 1 of 216 values" in finding.words


@SCRIPTS
def test_a_dead_channel_in_the_middle_of_folded_layers(nets: Any, script: bool, tmp_path: Path) -> None:
    """What comes after it holds other values, so that nothing can be paired by them."""
    source, package = nets(parting.Folded, script)
    layers = mutations.convolutions(package)
    bad = mutations.zero_channel(package, tmp_path / "bad.mlpackage", layers[3], 5)
    finding = _damaged(bad, source)
    assert finding.op == plain(layers[3].name) or finding.module.startswith("blocks.2")
    assert (finding.type, finding.kind) == ("conv", "constant")
    assert "only the channels 5 of 8 differ" in finding.words


@SCRIPTS
def test_another_resize_mode(nets: Any, script: bool) -> None:
    source, package = nets(parting.Picture, script)
    bad = parting.edited(
        package, lambda ops: parting.set_bool(ops, "upsample_bilinear", "align_corners", True)
    )
    finding = _damaged(bad, source)
    assert (finding.type, finding.kind) == ("upsample_bilinear", "setting")
    assert finding.words == "the source's values come with align_corners=False, not True"


@SCRIPTS
def test_a_transposed_factor(nets: Any, script: bool) -> None:
    source, package = nets(parting.Attention, script)
    bad = parting.edited(package, lambda ops: parting.set_bool(ops, "matmul", "transpose_y", True))
    finding = _damaged(bad, source)
    assert (finding.type, finding.kind) == ("matmul", "layout")


def test_a_weight_of_one_bit(nets: Any, tmp_path: Path) -> None:
    source = parting.saved(parting.Picture, tmp_path)
    package = parting.converted(source, parting.Picture, palettize={"p_second_weight_to_fp16": 1})
    finding = _damaged(package, source)
    assert (finding.type, finding.kind, finding.module) == ("conv", "compression", "second")
    assert "2 different values" in finding.words


def test_another_core_ml_file_is_a_source_too(nets: Any) -> None:
    _, package = nets(parting.Picture)
    bad = parting.edited(
        package, lambda ops: parting.set_bool(ops, "upsample_bilinear", "align_corners", True)
    )
    assert _damaged(bad, package).kind == "setting"


def test_the_origins_beside_the_package_name_the_module(nets: Any) -> None:
    _, package = nets(parting.Overflow)
    beside = package.with_name(f"{package.stem}.origins.json")
    said = {"format": 1, "ops": {"exp_cast_fp16": {"module": "net.head", "source": "net.py:41"}}}
    try:
        beside.write_text(json.dumps(said))
        first = locate(package).first
        beside.write_text('{"ops": 1}')
        without = locate(package).first
    finally:
        beside.unlink()
    assert first is not None
    assert (first.module, first.source) == ("net.head", "net.py:41")
    assert without is not None
    assert without.module == ""


def test_what_a_conversion_wrote_down_is_understood(tmp_path: Path) -> None:
    from coremlops.convert.origin import document, following

    source = parting.saved(parting.Overflow, tmp_path)
    with following() as trail:
        made = parting.converting(source, parting.Overflow)
        said = document(trail.origins(made))
    package = tmp_path / "net.mlpackage"
    made.save(str(package))
    (tmp_path / "net.origins.json").write_text(json.dumps(said))
    first = locate(package).first
    assert first is not None
    assert first.type == "exp"
    assert "parting.py:" in first.source


def test_the_json_is_plain(nets: Any) -> None:
    source, package = nets(parting.Overflow)
    said = locate(package, source).to_json()
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert said["first"]["advice"]
    assert [step["name"] for step in said["steps"]][-1] == "div"
