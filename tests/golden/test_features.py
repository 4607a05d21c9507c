"""Inputs and outputs of every type in a golden set: pictures of each colour, whole numbers, many labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coremlops import golden
from coremlops.errors import InputError
from coremlops.golden.checking import judge
from tests.classic_models import save
from tests.golden.test_models import judged, lies, npz
from tests.handmade import add_operation, array_feature, program_spec, write_package
from tests.networks import add_layer, model, write
from tests.runtime.test_classic import recommender
from tests.runtime.test_pipeline import fruit

SIDE = 24
COLOURS = {"GRAYSCALE": 10, "RGB": 20, "BGR": 30, "GRAYSCALE_FLOAT16": 40}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two noisy pictures of the model's size."""
    rng = np.random.default_rng(1)
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def image(message: Any, name: str, colour: str) -> None:
    message.name = name
    picture = message.type.imageType
    picture.width = picture.height = SIDE
    picture.colorSpace = COLOURS[colour]


def copier(path: Path, colour: str, *, picture_out: bool) -> Path:
    spec, net = model(version=7)
    net.imageInputShapeMapping = 1
    image(spec.description.input.add(), "image", colour)
    if picture_out:
        image(spec.description.output.add(), "y", colour)
    else:
        array_feature(spec.description.output.add(), "y", ())
    add_layer(net, "activation", ["image"], ["y"], linear={"alpha": 0.5})
    return write(path, spec)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_picture_in(tmp_path: Path, pictures: Path, colour: str) -> None:
    path = copier(tmp_path / "net.mlmodel", colour, picture_out=False)
    made, whole = judged(path, pictures, tmp_path)
    given = whole["examples"][0]["calls"][0]["inputs"]["image"]
    suffix = ".bin" if colour == "GRAYSCALE_FLOAT16" else ".png"
    assert (given["type"], Path(given["file"]).suffix) == (
        "tensor" if suffix == ".bin" else "picture",
        suffix,
    )
    if suffix == ".bin":
        assert (given["dtype"], given["shape"]) == ("float16", [SIDE, SIDE])
    else:
        kept = Image.open(tmp_path / "golden" / given["file"])
        assert kept.mode == ("L" if colour == "GRAYSCALE" else "RGB")
        np.testing.assert_array_equal(kept, Image.open(pictures / "0.png").convert(kept.mode))
    assert made.golden.limits[0].measure == "numbers"


@pytest.mark.parametrize("colour", ["GRAYSCALE", "RGB", "BGR"])
def test_a_picture_out_is_sampled_numbers(tmp_path: Path, pictures: Path, colour: str) -> None:
    path = copier(tmp_path / "net.mlmodel", colour, picture_out=True)
    _, whole = judged(path, pictures, tmp_path)
    found = whole["examples"][1]["calls"][0]["outputs"]["y"]
    shape = [SIDE, SIDE] + ([] if colour == "GRAYSCALE" else [3])
    assert (found["type"], found["dtype"], found["shape"]) == ("tensor", "uint8", shape)
    pixels = np.asarray(Image.open(pictures / "1.png").convert("L" if colour == "GRAYSCALE" else "RGB"))
    np.testing.assert_allclose(found["values"], pixels.ravel()[found["positions"]] / 2, atol=0.51)
    reason = lies(path, tmp_path, "y", "values", found["values"][::-1])
    assert reason.startswith("example 2: y: a relative error of at most 0.03 expected")


def test_an_array_of_pixels_serves_as_a_picture(tmp_path: Path) -> None:
    path = copier(tmp_path / "net.mlmodel", "RGB", picture_out=True)
    pixels = np.random.default_rng(2).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    judged(path, npz(tmp_path, image=pixels), tmp_path)
    np.testing.assert_array_equal(Image.open(tmp_path / "golden" / "0002.png"), pixels[1])


def test_whole_numbers_out_must_be_equal(tmp_path: Path) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (60, 5))
    array_feature(spec.description.output.add(), "y", (), 131104)
    add_layer(net, "argMax", ["x"], ["y"], axis=1, removeDim=1)
    path = write(tmp_path / "net.mlmodel", spec)
    x = np.random.default_rng(3).permuted(np.tile(np.arange(5.0), (2, 60, 1)), axis=2).astype(np.float32)
    made, whole = judged(path, npz(tmp_path, x=x), tmp_path)
    assert (made.golden.limits[0].measure, made.golden.limits[0].tolerance) == ("equal", 0.02)
    found = whole["examples"][1]["calls"][0]["outputs"]["y"]
    assert (found["dtype"], found["values"]) == ("int32", x[1].argmax(1).tolist())
    few = [(value + 1) % 5 if place < 2 else value for place, value in enumerate(found["values"])]
    many = [(value + 1) % 5 if place < 4 else value for place, value in enumerate(found["values"])]
    golden_json = tmp_path / "golden" / "golden.json"
    text = golden_json.read_text()
    with pytest.raises(AssertionError):
        lies(path, tmp_path, "y", "values", few)  # 2 of 120 may differ
    golden_json.write_text(text)
    reason = lies(path, tmp_path, "y", "values", many)
    assert reason == "y: at most 0.02 of all values may differ, got 0.03333"


def test_a_map_that_is_nearly_everywhere_zero(tmp_path: Path) -> None:
    """Its few peaks are what it is about: they may move a little, and what is tiny may be flushed."""
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (100, 100))
    array_feature(spec.description.output.add(), "y", ())
    add_layer(net, "activation", ["x"], ["y"], linear={"alpha": 2.0})
    path = write(tmp_path / "net.mlmodel", spec)
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((3, 100, 100)) * 1e-6).astype(np.float32)
    for each in x:
        each[tuple(rng.integers(0, 100, (2, 40)))] = rng.uniform(0.3, 1, 40)
    made, _ = judged(path, npz(tmp_path, x=x), tmp_path)
    answers = [[{"y": 2 * each}] for each in x]

    def reason(how: Any) -> str:
        return judge(made.golden, [[{"y": how(call["y"])}] for (call,) in answers])["y"].reason

    assert reason(lambda y: np.where(abs(y) < 1e-4, 0, y * 1.01)) == ""
    assert "relative error" in reason(lambda y: y * 1.1)
    assert "relative error" in reason(lambda y: np.where(y > 0.1, 0, y))
    assert reason(lambda y: np.where(y == y.max(), np.nan, y))


def test_of_very_many_labels_the_most_probable_are_kept(tmp_path: Path) -> None:
    spec, net = model("neuralNetworkClassifier")
    array_feature(spec.description.input.add(), "x", (100,))
    spec.description.predictedFeatureName, spec.description.predictedProbabilitiesName = "label", "p"
    spec.description.output.add(name="label").type.int64Type.SetInParent()
    spec.description.output.add(name="p").type.dictionaryType.int64KeyType.SetInParent()
    net.int64ClassLabels.vector.extend(range(1000, 1100))
    add_layer(net, "softmaxND", ["x"], ["p"], axis=-1)
    path = write(tmp_path / "net.mlmodel", spec)
    x = np.random.default_rng(4).permuted(np.tile(np.arange(100.0) / 4, (2, 1)), axis=1).astype(np.float32)
    made, _ = judged(path, npz(tmp_path, x=x), tmp_path)
    shares = made.golden.examples[0][0].outputs["p"]
    assert list(shares.keys) == [1000 + int(place) for place in np.argsort(-x[0])[:10]]
    assert made.golden.label == "label"


def test_an_optional_input_may_stay_away(tmp_path: Path) -> None:
    spec, block = program_spec()
    array_feature(spec.description.input.add(), "more", (2, 3))
    spec.description.input[1].type.isOptional = True
    entry = spec.mlProgram.functions["main"].inputs.add()
    entry.CopyFrom(spec.mlProgram.functions["main"].inputs[0])
    entry.name = "more"
    add_operation(block, "add", "y", (2, 3), {"x": "x", "y": "more"})
    path = write_package(tmp_path / "a.mlpackage", spec)
    _, whole = judged(path, npz(tmp_path, x=np.ones((1, 2, 3))), tmp_path)
    assert list(whole["examples"][0]["calls"][0]["inputs"]) == ["x"]
    with pytest.raises(InputError, match="the input x expected, got more"):
        golden.make(path, npz(tmp_path, more=np.ones((1, 2, 3))), tmp_path / "golden")


def seen_and_wanted() -> list[Any]:
    return [{"seen": {"a": 2.0, "d": 3.0}, "k": 2}, {"seen": {"a": 2.0}, "among": ["c", "d"]}]


def test_sequences_in_and_out(tmp_path: Path) -> None:
    path = save(recommender(), tmp_path)
    made, whole = judged(path, f"{__name__}:seen_and_wanted", tmp_path)
    calls = [example["calls"][0] for example in whole["examples"]]
    assert calls[1]["inputs"]["among"] == {"type": "texts", "value": ["c", "d"]}
    assert calls[0]["inputs"]["k"] == {"type": "integer", "value": 2}
    assert calls[0]["outputs"]["items"] == {"type": "texts", "values": ["b", "c"]}
    limits = {limit.name: limit for limit in made.golden.limits}
    assert (limits["items"].measure, limits["scores"].tolerance) == ("equal", 0.001)
    assert lies(path, tmp_path, "items", "values", ["d", "c"]).startswith("items: at most 0.02 of all values")


def test_an_input_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = save(recommender(), tmp_path)
    with pytest.raises(InputError, match="'seen'"):
        golden.make(path, f"{__name__}:nothing_seen", tmp_path / "golden")


def nothing_seen() -> list[Any]:
    return [{"seen": 5}]


@pytest.mark.parametrize("kind", ["pipeline", "pipelineClassifier"])
def test_a_pipeline_with_a_classifier(tmp_path: Path, kind: str) -> None:
    path = save(fruit(kind), tmp_path)
    made, _ = judged(path, npz(tmp_path, x=np.array([[4.0, 0], [0, 4]])), tmp_path)
    assert made.golden.label == "label"
    assert [calls[0].outputs["label"].values for calls in made.golden.examples] == [("ripe",), ("raw",)]
    assert golden.check(path, tmp_path / "golden").agreement == 1.0
