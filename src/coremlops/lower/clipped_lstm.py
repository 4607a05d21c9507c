"""An LSTM whose cell state is bounded after each step, which ONNX's LSTM cannot do: a Scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import TensorType
from coremlops.lower.context import Lowering
from coremlops.lower.onnx_graph import OnnxGraph
from coremlops.lower.registry import Value

_STATE = TensorType("fp32", (None, None))


def clipped_lstm(
    ctx: Lowering,
    x: Value,
    net: tuple[Value, Value, Value],
    peephole: Value | None,
    states: tuple[Value, Value],
    activations: Sequence[tuple[str, tuple[float, ...], tuple[float, ...]]],
    clip: float,
) -> tuple[Value, Value, Value]:
    """c = clip(f * c + i * z), h = o * activation(c), with the inputs and results of ONNX's LSTM.

    x: [s, b, I]; `net`: weights [1, 4H, I], [1, 4H, H] and biases [1, 8H], gates in the order i, o, f, z;
    peephole: [1, 3H] in the order i, o, f; `states`: h and c, [1, b, H] -> [s, 1, b, H] and
    the last h and c, [1, b, H].
    `activations`: of the gates, the cell and the output; ONNX's name, alpha and beta if it has them.
    """
    weight, recurrent, biases = (part.constant for part in net)
    assert weight is not None and recurrent is not None and biases is not None  # noqa: S101, PT018  callers see to it
    size = recurrent.shape[2]
    bias = biases[0, : 4 * size] + biases[0, 4 * size :]
    given = ctx.node("Add", ctx.node("MatMul", x, ctx.constant(_turned(weight[0]))), ctx.constant(bias))
    zeros = np.zeros((3, size), np.float32)
    holes = zeros if peephole is None or peephole.constant is None else peephole.constant.reshape(3, size)
    body = _step(ctx, _turned(recurrent[0]), holes, activations, clip)
    first = (ctx.node("Squeeze", state, ctx.ints((0,))) for state in states)
    h, c, sequence = ctx.nodes("Scan", 3, *first, given, body=body, num_scan_inputs=1)
    axis = ctx.ints((0,))
    return (
        ctx.node("Unsqueeze", sequence, ctx.ints((1,))),
        ctx.node("Unsqueeze", h, axis),
        ctx.node("Unsqueeze", c, axis),
    )


def _turned(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(matrix.T)


def _step(
    ctx: Lowering,
    recurrent: np.ndarray[Any, Any],
    holes: np.ndarray[Any, Any],
    activations: Sequence[tuple[str, tuple[float, ...], tuple[float, ...]]],
    clip: float,
) -> Any:
    """The body: h, c and what x gives the gates -> h, c, h."""
    graph = ctx.graph.inner("step")
    shared = {
        name: ctx.use(ctx.constant(value, np.float32 if name != "sizes" else np.int64))
        for name, value in {
            "recurrent": recurrent,
            "i": holes[0],
            "o": holes[1],
            "f": holes[2],
            "low": -clip,
            "high": clip,
            "sizes": [recurrent.shape[0]] * 4,
        }.items()
    }

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        output = graph.reserve("step")
        graph.node(op, list(inputs), [output], attributes)
        return output

    def gate(value: str, cell: str, hole: str) -> str:
        return _activate(graph, add("Add", value, add("Mul", cell, shared[hole])), activations[0])

    h, c, given = (graph.reserve(name) for name in ("step.h", "step.c", "step.x"))
    for name in (h, c, given):
        graph.input(name, _STATE)
    gates = [graph.reserve("step.gate") for _ in range(4)]
    total = add("Add", given, add("MatMul", h, shared["recurrent"]))
    graph.node("Split", [total, shared["sizes"]], gates, {"axis": -1})
    entering = add("Mul", gate(gates[0], c, "i"), _activate(graph, gates[3], activations[1]))
    cell = add("Add", add("Mul", gate(gates[2], c, "f"), c), entering)
    cell = add("Clip", cell, shared["low"], shared["high"])
    hidden = add("Mul", gate(gates[1], cell, "o"), _activate(graph, cell, activations[2]))
    for value in (hidden, cell, add("Identity", hidden)):
        graph.output(value, _STATE)
    return graph.body()


def _activate(graph: OnnxGraph, value: str, kind: tuple[str, tuple[float, ...], tuple[float, ...]]) -> str:
    name, alphas, betas = kind
    output = graph.reserve("step")
    attributes = {"alpha": next(iter(alphas), None), "beta": next(iter(betas), None)}
    graph.node(name, [value], [output], attributes)
    return output
