"""A set that somebody damaged on purpose: an error of ours or a judgement, and nothing else."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops import golden
from coremlops.digest import sha256_bytes
from coremlops.errors import CoremlopsError, GoldenError, ModelError
from coremlops.golden.document import parse_golden
from coremlops.model import model_digest
from tests.golden.test_golden import change
from tests.handmade import adder
from tests.runtime.test_parts import endless

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    "",
    "../x",
    "nan",
    [],
    {},
    [[]],
    {"type": "tensor"},
    "\ud800",
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return adder(tmp_path / "a.mlpackage")


@pytest.fixture
def made(model: Path, tmp_path: Path) -> Path:
    np.savez(tmp_path / "inputs.npz", x=np.ones((2, 2, 3)))
    golden.make(model, tmp_path / "inputs.npz", tmp_path / "golden")
    return tmp_path / "golden"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [
        *([path] if path else []),
        *(found for key, item in items for found in places(item, (*path, key))),
    ]


def test_odd_values_at_every_place(model: Path, made: Path) -> None:
    text = (made / "golden.json").read_text()
    for path in places(json.loads(text)):
        for odd in ODD:
            whole = json.loads(text)
            inner = whole
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = odd
            try:
                parse_golden(json.dumps(whole).encode())
            except GoldenError:
                continue
            (made / "golden.json").write_text(json.dumps(whole))
            with contextlib.suppress(CoremlopsError):
                golden.check(model, made)


def test_bytes_at_random(made: Path) -> None:
    data = (made / "golden.json").read_bytes()
    rng = random.Random(3)
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        with contextlib.suppress(GoldenError):
            parse_golden(bytes(changed[: rng.randint(1, len(changed))] if rng.random() < 0.2 else changed))


@pytest.mark.parametrize(("data", "words"), [(b"", "24 bytes expected, got 0"), (b"x" * 25, "got 25")])
def test_a_tensor_of_another_length(model: Path, made: Path, data: bytes, words: str) -> None:
    (made / "0001.bin").write_bytes(data)
    digest = sha256_bytes(data)

    def sign(whole: Any) -> None:
        for example in whole["examples"]:
            example["calls"][0]["inputs"]["x"]["sha256"] = digest

    change(made, sign)
    with pytest.raises(GoldenError, match=words):
        golden.check(model, made)


def test_a_tensor_of_another_shape_or_type(model: Path, made: Path) -> None:
    for key, value, words in (
        ("shape", [3, 2], r"do not fit the model: input 'x': expected the shape \[2, 3\], got \[3, 2\]"),
        ("dtype", "float64", "48 bytes expected, got 24"),
    ):
        text = (made / "golden.json").read_text()
        change(
            made,
            lambda whole: whole["examples"][0]["calls"][0]["inputs"]["x"].update({key: value}),  # noqa: B023
        )
        with pytest.raises(GoldenError, match=words):
            golden.check(model, made)
        (made / "golden.json").write_text(text)


def test_more_bytes_than_a_set_may_have(model: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coremlops.golden.checking.MAX_SET_BYTES", 20)
    with pytest.raises(GoldenError, match="at most 20 bytes of inputs expected, got 24"):
        golden.check(model, made)


def test_a_model_without_an_end_is_stopped(tmp_path: Path, made: Path) -> None:
    path = endless(tmp_path / "endless.mlpackage")
    change(made, lambda whole: whole.update(model=model_digest(path)))
    with pytest.raises(ModelError, match=r"took longer than the time limit of 0\.05 s"):
        golden.check(path, made, time_limit_s=0.05)


def test_a_special_file_is_not_read(model: Path, made: Path) -> None:
    import os

    (made / "0001.bin").unlink()
    os.mkfifo(made / "0001.bin")
    with pytest.raises(GoldenError, match=r"0001\.bin: a file expected"):
        golden.check(model, made)
