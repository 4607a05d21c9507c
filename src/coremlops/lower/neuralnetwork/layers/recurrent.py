"""Recurrent layers: simple, GRU, LSTM and LSTM in both directions.

x: [S, B, inputVectorSize, 1, 1]; states: [1, B, outputVectorSize, 1, 1], zeros when they are no inputs. The
outputs are the sequence (or its last element), and the last states where the layer names them. A sequence
that is read backwards comes out in the order in which it was read.

The products with the input are one product for the whole sequence; the rest is an ONNX Scan over time. ONNX's
own LSTM and GRU have other activations, clip other values and know no coupled gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from onnx import helper

from coremlops.dialects.neuralnetwork import Fields, Weights
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.layers.activation import activate, activation_name
from coremlops.lower.neuralnetwork.layers.matrix import given
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Unsupported, Value

GATE_LIMIT = 50.0  # what goes into an activation is kept within +-50
CELL_LIMIT = 50.0  # the same for an LSTM's cell, unless the layer says otherwise

# alpha and beta of activations that leave both at 0; coremltools' tests of MIL's lstm say which.
DEFAULTS = {"linear": (1.0, 0.0), "scaledTanh": (1.0, 1.0), "sigmoidHard": (0.2, 0.5)}

# From the input's part of the gates [B, K] and the states [B, H] to the new states; the first is the output.
Step: TypeAlias = Callable[[Value, list[Value]], list[Value]]


@layer("simpleRecurrent")
def simple_recurrent(
    ctx: NetworkLowering,
    x: Value,
    state: Value | None = None,
    *,
    inputVectorSize: int,
    outputVectorSize: int,
    activation: Fields | None,
    sequenceOutput: bool,
    hasBiasVector: bool,
    weightMatrix: Weights | None,
    recursionMatrix: Weights | None,
    biasVector: Weights | None,
    reverseInput: bool,
) -> tuple[Value, ...]:
    """y_t = f(W x_t + R y_{t-1} + b)."""
    sizes = (inputVectorSize, outputVectorSize)
    function = _activations((activation,), 1)[0]
    gates = _inputs(ctx, x, sizes, [weightMatrix], [biasVector] if hasBiasVector else None)
    recursion = _recursion(ctx, outputVectorSize, [recursionMatrix])

    def step(pre: Value, states: list[Value]) -> list[Value]:
        total = ctx.node("Add", pre, ctx.node("MatMul", states[0], recursion))
        return [activate(ctx, _limited(ctx, total), function)]

    states = _states(ctx, x, outputVectorSize, [state])
    last, sequence = scan(ctx, gates, states, step, reverseInput)
    return _results(ctx, sequence if sequenceOutput else None, last)


@layer("gru")
def gru(
    ctx: NetworkLowering,
    x: Value,
    state: Value | None = None,
    *,
    inputVectorSize: int,
    outputVectorSize: int,
    activations: tuple[Fields, ...],
    sequenceOutput: bool,
    hasBiasVectors: bool,
    updateGateWeightMatrix: Weights | None,
    resetGateWeightMatrix: Weights | None,
    outputGateWeightMatrix: Weights | None,
    updateGateRecursionMatrix: Weights | None,
    resetGateRecursionMatrix: Weights | None,
    outputGateRecursionMatrix: Weights | None,
    updateGateBiasVector: Weights | None,
    resetGateBiasVector: Weights | None,
    outputGateBiasVector: Weights | None,
    reverseInput: bool,
) -> tuple[Value, ...]:
    """z, r = f(...); o = g(W x_t + R (r * y_{t-1}) + b); y_t = (1 - z) * o + z * y_{t-1}."""
    size = outputVectorSize
    f, g = _activations(activations, 2)
    weights = [updateGateWeightMatrix, resetGateWeightMatrix, outputGateWeightMatrix]
    biases = [updateGateBiasVector, resetGateBiasVector, outputGateBiasVector]
    gates = _inputs(ctx, x, (inputVectorSize, size), weights, biases if hasBiasVectors else None)
    both = _recursion(ctx, size, [updateGateRecursionMatrix, resetGateRecursionMatrix])
    output = _recursion(ctx, size, [outputGateRecursionMatrix])
    one = ctx.constant(1.0)

    def step(pre: Value, states: list[Value]) -> list[Value]:
        before = states[0]
        first = ctx.node("Add", ctx.slice(pre, 1, 0, 2 * size), ctx.node("MatMul", before, both))
        opened = activate(ctx, _limited(ctx, first), f)
        z, r = ctx.slice(opened, 1, 0, size), ctx.slice(opened, 1, size, 2 * size)
        memory = ctx.node("MatMul", ctx.node("Mul", before, r), output)
        second = ctx.node("Add", ctx.slice(pre, 1, 2 * size, 3 * size), memory)
        o = activate(ctx, _limited(ctx, second), g)
        kept = ctx.node("Mul", z, before)
        return [ctx.node("Add", ctx.node("Mul", ctx.node("Sub", one, z), o), kept)]

    last, sequence = scan(ctx, gates, _states(ctx, x, size, [state]), step, reverseInput)
    return _results(ctx, sequence if sequenceOutput else None, last)


@layer("uniDirectionalLSTM")
def lstm(
    ctx: NetworkLowering,
    x: Value,
    state: Value | None = None,
    cell: Value | None = None,
    *,
    inputVectorSize: int,
    outputVectorSize: int,
    activations: tuple[Fields, ...],
    params: Fields | None,
    weightParams: Fields | None,
    reverseInput: bool,
) -> tuple[Value, ...]:
    """An LSTM; see `_lstm`."""
    sizes = (inputVectorSize, outputVectorSize)
    options = _message(params, "params")
    last, sequence = _lstm(
        ctx,
        x,
        [state, cell],
        sizes,
        activations,
        options,
        _message(weightParams, "weights"),
        reverseInput,
        False,
    )
    return _results(ctx, sequence if options["sequenceOutput"] else None, last)


@layer("biDirectionalLSTM")
def bidirectional_lstm(
    ctx: NetworkLowering,
    x: Value,
    state: Value | None = None,
    cell: Value | None = None,
    state_reverse: Value | None = None,
    cell_reverse: Value | None = None,
    *,
    inputVectorSize: int,
    outputVectorSize: int,
    activationsForwardLSTM: tuple[Fields, ...],
    activationsBackwardLSTM: tuple[Fields, ...],
    params: Fields | None,
    weightParams: tuple[Fields, ...],
) -> tuple[Value, ...]:
    """Two LSTMs, one from either end. Their outputs at one place of the sequence stand side by side."""
    sizes, options = (inputVectorSize, outputVectorSize), _message(params, "params")
    if len(weightParams) != 2:
        raise ModelFormatError(f"weights of {len(weightParams)} directions; expected 2")
    ahead, sequence = _lstm(
        ctx, x, [state, cell], sizes, activationsForwardLSTM, options, weightParams[0], False, False
    )
    back, reverse = _lstm(
        ctx,
        x,
        [state_reverse, cell_reverse],
        sizes,
        activationsBackwardLSTM or activationsForwardLSTM,
        options,
        weightParams[1],
        True,
        True,
    )
    if options["sequenceOutput"]:
        joined = ctx.node("Concat", sequence, reverse, axis=2)
    else:
        last = ctx.node("Concat", ahead[0], back[0], axis=1)
        joined = ctx.reshape(last, [1, *ctx.sizes(last)])
    return _results(ctx, joined, [*ahead, *back])


def _lstm(
    ctx: NetworkLowering,
    x: Value,
    states: Sequence[Value | None],
    sizes: tuple[int, int],
    activations: tuple[Fields, ...],
    options: Fields,
    weights: Fields,
    backwards: bool,
    turned: bool,
) -> tuple[list[Value], Value]:
    """The last states and the sequence of an LSTM.

    i, f, o = f(W x_t + R y_{t-1} + p * c + b), z without p; c_t = f * c_{t-1} + i * z; y_t = o * h(c_t). The
    peephole of o sees the new cell. A coupled forget gate is 1 - i. `turned`: the sequence of one that reads
    backwards comes out in the order of the input.
    """
    size = sizes[1]
    f, g, h = _activations(activations, 3)
    names = ("inputGate", "forgetGate", "blockInput", "outputGate")
    matrices = [weights[f"{name}WeightMatrix"] for name in names]
    biases = [weights[f"{name}BiasVector"] for name in names] if options["hasBiasVectors"] else None
    # First the matrices, which say whether `size` is true: what follows allocates by it.
    recursion = _recursion(ctx, size, [weights[f"{name}RecursionMatrix"] for name in names])
    extra = np.repeat(np.array([0, 1, 0, 0], np.float32), size) if options["forgetBias"] else None
    gates = _inputs(ctx, x, sizes, matrices, biases, extra)
    peepholes = None
    if options["hasPeepholeVectors"]:
        peepholes = [
            ctx.weight(given(weights[f"{name}PeepholeVector"], "peephole").array(size))
            for name in ("inputGate", "forgetGate", "outputGate")
        ]
    limit = options["cellClipThreshold"] or CELL_LIMIT
    low, high, one = ctx.constant(-limit), ctx.constant(limit), ctx.constant(1.0)

    def step(pre: Value, before: list[Value]) -> list[Value]:
        y, c = before
        total = ctx.node("Add", pre, ctx.node("MatMul", y, recursion))
        parts = [ctx.slice(total, 1, index * size, (index + 1) * size) for index in range(4)]

        def gate(part: Value, cell: Value, peephole: int) -> Value:
            if peepholes is not None:
                part = ctx.node("Add", part, ctx.node("Mul", peepholes[peephole], cell))
            return activate(ctx, _limited(ctx, part), f)

        i = gate(parts[0], c, 0)
        z = activate(ctx, _limited(ctx, parts[2]), g)
        coupled = options["coupledInputAndForgetGate"]
        forget = ctx.node("Sub", one, i) if coupled else gate(parts[1], c, 1)
        c = ctx.node("Clip", ctx.node("Add", ctx.node("Mul", c, forget), ctx.node("Mul", i, z)), low, high)
        return [ctx.node("Mul", activate(ctx, c, h), gate(parts[3], c, 2)), c]

    return scan(ctx, gates, _states(ctx, x, size, states), step, backwards, turned)


def _message(fields: Fields | None, what: str) -> Fields:
    if fields is None:
        raise ModelFormatError(f"a recurrent layer without {what}")
    return fields


def _activations(given_: Sequence[Fields | None], count: int) -> list[Fields]:
    found = [_with_defaults(fields) for fields in given_ if fields is not None]
    if len(found) != count:
        raise ModelFormatError(f"{len(found)} activations; expected {count}")
    return found


def _with_defaults(params: Fields) -> Fields:
    """An activation whose parameters are not set, as coremltools writes them here, with its usual ones."""
    name = activation_name(params)
    if name not in DEFAULTS or params[name]["alpha"] or params[name]["beta"]:
        return params
    alpha, beta = DEFAULTS[name]
    return {name: {"alpha": alpha, "beta": beta}}


def _limited(ctx: NetworkLowering, x: Value) -> Value:
    return ctx.node("Clip", x, ctx.constant(-GATE_LIMIT), ctx.constant(GATE_LIMIT))


def _inputs(
    ctx: NetworkLowering,
    x: Value,
    sizes: tuple[int, int],
    weights: Sequence[Weights | None],
    biases: Sequence[Weights | None] | None,
    extra: np.ndarray[Any, Any] | None = None,
) -> Value:
    """What the input adds to each gate, for the whole sequence: [S, B, gates * outputVectorSize]."""
    if x.rank != 5:
        raise Unsupported(f"a sequence of rank {x.rank}; expected 5")
    matrix = np.concatenate([given(entry, "weights").array(sizes[1], sizes[0]) for entry in weights])
    flat = ctx.reshape(x, [*ctx.sizes(x, 0, 2), sizes[0]])
    product = ctx.node("MatMul", flat, ctx.weight(np.ascontiguousarray(matrix.T)))
    offset = extra if extra is not None else np.zeros(len(matrix), np.float32)
    if biases is not None:
        offset = offset + np.concatenate([given(entry, "bias").array(sizes[1]) for entry in biases])
    return ctx.node("Add", product, ctx.weight(offset)) if offset.any() else product


def _recursion(ctx: NetworkLowering, size: int, weights: Sequence[Weights | None]) -> Value:
    matrix = np.concatenate([given(entry, "recursion weights").array(size, size) for entry in weights])
    return ctx.weight(np.ascontiguousarray(matrix.T))


def _states(ctx: NetworkLowering, x: Value, size: int, states: Sequence[Value | None]) -> list[Value]:
    """The first states, [B, outputVectorSize]."""
    batch = ctx.size(x, 1)
    zeros: Value | None = None
    found = []
    for state in states:
        if state is not None:
            # Of more rows than the batch has, the first count; see `lower.ops.recurrent`.
            rows = ctx.reshape(state, [-1, size])
            if rows.shape[0] is None and isinstance(batch, int):
                rows = ctx.node("Slice", rows, ctx.ints((0,)), ctx.ints((batch,)), ctx.ints((0,)))
            found.append(ctx.reshape(rows, [batch, size]))
            continue
        if zeros is None:
            zeros = ctx.node("Expand", ctx.constant(0.0), ctx.vector([batch, size]))
            zeros = ctx.retyped(zeros, x.shape[1], size)
        found.append(zeros)
    return found


def scan(
    ctx: NetworkLowering, steps: Value, states: list[Value], step: Step, backwards: bool, turned: bool = False
) -> tuple[list[Value], Value]:
    """Apply `step` along the first axis of `steps`: the last states, and the sequence of the first state."""
    length, batch, width = steps.shape
    if length == 1:
        last = step(ctx.reshape(steps, [*ctx.sizes(steps, 1)]), states)
        return last, ctx.reshape(last[0], [1, *ctx.sizes(last[0])])
    inner = [ctx.formal(*state.shape) for state in states]
    part = ctx.formal(batch, width)
    with ctx.subgraph() as nodes:
        after = step(part, inner)
        copy = ctx.node("Identity", after[0])
    body = helper.make_graph(
        list(nodes),
        ctx.graph.reserve("step"),
        [ctx.info(value) for value in (*inner, part)],
        [ctx.info(value) for value in (*after, copy)],
    )
    results = ctx.nodes(
        "Scan",
        len(states) + 1,
        *states,
        steps,
        body=body,
        num_scan_inputs=1,
        scan_input_directions=[int(backwards)],
        scan_output_directions=[int(backwards and turned)],
    )
    shapes = [state.shape for state in states]
    last = [ctx.retyped(value, *shape, dtype="fp32") for value, shape in zip(results, shapes, strict=False)]
    return last, ctx.retyped(results[-1], length, *shapes[0], dtype="fp32")


def _results(ctx: NetworkLowering, sequence: Value | None, states: list[Value]) -> tuple[Value, ...]:
    """As many outputs as the layer has: the sequence, or the last element, and the last states."""
    shaped = [ctx.reshape(state, [1, *ctx.sizes(state), 1, 1]) for state in states]
    first = shaped[0] if sequence is None else ctx.reshape(sequence, [*ctx.sizes(sequence), 1, 1])
    return (first, *shaped)[: ctx.outputs]
