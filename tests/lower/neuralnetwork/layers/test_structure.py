"""Branches, loops, jumps and custom layers against the same thing written in Python."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import Case, add_layer, check, draws, network_case
from tests.networks import Array

RNG = draws(__name__)
X = RNG.standard_normal((2, 3)).astype(np.float32)


def step(message: Any, name: str, by: float, kind: str = "add") -> None:
    """name = name + by, or another operation with a number."""
    add_layer(message, kind, [name], [f"{name} then"], alpha=by)
    add_layer(message, "copy", [f"{name} then"], [name])


# --- branches


def branch(condition: float, taken: bool) -> Case:
    """2 x where the condition holds, else x + 1."""

    def build(message: Any) -> None:
        params = add_layer(message, "branch", ["c"], [])
        add_layer(params.ifBranch, "multiply", ["x"], ["y"], alpha=2.0)
        add_layer(params.elseBranch, "add", ["x"], ["y"], alpha=1.0)

    wanted = 2 * X if taken else X + 1
    return network_case("branch", build, {"x": X, "c": [condition]}, {"y": wanted}, f"on {condition}")


def branch_without_else(condition: float) -> Case:
    """What is not taken leaves the value as it was."""

    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["y"])
        inner = add_layer(message, "branch", ["c"], []).ifBranch
        step(inner, "y", 3.0, "multiply")

    wanted = 3 * X if condition else X
    return network_case("branch", build, {"x": X, "c": [condition]}, {"y": wanted}, f"alone on {condition}")


def branch_in_branch(outer: float, inner: float) -> Case:
    def build(message: Any) -> None:
        params = add_layer(message, "branch", ["a"], [])
        nested = add_layer(params.ifBranch, "branch", ["b"], [])
        add_layer(nested.ifBranch, "add", ["x"], ["y"], alpha=1.0)
        add_layer(nested.elseBranch, "add", ["x"], ["y"], alpha=2.0)
        add_layer(params.elseBranch, "add", ["x"], ["y"], alpha=3.0)

    wanted = X + (3 if not outer else 1 if inner else 2)
    feeds = {"x": X, "a": [outer], "b": [inner]}
    return network_case("branch", build, feeds, {"y": wanted}, f"nested on {outer} {inner}")


def shapes_by_branch(condition: float) -> Case:
    """Either side gives another shape; what follows is computed with either."""

    def build(message: Any) -> None:
        params = add_layer(message, "branch", ["c"], [])
        add_layer(params.ifBranch, "concatND", ["x", "x"], ["z"], axis=0)
        add_layer(params.elseBranch, "copy", ["x"], ["z"])
        add_layer(message, "reduceSum", ["z"], ["y"], axes=[0], keepDims=False)

    wanted = X.sum(0) * (2 if condition else 1)
    return network_case("branch", build, {"x": X, "c": [condition]}, {"y": wanted}, f"shapes on {condition}")


def ranks_by_branch(condition: float) -> Case:
    """Either side gives another rank."""

    def build(message: Any) -> None:
        params = add_layer(message, "branch", ["c"], [])
        add_layer(params.ifBranch, "reshapeStatic", ["x"], ["y"], targetShape=[6])
        add_layer(params.elseBranch, "copy", ["x"], ["y"])

    wanted = X.reshape(6) if condition else X
    return network_case("branch", build, {"x": X, "c": [condition]}, {"y": wanted}, f"ranks on {condition}")


# --- loops


def counted(limit: int, given: int | None) -> Case:
    """`given`: the number of rounds is an input, and what the layer says is ignored."""

    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["y"])
        names = [] if given is None else ["n"]
        step(add_layer(message, "loop", names, [], maxLoopIterations=limit).bodyNetwork, "y", 2.0, "multiply")

    rounds = limit if given is None else given
    feeds: dict[str, Any] = {"x": X} | ({} if given is None else {"n": [given]})
    return network_case("loop", build, feeds, {"y": X * 2.0**rounds}, f"{limit} {given}")


def conditional(start: float, limit: int, given: int | None = None) -> Case:
    """Doubles while what is reached is less than 20, at most so often."""

    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["y"])
        names = [] if given is None else ["n"]
        loop = add_layer(message, "loop", names, [], conditionVar="more", maxLoopIterations=limit)
        add_layer(loop.conditionNetwork, "lessThan", ["y"], ["more"], alpha=20.0)
        step(loop.bodyNetwork, "y", 2.0, "multiply")

    value, rounds = start, 0
    most = given if given is not None else limit or 1000
    while value < 20 and rounds < most:
        value, rounds = value * 2, rounds + 1
    feeds: dict[str, Any] = {"x": [start]} | ({} if given is None else {"n": [given]})
    return network_case("loop", build, feeds, {"y": [value]}, f"while {start} {limit} {given}")


def growing(rounds: int) -> Case:
    """The shape of a value is another one in each round."""

    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["y"])
        body = add_layer(message, "loop", [], [], maxLoopIterations=rounds).bodyNetwork
        add_layer(body, "concatND", ["y", "x"], ["longer"], axis=0)
        add_layer(body, "copy", ["longer"], ["y"])

    return network_case("loop", build, {"x": X}, {"y": np.tile(X, (rounds + 1, 1))}, f"growing {rounds}")


def nested_loops() -> Case:
    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["y"])
        outer = add_layer(message, "loop", [], [], maxLoopIterations=3).bodyNetwork
        step(outer, "y", 1.0)
        inner = add_layer(outer, "loop", [], [], maxLoopIterations=2).bodyNetwork
        step(inner, "y", 2.0, "multiply")

    wanted = X.astype(float)
    for _ in range(3):
        wanted = (wanted + 1) * 4
    return network_case("loop", build, {"x": X}, {"y": wanted}, "nested")


def collatz(start: float, steps: float) -> Case:
    """Halves or triples until one is left: a loop around a branch."""

    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["n"])
        add_layer(message, "fillLike", ["x"], ["steps"], value=0.0)
        loop = add_layer(message, "loop", [], [], conditionVar="more")
        add_layer(loop.conditionNetwork, "greaterThan", ["n"], ["more"], alpha=1.0)
        body = loop.bodyNetwork
        add_layer(body, "loadConstantND", [], ["two"], shape=[1], data=np.array([2.0]))
        add_layer(body, "modBroadcastable", ["n", "two"], ["odd"])
        params = add_layer(body, "branch", ["odd"], [])
        add_layer(params.ifBranch, "multiply", ["n"], ["thrice"], alpha=3.0)
        add_layer(params.ifBranch, "add", ["thrice"], ["next"], alpha=1.0)
        add_layer(params.elseBranch, "multiply", ["n"], ["next"], alpha=0.5)
        add_layer(body, "copy", ["next"], ["n"])
        step(body, "steps", 1.0)

    return network_case("loop", build, {"x": [start]}, {"n": [1], "steps": [steps]}, f"Collatz {start}")


# --- jumps


def jump(kind: str, when: float, *, otherwise: bool = False, last: bool = False) -> Case:
    """Ten rounds, each of which adds one to n; when the round is `when`, the loop is left or goes on.

    `otherwise`: the jump stands in the other side of the branch. `last`: n is counted before the branch.
    """

    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["n"])
        add_layer(message, "copy", ["x"], ["round"])
        body = add_layer(message, "loop", [], [], maxLoopIterations=10).bodyNetwork
        add_layer(body, "notEqual" if otherwise else "equal", ["round"], ["now"], alpha=when)
        step(body, "round", 1.0)
        if last:
            step(body, "n", 1.0)
        params = add_layer(body, "branch", ["now"], [])
        add_layer(params.elseBranch if otherwise else params.ifBranch, kind, [], [])
        if not last:
            step(body, "n", 1.0)

    n = 0
    for number in range(10):
        n += last
        if number == when:
            if kind == "loopBreak":
                break
            continue
        n += not last
    return network_case(kind, build, {"x": [0.0]}, {"n": [n]}, f"{when} {otherwise} {last}")


def jump_out_of_the_inner_loop(kind: str) -> Case:
    """Three rounds, each with five inner ones; in the third of these something happens."""

    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["n"])
        outer = add_layer(message, "loop", [], [], maxLoopIterations=3).bodyNetwork
        add_layer(outer, "fillLike", ["x"], ["round"], value=0.0)
        inner = add_layer(outer, "loop", [], [], maxLoopIterations=5).bodyNetwork
        add_layer(inner, "equal", ["round"], ["now"], alpha=2.0)
        step(inner, "round", 1.0)
        add_layer(add_layer(inner, "branch", ["now"], []).ifBranch, kind, [], [])
        step(inner, "n", 1.0)
        step(outer, "n", 10.0)

    wanted = 3 * ((2 if kind == "loopBreak" else 4) + 10)
    return network_case(kind, build, {"x": [0.0]}, {"n": [wanted]}, "of two loops")


def a_loop_that_ends_at_once() -> Case:
    def build(message: Any) -> None:
        add_layer(message, "copy", ["x"], ["n"])
        body = add_layer(message, "loop", [], [], maxLoopIterations=10).bodyNetwork
        step(body, "n", 1.0)
        add_layer(body, "loopBreak", [], [])
        step(body, "n", 100.0)

    return network_case("loopBreak", build, {"x": [0.0]}, {"n": [1]}, "at once")


# --- custom layers


class Swap:
    """Both inputs in the other order, times a parameter plus a weight; all kinds of parameters come along."""

    def __init__(self, parameters: Mapping[str, Any], weights: Sequence[bytes]) -> None:
        assert parameters == {"double": 0.5, "integer": -3, "long": 1 << 40, "text": "a", "yes": True}
        self.factor = parameters["double"]
        self.offset = np.frombuffer(weights[0], "<f4")
        assert weights[1] == b"raw"

    def output_shapes(self, input_shapes: Sequence[Any]) -> Sequence[Any]:
        return input_shapes[::-1]

    def evaluate(self, inputs: Sequence[Array]) -> list[Array]:
        return [(x * self.factor + self.offset).astype(np.float32) for x in inputs[::-1]]


def custom() -> Case:
    def build(message: Any) -> None:
        add_layer(message, "add", ["x"], ["a"], alpha=1.0)
        params = add_layer(
            message, "custom", ["a", "z"], ["b", "c"], className="Swap", description="swaps its inputs"
        )
        params.weights.add().floatValue.extend([1, 2, 3])
        params.weights.add().rawValue = b"raw"
        params.parameters["double"].doubleValue = 0.5
        params.parameters["integer"].intValue = -3
        params.parameters["long"].longValue = 1 << 40
        params.parameters["text"].stringValue = "a"
        params.parameters["yes"].boolValue = True
        add_layer(message, "multiply", ["c"], ["y"], alpha=2.0)

    def half(x: Array) -> Array:
        return 0.5 * x + [1, 2, 3]

    z = RNG.standard_normal((4, 3))
    wanted = {"b": half(z), "y": 2 * half(X + 1)}
    return network_case("custom", build, {"x": X, "z": z}, wanted, custom={"Swap": Swap})


JUMPS = ("loopBreak", "loopContinue")
CASES = [
    *(branch(*pair) for pair in ((1.0, True), (0.0, False), (-0.5, True), (1e-7, False), (1e-3, True))),
    *(branch_without_else(condition) for condition in (0.0, 1.0)),
    *(branch_in_branch(outer, inner) for outer in (0.0, 1.0) for inner in (0.0, 1.0)),
    *(shapes_by_branch(condition) for condition in (0.0, 1.0)),
    *(ranks_by_branch(condition) for condition in (0.0, 1.0)),
    *(counted(limit, given) for limit, given in ((3, None), (7, 2), (0, 4), (5, 0))),
    *(conditional(start, limit) for start in (3.0, 30.0) for limit in (0, 2, 10)),
    conditional(3.0, 7, 1),
    *(growing(rounds) for rounds in (1, 3)),
    nested_loops(),
    *(collatz(start, steps) for start, steps in ((1.0, 0.0), (6.0, 8.0), (9.0, 19.0))),
    *(
        jump(kind, when, otherwise=otherwise, last=last)
        for kind in JUMPS
        for when in (0.0, 3.0, 99.0)
        for otherwise in (False, True)
        for last in (False, True)
    ),
    *(jump_out_of_the_inner_loop(kind) for kind in JUMPS),
    a_loop_that_ends_at_once(),
    custom(),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
