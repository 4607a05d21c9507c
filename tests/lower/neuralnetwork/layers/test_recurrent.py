"""Recurrent layers with all their options against the format's equations in double precision."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest

from coremlops.errors import ModelFormatError
from coremlops.runtime.session import Session
from tests.lower.neuralnetwork.layers.case import ENCODINGS, Case, case, check, draws
from tests.networks import Array, add_layer, lower, network, run

RNG = draws(__name__)
S, B, N, H = 4, 2, 3, 5
LSTM_GATES = ("inputGate", "forgetGate", "blockInput", "outputGate")
GRU_GATES = ("updateGate", "resetGate", "outputGate")
Function: TypeAlias = Callable[[Array], Array]

# What recurrent layers may activate with. Without parameters, they are those that the format names.
ACTIVATIONS: dict[str, tuple[dict[str, Any], Function]] = {
    "linear": ({"linear": {"alpha": 0.5, "beta": 0.25}}, lambda x: 0.5 * x + 0.25),
    "sigmoid": ({"sigmoid": {}}, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": ({"tanh": {}}, np.tanh),
    "ReLU": ({"ReLU": {}}, lambda x: np.maximum(x, 0)),
    "scaledTanh": (
        {"scaledTanh": {"alpha": 1.7159, "beta": 2 / 3}},
        lambda x: 1.7159 * np.tanh(2 / 3 * x),
    ),
    "sigmoidHard": ({"sigmoidHard": {"alpha": 0.2, "beta": 0.5}}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    # What else the message can say.
    "leakyReLU": ({"leakyReLU": {"alpha": 0.1}}, lambda x: np.where(x >= 0, x, 0.1 * x)),
    "thresholdedReLU": ({"thresholdedReLU": {"alpha": 0.2}}, lambda x: np.where(x >= 0.2, x, 0)),
    "ELU": ({"ELU": {"alpha": 0.5}}, lambda x: np.where(x >= 0, x, 0.5 * np.expm1(np.minimum(x, 0)))),
    "softsign": ({"softsign": {}}, lambda x: x / (1 + np.abs(x))),
    "softplus": ({"softplus": {}}, lambda x: np.logaddexp(0, x)),
    # Parameters that are not set: coremltools leaves them out and means its usual ones.
    "linear, bare": ({"linear": {}}, lambda x: x),
    "scaledTanh, bare": ({"scaledTanh": {}}, np.tanh),
    "sigmoidHard, bare": ({"sigmoidHard": {}}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
}


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape) * 0.7


def written(names: Sequence[str]) -> list[dict[str, Any]]:
    return [ACTIVATIONS[name][0] for name in names]


def functions(names: Sequence[str]) -> list[Function]:
    return [ACTIVATIONS[name][1] for name in names]


def limited(x: Array) -> Array:
    return np.clip(x, -50, 50)


def weights(names: Sequence[str], encoding: str, *kinds: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """What stands in the file, and the matrices and vectors that it means."""
    shapes = {"WeightMatrix": (H, N), "RecursionMatrix": (H, H), "BiasVector": (H,), "PeepholeVector": (H,)}
    pairs = {
        f"{name}{kind}": ENCODINGS[encoding](normal(*shapes[kind]), 0)
        for kind in kinds
        for name in names
        if (kind, name) != ("PeepholeVector", "blockInput")
    }
    return {name: stored for name, (stored, _) in pairs.items()}, {name: a for name, (_, a) in pairs.items()}


def column(x: Array) -> Array:
    """[..., H] -> [..., H, 1, 1]."""
    return x[..., None, None]


def order(x: Array, backwards: bool) -> Array:
    return x[::-1] if backwards else x


def simple(
    *,
    activation: str = "tanh",
    sequence: bool = True,
    biased: bool = True,
    backwards: bool = False,
    state: bool = False,
    encoding: str = "float32",
) -> Case:
    x, h = normal(S, B, N), normal(B, H) if state else np.zeros((B, H))
    kinds = ("weightMatrix", "recursionMatrix", "biasVector")
    pairs = [ENCODINGS[encoding](normal(*shape), 0) for shape in ((H, N), (H, H), (H,))]
    w, r, b = (array for _, array in pairs)
    apply, first, outputs = ACTIVATIONS[activation][1], h, []
    for step in order(x, backwards):
        h = apply(limited(step @ w.T + h @ r.T + (b if biased else 0)))
        outputs.append(h)
    whole = np.array(outputs) if sequence else h[None]
    return case(
        "simpleRecurrent",
        [column(x), column(first[None])] if state else [column(x)],
        (column(whole), column(h[None])),
        label=f"{activation} {sequence} {biased} {backwards} {state} {encoding}",
        inputVectorSize=N,
        outputVectorSize=H,
        activation=ACTIVATIONS[activation][0],
        sequenceOutput=sequence,
        hasBiasVector=biased,
        reverseInput=backwards,
        **dict(zip(kinds, (stored for stored, _ in pairs), strict=True)),
    )


def gru(
    *,
    activations: tuple[str, str] = ("sigmoid", "tanh"),
    sequence: bool = True,
    biased: bool = True,
    backwards: bool = False,
    state: bool = False,
    encoding: str = "float32",
) -> Case:
    x, h = normal(S, B, N), normal(B, H) if state else np.zeros((B, H))
    stored, w = weights(GRU_GATES, encoding, "WeightMatrix", "RecursionMatrix", "BiasVector")
    (f, g), first, outputs = functions(activations), h, []
    for step in order(x, backwards):
        pre = {
            name: step @ w[f"{name}WeightMatrix"].T + (w[f"{name}BiasVector"] if biased else 0)
            for name in GRU_GATES
        }
        z = f(limited(pre["updateGate"] + h @ w["updateGateRecursionMatrix"].T))
        r = f(limited(pre["resetGate"] + h @ w["resetGateRecursionMatrix"].T))
        o = g(limited(pre["outputGate"] + (h * r) @ w["outputGateRecursionMatrix"].T))
        h = (1 - z) * o + z * h
        outputs.append(h)
    whole = np.array(outputs) if sequence else h[None]
    return case(
        "gru",
        [column(x), column(first[None])] if state else [column(x)],
        (column(whole), column(h[None])),
        label=f"{activations} {sequence} {biased} {backwards} {state} {encoding}",
        inputVectorSize=N,
        outputVectorSize=H,
        activations=written(activations),
        sequenceOutput=sequence,
        hasBiasVectors=biased,
        reverseInput=backwards,
        **stored,
    )


class Lstm:
    """The weights of one direction, and its equations."""

    def __init__(self, encoding: str, options: dict[str, Any], activations: Sequence[str]) -> None:
        kinds = ["WeightMatrix", "RecursionMatrix"]
        kinds += ["BiasVector"] if options.get("hasBiasVectors") else []
        kinds += ["PeepholeVector"] if options.get("hasPeepholeVectors") else []
        self.stored, self.w = weights(LSTM_GATES, encoding, *kinds)
        self.options = options
        self.functions = functions(activations)

    def run(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
        """x: [S, B, N] -> the outputs in the order of x, and the last h and c."""
        (f, g, o), w, outputs = self.functions, self.w, []
        limit = self.options.get("cellClipThreshold") or 50.0

        def pre(step: Array, gate: str, cell: Array) -> Array:
            total = step @ w[f"{gate}WeightMatrix"].T + h @ w[f"{gate}RecursionMatrix"].T
            total = total + w.get(f"{gate}BiasVector", 0) + w.get(f"{gate}PeepholeVector", 0) * cell
            return limited(total + (gate == "forgetGate" and self.options.get("forgetBias", 0)))

        for step in x:
            i, z = f(pre(step, "inputGate", c)), g(pre(step, "blockInput", c))
            coupled = self.options.get("coupledInputAndForgetGate")
            forget = 1 - i if coupled else f(pre(step, "forgetGate", c))
            c = np.clip(c * forget + i * z, -limit, limit)
            h = o(c) * f(pre(step, "outputGate", c))
            outputs.append(h)
        return np.array(outputs), h, c


USUAL = ("sigmoid", "tanh", "tanh")


def lstm(
    *,
    activations: tuple[str, str, str] = USUAL,
    backwards: bool = False,
    states: bool = False,
    encoding: str = "float32",
    length: int = S,
    **options: Any,
) -> Case:
    x, one = normal(length, B, N), Lstm(encoding, options, activations)
    h, c = (normal(B, H) if states else np.zeros((B, H)) for _ in range(2))
    outputs, last_h, last_c = one.run(order(x, backwards), h, c)
    whole = outputs if options.get("sequenceOutput") else last_h[None]
    return case(
        "uniDirectionalLSTM",
        [column(x), column(h[None]), column(c[None])] if states else [column(x)],
        (column(whole), column(last_h[None]), column(last_c[None])),
        label=f"{activations} {backwards} {states} {encoding} {length} {options}",
        inputVectorSize=N,
        outputVectorSize=H,
        activations=written(activations),
        params=options,
        weightParams=one.stored,
        reverseInput=backwards,
    )


def both_ways(
    *,
    activations: tuple[str, str, str] = USUAL,
    states: bool = False,
    encoding: str = "float32",
    **options: Any,
) -> Case:
    """The outputs of both directions at one place of the sequence stand side by side."""
    x, ways = normal(S, B, N), [Lstm(encoding, options, activations) for _ in range(2)]
    first = [normal(B, H) if states else np.zeros((B, H)) for _ in range(4)]
    ahead, ahead_h, ahead_c = ways[0].run(x, *first[:2])
    back, back_h, back_c = ways[1].run(x[::-1], *first[2:])
    if options.get("sequenceOutput"):
        whole = np.concatenate([ahead, back[::-1]], 2)
    else:
        whole = np.concatenate([ahead_h, back_h], 1)[None]
    last = (column(state[None]) for state in (ahead_h, ahead_c, back_h, back_c))
    return case(
        "biDirectionalLSTM",
        [column(x), *(column(state[None]) for state in first)] if states else [column(x)],
        (column(whole), *last),
        label=f"{activations} {states} {encoding} {options}",
        inputVectorSize=N,
        outputVectorSize=H,
        activationsForwardLSTM=written(activations),
        activationsBackwardLSTM=written(activations),
        params=options,
        weightParams=[way.stored for way in ways],
    )


OPTIONS: list[dict[str, Any]] = [
    {},
    {"sequenceOutput": True, "hasBiasVectors": True},
    {"forgetBias": True},
    {"hasPeepholeVectors": True, "hasBiasVectors": True, "sequenceOutput": True},
    {"coupledInputAndForgetGate": True, "hasPeepholeVectors": True},
    {"cellClipThreshold": 0.3, "sequenceOutput": True},
]
MIXED = ("sigmoidHard", "scaledTanh", "softsign")
CASES = [
    *(simple(activation=name) for name in ACTIVATIONS),
    *(simple(encoding=encoding) for encoding in ENCODINGS),
    *(
        simple(sequence=sequence, biased=biased, backwards=backwards, state=state)
        for sequence, biased, backwards, state in (
            (False, False, False, False),
            (False, True, True, True),
            (True, False, True, False),
            (True, True, True, True),
        )
    ),
    *(gru(activations=(first, "linear")) for first in ("sigmoid", "sigmoidHard", "ReLU", "scaledTanh")),
    *(gru(activations=("sigmoid", second)) for second in ACTIVATIONS),
    *(gru(encoding=encoding) for encoding in ENCODINGS),
    *(
        gru(sequence=sequence, biased=biased, backwards=backwards, state=state)
        for sequence, biased, backwards, state in (
            (False, False, False, False),
            (False, True, True, True),
            (True, False, True, False),
            (True, True, True, True),
        )
    ),
    *(lstm(**options, states=states) for options in OPTIONS for states in (False, True)),
    *(lstm(activations=("sigmoid", name, name)) for name in ACTIVATIONS),
    *(lstm(backwards=True, length=length, **options) for options in OPTIONS[:2] for length in (S, 1)),
    *(lstm(encoding=encoding, **OPTIONS[3]) for encoding in ENCODINGS),
    *(both_ways(**options, states=states) for options in OPTIONS for states in (False, True)),
    both_ways(activations=MIXED, **OPTIONS[1]),
    *(both_ways(encoding=encoding, **OPTIONS[3]) for encoding in ENCODINGS),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)


def test_of_states_with_more_rows_than_the_batch_the_first_count() -> None:
    """What coremltools makes of a packed sequence."""
    x, h, c, one = normal(S, B, N), normal(S, H), normal(S, H), Lstm("float32", {}, USUAL)
    feeds = {"x": column(x), "h": column(h[None]), "c": column(c[None])}
    given = {name: value.astype(np.float32) for name, value in feeds.items()}
    message = network()
    add_layer(
        message,
        "uniDirectionalLSTM",
        ["x", "h", "c"],
        ["y", "h_last", "c_last"],
        inputVectorSize=N,
        outputVectorSize=H,
        activations=written(USUAL),
        params={},
        weightParams=one.stored,
    )
    states = [1, None, H, 1, 1]
    lowered = lower(message, {"x": [S, B, N, 1, 1], "h": states, "c": states}, ["y", "h_last", "c_last"])
    found = Session(lowered.whole).run(given)
    _, last_h, last_c = one.run(x, h[:B], c[:B])
    for name, wanted in (("y", last_h), ("h_last", last_h), ("c_last", last_c)):
        np.testing.assert_allclose(found[name], column(wanted[None]), atol=1e-5)


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
    add_layer(
        message,
        "uniDirectionalLSTM",
        ["x"],
        ["y", "h", "c"],
        inputVectorSize=1,
        outputVectorSize=1 << 31,
        activations=written(USUAL),
        params={"forgetBias": True},
        weightParams={
            f"{name}{kind}Matrix": np.ones((1, 1)) for name in LSTM_GATES for kind in ("Weight", "Recursion")
        },
    )
    with pytest.raises(ModelFormatError, match="1 weights; expected 4611686018427387904"):
        run(message, x=np.zeros((1, 1, 1, 1, 1)))
