"""Engine `coreml` up to the edge: the bridge's stand-in takes the framework's place in the child."""

from __future__ import annotations

import gc
import io
import json
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import coremlops
from coremlops.errors import ModelError, UsageError
from coremlops.model import ModelAsset
from coremlops.runtime.framework import wire
from coremlops.runtime.framework.part import CHILD, FrameworkPart, check_available
from tests.handmade import adder
from tests.runtime.test_parts import counter

CHILD_WITH = (
    "import time, os, sys, coremlops.bridge, coremlops.bridge.standin as standin\n"
    "coremlops.bridge.install()\n{}\n"
    "from coremlops.runtime.framework.child import main\nmain()"
)
# The second prediction never comes, the third child dies at once, and prints are everywhere.
TRICKS = """
call = standin._MLModelProxy.predict
def predict(self, data, state=None):
    print('chatter on stdout')
    first = float(next(iter(data.values())).ravel()[0])
    if first == 100.0:
        time.sleep(600)
    if first == 200.0:
        print('the last words', file=sys.stderr, flush=True)
        os.abort()
    return call(self, data, state)
standin._MLModelProxy.predict = predict
"""


def child(tricks: str = "") -> tuple[str, ...]:
    return (sys.executable, "-c", CHILD_WITH.format(tricks))


# --- messages


def through(message: dict[str, Any]) -> dict[str, Any]:
    stream = io.BytesIO()
    wire.send(stream, message)
    stream.seek(0)
    return wire.receive(stream)


DTYPES = st.sampled_from(["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64"])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0)))
KEYS = st.text() | st.integers()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(st.text(), ARRAYS | SCALARS | st.lists(SCALARS) | st.dictionaries(KEYS, SCALARS)))
def test_every_feature_arrives_as_it_was_sent(message: dict[str, Any]) -> None:
    got = through(message)
    assert got.keys() == message.keys()
    for name, value in message.items():
        if isinstance(value, np.ndarray):
            assert (got[name].dtype, got[name].shape) == (value.dtype, value.shape)
            assert got[name].tobytes() == value.tobytes()
        else:
            assert got[name] == value
            assert type(got[name]) is type(value)


@pytest.mark.parametrize("mode", ["RGB", "L", "F"])
def test_pictures_arrive(mode: str) -> None:
    picture = Image.linear_gradient("L").convert(mode).resize((3, 5))
    got = through({"x": picture})["x"]
    assert (got.mode, got.size, got.tobytes()) == (mode, (3, 5), picture.tobytes())


def test_what_is_no_feature_is_not_sent() -> None:
    with pytest.raises(ModelError, match="a object is no feature"):
        wire.send(io.BytesIO(), {"x": object()})


def framed(header: Any, buffers: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + buffers


@pytest.mark.parametrize(
    "data",
    [
        b"abc",
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 100) + b"{}",
        framed(b"{"),
        framed(b"[" * 100_000),
        framed({}),
        framed({"body": {"dict": []}, "buffers": [1 << 60]}),
        framed({"body": {"dict": []}, "buffers": [-1]}),
        framed({"body": {"dict": []}, "buffers": [5]}, b"ab"),
        framed({"body": 3, "buffers": []}),
        framed({"body": {"dict": [["x", {"array": ["float32", [2], 0]}]]}, "buffers": [4]}, b"abcd"),
        framed({"body": {"dict": [["x", {"array": ["object", [1], 0]}]]}, "buffers": [8]}, b"abcdefgh"),
        framed({"body": {"dict": [["x", {"array": ["float32", [1], 7]}]]}, "buffers": [4]}, b"abcd"),
        framed({"body": {"dict": [["x", {"image": ["RGB", [9, 9], 0]}]]}, "buffers": [4]}, b"abcd"),
        framed({"body": {"dict": [["x", {"image": ["P", [1, 1], 0]}]]}, "buffers": [1]}, b"a"),
        framed({"body": {"dict": [[{"list": []}, 1]]}, "buffers": []}),
        framed({"body": {"pickle": "x"}, "buffers": []}),
        framed({"body": {"dict": [], "list": []}, "buffers": []}),
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="sent what is no message"):
        wire.receive(io.BytesIO(data))


def test_no_message_at_all_is_the_end() -> None:
    with pytest.raises(EOFError):
        wire.receive(io.BytesIO())


# --- where the framework is not


@pytest.mark.skipif(sys.platform == "darwin", reason="off the Mac")
def test_off_the_mac_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Apple's own framework, which is on a Mac; this is linux") as caught:
        coremlops.load(adder(tmp_path / "a.mlpackage"), engine="coreml")
    assert "onnxruntime" in caught.value.hint


def test_on_a_mac_the_precision_is_the_file_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    check_available("typed")
    with pytest.raises(UsageError, match="runs what the file declares"):
        check_available("float32")


def test_a_time_limit_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        "coremlops.runtime.framework.part.open_part", lambda *_, **options: given.append(options)
    )
    coremlops.load(adder(tmp_path / "a.mlpackage"), engine="coreml", time_limit_s=3, compute_units="CPU_ONLY")
    assert (given[0]["time_limit_s"], given[0]["compute_units"]) == (3, "CPU_ONLY")


@pytest.mark.skipif(sys.platform == "darwin", reason="off the Mac")
def test_the_true_child_needs_the_true_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = adder(tmp_path / "a.mlpackage")
    (tmp_path / "coremltools.py").write_text("raise SystemExit('a file of the current folder ran')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="the framework does not take the model"):
        FrameworkPart(path, ModelAsset.open(path).description.inputs, command=CHILD)


# --- the child


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adder(tmp_path_factory.mktemp("models") / "adder.mlpackage")


@pytest.fixture(scope="module")
def part(path: Path) -> FrameworkPart:
    features = ModelAsset.open(path).description.inputs
    return FrameworkPart(path, features, time_limit_s=120, command=child(TRICKS), compute_units="CPU_ONLY")


def inputs(value: float) -> dict[str, Any]:
    return {"x": np.full((2, 3), value, np.float32)}


def test_it_gives_what_the_other_engine_gives(part: FrameworkPart, path: Path) -> None:
    expected = coremlops.load(path).predict(inputs(3))
    got = part.run(inputs(3))
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value)


def test_several_threads_take_turns(part: FrameworkPart) -> None:
    results: dict[int, Any] = {}

    def run(number: int) -> None:
        results[number] = next(iter(part.run(inputs(number)).values())).ravel()[0]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {n: next(iter(part.run(inputs(n)).values())).ravel()[0] for n in range(8)}
    assert results == expected


def test_an_error_of_the_framework_leaves_the_process(part: FrameworkPart) -> None:
    process = part._process
    with pytest.raises(ModelError, match="expected the shape"):
        part.run({"x": np.zeros((3, 3, 3), np.float32)})
    assert part._process is process
    assert part.run(inputs(1))


def test_a_prediction_that_takes_too_long_is_ended_and_the_next_one_works(
    part: FrameworkPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = part._process
    assert process is not None
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(part, "_limit_s", 0.5)
        with pytest.raises(ModelError, match=r"no answer within 0\.5 s; its process was ended"):
            part.run(inputs(100))
    assert time.monotonic() - began < 30
    assert process.ending() == "SIGKILL"
    assert part.run(inputs(1))


def test_a_process_that_dies_says_its_last_words_and_the_next_one_works(part: FrameworkPart) -> None:
    with pytest.raises(ModelError, match=r"its process ended \(SIGABRT\): the last words"):
        part.run(inputs(200))
    assert part.run(inputs(1))


def test_intermediates_are_another_engine_s(part: FrameworkPart) -> None:
    with pytest.raises(UsageError, match="does not show intermediate values"):
        part.run(inputs(1), intermediates=["x"])


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_state_lives_here_and_outlives_the_process(tmp_path: Path, dtype: str) -> None:
    """What the process gives, and the state afterwards, is what the other engine gives."""
    place = counter(tmp_path / "counter.mlpackage", dtype)
    other, features = coremlops.load(place), ModelAsset.open(place).description.inputs
    part = FrameworkPart(place, features, time_limit_s=120, command=child(TRICKS))
    state, expected = other.make_state(), other.make_state()
    array = state["sum"]
    for turn in range(4):
        found = part.run(inputs(0.1 + turn), state=state)
        wanted = other.predict(inputs(0.1 + turn), state=expected)
        assert found.keys() == wanted.keys() == {"y", "z"}
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])
        np.testing.assert_array_equal(array, expected["sum"])
        if turn == 1:
            before = array.copy()
            with pytest.raises(ModelError, match="its process ended"):
                part.run(inputs(200), state=state)
            np.testing.assert_array_equal(array, before)
    assert state["sum"] is array
    assert array.dtype == {"fp32": np.float32, "fp16": np.float16}[dtype]
    with pytest.raises(ModelError, match="state"):
        part.run(inputs(1), state={"sum": np.zeros((3, 2), array.dtype)})
    with pytest.raises(ModelError, match="state"):
        part.run(inputs(1))


def test_unknown_compute_units(path: Path) -> None:
    with pytest.raises(UsageError, match="unknown compute units 'TPU'"):
        FrameworkPart(path, (), compute_units="TPU")


def test_the_process_goes_with_the_model(path: Path) -> None:
    ready = "import time, sys; from coremlops.runtime.framework.wire import send\n"
    part = FrameworkPart(
        path, (), command=(sys.executable, "-c", ready + "send(sys.stdout.buffer, {}); time.sleep(600)")
    )
    process = part._process
    assert process is not None
    assert process.is_alive()
    del part
    gc.collect()
    assert not process.is_alive()


def test_a_load_that_takes_too_long_is_ended(path: Path) -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(600)")
    with pytest.raises(ModelError, match=r"no answer within 0\.2 s"):
        FrameworkPart(path, (), time_limit_s=0.2, command=sleeper)
