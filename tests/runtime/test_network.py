"""Neural networks through `coremlops.load`: shapes, pictures, labels, custom layers, control flow."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coremlops
from coremlops.errors import InputError, ModelError, ModelFormatError, UnsupportedOpsError, UsageError
from coremlops.model import ModelAsset
from coremlops.runtime import custom, custom_layer
from tests.handmade import array_feature
from tests.networks import Array, add_layer, fill, model, write

DOUBLE, FLOAT, INT32 = 65600, 65568, 131104


@pytest.fixture(autouse=True)
def classes() -> Iterator[None]:
    """The custom layers that a test registers are gone after it."""
    before = dict(custom._FACTORIES)
    yield
    custom._FACTORIES.clear()
    custom._FACTORIES.update(before)


def doubler(path: Path, shape: Sequence[int], version: int = 4, dtype: int = FLOAT) -> Path:
    """y = 2 x."""
    spec, net = model(version=version)
    array_feature(spec.description.input.add(), "x", shape)
    array_feature(spec.description.output.add(), "y", (), dtype)
    add_layer(net, "multiply", ["x"], ["y"], alpha=2.0)
    return write(path / "net.mlmodel", spec)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 2, 3, 4, 5)])
def test_exact_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = coremlops.load(doubler(tmp_path, shape)).predict({"x": x})["y"]
    np.testing.assert_array_equal(found, 2 * x)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ((3,), (3,), (3,)),
        ((2, 3, 4), (2, 3, 4), (2, 3, 4)),
        ((2, 3, 4), (5, 2, 3, 4), (1, 5, 2, 3, 4)),
        ((2, 3, 4), (6, 5, 2, 3, 4), (6, 5, 2, 3, 4)),
        ((3,), (6, 1, 3, 1, 1), (6, 1, 3, 1, 1)),
    ],
)
def test_shapes_before_version_4(
    tmp_path: Path, declared: tuple[int, ...], given: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """A sequence and a batch may be given; without them, they do not come out."""
    x = np.arange(np.prod(given), dtype=np.float32).reshape(given)
    found = coremlops.load(doubler(tmp_path, declared, version=1)).predict({"x": x})["y"]
    np.testing.assert_array_equal(found, (2 * x).reshape(expected))


def test_a_shape_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an array of 2 axes"):
        coremlops.load(doubler(tmp_path, (3,), version=1)).predict({"x": np.zeros((1, 3))})
    with pytest.raises(InputError, match="input 'x'"):
        coremlops.load(doubler(tmp_path, (3,), version=1)).predict({"x": np.zeros(4)})


@pytest.mark.parametrize(("dtype", "name"), [(DOUBLE, "float64"), (INT32, "int32"), (FLOAT, "float32")])
def test_outputs_have_the_declared_dtype(tmp_path: Path, dtype: int, name: str) -> None:
    found = coremlops.load(doubler(tmp_path, (2,), dtype=dtype)).predict({"x": np.array([1.0, 2.0])})["y"]
    assert (found.dtype, found.tolist()) == (np.dtype(name), [2, 4])


def test_flexible_shapes(tmp_path: Path) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2, 3))
    ranges = spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges
    ranges.add(lowerBound=1, upperBound=-1)
    ranges.add(lowerBound=3, upperBound=3)
    array_feature(spec.description.output.add(), "y", ())
    add_layer(net, "reduceSum", ["x"], ["y"], axes=[0], keepDims=False)
    loaded = coremlops.load(write(tmp_path / "net.mlmodel", spec))
    assert loaded.predict({"x": np.ones((7, 3))})["y"].tolist() == [7, 7, 7]
    with pytest.raises(InputError):
        loaded.predict({"x": np.ones((7, 4))})


@pytest.mark.parametrize("declared", [[(3,), (5,)], [(2, 3, 4), (2, 5, 6)]])
def test_enumerated_shapes_before_version_4(tmp_path: Path, declared: list[tuple[int, ...]]) -> None:
    """Those alone, with or without a sequence and a batch before them."""
    path = doubler(tmp_path, declared[0], version=1)
    spec = ModelAsset.open(path).spec
    shapes = spec.description.input[0].type.multiArrayType.enumeratedShapes.shapes
    for shape in declared:
        shapes.add(shape=shape)
    loaded = coremlops.load(write(path, spec))
    for shape in (*declared, (2, 3, *declared[1], *([1, 1] if len(declared[1]) == 1 else []))):
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        np.testing.assert_array_equal(loaded.predict({"x": x})["y"], 2 * x)
    with pytest.raises(InputError, match=r"expected channels, height and width \[.*\] or \[.*\], got \[4, "):
        loaded.predict({"x": np.zeros([4, 1, 1][: len(declared[0])])})


@pytest.mark.parametrize("colour", ["RGB", "BGR", "GRAYSCALE"])
@pytest.mark.parametrize("rank4", [False, True])
def test_pictures_are_scaled_and_biased_by_channel(tmp_path: Path, colour: str, rank4: bool) -> None:
    spec, net = model()
    feature = spec.description.input.add(name="image").type.imageType
    feature.width, feature.height = 2, 1
    feature.colorSpace = {"GRAYSCALE": 10, "RGB": 20, "BGR": 30}[colour]
    array_feature(spec.description.output.add(), "y", ())
    net.imageInputShapeMapping = int(rank4)
    scaler = net.preprocessing.add(featureName="image").scaler
    fill(scaler, {"channelScale": 2, "redBias": 1, "greenBias": 10, "blueBias": 100, "grayBias": 1000})
    add_layer(net, "copy", ["image"], ["y"])
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    picture = Image.fromarray(pixels[:, :, 0] if colour == "GRAYSCALE" else pixels)
    found = coremlops.load(write(tmp_path / "net.mlmodel", spec)).predict({"image": picture})["y"]
    rows = {"red": [3, 9], "green": [14, 20], "blue": [106, 112], "grey": [1002, 1008]}
    order = {"RGB": ("red", "green", "blue"), "BGR": ("blue", "green", "red"), "GRAYSCALE": ("grey",)}[colour]
    assert found.shape == ((1,) if rank4 else (1, 1)) + (len(order), 1, 2)
    assert found.reshape(len(order), 2).tolist() == [rows[name] for name in order]


def test_a_mean_image(tmp_path: Path) -> None:
    spec, net = model()
    feature = spec.description.input.add(name="image").type.imageType
    feature.width, feature.height, feature.colorSpace = 2, 1, 10
    array_feature(spec.description.output.add(), "y", ())
    net.preprocessing.add(featureName="image").meanImage.meanImage.extend([1, 2])
    add_layer(net, "copy", ["image"], ["y"])
    path = write(tmp_path / "net.mlmodel", spec)
    found = coremlops.load(path).predict({"image": np.array([[5, 7]], np.uint8)})["y"]
    assert found.ravel().tolist() == [4, 5]
    net.preprocessing[0].meanImage.meanImage.append(3)
    with pytest.raises(ModelFormatError, match="a mean image of 3 values"):
        coremlops.load(write(path, spec))


def classifier(path: Path, labels: Sequence[str | int], named: str = "p") -> Path:
    spec, net = model("neuralNetworkClassifier")
    array_feature(spec.description.input.add(), "x", (len(labels),))
    spec.description.predictedFeatureName = "label"
    spec.description.predictedProbabilitiesName = "scores"
    label = spec.description.output.add(name="label")
    scores = spec.description.output.add(name="scores").type.dictionaryType
    if isinstance(labels[0], str):
        label.type.stringType.SetInParent()
        scores.stringKeyType.SetInParent()
        net.stringClassLabels.vector.extend(labels)
    else:
        label.type.int64Type.SetInParent()
        scores.int64KeyType.SetInParent()
        net.int64ClassLabels.vector.extend(labels)
    net.labelProbabilityLayerName = named
    add_layer(net, "softmaxND", ["x"], ["p"], axis=-1)
    return write(path / "net.mlmodel", spec)


@pytest.mark.parametrize("named", ["p", ""])  # "": the last layer's output
@pytest.mark.parametrize("labels", [("ada", "bob"), (7, -3)])
def test_classifiers(tmp_path: Path, labels: tuple[str | int, ...], named: str) -> None:
    found = coremlops.load(classifier(tmp_path, labels, named)).predict({"x": np.log([1.0, 3.0])})
    assert set(found) == {"label", "scores"}
    assert found["label"] == labels[1]
    assert found["scores"] == pytest.approx({labels[0]: 0.25, labels[1]: 0.75})


def test_a_regressor(tmp_path: Path) -> None:
    spec, net = model("neuralNetworkRegressor")
    array_feature(spec.description.input.add(), "x", (2,))
    spec.description.output.add(name="y").type.doubleType.SetInParent()
    add_layer(net, "reduceSum", ["x"], ["y"], axes=[0])
    found = coremlops.load(write(tmp_path / "net.mlmodel", spec)).predict({"x": np.array([1, 2])})
    assert found == {"y": 3.0}


def custom_net(path: Path) -> Path:
    """y = Swish(2 x) + 2 x, where Swish is the app's class."""
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2, 3))
    array_feature(spec.description.output.add(), "y", ())
    add_layer(net, "multiply", ["x"], ["a"], alpha=2.0)
    params = add_layer(net, "custom", ["a"], ["b"], className="Swish")
    params.parameters["beta"].doubleValue = 0.5
    params.weights.add().floatValue.extend([1, 2])
    add_layer(net, "add", ["a", "b"], ["y"])
    return write(path / "net.mlmodel", spec)


def test_a_custom_layer_runs_here(tmp_path: Path) -> None:
    seen: list[Any] = []

    @custom_layer("Swish")
    class Swish:
        def __init__(self, parameters: Mapping[str, Any], weights: Sequence[bytes]) -> None:
            self.beta = parameters["beta"]
            seen.append(np.frombuffer(weights[0], "<f4").tolist())

        def output_shapes(self, input_shapes: Sequence[tuple[int | None, ...]]) -> Any:
            return input_shapes

        def evaluate(self, inputs: Sequence[Array]) -> list[Array]:
            return [x / (1 + np.exp(-self.beta * x)) for x in inputs]

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    loaded = coremlops.load(custom_net(tmp_path))
    found = loaded.predict({"x": x})["y"]
    np.testing.assert_allclose(found, 2 * x + 2 * x / (1 + np.exp(-x)), atol=1e-6)
    assert seen == [[1, 2]]
    with pytest.raises(UnsupportedOpsError, match="no single ONNX graph"):
        loaded.to_onnx()


def test_a_custom_layer_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOpsError, match="custom layer class 'Swish'") as caught:
        coremlops.load(custom_net(tmp_path))
    assert "custom_layer" in caught.value.hint


def test_a_custom_layer_in_a_loop_is_refused_with_the_reason(tmp_path: Path) -> None:
    custom_layer("Swish")(Doubled)
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2, 3))
    array_feature(spec.description.output.add(), "y", (2, 3))
    loop = add_layer(net, "loop", [], [], maxLoopIterations=2)
    add_layer(loop.bodyNetwork, "custom", ["x"], ["y"], className="Swish")
    with pytest.raises(UnsupportedOpsError, match="'Swish' inside a branch or a loop: ONNX runs those with"):
        coremlops.load(write(tmp_path / "a.mlmodel", spec))


def test_inner_values_of_a_network(tmp_path: Path) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2, 3))
    array_feature(spec.description.output.add(), "y", (2, 3))
    add_layer(net, "loadConstantND", [], ["c"], shape=[3], data=np.array([1.0, 2, 3]))
    add_layer(net, "addBroadcastable", ["x", "c"], ["a"])
    add_layer(net, "multiply", ["a"], ["b"], alpha=2.0)
    add_layer(net, "multiply", ["a"], ["nobody wants it"], alpha=2.0)
    add_layer(net, "add", ["b"], ["y"], alpha=-1.0)
    loaded = coremlops.load(write(tmp_path / "a.mlmodel", spec))
    assert loaded.inner_names == ("x", "a", "b", "y")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = loaded.predict({"x": x}, intermediates=["b", "c", "a"])
    c = np.array([1, 2, 3], np.float32)
    expected = {"a": x + c, "b": 2 * (x + c), "c": c, "y": 2 * (x + c) - 1}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    with pytest.raises(UsageError, match="no inner value 'nobody wants it'"):
        loaded.predict({"x": x}, intermediates=["nobody wants it"])
    custom_layer("Swish")(Doubled)
    with pytest.raises(UnsupportedOpsError, match="it is several graphs"):
        coremlops.load(custom_net(tmp_path)).predict({"x": x}, intermediates=["a"])


class Doubled:
    """A custom layer."""

    def __init__(self, parameters: Any, weights: Any) -> None: ...

    def output_shapes(self, input_shapes: Any) -> Any:
        return input_shapes

    def evaluate(self, inputs: Any) -> Any:
        return [2 * x for x in inputs]


def test_a_custom_layer_that_fails(tmp_path: Path) -> None:
    class Broken:
        def __init__(self, parameters: Any, weights: Any) -> None: ...

        def output_shapes(self, input_shapes: Any) -> Any:
            return input_shapes

        def evaluate(self, inputs: Any) -> Any:
            raise KeyError("oh")

    custom_layer("Swish")(Broken)
    with pytest.raises(ModelError, match="the custom layer 'Swish' failed"):
        coremlops.load(custom_net(tmp_path)).predict({"x": np.zeros((2, 3))})


def collatz(path: Path, limit: int = 0) -> Path:
    """Halves or triples until one is left, and counts the steps."""
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (1,))
    for name in ("n", "steps"):
        array_feature(spec.description.output.add(), name, ())
    add_layer(net, "copy", ["x"], ["n"])
    add_layer(net, "fillLike", ["x"], ["steps"], value=0.0)
    loop = add_layer(net, "loop", [], [], conditionVar="more", maxLoopIterations=limit)
    add_layer(loop.conditionNetwork, "greaterThan", ["n"], ["more"], alpha=1.0)
    body = loop.bodyNetwork
    add_layer(body, "loadConstantND", [], ["two"], shape=[1], data=np.array([2.0]))
    add_layer(body, "modBroadcastable", ["n", "two"], ["odd"])
    branch = add_layer(body, "branch", ["odd"], [])
    add_layer(branch.ifBranch, "multiply", ["n"], ["t"], alpha=3.0)
    add_layer(branch.ifBranch, "add", ["t"], ["next"], alpha=1.0)
    add_layer(branch.elseBranch, "multiply", ["n"], ["next"], alpha=0.5)
    add_layer(body, "copy", ["next"], ["n"])
    add_layer(body, "add", ["steps"], ["more steps"], alpha=1.0)
    add_layer(body, "copy", ["more steps"], ["steps"])
    return write(path / "net.mlmodel", spec)


def test_loops_and_branches(tmp_path: Path) -> None:
    loaded = coremlops.load(collatz(tmp_path))
    assert [loaded.predict({"x": np.array([n])})["steps"].item() for n in (1, 2, 6, 27)] == [0, 1, 8, 111]
    limited = coremlops.load(collatz(tmp_path, limit=3)).predict({"x": np.array([6.0])})
    assert (limited["n"].item(), limited["steps"].item()) == (5, 3)


@pytest.mark.parametrize(("jump", "expected"), [("loopBreak", 3), ("loopContinue", 9)])
def test_jumps(tmp_path: Path, jump: str, expected: float) -> None:
    """Ten rounds add one each, but for that in which the count is 3: the loop ends there, or it adds none."""
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (1,))
    array_feature(spec.description.output.add(), "n", ())
    add_layer(net, "copy", ["x"], ["n"])
    add_layer(net, "copy", ["x"], ["round"])
    body = add_layer(net, "loop", [], [], maxLoopIterations=10).bodyNetwork
    add_layer(body, "equal", ["round"], ["now"], alpha=3.0)
    add_layer(body, "add", ["round"], ["r"], alpha=1.0)
    add_layer(body, "copy", ["r"], ["round"])
    branch = add_layer(body, "branch", ["now"], [])
    add_layer(branch.ifBranch, jump, [], [])
    add_layer(body, "add", ["n"], ["m"], alpha=1.0)
    add_layer(body, "copy", ["m"], ["n"])
    loaded = coremlops.load(write(tmp_path / "net.mlmodel", spec))
    assert loaded.predict({"x": np.zeros(1)})["n"].tolist() == [expected]


@pytest.mark.parametrize(("condition", "expected"), [([1, 0], 2), ([0, 1], 1)])
def test_of_a_condition_with_several_elements_the_first_counts(
    tmp_path: Path, condition: list[int], expected: float
) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2,))
    array_feature(spec.description.output.add(), "y", ())
    branch = add_layer(net, "branch", ["x"], [])
    for side, value in ((branch.ifBranch, 2.0), (branch.elseBranch, 1.0)):
        add_layer(side, "fillStatic", [], ["y"], value=value, targetShape=[1])
    loaded = coremlops.load(write(tmp_path / "net.mlmodel", spec))
    assert loaded.predict({"x": np.array(condition)})["y"].tolist() == [expected]


def test_float16_rounds_each_layer(tmp_path: Path) -> None:
    path, x = doubler(tmp_path, (2,)), np.array([1 + 2**-12, 40000])
    assert coremlops.load(path).predict({"x": x})["y"].tolist() == [2 + 2**-11, 80000]
    assert coremlops.load(path, precision="float16").predict({"x": x})["y"].tolist() == [2, np.inf]


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("fillStatic", {"targetShape": [1 << 20, 1 << 20]}, "elements"),
        ("sequenceRepeat", {"nRepetitions": 1 << 39}, "axis -5"),
        ("innerProduct", {"inputChannels": 3, "outputChannels": 1 << 39}, "no weights"),
        ("reshapeStatic", {"targetShape": [7]}, "do not fit"),
        ("tile", {"reps": [1 << 40]}, "elements"),
        ("rangeStatic", {"endValue": 1e30, "stepSizeValue": 1e-3}, "a range from"),
        ("transpose", {"axes": [0, 0]}, "do not fit"),
        ("activation", {}, "an activation of no kind"),
        ("lrn", {}, "a window of 0 channels"),
        ("loopBreak", {}, "outside of a loop"),
    ],
)
def test_layers_that_make_no_sense(tmp_path: Path, kind: str, fields: dict[str, Any], reason: str) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (3,))
    array_feature(spec.description.output.add(), "y", ())
    inputs = [] if kind in ("fillStatic", "rangeStatic") else ["x"]
    add_layer(net, kind, inputs, ["y"], **fields)
    with pytest.raises(ModelFormatError, match=reason):
        coremlops.load(write(tmp_path / "net.mlmodel", spec))


def test_an_output_that_no_layer_gives_and_a_value_from_nowhere(tmp_path: Path) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (3,))
    array_feature(spec.description.output.add(), "y", ())
    path = tmp_path / "net.mlmodel"
    with pytest.raises(ModelFormatError, match="no layer gives the output 'y'"):
        coremlops.load(write(path, spec))
    add_layer(net, "copy", ["z"], ["y"])
    with pytest.raises(ModelFormatError, match="the value 'z' is used before it is defined"):
        coremlops.load(write(path, spec))


@pytest.mark.parametrize("version", [2, 4])
def test_an_output_that_is_an_input_itself(tmp_path: Path, version: int) -> None:
    spec, net = model(version=version)
    array_feature(spec.description.input.add(), "x", (2, 3, 4), FLOAT)
    array_feature(spec.description.output.add(), "x", (2, 3, 4), FLOAT)
    array_feature(spec.description.output.add(), "y", (2, 3, 4), FLOAT)
    add_layer(net, "multiply", ["x"], ["y"], alpha=2.0)
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = coremlops.load(write(tmp_path / "net.mlmodel", spec)).predict({"x": x})
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["y"], 2 * x)


@pytest.mark.parametrize(
    ("kind", "given"), [("doubleType", []), ("int64Type", [1.0, 2.0]), ("int64Type", [np.nan])]
)
def test_a_number_is_one_number(tmp_path: Path, kind: str, given: list[float]) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (len(given),))
    getattr(spec.description.output.add(name="y").type, kind).SetInParent()
    add_layer(net, "activation", ["x"], ["y"], linear={"alpha": 1.0})
    loaded = coremlops.load(write(tmp_path / "net.mlmodel", spec))
    with pytest.raises(ModelFormatError, match="the output 'y' is one"):
        loaded.predict({"x": np.array(given)})


def test_squeezing_all_axes_of_sizes_known_in_a_run(tmp_path: Path) -> None:
    spec, net = model()
    x = spec.description.input.add()
    array_feature(x, "x", (2, 1))
    for shape in ((2, 1), (3, 1)):
        x.type.multiArrayType.enumeratedShapes.shapes.add(shape=shape)
    array_feature(spec.description.output.add(), "y", ())
    add_layer(net, "squeeze", ["x"], ["z"], squeezeAll=True)
    add_layer(net, "multiply", ["z"], ["y"], alpha=2.0)
    loaded = coremlops.load(write(tmp_path / "net.mlmodel", spec))
    for size in (2, 3):
        given = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal(loaded.predict({"x": given[:, None]})["y"], 2 * given)


def test_a_single_number_has_no_axis_until_it_leaves_the_network(tmp_path: Path) -> None:
    """As in coremltools' test_linspace_dynamic: x[0] with an axis put in has one axis, not two."""
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2,))
    for name in ("number", "vector", "joined"):
        array_feature(spec.description.output.add(), name, ())
    one: dict[str, Any] = {"beginIds": [1], "endIds": [2], "strides": [1], "squeezeMasks": [True]}
    add_layer(net, "sliceStatic", ["x"], ["number"], **one, beginMasks=[False], endMasks=[False])
    add_layer(net, "expandDims", ["number"], ["vector"], axes=[0])
    add_layer(net, "concatND", ["number", "x"], ["joined"], axis=0)  # to other layers it is a vector of one
    found = coremlops.load(write(tmp_path / "net.mlmodel", spec)).predict({"x": np.array([3.0, 4.0])})
    assert {name: value.tolist() for name, value in found.items()} == {
        "number": [4.0],
        "vector": [4.0],
        "joined": [4.0, 3.0, 4.0],
    }


def test_a_branch_that_does_not_fit_is_not_called_a_broken_file(tmp_path: Path) -> None:
    """Core ML may never enter it: coremltools makes such lists (TestList)."""
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2,))
    array_feature(spec.description.output.add(), "y", ())
    add_layer(net, "reduceSum", ["x"], ["s"], reduceAll=True)
    branch = add_layer(net, "branch", ["s"], [])
    branch.ifBranch.SetInParent()
    add_layer(branch.ifBranch, "transpose", ["x"], ["z"], axes=[3, 1])
    add_layer(net, "copy", ["x"], ["y"])
    with pytest.raises(UnsupportedOpsError, match="may never enter"):
        coremlops.load(write(tmp_path / "net.mlmodel", spec))


def test_a_loop_whose_work_nobody_sees(tmp_path: Path) -> None:
    """Found by damaged files."""
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2,))
    array_feature(spec.description.output.add(), "y", (2,))
    loop = add_layer(net, "loop", [], [], maxLoopIterations=5)
    add_layer(loop.bodyNetwork, "add", ["x"], ["z"], alpha=2)
    add_layer(net, "copy", ["x"], ["y"])
    found = coremlops.load(write(tmp_path / "net.mlmodel", spec)).predict({"x": np.array([1.0, 2.0])})
    assert found["y"].tolist() == [1, 2]


def test_a_loop_over_a_count_that_is_no_number(tmp_path: Path) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2,))
    array_feature(spec.description.output.add(), "y", (2,))
    add_layer(net, "copy", ["x"], ["y"])
    loop = add_layer(net, "loop", ["x"], [])
    add_layer(loop.bodyNetwork, "add", ["y"], ["y"], alpha=2)
    with pytest.raises(ModelFormatError, match=r"loop .*: its inputs and fields do not fit"):
        coremlops.load(write(tmp_path / "net.mlmodel", spec))


def test_a_mirrored_border_larger_than_the_picture_is_unsupported(tmp_path: Path) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (1, 3, 4))
    array_feature(spec.description.output.add(), "y", ())
    border = {"borderAmounts": [{"startEdgeSize": 3}, {}]}
    add_layer(net, "padding", ["x"], ["y"], reflection={}, paddingAmounts=border)
    with pytest.raises(UnsupportedOpsError, match="a mirrored border of 3 at an axis of 3"):
        coremlops.load(write(tmp_path / "net.mlmodel", spec))
