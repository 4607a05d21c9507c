"""What a model may allocate, whatever its sizes are: a limit of 32 MiB, and requests of hundreds."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.dialects.mil import BlobRef, Function, NamedType, Operation, Ref
from coremlops.errors import ModelError, ModelFormatError, UsageError
from coremlops.lower import lower_function
from coremlops.runtime import cache, memory
from coremlops.runtime.session import Session
from tests.handmade import adder, array_feature
from tests.lower.ops.test_control_flow import block, blocks_op
from tests.lower.programs import constant, function, lower, operation, run, typed
from tests.networks import add_layer, model, write

LIMIT = 32 << 20
HUGE = 200_000_000
MOST_GROWTH = 6 * LIMIT  # what a limit of LIMIT may take: results are copied, and the engine has its own
INT = typed("int32")


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.LIMIT_VARIABLE, str(LIMIT))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def vector(dtype: str = "int32") -> Any:
    return typed(dtype, None)


def one(kind: str, size: int | None, **inputs: Any) -> Function:
    """One op of a given result, whose input `n` is what the caller gives: [1], int32."""
    return function({"n": typed("int32", 1)}, [operation(kind, "y", typed("fp32", size), **inputs)])


def scalar() -> Operation:
    return operation("squeeze", "k", INT, x=Ref("n"), axes=[0])


def forever(grow: Callable[[], list[Operation]], result: str) -> Function:
    """A loop without an end that makes its value larger."""
    value = typed("fp32", None)
    test = block({"a": value}, [operation("greater", "go", typed("bool"), x=1, y=0)], "go")
    body = block({"a": value}, grow(), result)
    first = operation("fill", "a0", value, shape=Ref("n"), value=1.0)
    return function(
        {"n": typed("int32", 1)},
        [first, blocks_op("while_loop", {"y": value}, [test, body], loop_vars=(Ref("a0"),))],
    )


def listed() -> Function:
    """A list of as many elements as the input says."""
    from coremlops.dialects.mil.graph import ListType

    made = Operation(
        "make_list",
        "make",
        {"init_length": (Ref("k"),), "elem_shape": (constant(1000),), "dtype": (constant("fp32"),)},
        (NamedType("l", ListType(typed("fp32", 1000), None)),),
        (),
        {},
    )
    return function(
        {"n": typed("int32", 1)},
        [scalar(), made, operation("list_length", "y", INT, ls=Ref("l"))],
    )


# Each asks for `n` elements or more; a declared shape of [1] is a lie.
HOSTILE: dict[str, Callable[[], Function]] = {
    "fill": lambda: one("fill", None, shape=Ref("n"), value=1.0),
    "a fill that is declared small": lambda: one("fill", 1, shape=Ref("n"), value=1.0),
    "tile": lambda: one("tile", None, x=np.ones(1, np.float32), reps=Ref("n")),
    "range_1d": lambda: function(
        {"n": typed("int32", 1)},
        [scalar(), operation("range_1d", "y", vector(), start=0, end=Ref("k"), step=1)],
    ),
    "one_hot": lambda: function(
        {"n": typed("int32", 1)},
        [
            scalar(),
            operation(
                "one_hot",
                "y",
                typed("int32", 1, None),
                indices=np.zeros(1, np.int32),
                one_hot_vector_size=Ref("k"),
            ),
        ],
    ),
    "pad": lambda: function(
        {"n": typed("int32", 1)},
        [
            operation("concat", "p", typed("int32", 2), values=(Ref("n"), Ref("n")), axis=0),
            operation("pad", "y", vector("fp32"), x=np.ones(3, np.float32), pad=Ref("p"), mode="constant"),
        ],
    ),
    "random": lambda: one("random_uniform", None, shape=Ref("n")),
    "a convolution that is declared small": lambda: function(
        {"n": typed("int32", 1)},
        [
            operation("cast", "f", typed("fp32", 1), x=Ref("n"), dtype="fp32"),
            operation("reshape", "x", typed("fp32", 1, 1, 1, 1), x=Ref("f"), shape=[1, 1, 1, 1]),
            operation(
                "conv",
                "y",
                typed("fp32", 1),
                x=Ref("x"),
                weight=np.ones((1, 1, 1, 1), np.float32),
                pad_type="custom",
                pad=[7000, 7000, 7000, 7000],
            ),
        ],
    ),
    "a loop that joins": lambda: forever(
        lambda: [operation("concat", "b", typed("fp32", None), values=(Ref("a"), Ref("a")), axis=0)], "b"
    ),
    "a loop that appends": lambda: forever(
        lambda: [operation("concat", "b", typed("fp32", None), values=(Ref("a"), np_ones(1 << 20)), axis=0)],
        "b",
    ),
    "a list": listed,
}


def np_ones(count: int) -> Any:
    return constant(np.ones(count, np.float32))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_size_of_the_run_past_the_limit(kind: str) -> None:
    session = Session(lower(HOSTILE[kind]()))
    before = peak_bytes()
    with pytest.raises(ModelError, match=f"needs more memory: it may ask for {LIMIT} bytes") as caught:
        session.run({"n": np.array([1 if "loop" in kind else HUGE], np.int32)})
    assert memory.LIMIT_VARIABLE in caught.value.hint
    assert peak_bytes() - before < MOST_GROWTH


def test_it_is_the_limit_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    few = np.array([12_000_000], np.int32)  # 48 MB
    small = Session(lower(HOSTILE["fill"]()))
    for value in ("0", "100000000", ""):
        monkeypatch.setenv(memory.LIMIT_VARIABLE, value)
        assert Session(lower(HOSTILE["fill"]())).run({"n": few})["y"].sum() == few[0]
    for value in ("many", "-1", "1e9"):
        monkeypatch.setenv(memory.LIMIT_VARIABLE, value)
        with pytest.raises(UsageError, match=f"whole number of bytes expected, got {value}"):
            Session(lower(HOSTILE["fill"]()))
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "0")
    for _ in range(3):  # what others may have is theirs, and a refusal leaves no trace
        with pytest.raises(ModelError, match="needs more memory"):
            small.run({"n": few})
        assert small.run({"n": np.array([5_000_000], np.int32)})["y"].sum() == 5_000_000


def test_what_the_engine_computes_while_loading_is_bounded() -> None:
    """40 tensors of 16 MB, each of which the engine would make once and keep."""
    steps, last = [], "x"
    for number in range(40):
        piece = np.full(1, number, np.float32)
        steps += [
            operation("tile", f"t{number}", typed("fp32", 4_000_000), x=piece, reps=[4_000_000]),
            operation("add", f"y{number}", typed("fp32", 4_000_000), x=Ref(f"t{number}"), y=Ref(last)),
        ]
        last = f"y{number}"
    steps.append(operation("reduce_sum", "y", typed("fp32"), x=Ref(last), axes=[0], keep_dims=False))
    program = lower(function({"x": typed("fp32", 1)}, steps))
    before = peak_bytes()
    session = Session(program)
    assert peak_bytes() - before < MOST_GROWTH
    # what it did not make before it makes now, with room for some at a time
    with pytest.raises(ModelError, match="needs more memory"):
        session.run({"x": np.zeros(1, np.float32)})


def test_one_blob_as_the_weights_of_many_ops() -> None:
    blob = np.ones(1 << 20, np.float16)
    reference = BlobRef(typed("fp16", 1 << 20), "weight.bin", 64)
    steps = [
        Operation("const", f"w{i}", {}, (NamedType(f"w{i}", reference.type),), (), {"val": reference})
        for i in range(40)
    ]
    steps.append(operation("add", "y", typed("fp16", 1 << 20), x=Ref("x"), y=Ref("w0")))
    program = function({"x": typed("fp16", 1)}, steps)
    with pytest.raises(ModelFormatError, match="the constants of the model, decoded, need more memory"):
        lower_function(program, lambda _: blob, most_bytes=LIMIT)
    lower_function(program, lambda _: blob, most_bytes=40 * 4 << 20)


def test_small_codes_that_become_large_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inner product of one bit a weight: 128 KB that become 4 MB."""
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (1024,))
    array_feature(spec.description.output.add(), "y", (1024,))
    add_layer(net, "innerProduct", ["x"], ["y"], inputChannels=1024, outputChannels=1024)
    weights = net.layers[0].innerProduct.weights
    weights.rawValue = b"\xff" * (1 << 17)
    weights.quantization.numberOfBits = 1
    weights.quantization.lookupTableQuantization.floatValue.extend([0, 0.5])
    path = write(tmp_path / "a.mlmodel", spec)
    assert coremlops.load(path).predict({"x": np.ones(1024)})["y"].tolist() == [512] * 1024
    monkeypatch.setenv(memory.LIMIT_VARIABLE, str(3 << 20))
    with pytest.raises(ModelFormatError, match="the constants of the model, decoded, need more memory"):
        coremlops.load(path)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("layer_norm", {"axes": [-1]}),
        ("instance_norm", {}),
    ],
)
def test_weights_that_a_declared_size_asks_for(kind: str, inputs: dict[str, Any]) -> None:
    wide = typed("fp32", 1, 1 << 34, 1) if kind == "instance_norm" else typed("fp32", 1, 1 << 34)
    with pytest.raises(ModelFormatError, match=r"a constant of shape .* at most 16777216 elements"):
        lower(function({"x": wide}, [operation(kind, "y", wide, x=Ref("x"), **inputs)]))


def test_a_declared_size_that_cannot_be() -> None:
    """Found by damaged files: the optimiser makes a table as long as an axis that several ops pick from."""
    wide = (1, LIMIT // 8)
    steps = [
        operation("slice_by_index", f"s{i}", typed("fp32", 1, 1), x=Ref("x"), begin=[0, i], end=[1, i + 1])
        for i in range(3)
    ]
    steps.append(operation("add", "y", typed("fp32", 1, 1), x=Ref("s0"), y=Ref("s2")))

    def lowered(size: int) -> Any:
        program = function({"x": typed("fp32", 1, size)}, steps)
        return lower_function(program, lambda _: np.zeros(0), most_bytes=LIMIT)

    x = np.arange(wide[1], dtype=np.float32).reshape(wide)
    assert Session(lowered(wide[1])).run({"x": x})["y"].tolist() == [[2]]
    with pytest.raises(ModelFormatError, match=f"a value is declared as .*: {8 << 31} bytes"):
        lowered(1 << 32)
    filled = operation("fill", "y", typed("fp32", None, 1 << 32), shape=Ref("n"), value=1.0)
    program = function({"n": typed("int32", 2)}, [filled])
    with pytest.raises(ModelFormatError, match="a value is declared as"):
        lower_function(program, lambda _: np.zeros(0), most_bytes=LIMIT)


def test_states_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((LIMIT // 4 + 1,), (-1, -1), (0, 1 << 40, 1 << 40)):
        with pytest.raises(ModelFormatError, match="the state 'a' has the shape"):
            memory.filled(shape, 0, np.float32, "the state 'a'")
    assert memory.filled((2, 3), 7, np.float16, "it").tolist() == [[7] * 3] * 2
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "0")
    with pytest.raises(ModelFormatError, match="the state 'a' has the shape"):
        memory.filled((1 << 50,), 0, np.float32, "the state 'a'")


def test_an_array_for_which_there_is_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = coremlops.load(adder(tmp_path / "a.mlpackage"))

    def exhausted(*_: Any, **__: Any) -> Any:
        raise MemoryError("Unable to allocate 1 PiB")

    monkeypatch.setattr(model._part, "run", exhausted)
    with pytest.raises(ModelError, match="the prediction: not enough memory: Unable to allocate 1 PiB"):
        model.predict({"x": np.zeros((2, 3))})
    monkeypatch.setattr("coremlops.runtime.model.make_part", exhausted)
    with pytest.raises(ModelError, match="loading it: not enough memory"):
        coremlops.load(tmp_path / "a.mlpackage")


def test_a_session_from_the_cache_is_bounded(tmp_path: Path) -> None:
    for name, optimised in (("first", None), ("kept", tmp_path / cache.GRAPH)):
        Session(lower(HOSTILE["fill"]()), optimised=tmp_path / cache.GRAPH)
        session = Session.reopen(optimised) if optimised else Session(lower(HOSTILE["fill"]()))
        assert session.run({"n": np.array([3], np.int32)})["y"].tolist() == [1, 1, 1], name
        with pytest.raises(ModelError, match="needs more memory"):
            session.run({"n": np.array([HUGE], np.int32)})


def test_sessions_that_are_made_at_once_have_a_limit_each() -> None:
    found: list[float] = []

    def use() -> None:
        session = Session(lower(HOSTILE["fill"]()), threads=1)
        found.extend(session.run({"n": np.array([5_000_000], np.int32)})["y"].sum() for _ in range(3))

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5_000_000] * 18


def test_the_machine_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(memory.LIMIT_VARIABLE)
    assert memory.limit_bytes() == memory.machine_bytes() // 2 > 1 << 28
    group = tmp_path / "memory.max"
    group.write_text("1000000\n")
    monkeypatch.setattr(memory, "_CGROUPS", (str(group), str(tmp_path / "gone")))
    assert memory.limit_bytes() == 500_000
    group.write_text("max\n")
    assert memory.limit_bytes() > 1 << 28
    available = memory.available_bytes()
    assert available is None or 0 < available <= memory.machine_bytes() * 64


def test_one_hot_vectors_of_a_constant_size() -> None:
    expected = np.eye(5, dtype=np.int32)[[3, 0]]
    program = function(
        {"i": typed("int32", 2)},
        [operation("one_hot", "y", typed("int32", 2, 5), indices=Ref("i"), one_hot_vector_size=5)],
    )
    np.testing.assert_array_equal(run(program, i=np.array([3, 0], np.int32))["y"], expected)
