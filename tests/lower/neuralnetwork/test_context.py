"""Views of images: what stands between layers that share one is dropped."""

from typing import Any

import numpy as np

from tests.networks import Array, add_layer, lower, network, run

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
