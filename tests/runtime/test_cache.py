"""The cache of sessions: a second load gives the same bits, and nothing in its folder can do harm."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.dialects.mil.graph import NamedType, TensorType
from coremlops.errors import CoremlopsError, UsageError
from coremlops.lower.context import Classifier
from coremlops.model import ModelAsset
from coremlops.runtime import cache, memory
from coremlops.runtime.model import Model
from coremlops.runtime.session import Session
from tests.runtime.test_parts import X, counter
from tests.runtime.test_session import two_weights

RED = np.zeros((16, 16, 3), np.uint8) + np.array([255, 0, 0], np.uint8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that keeps small models, too, and is filled only when a test says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(cache, "LEAST_BYTES", 0)
    monkeypatch.setattr(cache, "fill_later", lambda *_, **__: None)
    return tmp_path / "xdg" / "coremlops" / "sessions"


def is_cached(model: Model) -> bool:
    assert isinstance(vars(model._part)["lowered"], cache.Cached) == model.cached
    return model.cached


def entries(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir())


@pytest.mark.parametrize("precision", ["typed", "float32"])
def test_a_second_load_comes_from_the_cache_and_gives_the_same_bits(
    root: Path, tiny_classifier: Path, precision: str
) -> None:
    first = coremlops.load(tiny_classifier, precision=precision)
    assert not is_cached(first)
    assert cache.fill(str(tiny_classifier), precision, "main")
    assert not cache.fill(str(tiny_classifier), precision, "main")  # it is there
    second = coremlops.load(tiny_classifier, precision=precision)
    assert is_cached(second)
    assert second.predict({"image": RED}) == first.predict({"image": RED})
    assert second.digest == first.digest
    # what the entry does not hold is made when it is asked for
    assert second.to_onnx() == first.to_onnx()
    other = "float32" if precision == "typed" else "typed"
    assert not is_cached(coremlops.load(tiny_classifier, precision=other))
    assert root.stat().st_mode & 0o077 == 0


def test_weights_beside_the_graph(root: Path, tmp_path: Path) -> None:
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    cache.fill(str(path), "typed", "main")
    (entry,) = entries(root)
    assert (entry / cache.WEIGHTS).stat().st_size >= 2400
    model = coremlops.load(path)
    assert is_cached(model)
    np.testing.assert_array_equal(
        model.predict({"x": np.ones((2, 300), np.float32)})["y"], 1 + np.arange(600.0).reshape(2, 300)
    )


def test_states_and_inner_values_of_a_model_from_the_cache(root: Path, tmp_path: Path) -> None:
    path = counter(tmp_path / "a.mlpackage", "fp16")
    first = coremlops.load(path)
    cache.fill(str(path), "typed", "main")
    second = coremlops.load(path)
    assert is_cached(second)
    assert not is_cached(first)
    states = first.make_state(), second.make_state()
    for names in ((), ("after", "before"), ()):
        expected = first.predict({"x": X}, state=states[0], intermediates=names)
        found = second.predict({"x": X}, state=states[1], intermediates=names)
        assert found.keys() == expected.keys() == {"y", "z", *names}
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_array_equal(states[1]["sum"], states[0]["sum"])
    half = X.astype(np.float16)
    np.testing.assert_array_equal(states[1]["sum"], half + half + half)


def test_another_model_of_the_same_size_is_another_key(root: Path, tmp_path: Path) -> None:
    one, other = (two_weights(tmp_path / f"{name}.mlpackage", np.float32) for name in "ab")
    weights = other / "Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    cache.fill(str(one), "typed", "main")
    assert is_cached(coremlops.load(one))
    assert not is_cached(coremlops.load(other))


def damage_flip(entry: Path) -> None:
    data = bytearray((entry / cache.WEIGHTS).read_bytes())
    data[100] ^= 1
    (entry / cache.WEIGHTS).write_bytes(data)


def rewrite(entry: Path, **changes: Any) -> None:
    found = json.loads((entry / cache.ENTRY).read_text()) | changes
    (entry / cache.ENTRY).write_text(json.dumps(found))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": damage_flip,
    "weights cut short": lambda entry: os.truncate(entry / cache.WEIGHTS, 10),
    "no weights": lambda entry: (entry / cache.WEIGHTS).unlink(),
    "no graph": lambda entry: (entry / cache.GRAPH).unlink(),
    "no entry": lambda entry: (entry / cache.ENTRY).unlink(),
    "no JSON": lambda entry: (entry / cache.ENTRY).write_text("{"),
    "deep JSON": lambda entry: (entry / cache.ENTRY).write_text("[" * 100_000),
    "a list": lambda entry: (entry / cache.ENTRY).write_text("[]"),
    "another format": lambda entry: rewrite(entry, format=99),
    "other tables": lambda entry: rewrite(entry, tables={"inputs": [{"": "Popen", "args": ["true"]}]}),
    "tables of the wrong kind": lambda entry: rewrite(entry, tables=3),
    "another file": lambda entry: rewrite(entry, files={"../../x": ""}),
    "no files": lambda entry: rewrite(entry, files={}),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_is_removed_and_the_model_loads(root: Path, tmp_path: Path, kind: str) -> None:
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    cache.fill(str(path), "typed", "main")
    (entry,) = entries(root)
    DAMAGE[kind](entry)
    model = coremlops.load(path)
    assert not is_cached(model)
    assert model.predict({"x": np.zeros((2, 300))})["y"][0, 7] == 7
    assert entries(root) == []


def test_a_folder_that_others_can_write_is_not_read(root: Path, tmp_path: Path) -> None:
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    cache.fill(str(path), "typed", "main")
    root.chmod(0o777)
    assert not is_cached(coremlops.load(path))
    assert not cache.fill(str(path), "float32", "main")
    root.chmod(0o700)
    assert is_cached(coremlops.load(path))


def test_an_entry_that_the_engine_refuses_after_all(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    cache.fill(str(path), "typed", "main")
    reopen = Session.reopen

    def gone(graph: Path, **options: Any) -> Session:
        graph.unlink()  # as when another process removes it at this moment
        return reopen(graph, **options)

    monkeypatch.setattr(Session, "reopen", gone)
    model = coremlops.load(path)
    assert model.predict({"x": np.zeros((2, 300))})["y"][0, 7] == 7


def test_an_entry_that_the_engine_refuses_is_removed_and_made_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    cache.fill(str(path), "typed", "main")
    (entry,) = entries(root)
    (entry / cache.GRAPH).write_bytes(b"no graph")
    digests = {name: cache._digest(entry / name) for name in (cache.GRAPH, cache.WEIGHTS)}
    rewrite(entry, files=digests)  # whole, as far as its digests go
    filled: list[Any] = []
    monkeypatch.setattr(cache, "fill_later", lambda asset, **options: filled.append((asset.path, options)))
    model = coremlops.load(path)
    assert model.predict({"x": np.zeros((2, 300))})["y"][0, 7] == 7
    assert entries(root) == []
    assert filled == [(path, {"precision": "typed", "function": "main"})]
    cache.fill(str(path), "typed", "main")
    assert is_cached(coremlops.load(path))


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_no_process_starts_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(cache, "LEAST_BYTES", 1)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    free = 4 * ModelAsset.open(path).package.bytes - 1
    if what == "memory":
        monkeypatch.setattr(memory, "available_bytes", lambda: free)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with caplog.at_level("DEBUG", "coremlops.runtime.cache"):
        coremlops.load(path)
    assert f"{free} bytes of {what} are free" in caplog.text
    assert not cache.fill(str(path), "typed", "main")


def test_several_threads_with_states_of_their_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each loads, from the cache or not, adds to a state of its own, and one model serves all of them."""
    path = counter(tmp_path / "a.mlpackage", "fp16")
    steps = np.arange(6, dtype=np.float32).reshape(2, 3)  # exact in fp16
    shared = coremlops.load(path)
    sums: list[tuple[int, np.ndarray[Any, Any]]] = []

    def fill(*_: Any, **__: Any) -> None:
        with contextlib.suppress(OSError, CoremlopsError):
            cache.fill(str(path), "typed", "main")

    monkeypatch.setattr(cache, "fill_later", fill)  # while others load

    def use(number: int) -> None:
        for model in (shared, coremlops.load(path)):
            state = model.make_state()
            for step in range(10):
                before = model.predict({"x": number * steps}, state=state)["y"]
                np.testing.assert_array_equal(before, step * number * steps)
            sums.append((number, state["sum"]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert len(sums) == 16
    for number, total in sums:
        np.testing.assert_array_equal(total, 10 * number * steps)
    assert is_cached(coremlops.load(path))


def test_the_oldest_go_when_it_is_full(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [two_weights(tmp_path / f"{name}.mlpackage", np.float16) for name in "ab"]
    for path in paths:  # two of the same content are one entry
        cache.fill(str(path), "typed", "main")
    (first,) = entries(root)
    (root / ".making-crashed").mkdir()
    os.utime(first, (1, 1))
    size = sum(file.stat().st_size for file in first.iterdir())
    monkeypatch.setenv(cache.LIMIT_VARIABLE, str(size * 2 + 1000))
    cache.fill(str(paths[0]), "float32", "main")
    assert len(entries(root)) == 2
    assert is_cached(coremlops.load(paths[0]))  # used: now the newer one
    os.utime(next(entry for entry in entries(root) if entry != first), (2, 2))
    cache.fill(str(paths[0]), "float16", "main")
    assert first in entries(root)
    assert len(entries(root)) == 2


def test_it_can_be_switched_off(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    cache.fill(str(path), "typed", "main")
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "0")
    assert not is_cached(coremlops.load(path))
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "many")
    with pytest.raises(UsageError, match="whole number of bytes expected, got many"):
        coremlops.load(path)


def test_several_processes_fill_it_at_once(root: Path, tmp_path: Path) -> None:
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    command = [sys.executable, "-m", "coremlops.runtime.cache", str(path), "typed", "main"]
    running = [subprocess.Popen(command) for _ in range(3)]
    codes = sorted(process.wait(60) for process in running)
    assert codes[0] == 0
    assert set(codes) <= {0, 1}
    assert len(entries(root)) == 1
    assert is_cached(coremlops.load(path))


def test_a_load_starts_the_process_that_fills_it_for_big_models_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    started: list[list[str]] = []

    class Child:
        def __init__(self, command: list[str], **_: Any) -> None:
            started.append(command)

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Child)
    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    coremlops.load(path)
    assert started == []
    monkeypatch.setattr(cache, "LEAST_BYTES", ModelAsset.open(path).package.bytes)
    coremlops.load(path, precision="float32")
    command = [sys.executable, "-P", "-m", "coremlops.runtime.cache", str(path), "float32", "main"]
    assert started == [command]
    monkeypatch.setattr(sys, "frozen", True, raising=False)  # there the executable is an app
    coremlops.load(path, precision="float16")
    assert started == [command]


def test_a_user_without_a_home_has_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    path = two_weights(tmp_path / "a.mlpackage", np.float16)
    monkeypatch.setattr(cache, "LEAST_BYTES", 1)
    monkeypatch.setattr(cache, "fill_later", lambda *_, **__: None)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert not is_cached(coremlops.load(path))


def test_tables_survive() -> None:
    tables = (
        NamedType("x", TensorType("fp16", (1, None))),
        Classifier("label", "probs", "probs", (1, 2), ("ä", 3)),
        None,
        {"y": "y.2"},
        TensorType("fp32", None),
    )
    assert cache.decode(json.loads(json.dumps(cache.encode(tables)))) == tables
    with pytest.raises(TypeError, match="cannot be kept"):
        cache.encode((object(),))
