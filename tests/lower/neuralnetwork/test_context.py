"""Views of images: what stands between layers that share one is dropped, and nothing else changes."""

from typing import Any

import numpy as np
import pytest

from tests.networks import Array, add_layer, lower, network, one, run

RNG = np.random.default_rng(7)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_a_chain_over_five_axes_needs_no_reshape_between() -> None:
    """Layers of images share one view: a reshape at either end is all that is left."""
    message = network()
    same: dict[str, Any] = {"outputChannels": 2, "kernelChannels": 2, "kernelSize": [3, 3], "same": {}}
    add_layer(message, "convolution", ["x"], ["a"], weights=normal(2, 2, 3, 3), **same)
    add_layer(message, "activation", ["a"], ["b"], ReLU={})
    add_layer(message, "convolution", ["b"], ["c"], weights=normal(2, 2, 3, 3), **same)
    add_layer(message, "add", ["b", "c"], ["y"])
    graph = lower(message, {"x": (1, 1, 2, 4, 4)}, ["y"]).whole.model.graph
    assert [node.op_type for node in graph.node] == [
        "Reshape",
        "Conv",
        "Relu",
        "Conv",
        "Add",
        "Reshape",
        "Identity",
    ]
    x = normal(1, 1, 2, 4, 4)
    fixed, open_ = run(message, x=x)[0], run(message, dynamic=True, x=x)[0]
    np.testing.assert_allclose(fixed, open_, atol=1e-6)


SAME: dict[str, Any] = {"outputChannels": 4, "kernelChannels": 4, "kernelSize": [3, 3], "same": {}}
EDGE = {"borderAmounts": [{"startEdgeSize": 1}, {"endEdgeSize": 1}]}
# Layers that follow one another, and how many values the first one takes; in the end the shape is as before.
STEPS: list[tuple[int, list[tuple[str, dict[str, Any]]]]] = [
    (1, [("convolution", {**SAME, "weights": normal(4, 4, 3, 3) / 6})]),
    (1, [("pooling", {"type": "AVERAGE", "same": {}})]),
    (1, [("activation", {"PReLU": {"alpha": normal(4)}})]),
    (1, [("activation", {"tanh": {}})]),
    (1, [("softmax", {})]),
    (1, [("mvn", {"normalizeVariance": True})]),
    (1, [("l2normalize", {})]),
    (1, [("scale", {"shapeScale": [4], "scale": normal(4)})]),
    (1, [("unary", {"type": "ABS"})]),
    (1, [("copy", {})]),
    (1, [("upsample", {"scalingFactor": [2, 2]}), ("pooling", {"kernelSize": [2, 2], "stride": [2, 2]})]),
    (1, [("padding", {"paddingAmounts": EDGE}), ("crop", {"cropAmounts": EDGE})]),
    (1, [("expandDims", {"axes": [0]}), ("activation", {"ReLU": {}}), ("squeeze", {"axes": [0]})]),
    (
        1,
        [
            ("reorganizeData", {"mode": "SPACE_TO_DEPTH", "blockSize": 2}),
            ("activation", {"sigmoid": {}}),
            ("reorganizeData", {"mode": "DEPTH_TO_SPACE", "blockSize": 2}),
        ],
    ),
    (2, [("add", {})]),
    (2, [("max", {})]),
    (2, [("multiplyBroadcastable", {})]),
    (2, [("concat", {}), ("slice", {"startIndex": 2, "endIndex": 6, "axis": "CHANNEL_AXIS"})]),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("shape", [(4, 4, 6), (2, 4, 4, 6), (2, 3, 4, 4, 6)])
@pytest.mark.parametrize("seed", range(8))
def test_a_network_gives_what_its_layers_give_one_by_one(
    seed: int, shape: tuple[int, ...], dynamic: bool
) -> None:
    """Layers drawn at random, which take what any layers before them gave."""
    rng, message = np.random.default_rng(seed), network()
    values = {"x": normal(*shape)}
    for number in range(10):
        count, layers = STEPS[rng.integers(len(STEPS))]
        names = [str(name) for name in rng.choice(list(values)[-4:], count)]
        step = dict(values)
        for index, (kind, fields) in enumerate(layers):
            result = f"y{number}" if index == len(layers) - 1 else f"y{number}.{index}"
            add_layer(message, kind, names, [result], **fields)
            step[result] = one(kind, *(step[name] for name in names), **fields)
            names = [result]
        values[names[0]] = step[names[0]]
    wanted = {name: value for name, value in values.items() if name != "x"}
    for name, found in zip(wanted, run(message, list(wanted), dynamic=dynamic, x=values["x"]), strict=True):
        assert found.shape == shape
        np.testing.assert_allclose(found, wanted[name], atol=1e-5, rtol=1e-4)
    alone = run(message, [f"y{number}"], dynamic=dynamic, x=values["x"])[0]
    np.testing.assert_allclose(alone, wanted[f"y{number}"], atol=1e-5, rtol=1e-4)
