"""Recurrent nets against a plain loop in double.

Tolerance: 2e-6, for ONNX Runtime approximates sigmoid and tanh to a few 1e-7; in fp16 a unit in the last
place. That `typed` rounds what the op gives, and nothing between two steps, is judged in
tests/reference/.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from coremlops.dialects.mil import NamedType, Operation, Ref
from coremlops.errors import ModelFormatError, UnsupportedOpsError
from tests.lower.programs import Array, function, operation, run, typed

RNG = np.random.default_rng(9)
S, B, I, H = 5, 2, 3, 4  # noqa: E741  as coremltools names them
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
}


def normal(*shape: int) -> Array:
    return (RNG.standard_normal(shape) * 0.5).astype(np.float32)


def execute(
    op: str,
    feeds: dict[str, Array],
    results: int,
    width: int,
    dtype: str,
    *,
    free: bool,
    precision: str = "typed",
    **inputs: Any,
) -> list[Array]:
    """Run an op whose results are a sequence and states."""
    count = None if free else (S if inputs.get("output_sequence") else 1)
    types = [typed(dtype, count, None if free else B, width)]
    types += [typed(dtype, None if free else B, width)] * (results - 1)
    made = operation(op, "y", types[0], **{name: Ref(name) for name in feeds}, **inputs)
    names = [f"y{index}" for index in range(results)]
    outputs = tuple(NamedType(name, type_) for name, type_ in zip(names, types, strict=True))
    made = Operation(made.type, made.name, made.inputs, outputs, made.blocks, made.attributes)
    given = {
        name: typed(dtype, *([None] * (value.ndim - 1) if free else value.shape[:-1]), value.shape[-1])
        for name, value in feeds.items()
    }
    found = run(function(given, [made], *names), precision, **feeds)
    return [found[name] for name in names]


def compare(found: list[Array], expected: list[Array], dtype: str) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=2e-6 if dtype == "fp32" else 1e-3)
        if dtype == "fp16":
            np.testing.assert_array_equal(one, one.astype(np.float16))


def held(dtype: str, value: Array) -> Array:
    """What the dtype holds of it."""
    return value.astype(np.float16 if dtype == "fp16" else np.float32)


def unrolled(x: Array, state: Any, step: Callable[[Array, Any], Any], direction: str) -> tuple[Array, Any]:
    """The hidden states in the order of the steps, and the last state."""
    sequence = []
    for line in x[::-1] if direction == "reverse" else x:
        state = step(line.astype(np.float64), state)
        sequence.append(state[0])
    return np.stack(sequence), state


CASES = [
    ("forward", True, True, "fp32", False),
    ("reverse", True, False, "fp32", False),
    ("forward", False, True, "fp32", True),
    ("reverse", False, True, "fp16", False),
    ("reverse", True, True, "fp16", True),
]
NAMES = ("direction", "sequence", "biased", "dtype", "free")


@pytest.mark.parametrize(NAMES, CASES)
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "hard_sigmoid", "scaled_tanh", "linear"])
def test_rnn(direction: str, sequence: bool, biased: bool, dtype: str, free: bool, activation: str) -> None:
    x, h, w, r, bias = (held(dtype, normal(*shape)) for shape in ((S, B, I), (B, H), (H, I), (H, H), (H,)))
    act = ACTIVATIONS[activation]
    wide = [part.astype(np.float64) for part in (w, r, bias if biased else np.zeros(H))]

    def step(line: Array, state: Any) -> Any:
        return (act(line @ wide[0].T + state[0] @ wide[1].T + wide[2]),)

    steps, (last,) = unrolled(x, (h.astype(np.float64),), step, direction)
    inputs: dict[str, Any] = {"weight_ih": w, "weight_hh": r, "activation": activation}
    inputs |= {"direction": direction, "output_sequence": sequence} | ({"bias": bias} if biased else {})
    found = execute("rnn", {"x": x, "initial_h": h}, 2, H, dtype, free=free, **inputs)
    compare(found, [steps if sequence else last[None], last], dtype)


@pytest.mark.parametrize(NAMES, CASES)
@pytest.mark.parametrize("names", [("sigmoid", "tanh"), ("tanh", "sigmoid"), ("hard_sigmoid", "relu")])
@pytest.mark.parametrize("after", [None, False, True])
def test_gru(
    direction: str,
    sequence: bool,
    biased: bool,
    dtype: str,
    free: bool,
    names: tuple[str, str],
    after: bool | None,
) -> None:
    shapes = ((S, B, I), (B, H), (3 * H, I), (3 * H, H), (3 * H,), (3 * H,))
    x, h, w, r, bias, bias_in = (held(dtype, normal(*shape)) for shape in shapes)
    gate, act = (ACTIVATIONS[name] for name in names)
    zeros = np.zeros(3 * H)
    wr, wo, wz = np.split(w.astype(np.float64), 3)
    rr, ro, rz = np.split(r.astype(np.float64), 3)
    br, bo, bz = np.split(bias.astype(np.float64) if biased else zeros, 3)
    ir, io, iz = np.split(bias_in.astype(np.float64) if biased and after is not None else zeros, 3)

    def step(line: Array, state: Any) -> Any:
        old = state[0]
        reset = gate(line @ wr.T + old @ rr.T + br + ir)
        update = gate(line @ wz.T + old @ rz.T + bz + iz)
        inner = reset * (old @ ro.T + bo) if after else (reset * old) @ ro.T + bo
        return ((1 - update) * act(line @ wo.T + io + inner) + update * old,)

    steps, (last,) = unrolled(x, (h.astype(np.float64),), step, direction)
    inputs: dict[str, Any] = {"weight_ih": w, "weight_hh": r, "direction": direction}
    inputs |= {"recurrent_activation": names[0], "activation": names[1], "output_sequence": sequence}
    inputs |= {"bias": bias} if biased else {}
    if after is not None:
        inputs |= {"reset_after": after} | ({"input_bias": bias_in} if biased else {})
    found = execute("gru", {"x": x, "initial_h": h}, 2, H, dtype, free=free, **inputs)
    compare(found, [steps if sequence else last[None], last], dtype)


def lstm(x: Array, state: Any, net: dict[str, Array], names: tuple[str, ...], clip: float, way: str) -> Any:
    """The hidden states in the order of the steps, and the last h and c."""
    gate, cell, act = (ACTIVATIONS[name] for name in names)
    wide = {name: value.astype(np.float64) for name, value in net.items()}
    p_i, p_f, p_o = np.split(wide.get("peephole", np.zeros(3 * H)), 3)

    def step(line: Array, state: Any) -> Any:
        h, c = state
        total = line @ wide["weight_ih"].T + h @ wide["weight_hh"].T + wide.get("bias", np.zeros(4 * H))
        i, f, o, z = np.split(total, 4, -1)
        c = np.clip(gate(f + c * p_f) * c + gate(i + c * p_i) * cell(z), -clip, clip)
        return gate(o + c * p_o) * act(c), c

    return unrolled(x, tuple(part.astype(np.float64) for part in state), step, way)


LSTM_NAMES = [
    ("sigmoid", "tanh", "tanh"),
    ("hard_sigmoid", "scaled_tanh", "linear"),
    ("sigmoid", "relu", "relu"),
    ("tanh", "sigmoid", "hard_sigmoid"),
]


def lstm_net(dtype: str, biased: bool, holes: bool, back: str = "") -> dict[str, Any]:
    net = {"weight_ih": normal(4 * H, I), "weight_hh": normal(4 * H, H)}
    net |= {"bias": normal(4 * H)} if biased else {}
    net |= {"peephole": normal(3 * H)} if holes else {}
    return {name + back: held(dtype, value) for name, value in net.items()}


@pytest.mark.parametrize(NAMES, CASES)
@pytest.mark.parametrize("names", LSTM_NAMES)
@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_lstm(
    direction: str,
    sequence: bool,
    biased: bool,
    dtype: str,
    free: bool,
    names: tuple[str, ...],
    holes: bool,
    clip: float | None,
) -> None:
    x, h, c = (held(dtype, normal(*shape)) for shape in ((S, B, I), (B, H), (B, H)))
    net = lstm_net(dtype, biased, holes)
    bound = np.inf if clip is None else float(held(dtype, np.array(clip)))
    steps, (last, cell) = lstm(x, (h, c), net, names, bound, direction)
    inputs: dict[str, Any] = {"direction": direction, "output_sequence": sequence}
    inputs |= dict(zip(("recurrent_activation", "cell_activation", "activation"), names, strict=True))
    inputs |= {} if clip is None else {"clip": held(dtype, np.array(clip))}
    feeds = {"x": x, "initial_h": h, "initial_c": c}
    found = execute("lstm", feeds, 3, H, dtype, free=free, **net, **inputs)
    compare(found, [steps if sequence else last[None], last, cell], dtype)


@pytest.mark.parametrize(NAMES[1:], [case[1:] for case in CASES])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_lstm_in_both_directions(
    sequence: bool, biased: bool, dtype: str, free: bool, clip: float | None
) -> None:
    x, h, c = (held(dtype, normal(*shape)) for shape in ((S, B, I), (B, 2 * H), (B, 2 * H)))
    net, net_back = lstm_net(dtype, biased, biased), lstm_net(dtype, biased, biased)
    bound = np.inf if clip is None else float(held(dtype, np.array(clip)))
    there, last = lstm(x, (h[:, :H], c[:, :H]), net, LSTM_NAMES[0], bound, "forward")
    back, first = lstm(x, (h[:, H:], c[:, H:]), net_back, LSTM_NAMES[0], bound, "reverse")
    hidden, cell = (np.concatenate(pair, -1) for pair in zip(last, first, strict=True))
    whole = np.concatenate([there, back[::-1]], -1)  # in the order of x, as PyTorch gives it
    inputs: dict[str, Any] = net | {f"{name}_back": value for name, value in net_back.items()}
    inputs |= {} if clip is None else {"clip": held(dtype, np.array(clip))}
    feeds = {"x": x, "initial_h": h, "initial_c": c}
    found = execute(
        "lstm",
        feeds,
        3,
        2 * H,
        dtype,
        free=free,
        direction="bidirectional",
        output_sequence=sequence,
        **inputs,
    )
    compare(found, [whole if sequence else hidden[None], hidden, cell], dtype)


def arrays(net: Any, order: list[int], back: str = "") -> dict[str, Any]:
    """The parameters of a one-layer torch net with its gates in Core ML's order, its biases added."""

    def gates(name: str) -> Array:
        value = getattr(net, f"{name}_l0{'_reverse' if back else ''}").detach().numpy()
        return np.asarray(value.reshape(len(order), -1, *value.shape[1:])[order].reshape(value.shape))

    bias = gates("bias_ih") + gates("bias_hh")
    named = {"weight_ih": gates("weight_ih"), "weight_hh": gates("weight_hh"), "bias": bias}
    return {name + back: value.astype(np.float16) for name, value in named.items()}


def halved(net: Any) -> Any:
    """A torch net in double whose weights, and sums of two, fp16 holds: multiples of 1/256."""
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.round(value * 256) / 256)
    return net.double()


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_float32_mode_is_torch_s_lstm(both: bool, dtype: str) -> None:
    torch.manual_seed(3)
    net, ways = halved(torch.nn.LSTM(I, H, bidirectional=both)), 1 + both
    inputs = arrays(net, [0, 1, 3, 2]) | (arrays(net, [0, 1, 3, 2], "_back") if both else {})
    inputs = {name: held(dtype, value) for name, value in inputs.items()}
    x, h, c = (
        held("fp16", normal(*shape)).astype(np.float32) for shape in ((S, B, I), (ways, B, H), (ways, B, H))
    )
    whole, states = net(*(torch.from_numpy(x).double(), tuple(torch.from_numpy(s).double() for s in (h, c))))
    joined = [np.concatenate(list(state.detach().numpy()), -1) for state in states]
    feeds = {"x": x, "initial_h": np.concatenate(list(h), -1), "initial_c": np.concatenate(list(c), -1)}
    found = execute(
        "lstm",
        feeds,
        3,
        ways * H,
        dtype,
        free=False,
        precision="float32",
        direction="bidirectional" if both else "forward",
        output_sequence=True,
        **inputs,
    )
    compare(found, [whole.detach().numpy(), *joined], "fp32")


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("kind", ["tanh", "relu", "gru"])
def test_float32_mode_is_torch_s_rnn_and_gru(kind: str, dtype: str) -> None:
    torch.manual_seed(4)
    x, h = (held("fp16", normal(*shape)).astype(np.float32) for shape in ((S, B, I), (B, H)))
    inputs: dict[str, Any] = {"output_sequence": True}
    if kind == "gru":
        net = halved(torch.nn.GRU(I, H))
        inputs |= arrays(net, [0, 2, 1]) | {"reset_after": True}
        biases = (net.bias_hh_l0, net.bias_ih_l0)
        for name, value in zip(("bias", "input_bias"), biases, strict=True):
            inputs[name] = value.detach().numpy().reshape(3, H)[[0, 2, 1]].ravel().astype(np.float16)
    else:
        net = halved(torch.nn.RNN(I, H, nonlinearity=kind))
        inputs |= arrays(net, [0]) | {"activation": kind}
    inputs = {name: held(dtype, v) if isinstance(v, np.ndarray) else v for name, v in inputs.items()}
    whole, state = net(torch.from_numpy(x).double(), torch.from_numpy(h[None]).double())
    feeds = {"x": x, "initial_h": h}
    found = execute(
        kind if kind == "gru" else "rnn", feeds, 2, H, dtype, free=False, precision="float32", **inputs
    )
    compare(found, [whole.detach().numpy(), state[0].detach().numpy()], "fp32")


def test_of_states_with_more_rows_than_the_batch_the_first_count() -> None:
    """What coremltools makes of a packed sequence."""
    x, h, c = normal(S, B, I), normal(S, H), normal(S, H)
    net = lstm_net("fp32", True, False)
    _, (last, cell) = lstm(x, (h[:B], c[:B]), net, LSTM_NAMES[0], np.inf, "forward")
    types = [typed("fp32", 1, B, H), typed("fp32", B, H), typed("fp32", B, H)]
    outputs = tuple(NamedType(name, type_) for name, type_ in zip("lmn", types, strict=True))
    made = operation("lstm", "l", types[0], x=Ref("x"), initial_h=Ref("h"), initial_c=Ref("c"), **net)
    made = Operation(made.type, made.name, made.inputs, outputs, made.blocks, made.attributes)
    given = {"x": typed("fp32", S, B, I), "h": typed("fp32", None, H), "c": typed("fp32", None, H)}
    found = run(function(given, [made], *"lmn"), x=x, h=h, c=c)
    compare([found["l"], found["m"], found["n"]], [last[None], last, cell], "fp32")


def test_what_is_refused() -> None:
    feeds = {"x": normal(S, B, I), "initial_h": normal(B, H)}
    weights: dict[str, Any] = {"weight_ih": normal(H, I), "weight_hh": normal(H, H)}
    with pytest.raises(UnsupportedOpsError, match="activation 'swish'"):
        execute("rnn", feeds, 2, H, "fp32", free=False, activation="swish", **weights)
    with pytest.raises(UnsupportedOpsError, match="direction 'sideways'"):
        execute("rnn", feeds, 2, H, "fp32", free=False, direction="sideways", **weights)
    net = lstm_net("fp32", True, False)
    both = {"x": normal(S, B, I), "initial_h": normal(B, 2 * H), "initial_c": normal(B, 2 * H)}
    with pytest.raises(ModelFormatError, match="no weights for the way back"):
        execute("lstm", both, 3, 2 * H, "fp32", free=False, direction="bidirectional", **net)
    with pytest.raises(ModelFormatError, match="do not fit each other"):
        execute("rnn", feeds, 2, H, "fp32", free=False, weight_ih=normal(H, I), weight_hh=np.float32(1))
