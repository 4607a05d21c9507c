"""Recurrent nets. Source: coremltools, `ops/defs/iOS15/recurrent.py`, `iOS17` and `iOS18/recurrent.py`.

In fp16 every step of the sequence is float32, and the results are rounded once. ONNX Runtime approximates the
sigmoid and the hyperbolic tangent inside to a few 1e-7. In reverse, a sequence stands in the order in which
it was computed, the last x first, as coremltools' tests have it; in both directions, in the order of x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coremlops.errors import ModelFormatError
from coremlops.lower.clipped_lstm import clipped_lstm
from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Unsupported, Value, Values, lowers
from coremlops.lower.shapes import filled

# Apple's word -> ONNX's, and the alphas and betas that it takes from the node's lists. (For linear ONNX has
# Affine, but as an activation inside an RNN alone.)
ACTIVATIONS: dict[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "tanh": ("Tanh", (), ()),
    "scaled_tanh": ("Tanh", (), ()),  # scaled by 1 and 1: the op has no parameters for it
    "sigmoid": ("Sigmoid", (), ()),
    "hard_sigmoid": ("HardSigmoid", (0.2,), (0.5,)),
    "sigmoid_hard": ("HardSigmoid", (0.2,), (0.5,)),
    "relu": ("Relu", (), ()),
    "linear": ("LeakyRelu", (1.0,), ()),
}
# Where ONNX's gates stand among Apple's: of an LSTM input, output, forget and cell among i, f, o, z, and of
# its peepholes; of a GRU update, reset and new among r, o, z.
_LSTM, _PEEPHOLE, _GRU, _RNN = (0, 2, 1, 3), (0, 2, 1), (2, 0, 1), (0,)


@lowers("rnn")
def rnn(
    ctx: Lowering,
    x: Value,
    initial_h: Value,
    weight_ih: Value,
    weight_hh: Value,
    bias: Value | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> Values:
    """h = activation(W_ih x + W_hh h + bias), step by step.

    x: [s, b, I], fp16|fp32; initial_h: [b, H] -> [s, b, H] (or [1, b, H] without `output_sequence`), and the
    last [b, H].
    """
    net = _net(ctx, weight_ih, weight_hh, None, bias, _RNN)
    way = _attributes(weight_hh, activation)
    steps = ctx.nodes(
        "RNN", 2, _in_order(ctx, x, direction), *net, None, _first(ctx, _state(ctx, initial_h, x)), **way
    )
    return _results(ctx, steps, output_sequence)


@lowers("gru")
def gru(
    ctx: Lowering,
    x: Value,
    initial_h: Value,
    weight_ih: Value,
    weight_hh: Value,
    bias: Value | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Value | None = None,
) -> Values:
    """Gated recurrent units: reset, output and update gate.

    x: [s, b, I], fp16|fp32; initial_h: [b, H]; weights: [3H, I] and [3H, H] in the order r, o, z -> as `rnn`.
    The reset gate is applied to h before its product with W_ho, or, with `reset_after`, to that product and
    its `bias`.
    """
    net = _net(ctx, weight_ih, weight_hh, input_bias, bias, _GRU)
    way = _attributes(weight_hh, recurrent_activation, activation)
    way["linear_before_reset"] = int(reset_after)
    steps = ctx.nodes(
        "GRU", 2, _in_order(ctx, x, direction), *net, None, _first(ctx, _state(ctx, initial_h, x)), **way
    )
    return _results(ctx, steps, output_sequence)


@lowers("lstm")
def lstm(
    ctx: Lowering,
    x: Value,
    initial_h: Value,
    initial_c: Value,
    weight_ih: Value,
    weight_hh: Value,
    bias: Value | None = None,
    peephole: Value | None = None,
    weight_ih_back: Value | None = None,
    weight_hh_back: Value | None = None,
    bias_back: Value | None = None,
    peephole_back: Value | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> Values:
    """Long short-term memory: input, forget, output and cell gate; both directions at once, or one.

    x: [s, b, I], fp16|fp32; initial_h, initial_c: [b, H], or [b, 2H] in both directions; weights: [4H, I] and
    [4H, H] in the order i, f, o, z; peephole: [3H] -> [s, b, H or 2H] (or [1, b, ...] without
    `output_sequence`), the last hidden and the last cell state. `clip` bounds the cell state after each step.
    """
    names = (recurrent_activation, cell_activation, activation)
    net = (weight_ih, weight_hh, bias, peephole)
    initial_h, initial_c = _state(ctx, initial_h, x), _state(ctx, initial_c, x)
    if direction != "bidirectional":
        there = _lstm(ctx, _in_order(ctx, x, direction), (initial_h, initial_c), net, names, clip)
        return _results(ctx, there, output_sequence)
    if weight_ih_back is None or weight_hh_back is None:
        raise ModelFormatError("lstm: in both directions, and no weights for the way back")
    size = weight_hh.shape[1] or 0
    sizes = ctx.ints((size, size))
    h, c = (ctx.nodes("Split", 2, state, sizes, axis=1) for state in (initial_h, initial_c))
    there = _lstm(ctx, x, (h[0], c[0]), net, names, clip)
    net = (weight_ih_back, weight_hh_back, bias_back, peephole_back)
    back = _lstm(ctx, _in_order(ctx, x, "reverse"), (h[1], c[1]), net, names, clip)
    # Of each direction the last step counts; the sequence of the way back is turned to the order of x.
    sequence = back[0] if not output_sequence else _reversed(ctx, back[0])
    both = tuple(
        ctx.node("Concat", one, other, axis=-1)
        for one, other in zip(there, (sequence, *back[1:]), strict=True)
    )
    return _results(ctx, both, output_sequence)


def _lstm(
    ctx: Lowering,
    x: Value,
    states: tuple[Value, Value],
    net: tuple[Value, Value, Value | None, Value | None],
    names: tuple[str, str, str],
    clip: float | None,
) -> Values:
    """One direction: the sequence [s, 1, b, H], the last hidden and the last cell state [1, b, H]."""
    weight_ih, weight_hh, bias, peephole = net
    parts = _net(ctx, weight_ih, weight_hh, None, bias, _LSTM)
    holes = None if peephole is None else _gates(ctx, peephole, _PEEPHOLE)
    h, c = (_first(ctx, state) for state in states)
    if clip is not None:  # ONNX's own `clip` bounds what goes into the activations
        kinds = [_activation(name) for name in names]
        return clipped_lstm(ctx, x, parts, holes, (h, c), kinds, abs(clip))
    return ctx.nodes("LSTM", 3, x, *parts, None, h, c, holes, **_attributes(weight_hh, *names))


def _net(
    ctx: Lowering,
    weight_ih: Value,
    weight_hh: Value,
    bias_ih: Value | None,
    bias_hh: Value | None,
    order: Ints,
) -> tuple[Value, Value, Value]:
    """The weights [1, G*H, I], [1, G*H, H] and the biases [1, 2*G*H] in ONNX's order of gates."""
    none = filled(ctx, (1, weight_hh.shape[0]), 0).constant
    biases = [none if part is None else _gates(ctx, part, order).constant for part in (bias_ih, bias_hh)]
    joined = np.concatenate([part for part in biases if part is not None], axis=1)
    return _gates(ctx, weight_ih, order), _gates(ctx, weight_hh, order), ctx.constant(joined)


def _gates(ctx: Lowering, weights: Value, order: Ints) -> Value:
    """[G*H, ...] as [1, G*H, ...] with the gates in another order."""
    if weights.stored is None:
        raise Unsupported("weights known at run time alone")
    array = weights.stored
    gates = array.reshape(len(order), array.shape[0] // len(order), *array.shape[1:])
    return ctx.constant(gates[list(order)].reshape(1, *array.shape))


def _activation(name: str) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    if name.lower() not in ACTIVATIONS:
        raise Unsupported(f"activation {name!r}")
    return ACTIVATIONS[name.lower()]


def _attributes(weight_hh: Value, *names: str) -> dict[str, Any]:
    """The attributes of an ONNX node."""
    kinds = [_activation(name) for name in names]
    return {
        "hidden_size": weight_hh.shape[1],
        "activations": [kind for kind, _, _ in kinds],
        "activation_alpha": [alpha for _, alphas, _ in kinds for alpha in alphas] or None,
        "activation_beta": [beta for _, _, betas in kinds for beta in betas] or None,
    }


def _first(ctx: Lowering, state: Value) -> Value:
    return ctx.node("Unsqueeze", state, ctx.ints((0,)))


def _state(ctx: Lowering, state: Value, x: Value) -> Value:
    """The state [b, H]. One of any number of rows gives its first b, as many as x has.

    coremltools takes the lengths of a packed sequence for its batch sizes, and makes too many rows of zeros.
    """
    rows, batch = (
        value.type.shape[axis] if value.type is not None and value.type.shape is not None else None
        for value, axis in ((state, 0), (x, 1))
    )
    if rows is not None or batch is None:
        return state
    return ctx.node("Slice", state, ctx.ints((0,)), ctx.ints((batch,)), ctx.ints((0,)))


def _in_order(ctx: Lowering, x: Value, direction: str) -> Value:
    """x in the order in which it is read."""
    if direction not in ("forward", "reverse"):
        raise Unsupported(f"direction {direction!r}")
    return _reversed(ctx, x) if direction == "reverse" else x


def _reversed(ctx: Lowering, x: Value) -> Value:
    ends = ctx.ints((np.iinfo(np.int64).min,))
    return ctx.node("Slice", x, ctx.ints((-1,)), ends, ctx.ints((0,)), ctx.ints((-1,)))


def _results(ctx: Lowering, steps: Values, output_sequence: bool) -> Values:
    """The op's results of ONNX's: the sequence [s, 1, b, H] and the last states [1, b, H]."""
    sequence, *states = steps
    whole = ctx.node("Squeeze", sequence, ctx.ints((1,))) if output_sequence else states[0]
    return (whole, *(ctx.node("Squeeze", state, ctx.ints((0,))) for state in states))
