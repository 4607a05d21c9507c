"""What good silicon does to a model passes its golden set; what is wrong with one fails it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coremlops
from coremlops import golden
from coremlops.golden.checking import Judgement, answer, judge
from coremlops.model import model_digest
from tests.golden.test_golden import change
from tests.handmade import array_feature
from tests.networks import add_layer, fill, model, write
from tests.verify.fixtures import Trained
from tests.verify.mutations import convolutions, drop_scale, swap_labels, zero_channel

SIDE, HIDDEN = 8, 32
LABELS = ("ada", "ben", "cleo", "dora", "eve")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Net:
    """A classifier of pictures, with its weights [outputs, inputs]; it gives its hidden values, too."""

    first: Array
    bias: Array
    second: Array
    labels: tuple[str, ...] = LABELS
    colour: int = 20
    scale: float = 1 / 64

    def write(self, path: Path) -> Path:
        spec, net = model("neuralNetworkClassifier")
        picture = spec.description.input.add(name="image").type.imageType
        picture.width, picture.height, picture.colorSpace = SIDE, SIDE, self.colour
        spec.description.output.add(name="label").type.stringType.SetInParent()
        spec.description.output.add(name="scores").type.dictionaryType.stringKeyType.SetInParent()
        array_feature(spec.description.output.add(), "hidden", ())
        spec.description.predictedFeatureName = "label"
        spec.description.predictedProbabilitiesName = "scores"
        net.stringClassLabels.vector.extend(self.labels)
        net.imageInputShapeMapping, net.labelProbabilityLayerName = 1, "scores"
        scaler = net.preprocessing.add(featureName="image").scaler
        fill(scaler, {"channelScale": self.scale, "redBias": -2, "greenBias": -2, "blueBias": -2})
        add_layer(net, "flattenTo2D", ["image"], ["flat"], axis=1)
        sizes = {"inputChannels": 3 * SIDE * SIDE, "outputChannels": HIDDEN, "hasBias": 1}
        add_layer(net, "innerProduct", ["flat"], ["sums"], **sizes, weights=self.first, bias=self.bias)
        add_layer(net, "activation", ["sums"], ["hidden"], ReLU={})
        sizes = {"inputChannels": HIDDEN, "outputChannels": len(self.labels)}
        add_layer(net, "innerProduct", ["hidden"], ["logits"], **sizes, weights=self.second)
        add_layer(net, "softmaxND", ["logits"], ["scores"], axis=-1)
        return write(path, spec)


@pytest.fixture(scope="module")
def net() -> Net:
    rng = np.random.default_rng(11)
    first = rng.standard_normal((HIDDEN, 3 * SIDE * SIDE)) / 8
    second = rng.standard_normal((len(LABELS), HIDDEN)) / 3
    return Net(first, rng.standard_normal(HIDDEN), second)


@pytest.fixture(scope="module")
def made(net: Net, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The model, and a set from six pictures of a few colours each."""
    folder = tmp_path_factory.mktemp("silicon")
    rng = np.random.default_rng(5)
    (folder / "pictures").mkdir()
    for number in range(6):
        patches = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(patches).resize((SIDE, SIDE)).save(folder / "pictures" / f"{number}.png")
    path = net.write(folder / "net.mlmodel")
    found = golden.make(path, folder / "pictures", folder / "golden")
    assert found.notes == ()
    assert sum(call.outputs["label"].decided for calls in found.golden.examples for call in calls) >= 4
    return path, folder / "golden"


def judged(changed: Net, made: tuple[Path, Path], tmp_path: Path, precision: str = "typed") -> Judgement:
    """Another net, as if it were the one that was published."""
    return posing(changed.write(tmp_path / "changed.mlmodel"), made[1], tmp_path, precision)


def posing(path: Path, golden_set: Path, tmp_path: Path, precision: str = "typed") -> Judgement:
    copied = Path(shutil.copytree(golden_set, tmp_path / "set", dirs_exist_ok=True))
    change(copied, lambda whole: whole.update(model=model_digest(path)))
    return golden.check(path, copied, precision=precision)


@pytest.mark.parametrize("precision", ["typed", "float32", "float16"])
def test_another_order_of_adding_passes(
    net: Net, made: tuple[Path, Path], tmp_path: Path, precision: str
) -> None:
    """The same net with its hidden values in another order."""
    order = np.random.default_rng(1).permutation(HIDDEN)
    other = replace(net, first=net.first[order], bias=net.bias[order], second=net.second[:, order])
    found = judged(other, made, tmp_path, precision)
    errors = {each.name: each for each in found.outputs}
    assert errors.pop("hidden").ok is False  # in another order, as they should be
    assert all(each.ok for each in errors.values()), found.reason
    assert found.agreement == 1.0


def perturbed(made: tuple[Path, Path], how: Callable[[Array], Array]) -> list[str]:
    """The outputs that fail when a device's numbers differ so."""
    promised = golden.read_golden(made[1])
    loaded = coremlops.load(made[0])
    answers = []
    for (call,) in promised.examples:
        picture = Image.open(made[1] / call.inputs["image"].file)
        ((outputs, _),) = answer(loaded, [{"image": picture}])
        outputs["hidden"] = how(outputs["hidden"])
        keys, values = list(outputs["scores"]), how(np.array([*outputs["scores"].values()]))
        outputs["scores"] = dict(zip(keys, values.tolist(), strict=True))
        answers.append([outputs])
    return [name for name, finding in judge(promised, answers).items() if finding.reason]


def test_numbers_as_float16_pass(made: tuple[Path, Path]) -> None:
    assert perturbed(made, lambda values: values.astype(np.float16).astype(np.float64)) == []


def test_noise_of_one_unit_in_the_last_place_of_float16_passes(made: tuple[Path, Path]) -> None:
    rng = np.random.default_rng(2)

    def noisy(values: Array) -> Array:
        half = values.astype(np.float16)
        return np.nextafter(half, np.where(rng.random(half.shape) < 0.5, -np.inf, np.inf).astype(np.float16))

    assert perturbed(made, noisy) == []


def test_small_values_that_are_flushed_pass(made: tuple[Path, Path]) -> None:
    assert perturbed(made, lambda values: np.where(abs(values) < 2**-14, 0, values)) == []


def test_not_a_number_fails(made: tuple[Path, Path]) -> None:
    def broken(values: Array) -> Array:
        values = values.copy()
        values.flat[0] = np.nan
        return values

    assert perturbed(made, broken) == ["scores", "hidden"]


def without(array: Array, place: Any, value: Any = 0) -> Array:
    changed = array.copy()
    changed[place] = value
    return changed


# What is wrong, and what of the set must fail. A whole network is in `scores`; `hidden` alone is not.
FAULTS: dict[str, Callable[[Net], Net]] = {
    "a zeroed hidden channel": lambda net: replace(net, second=without(net.second, (slice(None), 3))),
    "swapped labels": lambda net: replace(net, labels=(LABELS[1], LABELS[0], *LABELS[2:])),
    "blue for red": lambda net: replace(net, colour=30),
    "pixels scaled otherwise": lambda net: replace(net, scale=1 / 60),
    "a wrong bias": lambda net: replace(net, bias=without(net.bias, 4, net.bias[4] + 1)),
    "no bias": lambda net: replace(net, bias=net.bias * 0),
    "weights of the wrong sign": lambda net: replace(net, second=-net.second),
    "a weight out of range": lambda net: replace(net, first=without(net.first, (0, 0), 60000.0)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails(net: Net, made: tuple[Path, Path], tmp_path: Path, fault: str) -> None:
    found = judged(FAULTS[fault](net), made, tmp_path)
    assert not found.ok
    assert not next(each for each in found.outputs if each.name == "scores").ok
    assert found.reason.startswith("example ")


def test_the_net_itself_passes_in_every_mode(net: Net, made: tuple[Path, Path], tmp_path: Path) -> None:
    for precision in ("typed", "float32", "float16"):
        found = judged(net, made, tmp_path, precision)
        assert found.ok, found.reason


@pytest.mark.slow
def test_a_converted_program_and_its_faults(tiny: Trained, tmp_path: Path) -> None:
    golden.make(tiny.float16, tiny.data, tmp_path / "golden")
    for precision in ("typed", "float32", "float16"):
        found = golden.check(tiny.float16, tmp_path / "golden", precision=precision)
        assert (found.ok, found.agreement) == (True, 1.0), found.reason
    live = [  # a channel that no picture excites is no fault
        zero_channel(tiny.float16, tmp_path / f"{layer.name}-{channel}.mlpackage", layer, channel)
        for layer in convolutions(tiny.float16)
        for channel in range(layer.channels)
    ]
    caught = [path.name for path in live if not posing(path, tmp_path / "golden", tmp_path).ok]
    assert len(caught) >= len(live) // 2, caught
    for fault in (swap_labels, drop_scale):
        hurt = fault(tiny.float16, tmp_path / f"{fault.__name__}.mlpackage")
        assert not posing(hurt, tmp_path / "golden", tmp_path).ok, fault.__name__
