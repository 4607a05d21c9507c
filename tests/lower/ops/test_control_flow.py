"""Branches, loops and lists, against the same thing written in Python."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Block, NamedType, Operation, Ref, ValueType
from coremlops.dialects.mil.graph import ListType
from coremlops.errors import ModelError, ModelFormatError
from coremlops.runtime.session import Session
from tests.lower.programs import Array, constant, function, lower, operation, run, typed

INT, BOOL = typed("int32"), typed("bool")


def blocks_op(
    kind: str, outputs: dict[str, ValueType], blocks: list[Block], **inputs: tuple[Any, ...]
) -> Operation:
    """An operation that holds blocks."""
    bound = {
        name: tuple(entry if isinstance(entry, Ref) else constant(entry) for entry in values)
        for name, values in inputs.items()
    }
    results = tuple(NamedType(name, type_) for name, type_ in outputs.items())
    return Operation(kind, f"{kind}_op", bound, results, tuple(blocks), {})


def block(inputs: dict[str, ValueType], operations: list[Operation], *outputs: str) -> Block:
    return Block(tuple(NamedType(name, type_) for name, type_ in inputs.items()), outputs, tuple(operations))


def branches(dtype: str = "fp32") -> Any:
    """y = tanh(x) if p else x + w, where w is made outside."""
    type_ = typed(dtype, 4)
    outer = operation("mul", "w", type_, x=Ref("x"), y=Ref("x"))
    yes = block({}, [operation("tanh", "a", type_, x=Ref("x"))], "a")
    no = block({}, [operation("add", "b", type_, x=Ref("x"), y=Ref("w"))], "b")
    choice = blocks_op("cond", {"y": type_}, [yes, no], pred=(Ref("p"),))
    return function({"x": type_, "p": BOOL}, [outer, choice])


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_branch_sees_what_is_outside(dtype: str) -> None:
    x = np.array([-1.5, 0.1, 3, 300], np.float16).astype(np.float32)
    kind = np.float16 if dtype == "fp16" else np.float32
    for chosen in (True, False):
        with np.errstate(over="ignore"):
            square = (x * x).astype(kind).astype(np.float32)
            expected = (np.tanh(x) if chosen else x + square).astype(kind)
        found = run(branches(dtype), x=x, p=np.full((), chosen))["y"]
        # One unit of the last place: two implementations of tanh.
        np.testing.assert_allclose(found, expected.astype(np.float32), rtol=float(np.finfo(kind).eps))


def test_a_branch_that_gives_what_is_outside_or_constant() -> None:
    type_ = typed("fp32", 2)
    fixed = Operation(
        "const", "c", {}, (NamedType("c", type_),), (), {"val": constant(np.array([7, 8], np.float32))}
    )
    choice = blocks_op("cond", {"y": type_}, [block({}, [], "x"), block({}, [fixed], "c")], pred=(Ref("p"),))
    program = function({"x": type_, "p": BOOL}, [choice])
    x = np.array([1, 2], np.float32)
    assert run(program, x=x, p=np.array(True))["y"].tolist() == [1, 2]
    assert run(program, x=x, p=np.array(False))["y"].tolist() == [7, 8]


def power(dtype: str = "fp32") -> Any:
    """i, y = n, 1; while i > 0: i, y = i - 1, y * x, x being captured."""
    type_ = typed(dtype, 3)
    variables: dict[str, ValueType] = {"i": INT, "acc": type_}
    test = block(variables, [operation("greater", "go", BOOL, x=Ref("i"), y=0)], "go")
    body = block(
        variables,
        [
            operation("sub", "less", INT, x=Ref("i"), y=1),
            operation("mul", "more", type_, x=Ref("acc"), y=Ref("x")),
        ],
        "less",
        "more",
    )
    one = np.ones(3, np.float16 if dtype == "fp16" else np.float32)
    loop = blocks_op("while_loop", {"last": INT, "y": type_}, [test, body], loop_vars=(Ref("n"), one))
    return function({"x": type_, "n": INT}, [loop], "y", "last")


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_loop(turns: int) -> None:
    x = np.array([0.5, -2, 3], np.float32)
    found = run(power(), x=x, n=np.array(turns, np.int32))
    np.testing.assert_array_equal(found["y"], x**turns)  # products of these are exact
    assert found["last"] == 0


def test_each_turn_of_an_fp16_loop_rounds() -> None:
    x = np.array([1.1, 1.3, 0.7], np.float16)
    expected = np.ones(3, np.float16)
    for _ in range(9):
        expected = expected * x  # NumPy's half: float32 arithmetic, rounded once
    found = run(power("fp16"), x=x.astype(np.float32), n=np.array(9, np.int32))["y"]
    assert found.tobytes() == expected.astype(np.float32).tobytes()


def test_a_loop_in_a_loop() -> None:
    # count = 0; for i in n..1: for j in i..1: count += 1
    inner_vars: dict[str, ValueType] = {"j": INT, "k": INT}
    inner = blocks_op(
        "while_loop",
        {"j2": INT, "k2": INT},
        [
            block(inner_vars, [operation("greater", "gj", BOOL, x=Ref("j"), y=0)], "gj"),
            block(
                inner_vars,
                [operation("sub", "j1", INT, x=Ref("j"), y=1), operation("add", "k1", INT, x=Ref("k"), y=1)],
                "j1",
                "k1",
            ),
        ],
        loop_vars=(Ref("i"), Ref("count")),
    )
    outer_vars: dict[str, ValueType] = {"i": INT, "count": INT}
    outer = blocks_op(
        "while_loop",
        {"end": INT, "y": INT},
        [
            block(outer_vars, [operation("greater", "gi", BOOL, x=Ref("i"), y=0)], "gi"),
            block(outer_vars, [inner, operation("sub", "i1", INT, x=Ref("i"), y=1)], "i1", "k2"),
        ],
        loop_vars=(Ref("n"), 0),
    )
    assert run(function({"n": INT}, [outer], "y"), n=np.array(5, np.int32))["y"] == 15


def endless() -> Any:
    variables: dict[str, ValueType] = {"i": INT}
    test = block(variables, [operation("greater", "go", BOOL, x=Ref("i"), y=-1)], "go")
    body = block(variables, [operation("mul", "next", INT, x=Ref("i"), y=1)], "next")
    return function({"n": INT}, [blocks_op("while_loop", {"y": INT}, [test, body], loop_vars=(Ref("n"),))])


def test_a_loop_without_an_end_is_stopped() -> None:
    session = Session(lower(endless()), time_limit_s=0.05)
    with pytest.raises(ModelError, match=r"the time limit of 0\.05 s"):
        session.run({"n": np.array(1, np.int32)})
    # the session is still good, and what ends in time is not stopped
    assert session.run({"n": np.array(-5, np.int32)})["y"] == -5


def test_loops_in_conditions_of_loops_do_not_double_for_ever() -> None:
    variables: dict[str, ValueType] = {"i": INT}
    test = block(variables, [operation("greater", "go", BOOL, x=Ref("i"), y=0)], "go")
    for level in range(28):
        name = f"v{level}"
        inner = blocks_op("while_loop", {name: INT}, [test, block(variables, [], "i")], loop_vars=(Ref("i"),))
        test = block(variables, [inner, operation("greater", "go", BOOL, x=Ref(name), y=0)], "go")
    loop = blocks_op("while_loop", {"y": INT}, [test, block(variables, [], "i")], loop_vars=(Ref("n"),))
    with pytest.raises(ModelFormatError, match="loops are nested in the conditions of loops too deeply"):
        lower(function({"n": INT}, [loop]))


def nothing(*_: Any) -> Block:
    return block({}, [])


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (blocks_op("cond", {"y": INT}, [], pred=(Ref("p"),)), "0 blocks; expected 1 or more"),
        (blocks_op("cond", {"y": INT}, [nothing(), nothing()], pred=(Ref("p"),)), "0 values"),
        (blocks_op("while_loop", {"y": INT}, [nothing()], loop_vars=(Ref("p"),)), "0 values; 1"),
        (blocks_op("while_loop", {"y": INT}, [nothing()], loop_vars=(Ref("p"), 1)), "2 variables and"),
        (
            blocks_op("while_loop", {"y": INT}, [block({"i": INT}, [], "i")], loop_vars=(Ref("p"),)),
            "the condition is no single bool",
        ),
        (
            blocks_op("cond", {"y": INT}, [block({}, [], "ghost")] * 2, pred=(Ref("p"),)),
            "'ghost' is used before it is defined",
        ),
    ],
)  # fmt: skip
def test_blocks_that_do_not_fit(loop: Operation, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        lower(function({"p": INT}, [loop]))


def test_what_a_block_defines_stays_inside() -> None:
    program = branches()
    leak = operation("relu", "z", typed("fp32", 4), x=Ref("a"))
    with pytest.raises(ModelFormatError, match="'a' is used before it is defined"):
        lower(function({"x": typed("fp32", 4), "p": BOOL}, [*program.block.operations, leak]))


def list_of(dtype: str, *shape: int) -> ListType:
    return ListType(typed(dtype, *shape), None)


@pytest.mark.parametrize("dtype", ["fp32", "int32", "bool", "fp16"])
@pytest.mark.parametrize("dynamic", [(2,), ("n",)])
def test_a_list_grows_and_is_zero_where_nothing_was_written(dtype: str, dynamic: tuple[Any, ...]) -> None:
    row = typed(dtype, 2)
    made = blocks_op(
        "make_list", {"l0": list_of(dtype, 2)}, [], init_length=(2,), elem_shape=dynamic, dtype=(dtype,)
    )
    ops = [
        made,
        operation("list_write", "l1", list_of(dtype, 2), ls=Ref("l0"), index=0, value=Ref("a")),
        operation("list_write", "l2", list_of(dtype, 2), ls=Ref("l1"), index=4, value=Ref("b")),
        operation("list_scatter", "l3", list_of(dtype, 2), ls=Ref("l2"), indices=[2, 1], value=Ref("v")),
        operation("list_read", "y", row, ls=Ref("l3"), index=1),
        operation("list_gather", "z", typed(dtype, 3, 2), ls=Ref("l3"), indices=[4, 2, 3]),
        operation("list_length", "n", INT, ls=Ref("l3")),
    ]  # fmt: skip
    kind: Any = {"int32": np.int32, "bool": np.bool_}.get(dtype, np.float32)
    a, b, v = (
        np.array([1, 3]).astype(kind),
        np.array([2, 4]).astype(kind),
        np.array([[5, 6], [7, 8]]).astype(kind),
    )
    program = function({"a": row, "b": row, "v": typed(dtype, 2, 2)}, ops, "y", "z", "n")
    found = run(program, a=a, b=b, v=v)
    np.testing.assert_array_equal(found["y"], v[1])
    np.testing.assert_array_equal(found["z"], np.stack([b, v[0], np.zeros(2, kind)]))
    assert found["n"] == 5


def test_a_list_of_absurd_size() -> None:
    made = blocks_op(
        "make_list", {"l0": list_of("fp32", 9)}, [], init_length=((1 << 31) - 1,), elem_shape=(9,)
    )
    length = operation("list_length", "n", INT, ls=Ref("l0"))
    with pytest.raises(ModelFormatError, match="at most"):
        run(function({}, [made, length], "n"))


def test_a_list_that_a_loop_fills() -> None:
    scalars = list_of("int32")
    variables: dict[str, ValueType] = {"i": INT, "ls": scalars}
    test = block(variables, [operation("less", "go", BOOL, x=Ref("i"), y=Ref("n"))], "go")
    body = block(
        variables,
        [
            operation("mul", "square", INT, x=Ref("i"), y=Ref("i")),
            operation("list_write", "ls2", scalars, ls=Ref("ls"), index=Ref("i"), value=Ref("square")),
            operation("add", "i2", INT, x=Ref("i"), y=1),
        ],
        "i2",
        "ls2",
    )  # fmt: skip
    made = blocks_op("make_list", {"l0": scalars}, [], init_length=(1,), dtype=("int32",))
    loop = blocks_op("while_loop", {"end": INT, "l1": scalars}, [test, body], loop_vars=(0, Ref("l0")))
    length = operation("list_length", "k", INT, ls=Ref("l1"))
    every = operation("list_gather", "y", typed("int32", None), ls=Ref("l1"), indices=Ref("at"))
    program = function({"n": INT, "at": typed("int32", None)}, [made, loop, length, every], "y", "k")
    at: Array = np.array([3, 0, 2], np.int32)
    found = run(program, n=np.array(4, np.int32), at=at)
    assert found["y"].tolist() == [9, 0, 4]
    assert found["k"] == 4
