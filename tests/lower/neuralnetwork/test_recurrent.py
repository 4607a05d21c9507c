"""Recurrent layers against the format's equations, written out in NumPy in double precision.

Tolerance: a dozen steps of float32 sums of four terms.
"""

from typing import Any

import numpy as np
import pytest

from coremlops.errors import ModelFormatError
from coremlops.runtime.session import Session
from tests.networks import Array, add_layer, lower, network, run

RNG = np.random.default_rng(3)
S, B, N, H = 5, 2, 3, 4
GATES = ("inputGate", "forgetGate", "blockInput", "outputGate")


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result


def lstm_weights(peephole: bool) -> dict[str, Array]:
    weights = {f"{gate}WeightMatrix": normal(H, N) for gate in GATES}
    weights |= {f"{gate}RecursionMatrix": normal(H, H) for gate in GATES}
    weights |= {f"{gate}BiasVector": normal(H) for gate in GATES}
    if peephole:
        weights |= {f"{gate}PeepholeVector": normal(H) for gate in ("inputGate", "forgetGate", "outputGate")}
    return weights


def lstm_oracle(
    x: Array,
    w: dict[str, Array],
    h: Array,
    c: Array,
    *,
    clip: float = 50.0,
    forget: float = 0,
    coupled: bool = False,
) -> tuple[Array, Array, Array]:
    """x: [S, B, N] -> the sequence, and the last h and c."""
    outputs = []
    for step in x.astype(np.float64):
        pre = {
            g: step @ w[f"{g}WeightMatrix"].T + h @ w[f"{g}RecursionMatrix"].T + w[f"{g}BiasVector"]
            for g in GATES
        }
        pre["forgetGate"] = pre["forgetGate"] + forget
        zero = np.zeros(H)
        peep = {g: w.get(f"{g}PeepholeVector", zero) for g in GATES}
        i = sigmoid(pre["inputGate"] + peep["inputGate"] * c)
        f = 1 - i if coupled else sigmoid(pre["forgetGate"] + peep["forgetGate"] * c)
        c = np.clip(f * c + i * np.tanh(pre["blockInput"]), -clip, clip)
        h = sigmoid(pre["outputGate"] + peep["outputGate"] * c) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs), h, c


ACTIVATIONS: list[dict[str, Any]] = [{"sigmoid": {}}, {"tanh": {}}, {"tanh": {}}]


@pytest.mark.parametrize("length", [S, 1])
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, {}),
        ({"hasPeepholeVectors": True, "forgetBias": True}, {"forget": 1}),
        ({"cellClipThreshold": 0.25, "coupledInputAndForgetGate": True}, {"clip": 0.25, "coupled": True}),
    ],
)
def test_lstm(
    options: dict[str, Any], arguments: dict[str, Any], backwards: bool, sequence: bool, length: int
) -> None:
    w, x, h, c = (
        lstm_weights("hasPeepholeVectors" in options),
        normal(length, B, N),
        normal(B, H),
        normal(B, H),
    )
    message = network()
    add_layer(
        message,
        "uniDirectionalLSTM",
        ["x", "h", "c"],
        ["y", "h_last", "c_last"],
        inputVectorSize=N,
        outputVectorSize=H,
        activations=ACTIVATIONS,
        params={"sequenceOutput": sequence, "hasBiasVectors": True, **options},
        weightParams=w,
        reverseInput=backwards,
    )
    found = run(
        message,
        ["y", "h_last", "c_last"],
        x=x.reshape(length, B, N, 1, 1),
        h=h.reshape(1, B, H, 1, 1),
        c=c.reshape(1, B, H, 1, 1),
    )
    steps, last_h, last_c = lstm_oracle(x[::-1] if backwards else x, w, h, c, **arguments)
    expected = (steps if sequence else last_h[None], last_h[None], last_c[None])
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted[..., None, None], atol=1e-5)


def test_of_states_with_more_rows_than_the_batch_the_first_count() -> None:
    """What coremltools makes of a packed sequence."""
    w, x, h, c = lstm_weights(False), normal(S, B, N), normal(S, H), normal(S, H)
    message = network()
    add_layer(
        message,
        "uniDirectionalLSTM",
        ["x", "h", "c"],
        ["y", "h_last", "c_last"],
        inputVectorSize=N,
        outputVectorSize=H,
        activations=ACTIVATIONS,
        params={"hasBiasVectors": True},
        weightParams=w,
    )
    states = [1, None, H, 1, 1]
    lowered = lower(message, {"x": [S, B, N, 1, 1], "h": states, "c": states}, ["y", "h_last", "c_last"])
    given = {"x": x.reshape(S, B, N, 1, 1), "h": h.reshape(1, S, H, 1, 1), "c": c.reshape(1, S, H, 1, 1)}
    found = Session(lowered.whole).run(given)
    _, last_h, last_c = lstm_oracle(x, w, h[:B], c[:B])
    for name, wanted in (("y", last_h), ("h_last", last_h), ("c_last", last_c)):
        np.testing.assert_allclose(found[name], wanted[None, ..., None, None], atol=1e-5)


@pytest.mark.parametrize("sequence", [False, True])
def test_both_directions_from_nothing(sequence: bool) -> None:
    weights, x = [lstm_weights(False), lstm_weights(False)], normal(S, B, N)
    message = network()
    add_layer(
        message,
        "biDirectionalLSTM",
        ["x"],
        ["y"],
        inputVectorSize=N,
        outputVectorSize=H,
        activationsForwardLSTM=ACTIVATIONS,
        activationsBackwardLSTM=ACTIVATIONS,
        params={"sequenceOutput": sequence, "hasBiasVectors": True},
        weightParams=weights,
    )
    zero = np.zeros((B, H))
    ahead, last, _ = lstm_oracle(x, weights[0], zero, zero)
    back, first, _ = lstm_oracle(x[::-1], weights[1], zero, zero)
    ends = np.concatenate([last, first], 1)[None]
    expected = np.concatenate([ahead, back[::-1]], 2) if sequence else ends
    for dynamic in (False, True):
        found = run(message, dynamic=dynamic, x=x.reshape(S, B, N, 1, 1))[0]
        np.testing.assert_allclose(found[..., 0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("backwards", [False, True])
def test_gru(backwards: bool) -> None:
    x, names = normal(S, B, N), ("updateGate", "resetGate", "outputGate")
    w = {
        f"{name}{kind}": normal(H, size)
        for name in names
        for kind, size in (("WeightMatrix", N), ("RecursionMatrix", H))
    }
    b = {f"{name}BiasVector": normal(H) for name in names}
    message = network()
    add_layer(
        message,
        "gru",
        ["x"],
        ["y", "last"],
        inputVectorSize=N,
        outputVectorSize=H,
        activations=ACTIVATIONS[:2],
        sequenceOutput=True,
        hasBiasVectors=True,
        reverseInput=backwards,
        **w,
        **b,
    )
    h, outputs = np.zeros((B, H)), []
    for step in (x[::-1] if backwards else x).astype(np.float64):
        pre = {name: step @ w[f"{name}WeightMatrix"].T + b[f"{name}BiasVector"] for name in names}
        z = sigmoid(pre["updateGate"] + h @ w["updateGateRecursionMatrix"].T)
        r = sigmoid(pre["resetGate"] + h @ w["resetGateRecursionMatrix"].T)
        o = np.tanh(pre["outputGate"] + (r * h) @ w["outputGateRecursionMatrix"].T)
        h = (1 - z) * o + z * h
        outputs.append(h)
    sequence, last = run(message, ["y", "last"], x=x.reshape(S, B, N, 1, 1))
    np.testing.assert_allclose(sequence[..., 0, 0], outputs, atol=1e-5)
    np.testing.assert_allclose(last[0, ..., 0, 0], h, atol=1e-5)


def test_a_simple_layer_keeps_what_it_activates_within_50() -> None:
    message = network()
    add_layer(
        message,
        "simpleRecurrent",
        ["x"],
        ["y"],
        inputVectorSize=1,
        outputVectorSize=1,
        activation={"linear": {"alpha": 1.0}},
        sequenceOutput=True,
        weightMatrix=np.ones((1, 1)),
        recursionMatrix=np.ones((1, 1)),
    )
    found = run(message, x=np.array([20, 20, 20, -200]).reshape(4, 1, 1, 1, 1))[0]
    assert found.ravel().tolist() == [20, 40, 50, -50]


def test_a_size_that_the_matrices_do_not_have_allocates_nothing() -> None:
    message = network()
    names = ("inputGate", "forgetGate", "blockInput", "outputGate")
    add_layer(
        message,
        "uniDirectionalLSTM",
        ["x"],
        ["y", "h", "c"],
        inputVectorSize=1,
        outputVectorSize=1 << 31,
        activations=[*ACTIVATIONS[:2], ACTIVATIONS[1]],
        params={"forgetBias": True},
        weightParams={
            f"{name}{kind}Matrix": np.ones((1, 1)) for name in names for kind in ("Weight", "Recursion")
        },
    )
    with pytest.raises(ModelFormatError, match="1 weights; expected 4611686018427387904"):
        run(message, x=np.zeros((1, 1, 1, 1, 1)))
