"""Conversions of every kind of PyTorch source, with each option; torch by hand is the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.convert import ConvertOptions, Input, Output, convert
from coremlops.dialects.mil import read_program
from coremlops.errors import ConversionError, InputError, UsageError
from coremlops.model import ArrayFeature, ImageFeature, ModelAsset
from coremlops.source import Reference, open_reference
from coremlops.verify.locate.origins import Origins
from tests.convert import nets

pytest.importorskip("coremltools")
torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

NETS = "tests.convert.nets:"


def _factory(name: str, folder: Path) -> Reference:
    return open_reference(NETS + name)


def _exported(name: str, folder: Path) -> Reference:
    made = open_reference(NETS + name)
    open_axes = dict.fromkeys((2, 3), torch.export.Dim.AUTO) if name == "conv" else None
    dynamic = (open_axes,) if open_axes else None
    path = folder / f"{name}.pt2"
    torch.export.save(torch.export.export(made.raw, made.examples, dynamic_shapes=dynamic), path)
    return open_reference(path)


def _traced(name: str, folder: Path) -> Reference:
    made = open_reference(NETS + name)
    path = folder / f"{name}.pt"
    torch.jit.trace(made.raw, made.examples).save(str(path))
    return open_reference(path)


WAYS = pytest.mark.parametrize("way", [_factory, _exported, _traced])
Way = Callable[[str, Path], Reference]


@WAYS
def test_preparation_and_what_becomes_of_outputs_are_in_the_model(way: Way, tmp_path: Path) -> None:
    from PIL import Image

    source = way("conv", tmp_path)
    options = ConvertOptions(
        precision="float32",
        inputs=(
            Input.of("x=image:BGR,24x16,scale=1/255,bias=-0.1:-0.2:-0.3,mean=0.4:0.5:0.6,std=0.2:0.3:0.4"),
        ),
        outputs=(
            Output.of("mask=image:GRAYSCALE,post=sigmoid,scale=200,bias=10"),
            Output.of("p=post=softmax"),
        ),
    )
    made = convert(source, tmp_path / "m.mlpackage", options)
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    got = coremlops.load(made.path).predict({"x": Image.fromarray(pixels)})
    x = torch.tensor(pixels[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    x = x + torch.tensor([-0.1, -0.2, -0.3]).reshape(1, 3, 1, 1)
    x = (x - torch.tensor([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).reshape(
        1, 3, 1, 1
    )
    net = open_reference(NETS + "conv").raw
    with torch.no_grad():
        mask, features = net(x)
    expected = torch.sigmoid(mask)[0, 0].numpy() * 200 + 10
    assert np.abs(np.asarray(got["mask"], np.float64) - expected).max() <= 0.51  # rounded to whole pixels
    np.testing.assert_allclose(got["p"], torch.softmax(features, -1).numpy(), atol=1e-5)
    assert list(got) == ["mask", "p"]
    said = json.loads(ModelAsset.open(made.path).description.user_defined["com.coremlops.preparation"])
    assert (said["width"], said["height"], said["image_option"]) == (24, 16, "scaleFit")


@WAYS
def test_shapes_in_a_range(way: Way, tmp_path: Path) -> None:
    source = way("conv", tmp_path)
    options = ConvertOptions(precision="float32", inputs=(Input.of("x=1x3x8..32x8..40"),))
    made = convert(source, tmp_path / "m.mlpackage", options)
    (x,) = ModelAsset.open(made.path).description.inputs
    assert isinstance(x, ArrayFeature)
    assert x.ranges == ((1, 1), (3, 3), (8, 32), (8, 40))
    model, net = coremlops.load(made.path), open_reference(NETS + "conv").raw
    for size in ((8, 8), (32, 40), (11, 23)):
        value = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected = net(value)
        got = model.predict({"x": value.numpy()})
        for mine, other in zip(expected, got.values(), strict=True):
            np.testing.assert_allclose(other, mine.numpy(), atol=1e-5)


def test_listed_shapes_of_arrays_and_pictures(tmp_path: Path) -> None:
    listed = ConvertOptions(inputs=(Input.of("x=1x3x8x8|1x3x16x8"),))
    (x,) = ModelAsset.open(convert(NETS + "conv", tmp_path / "a.mlpackage", listed).path).description.inputs
    assert isinstance(x, ArrayFeature)
    assert (x.shape, x.shapes) == ((1, 3, 8, 8), ((1, 3, 8, 8), (1, 3, 16, 8)))
    sizes = ConvertOptions(inputs=(Input.of("x=image:RGB,8x8|24x16"),))
    (x,) = ModelAsset.open(convert(NETS + "conv", tmp_path / "b.mlpackage", sizes).path).description.inputs
    assert isinstance(x, ImageFeature)
    assert (x.width, x.height, set(x.sizes)) == (8, 8, {(8, 8), (24, 16)})


@pytest.mark.parametrize("capture", ["trace", "export"])
def test_types_names_and_dictionaries(capture: str, tmp_path: Path) -> None:
    options = ConvertOptions(
        capture=capture,
        inputs=(Input.of("weight=tensor:float16,from=mask"), Input.of("tokens=from=ids")),
        outputs=(Output.of("y=tensor:float32,from=logits"),),
    )
    about = ModelAsset.open(convert(NETS + "words", tmp_path / "m.mlpackage", options).path).description
    assert [(item.name, item.dtype) for item in about.inputs] == [("tokens", "int32"), ("weight", "float16")]
    assert [(item.name, item.dtype) for item in about.outputs] == [("y", "float32")]
    plain = ModelAsset.open(convert(NETS + "words", tmp_path / "n.mlpackage").path).description
    assert [item.name for item in plain.outputs] == ["logits"]


def test_one_of_two_outputs(tmp_path: Path) -> None:
    options = ConvertOptions(precision="float32", outputs=(Output.of("y=from=output_1"),))
    made = convert(NETS + "conv", tmp_path / "m.mlpackage", options)
    source = open_reference(NETS + "conv")
    assert source.examples is not None
    got = coremlops.load(made.path).predict({"x": source.examples[0].numpy()})
    assert list(got) == ["y"]
    expected = source({"x": source.examples[0].numpy()})["output_1"]
    np.testing.assert_allclose(got["y"], expected, atol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
@WAYS
def test_a_state_adds_up(way: Way, scaled: bool, tmp_path: Path) -> None:
    source = way("total", tmp_path)
    name = source.inputs[0].name
    options = ConvertOptions(
        target="iOS18",
        states=("tot*",),
        inputs=(Input(name, shapes=((1, 4),)),),
        outputs=(Output("y", scale=0.5),) if scaled else (),
    )
    made = convert(source, tmp_path / "m.mlpackage", options)
    model = coremlops.load(made.path)
    assert [(item.name, item.shape) for item in model.description.states] == [("total", (1, 4))]
    net, state = open_reference(NETS + "total").raw, model.make_state()
    for i in range(3):
        value = torch.full((1, 4), float(i + 1))
        with torch.no_grad():
            expected = net(value).numpy() * (0.5 if scaled else 1)
        (got,) = model.predict({name: value.numpy()}, state=state).values()
        np.testing.assert_allclose(got, expected, atol=0.02)


def _scripted(net: Any, folder: Path) -> tuple[Path, ConvertOptions]:
    torch.jit.script(net.eval()).save(folder / "net.pt")
    options = ConvertOptions(target="iOS18", states=("total",), inputs=(Input("x", shapes=((1, 4),)),))
    return folder / "net.pt", options


def test_a_scripted_module_that_adds_to_its_state_converts(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    net = nets.Added()
    path, options = _scripted(net, tmp_path)
    model = coremlops.load(convert(str(path), tmp_path / "m.mlpackage", options).path)
    assert not [w for w in recwarn if "begins with values" in str(w.message)]  # tracing left the source alone
    state = model.make_state()
    for i in range(3):
        value = torch.full((1, 4), float(i + 1))
        with torch.no_grad():
            expected = net(value).numpy()
        (got,) = model.predict({"x": value.numpy()}, state=state).values()
        np.testing.assert_allclose(got, expected, atol=0.02)


def test_a_scripted_module_that_replaces_its_state_is_refused(tmp_path: Path) -> None:
    path, options = _scripted(nets.Replaced(), tmp_path)
    with pytest.raises(ConversionError, match="the attribute total is set while the program runs") as caught:
        convert(str(path), tmp_path / "m.mlpackage", options)
    assert "self.total += x" in str(caught.value.hint)
    assert not (tmp_path / "m.mlpackage").exists()


def test_a_state_that_does_not_begin_as_zeros_is_said(tmp_path: Path) -> None:
    made = convert(
        NETS + "begun", tmp_path / "m.mlpackage", ConvertOptions(target="iOS18", states=("total",))
    )
    assert any("the state total begins with values in the source" in line for line in made.warnings)


def test_a_classifier_over_logits(tmp_path: Path) -> None:
    options = ConvertOptions(
        precision="float32",
        labels=tuple("abcde"),
        label_name="letter",
        outputs=(Output.of("p=post=softmax"),),
        author="Ada",
        description="Letters.",
        version="3",
        license="MIT",
        metadata={"team": "vision"},
    )
    made = convert(NETS + "classes", tmp_path / "m.mlpackage", options)
    about = ModelAsset.open(made.path).description
    assert about.labels == tuple("abcde")
    assert (about.predicted_label, about.predicted_probabilities) == ("letter", "letter_probs")
    assert (about.author, about.about, about.version, about.license) == ("Ada", "Letters.", "3", "MIT")
    assert about.user_defined["team"] == "vision"
    source = open_reference(NETS + "classes")
    assert source.examples is not None
    value = source.examples[0]
    with torch.no_grad():
        expected = torch.softmax(source.raw(value), 1)[0].numpy()
    got = coremlops.load(made.path).predict({"x": value.numpy()})
    np.testing.assert_allclose([got["letter_probs"][label] for label in "abcde"], expected, atol=1e-5)
    assert got["letter"] == "abcde"[int(expected.argmax())]


def test_argmax_is_a_whole_number(tmp_path: Path) -> None:
    options = ConvertOptions(outputs=(Output.of("best=post=argmax"),))
    made = convert(NETS + "classes", tmp_path / "m.mlpackage", options)
    source = open_reference(NETS + "classes")
    assert source.examples is not None
    got = coremlops.load(made.path).predict({"x": source.examples[0].numpy()})["best"]
    assert got.dtype == np.int32
    assert got.tolist() == source.raw(source.examples[0]).argmax(-1).tolist()


def test_weights_of_a_factory(tmp_path: Path) -> None:
    net = open_reference(NETS + "fixed").raw
    with torch.no_grad():
        for value in net.parameters():
            value.fill_(0.5)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    options = ConvertOptions(precision="float32", weights=tmp_path / "w.pt")
    made = convert(NETS + "fixed", tmp_path / "m.mlpackage", options)
    (got,) = coremlops.load(made.path).predict({"x": np.ones((1, 16), np.float32)}).values()
    np.testing.assert_allclose(got, [[8.5, 8.5]])


def test_ops_in_float32_mend_an_overflow(tmp_path: Path) -> None:
    value = {"x": np.ones((1, 8), np.float32)}
    broken = convert(NETS + "huge", tmp_path / "a.mlpackage")
    (got,) = coremlops.load(broken.path).predict(value).values()
    assert np.isinf(got).all()
    options = ConvertOptions(keep_float32=("type:mul", "type:relu"))
    (got,) = (
        coremlops.load(convert(NETS + "huge", tmp_path / "b.mlpackage", options).path).predict(value).values()
    )
    np.testing.assert_allclose(got, 1.01, rtol=2e-3)


def test_where_an_op_came_from_lies_beside(tmp_path: Path) -> None:
    convert(
        NETS + "conv",
        tmp_path / "m.mlpackage",
        ConvertOptions(outputs=(Output("m"), Output.of("f=post=softmax"))),
    )
    said = json.loads((tmp_path / "m.origins.json").read_text())
    assert {place["module"] for place in said["ops"].values()} >= {"first", "second"}


@pytest.mark.parametrize(
    ("name", "options", "error", "message", "hint"),
    [
        ("conv", {"inputs": ["x=1x3x8"]}, UsageError, "takes [1, 3, 16, 24], 4 axes, got [1, 3, 8]", ""),
        ("conv", {"inputs": ["x=1x4x8x8"]}, InputError, "does not take [1, 4, 8, 8]", ""),
        ("fixed", {"inputs": ["x=1x8..32"]}, InputError, "the source does not take [1, 8]", ""),
        ("conv", {"inputs": ["x", "y"]}, UsageError, "takes 1: x; y is one too many", "from=NAME"),
        ("conv", {"inputs": ["y=from=z"]}, UsageError, "input y: the source has x, not z", ""),
        (
            "conv",
            {"outputs": ["a", "b", "c"]},
            UsageError,
            "output c: the source gives output_0, output_1",
            "",
        ),
        (
            "conv",
            {"inputs": ["x=image:GRAYSCALE"]},
            UsageError,
            "[1, 1, height, width], got [1, 3, 16, 24]",
            "",
        ),
        ("words", {"inputs": ["mask=tensor:float16"], "target": "iOS15"}, UsageError, "need iOS16", "iOS16"),
        (
            "total",
            {"states": ["total"]},
            UsageError,
            "states (total) need iOS18, the target is iOS16",
            "iOS18",
        ),
        ("total", {"states": ["tolal"], "target": "iOS18"}, UsageError, "no buffer", "did you mean total?"),
        ("total", {}, ConversionError, "answers one input in two ways", "--state"),
        ("nan", {}, ConversionError, "answers NaN in output_0 for its own examples", ""),
        ("nested", {}, InputError, "tensors as outputs expected, got list", ""),
        ("shift", {}, ConversionError, "nets.py:", "rewriting the module"),
        (
            "unshuffle",
            {"target": "iOS15"},
            ConversionError,
            "pixel_unshuffle needs iOS16, the target is",
            "iOS16",
        ),
        ("classes", {"labels": ["a", "b"]}, InputError, "expected, [1, 2], got [1, 5]", ""),
        ("classes", {"labels": list("abcde")}, ConversionError, "are no probabilities", "post=softmax"),
        ("classes", {"keep_float32": ["type:cnv"]}, UsageError, "type:cnv", "type:conv"),
    ],
)
def test_what_cannot_be_says_why_and_leaves_nothing(
    name: str, options: dict[str, Any], error: type[Exception], message: str, hint: str, tmp_path: Path
) -> None:
    from coremlops.convert.options_file import parse_options

    with pytest.raises(error) as caught:
        convert(NETS + name, tmp_path / "m.mlpackage", parse_options(options))
    assert message in str(caught.value)
    assert hint in getattr(caught.value, "hint", "")
    assert list(tmp_path.iterdir()) == []


def test_an_exported_program_holds_its_sizes(tmp_path: Path) -> None:
    source = _exported("fixed", tmp_path)
    with pytest.raises(UsageError) as caught:
        convert(source, tmp_path / "m.mlpackage", ConvertOptions(inputs=(Input.of("x=1x8"),)))
    assert caught.value.message == "input x: axis 1 was exported with 16, got [8]"
    assert "dynamic_shapes" in caught.value.hint


def test_several_functions_share_their_weights(tmp_path: Path) -> None:
    one = convert(NETS + "wide", tmp_path / "one.mlpackage", ConvertOptions(target="iOS18"))
    options = ConvertOptions(
        target="iOS18",
        functions={"short": NETS + "wide", "long": NETS + "wide_batch", "old": str(one.path)},
        default_function="long",
        author="Ada",
    )
    made = convert(None, tmp_path / "m.mlpackage", options)
    assert made.bytes < 1.5 * one.bytes
    about = ModelAsset.open(made.path).description
    assert [item.name for item in about.functions] == ["short", "long", "old"]
    assert about.author == "Ada"
    net = open_reference(NETS + "wide").raw
    for name, size in (("short", 1), ("long", 4), ("old", 1), (None, 4)):
        value = torch.randn(size, 64)
        with torch.no_grad():
            expected = net(value).numpy()
        model = coremlops.load(made.path, function_name=name)
        (got,) = model.predict({model.description.inputs[0].name: value.numpy()}).values()
        np.testing.assert_allclose(got, expected, atol=0.02)
    again = convert(None, tmp_path / "again.mlpackage", options)
    assert again.digest == made.digest
    said = json.loads((tmp_path / "m.origins.json").read_text())["functions"]
    assert set(said) == {"short", "long", "old"}
    program = read_program(ModelAsset.open(made.path).spec.mlProgram, where="m")
    for name, ops in said.items():
        assert any(place["module"] for place in ops.values())
        function = program.functions[name]
        assert Origins.beside(made.path, function).known


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (
            {"functions": {"a": "x.pt2"}},
            "several functions (a) need iOS18, the target is iOS16",
            "--target iOS18",
        ),
        ({"functions": {"a b": "x.pt2"}, "target": "iOS18"}, "got 'a b'", ""),
        (
            {"functions": {"alpha": "x"}, "target": "iOS18", "default_function": "alpa"},
            "got 'alpa'",
            "alpha?",
        ),
        ({}, "a source expected, or functions", ""),
    ],
)
def test_functions_that_cannot_be(options: dict[str, Any], message: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        convert(None, tmp_path / "m.mlpackage", ConvertOptions(**options))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert list(tmp_path.iterdir()) == []
