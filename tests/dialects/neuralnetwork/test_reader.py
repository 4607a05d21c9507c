"""Reading networks: fields, weights in every encoding, and files that make no sense."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.neuralnetwork import MeanImage, Network, Scaler, Weights, read_network
from coremlops.dialects.neuralnetwork.reader import MAX_DEPTH
from coremlops.errors import ModelFormatError
from coremlops.model.proto import message_class
from tests.networks import add_layer, network, read


def weights(**fields: Any) -> Weights:
    return Weights(message_class("WeightParams")(**fields), "w")


def quantized(values: list[int], bits: int, **fields: Any) -> Weights:
    packed = np.packbits([(value >> bit) & 1 for value in values for bit in range(bits - 1, -1, -1)])
    message = message_class("WeightParams")(rawValue=packed.tobytes())
    message.quantization.numberOfBits = bits
    for name, entry in fields.items():
        target = message.quantization
        if name == "table":
            target.lookupTableQuantization.floatValue.extend(entry)
        else:
            getattr(target.linearQuantization, name).extend(entry)
    return Weights(message, "w")


def test_fields_of_a_layer() -> None:
    message = network()
    add_layer(message, "convolution", ["x"], ["y"], outputChannels=4, kernelSize=[3, 5], hasBias=True)
    message.layers[0].convolution.valid.SetInParent()
    fields = read(message).layers[0].fields
    assert (fields["outputChannels"], fields["kernelSize"], fields["hasBias"]) == (4, (3, 5), True)
    assert fields["same"] is None
    assert fields["valid"]["paddingAmounts"] is None
    assert fields["weights"] is None


def test_words_numbers_and_messages() -> None:
    message = network(exact=False)
    add_layer(message, "pooling", ["x"], ["y"], type="AVERAGE")
    add_layer(message, "activation", ["y"], ["z"], leakyReLU={"alpha": 0.25})
    found = read(message)
    assert found.layers[0].fields["type"] == "AVERAGE"
    assert found.layers[1].fields["leakyReLU"] == {"alpha": 0.25}
    assert not found.exact_arrays
    assert found.histogram() == {"activation": 1, "pooling": 1}


def test_preprocessing() -> None:
    message = network()
    scaler = message.preprocessing.add(featureName="image").scaler
    scaler.channelScale, scaler.redBias, scaler.greenBias, scaler.blueBias, scaler.grayBias = 2, 1, 3, 5, 7
    message.preprocessing.add().meanImage.meanImage.extend([1, 2])
    first, second = read(message).preprocessing
    assert first == Scaler("image", 2.0, (1.0, 3.0, 5.0, 7.0))
    assert isinstance(second, MeanImage)
    assert second.mean.tolist() == [1, 2]


def test_networks_inside() -> None:
    message = network()
    loop = add_layer(message, "loop", [], [], maxLoopIterations=2)
    loop.bodyNetwork.layers.add(name="a", input=["x"], output=["x"]).copy.SetInParent()
    found = read(message)
    assert isinstance(found.layers[0].fields["bodyNetwork"], Network)
    assert [layer.kind for layer in found.walk()] == ["loop", "copy"]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (weights(floatValue=[1, -2, 0.5, 4]), [[1, -2], [0.5, 4]]),
        (weights(float16Value=np.array([1, -2, 0.5, 65504], "<f2").tobytes()), [[1, -2], [0.5, 65504]]),
        (quantized([0, 1, 2, 3], 2, scale=[0.5], bias=[-1]), [[-1, -0.5], [0, 0.5]]),
        (quantized([0, 1, 2, 3], 8, scale=[2, 10], bias=[0, 1]), [[0, 2], [21, 31]]),
        (quantized([7, 0, 5, 1], 3, table=[0, 10, 20, 30, 40, 50, 60, 70]), [[70, 0], [50, 10]]),
        (quantized([1, 0, 0, 1], 1, table=[-1, 1]), [[1, -1], [-1, 1]]),
    ],
)
def test_weights_in_every_encoding(stored: Weights, expected: list[list[float]]) -> None:
    found = stored.array(2, 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_scales_along_another_axis() -> None:
    found = quantized([1, 1, 1, 1], 4, scale=[2, 3], bias=[0, 1]).array(2, 2, channels=1)
    np.testing.assert_array_equal(found, [[2, 4], [2, 4]])


@pytest.mark.parametrize("bits", range(1, 9))
def test_all_widths(bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 1 << bits, 13).tolist()
    np.testing.assert_array_equal(quantized(values, bits, scale=[1]).array(13), values)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (weights(floatValue=[1, 2, 3]), "3 weights; expected 4"),
        (weights(floatValue=[1], rawValue=b"1"), "given as floatValue and rawValue"),
        (weights(float16Value=b"123"), "odd number of bytes"),
        (weights(rawValue=b"1234"), "raw weights where numbers are expected"),
        (quantized([0, 1, 2, 3], 2, scale=[1, 2, 3]), "3 values of the quantization's scale"),
        (quantized([0, 1, 2, 3], 4, table=[1, 2]), "a table of 2 values for 4 bits"),
    ],
)
def test_weights_that_do_not_fit(stored: Weights, reason: str) -> None:
    with pytest.raises(ModelFormatError, match=reason):
        stored.array(2, 2)


def test_a_table_for_bits_without_end() -> None:
    made = quantized([0, 1], 1, table=[0.0, 1.0])
    made.message.quantization.numberOfBits = 1 << 40  # two to its power is no number to compute
    with pytest.raises(ModelFormatError, match="expected 1 to 8"):
        made.array(2)


def test_bits_out_of_range() -> None:
    message = message_class("WeightParams")(rawValue=b"1234")
    message.quantization.numberOfBits = 1 << 60
    message.quantization.linearQuantization.scale.append(1)
    with pytest.raises(ModelFormatError, match="expected 1 to 8"):
        Weights(message, "w").array(4)


def test_a_layer_of_no_kind() -> None:
    message = network()
    message.layers.add(name="a")
    with pytest.raises(ModelFormatError, match="layer 'a' is of no kind"):
        read(message)


def test_networks_nested_too_deep() -> None:
    message = inner = network()
    for _ in range(MAX_DEPTH):
        inner = inner.layers.add().loop.bodyNetwork
        inner.SetInParent()
    with pytest.raises(ModelFormatError, match="nested deeper"):
        read(message)


def test_numbers_and_words_out_of_range() -> None:
    message = network()
    params = add_layer(message, "pooling", ["x"], ["y"], kernelSize=[1 << 63, 1])
    with pytest.raises(ModelFormatError, match="kernelSize is 9223372036854775808"):
        read(message)
    del params.kernelSize[:]
    params.type = 77
    with pytest.raises(ModelFormatError, match="type has the unknown value 77"):
        read_network(message, where="net")


@pytest.mark.parametrize("names", [(["x", ""], ["y"]), (["x"], [""])])
def test_a_value_has_a_name(names: tuple[list[str], list[str]]) -> None:
    message = network()
    add_layer(message, "add", *names)
    with pytest.raises(ModelFormatError, match="has an input or output without a name"):
        read(message)
