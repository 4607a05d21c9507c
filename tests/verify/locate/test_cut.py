"""Functions cut into pieces."""

from __future__ import annotations

import numpy as np

from coremlops.dialects.mil import Block, Function, NamedType, Operation, Ref, StateType, TensorType
from coremlops.verify.locate.cut import OWN, piece, slices, uses, without_states
from tests.lower.programs import constant, function, operation, run, typed

HALF = typed("fp16", 4)


def _chain() -> Function:
    """y = (x + x) * w, z = y - x."""
    return function(
        {"x": HALF},
        [
            Operation(
                "const", "w_op", {}, (NamedType("w", HALF),), (), {"val": constant(np.full(4, 3, "f2"))}
            ),
            operation("add", "s", HALF, x=Ref("x"), y=Ref("x")),
            operation("mul", "y", HALF, x=Ref("s"), y=Ref("w")),
            operation("sub", "z", HALF, x=Ref("y"), y=Ref("x")),
        ],
    )


def test_a_piece_takes_what_it_does_not_make_and_brings_its_weights() -> None:
    whole = _chain()
    part = piece(whole, whole.block.operations[2:])
    assert [entry.name for entry in part.inputs] == ["s", "x"]
    assert [entry.name for entry in part.block.operations] == ["w_op", "y_op", "z_op"]
    got = run(part, s=np.full(4, 2, "f4"), x=np.full(4, 1, "f4"))
    assert got["y"].tolist() == [6] * 4
    assert got["z"].tolist() == [5] * 4


def test_ops_that_are_given_values_do_not_hear_each_other() -> None:
    whole = _chain()
    part = piece(whole, whole.block.operations[1:], given=["s", "y", "z"])
    got = run(part, x=np.ones(4, "f4"), s=np.full(4, 10, "f4"), y=np.full(4, 100, "f4"))
    assert {name: value[0] for name, value in got.items()} == {"s" + OWN: 2, "y" + OWN: 30, "z" + OWN: 99}


def test_slices_end_when_their_results_are_large_enough() -> None:
    rows = list(slices(_chain(), most_bytes=20))
    assert [[entry.name for entry in row] for row in rows] == [["s_op", "y_op"], ["z_op"]]


def test_a_block_uses_what_it_takes_from_outside_alone() -> None:
    inner = Block((), ("b",), (operation("add", "b", HALF, x=Ref("outer"), y=Ref("outer")),))
    branch = Operation("cond", "c", {"pred": (Ref("p"),)}, (NamedType("c", HALF),), (inner, inner), {})
    assert sorted(uses(branch)) == ["outer", "p"]


def test_a_state_is_an_input_and_a_read_gives_what_was_written_last() -> None:
    entries = (NamedType("x", HALF), NamedType("kept", StateType(TensorType("fp16", (4,)))))
    update = Operation(
        "coreml_update_state",
        "u",
        {"state": (Ref("kept"),), "value": (Ref("sum"),)},
        (NamedType("after", HALF),),
        (),
        {},
    )
    before = Operation("read_state", "r", {"input": (Ref("kept"),)}, (NamedType("before", HALF),), (), {})
    again = Operation("read_state", "a", {"input": (Ref("kept"),)}, (NamedType("again", HALF),), (), {})
    add = operation("add", "sum", HALF, x=Ref("x"), y=Ref("before"))
    whole = Function("main", "CoreML8", entries, Block((), ("before", "again"), (before, add, update, again)))
    got = run(without_states(whole), x=np.full(4, 2, "f4"), kept=np.full(4, 5, "f4"))
    assert got["before"].tolist() == [5] * 4
    assert got["again"].tolist() == [7] * 4
