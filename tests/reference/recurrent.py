"""Recurrent ops: one rounding an op, so every step of the sequence is done in float64 and only what the op
gives is rounded. Nothing rounds between two steps, nor between the gates of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference.interpreter import Array, Inputs, op, wide

Step = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
}


def unrolled(step: Step, x: Array, states: tuple[Array, ...], *, backwards: bool) -> tuple[Array, ...]:
    """The hidden states in the order in which they are computed, and the last states."""
    sequence = []
    for line in x[::-1] if backwards else x:
        states = step(line, states)
        sequence.append(states[0])
    return (np.stack(sequence), *states)


def _results(given: Inputs, found: tuple[Array, ...]) -> tuple[Array, ...]:
    sequence, hidden, *others = found
    return (sequence if given.get("output_sequence", False) else hidden[None], hidden, *others)


def _net(given: Inputs, *names: str, back: str = "") -> list[Any]:
    return [wide(given[name + back]) if name + back in given else np.float64(0) for name in names]


@op("rnn")
def _rnn(given: Inputs) -> Any:
    w, r, bias = _net(given, "weight_ih", "weight_hh", "bias")
    act = ACTIVATIONS[given.get("activation", "tanh")]

    def step(line: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        return (act(line @ w.T + states[0] @ r.T + bias),)

    way = given.get("direction", "forward") == "reverse"
    return _results(given, unrolled(step, wide(given["x"]), (wide(given["initial_h"]),), backwards=way))


@op("gru")
def _gru(given: Inputs) -> Any:
    w, r, bias, bias_in = _net(given, "weight_ih", "weight_hh", "bias", "input_bias")
    size = r.shape[1]
    bias, bias_in = (np.broadcast_to(part, 3 * size) for part in (bias, bias_in))
    gate = ACTIVATIONS[given.get("recurrent_activation", "sigmoid")]
    act = ACTIVATIONS[given.get("activation", "tanh")]
    (wr, wo, wz), (rr, ro, rz), (br, bo, bz), (ir, io, iz) = (
        np.split(part, 3) for part in (w, r, bias, bias_in)
    )

    def step(line: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        (old,) = states
        reset = gate(line @ wr.T + ir + old @ rr.T + br)
        update = gate(line @ wz.T + iz + old @ rz.T + bz)
        after = given.get("reset_after", False)
        inner = reset * (old @ ro.T + bo) if after else (reset * old) @ ro.T + bo
        return (update * old + (1 - update) * act(line @ wo.T + io + inner),)

    way = given.get("direction", "forward") == "reverse"
    return _results(given, unrolled(step, wide(given["x"]), (wide(given["initial_h"]),), backwards=way))


def _lstm_way(given: Inputs, h: Array, c: Array, *, back: str, backwards: bool) -> tuple[Array, ...]:
    w, r, bias = _net(given, "weight_ih", "weight_hh", "bias", back=back)
    holes = wide(given.get("peephole" + back, np.zeros(3 * h.shape[-1])))
    hole_i, hole_f, hole_o = np.split(holes, 3)
    gate, cell, act = (
        ACTIVATIONS[given.get(name, default)]
        for name, default in (
            ("recurrent_activation", "sigmoid"),
            ("cell_activation", "tanh"),
            ("activation", "tanh"),
        )
    )
    bound = abs(float(given["clip"])) if "clip" in given else np.inf

    def step(line: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        h, c = states
        i, f, o, z = np.split(line @ w.T + h @ r.T + bias, 4, -1)
        c = np.clip(gate(f + hole_f * c) * c + gate(i + hole_i * c) * cell(z), -bound, bound)
        return gate(o + hole_o * c) * act(c), c

    return unrolled(step, wide(given["x"]), (h, c), backwards=backwards)


@op("lstm")
def _lstm(given: Inputs) -> Any:
    h, c = wide(given["initial_h"]), wide(given["initial_c"])
    direction = given.get("direction", "forward")
    if direction != "bidirectional":
        return _results(given, _lstm_way(given, h, c, back="", backwards=direction == "reverse"))
    (h, h_back), (c, c_back) = np.split(h, 2, -1), np.split(c, 2, -1)
    there = _lstm_way(given, h, c, back="", backwards=False)
    back = _lstm_way(given, h_back, c_back, back="_back", backwards=True)
    joined = zip(there, (back[0][::-1], *back[1:]), strict=True)
    return _results(given, tuple(np.concatenate(pair, -1) for pair in joined))
