"""States that blocks read and write, against the same thing written in Python."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Block, Function, NamedType, Operation, Ref
from coremlops.dialects.mil.graph import StateType
from coremlops.runtime.session import Session
from tests.lower.ops.test_control_flow import BOOL, INT, block, blocks_op
from tests.lower.programs import Array, lower, operation, typed

S = typed("fp16", 2)
X = np.array([1.1, -0.3], np.float16)


def stateful(operations: list[Operation], *outputs: str) -> Function:
    """A function of x [2] fp16, p bool, n int32, and the states s and t [2] fp16."""
    inputs = (
        NamedType("x", S),
        NamedType("p", BOOL),
        NamedType("n", INT),
        NamedType("s", StateType(S)),
        NamedType("t", StateType(S)),
    )
    return Function("main", "CoreML8", inputs, Block((), outputs, tuple(operations)))


def read(output: str, state: str) -> Operation:
    return operation("read_state", output, S, input=Ref(state))


def write(state: str, value: str) -> Operation:
    given: dict[str, Any] = {"input": (Ref(state),), "data": (Ref(value),)}
    return Operation("write_state", f"write_{state}_{value}", given, (), (), {})


def arithmetic(kind: str, output: str, x: str, y: str) -> Operation:
    return operation(kind, output, S, x=Ref(x), y=Ref(y))


def run(program: Function, *, p: bool = True, n: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    """Results and the states afterwards; s is 1.7 and t is 2.3 before."""
    lowered = lower(program)
    states = {"s": np.full(2, np.float16(1.7), np.float32), "t": np.full(2, np.float16(2.3), np.float32)}
    given = {"x": X.astype(np.float32), "p": np.array(p), "n": np.array(n, np.int32)}
    found = Session(lowered).run(given | states)
    after = {s.name: states[s.name] if s.output is None else found[s.output] for s in lowered.states}
    return found, after


def branches() -> Function:
    """if p: s = x * x; y = s + s  else: t = x - s; y = t.  z = s + t afterwards."""
    yes = [
        arithmetic("mul", "square", "x", "x"),
        write("s", "square"),
        read("a", "s"),
        arithmetic("add", "ya", "a", "a"),
    ]
    no = [
        read("b", "s"),
        arithmetic("sub", "less", "x", "b"),
        write("t", "less"),
        read("yb", "t"),
    ]
    choice = blocks_op("cond", {"y": S}, [block({}, yes, "ya"), block({}, no, "yb")], pred=(Ref("p"),))
    after = [read("c", "s"), read("d", "t"), arithmetic("add", "z", "c", "d")]
    return stateful([choice, *after], "y", "z")


@pytest.mark.parametrize("chosen", [True, False])
def test_a_branch_writes_a_state(chosen: bool) -> None:
    s, t = np.full(2, 1.7, np.float16), np.full(2, 2.3, np.float16)
    if chosen:
        s = X * X  # NumPy's half: float32 arithmetic, rounded once
        y = s + s
    else:
        y = t = X - s
    found, after = run(branches(), p=chosen)
    for got, expected in ((after["s"], s), (after["t"], t), (found["y"], y), (found["z"], s + t)):
        assert got.tobytes() == expected.astype(np.float32).tobytes()


def loop(*, condition_writes: bool = False) -> Function:
    """while n > 0: s = s * x; t = t + s; n -= 1. The condition may say s = s + x first."""
    test: list[Operation] = [operation("greater", "go", BOOL, x=Ref("i"), y=0)]
    if condition_writes:
        test = [read("was", "s"), arithmetic("add", "grown", "was", "x"), write("s", "grown"), *test]
    body = [
        read("a", "s"),
        arithmetic("mul", "b", "a", "x"),
        write("s", "b"),
        read("c", "t"),
        read("again", "s"),
        arithmetic("add", "d", "c", "again"),
        write("t", "d"),
        operation("sub", "less", INT, x=Ref("i"), y=1),
    ]
    repeated = blocks_op(
        "while_loop",
        {"left": INT},
        [block({"i": INT}, test, "go"), block({"i": INT}, body, "less")],
        loop_vars=(Ref("n"),),
    )
    return stateful([repeated, read("y", "t")], "y", "left")


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.parametrize("condition_writes", [False, True])
def test_a_loop_hands_states_from_turn_to_turn(turns: int, condition_writes: bool) -> None:
    s, t = np.full(2, 1.7, np.float16), np.full(2, 2.3, np.float16)
    for turn in range(turns + 1):
        if condition_writes:
            s = s + X
        if turn < turns:
            s = s * X
            t = t + s
    found, after = run(loop(condition_writes=condition_writes), n=turns)
    for got, expected in ((after["s"], s), (after["t"], t), (found["y"], t)):
        assert got.tobytes() == expected.astype(np.float32).tobytes()


def test_blocks_that_give_nothing_but_states() -> None:
    # while sum(s) < 20: s = s + s.  if p: t = s
    test = [
        read("now", "s"),
        operation("reduce_sum", "sum", typed("fp16"), x=Ref("now"), axes=[0], keep_dims=False),
        operation("less", "go", BOOL, x=Ref("sum"), y=np.float16(20)),
    ]
    body = [read("a", "s"), arithmetic("add", "b", "a", "a"), write("s", "b")]
    loop = blocks_op("while_loop", {}, [block({}, test, "go"), block({}, body)])
    yes = block({}, [read("c", "s"), write("t", "c")])
    choice = blocks_op("cond", {}, [yes, block({}, [])], pred=(Ref("p"),))
    idle = blocks_op("cond", {}, [block({}, []), block({}, [])], pred=(Ref("p"),))
    program = stateful([loop, choice, idle, read("y", "t")], "y")
    s = np.full(2, 1.7, np.float16)
    while s.sum() < 20:
        s = s + s
    for chosen in (True, False):
        t = s if chosen else np.full(2, 2.3, np.float16)
        found, after = run(program, p=chosen)
        for got, expected in ((after["s"], s), (after["t"], t), (found["y"], t)):
            assert got.tobytes() == expected.astype(np.float32).tobytes()


def test_an_update_gives_what_it_writes() -> None:
    # coremltools writes it as two ops when a program is saved; the op is in the registry all the same
    update = operation("coreml_update_state", "new", S, state=Ref("s"), value=Ref("twice"))
    program = stateful(
        [arithmetic("add", "twice", "x", "x"), update, arithmetic("mul", "y", "new", "x")], "y"
    )
    found, after = run(program)
    twice = X + X
    assert after["s"].tobytes() == twice.astype(np.float32).tobytes()
    assert found["y"].tobytes() == (twice * X).astype(np.float32).tobytes()


def test_a_branch_in_a_loop_writes_a_state() -> None:
    # while n > 0: if p: s = s + x; n -= 1
    yes = block({}, [read("a", "s"), arithmetic("add", "b", "a", "x"), write("s", "b")], "b")
    no = block({}, [read("c", "s")], "c")
    body = [
        blocks_op("cond", {"either": S}, [yes, no], pred=(Ref("p"),)),
        operation("sub", "less", INT, x=Ref("i"), y=1),
    ]
    test = [operation("greater", "go", BOOL, x=Ref("i"), y=0)]
    blocks = [block({"i": INT}, test, "go"), block({"i": INT}, body, "less")]
    program = stateful([blocks_op("while_loop", {"left": INT}, blocks, loop_vars=(Ref("n"),))], "left")
    for chosen in (True, False):
        expected = np.full(2, 1.7, np.float16)
        for _ in range(3 if chosen else 0):
            expected = expected + X
        _, after = run(program, p=chosen, n=3)
        assert after["s"].tobytes() == expected.astype(np.float32).tobytes()
        assert after["t"].tobytes() == np.full(2, 2.3, np.float16).astype(np.float32).tobytes()


def test_an_update_is_the_result_and_the_state() -> None:
    def update(state: str, value: str, output: str) -> Operation:
        given: dict[str, Any] = {"state": (Ref(state),), "value": (Ref(value),)}
        return Operation("coreml_update_state", output, given, (NamedType(output, S),), (), {})

    program = stateful(
        [
            read("a", "s"),
            arithmetic("mul", "b", "a", "x"),
            update("s", "b", "y"),
            read("c", "s"),
            arithmetic("add", "z", "c", "y"),
        ],
        "y",
        "z",
    )
    found, after = run(program)
    product = np.full(2, 1.7, np.float16) * X
    for got, expected in ((found["y"], product), (after["s"], product), (found["z"], product + product)):
        assert got.tobytes() == expected.astype(np.float32).tobytes()
    assert after["t"].tobytes() == np.full(2, np.float16(2.3), np.float32).tobytes()
