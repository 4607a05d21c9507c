"""golden.json from strangers: each way of being wrong is a GoldenError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import GoldenError
from coremlops.golden import read_golden
from coremlops.golden.document import MAX_DOCUMENT_BYTES


def _good() -> dict[str, Any]:
    return {
        "format": 0,
        "model": "0" * 64,
        "tolerance": 0.02,
        "input": {"name": "image", "width": 32, "height": 32, "color": "RGB"},
        "examples": [
            {"file": "0001.png", "sha256": "1" * 64, "label": "a", "probabilities": {"a": 0.9, "b": 0.1}}
        ],
    }


def _write(tmp_path: Path, value: object) -> Path:
    text = value if isinstance(value, str) else json.dumps(value)
    (tmp_path / "golden.json").write_text(text)
    return tmp_path


def test_a_good_one_survives_a_round_trip(tmp_path: Path) -> None:
    assert read_golden(_write(tmp_path, _good())).to_json() == _good()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 1, "format 0 expected, got 1"),
        (("format",), False, "format 0 expected, got False"),
        (("model",), "x" * 64, "model: a SHA-256 expected"),
        (("tolerance",), 0.9, "tolerance: a number from 0 to 0.25 expected, got 0.9"),
        (("tolerance",), 10**400, "tolerance: a number from 0 to 0.25 expected, got 1000"),
        (("tolerance",), float("nan"), "tolerance: a number expected, got nan"),
        (("tolerance",), "0.1", "tolerance: a number expected, got '0.1'"),
        (("input", "width"), 10**9, "input.width: a whole number 1..4096 expected"),
        (("input", "color"), "CMYK", "input.color: RGB or L expected, got 'CMYK'"),
        (("examples",), [], "1 to 32 examples expected, got []"),
        (("examples",), [{}] * 33, "1 to 32 examples expected"),
        (("examples", 0, "file"), "../../etc/passwd", "file: a name such as 0001.png expected"),
        (("examples", 0, "file"), "0001.png\n", "file: a name such as 0001.png expected"),
        (("examples", 0, "file"), "/tmp/0001.png", "file: a name such as 0001.png expected"),
        (("examples", 0, "sha256"), "1", "sha256: a SHA-256 expected, got '1'"),
        (("examples", 0, "label"), "c", "the probability of its own label 'c' expected, got none"),
        (("examples", 0, "label"), "\x1b[2J", "label: a printable name expected"),
        (("examples", 0, "probabilities"), {"a": 1e400}, "probabilities: a number expected, got inf"),
        (("examples", 0, "probabilities"), {"a": -1}, "probabilities: a number from 0 to 1.001 expected"),
        (
            ("examples", 0, "probabilities"),
            {str(i): 0.0 for i in range(65)},
            "1 to 64 probabilities expected",
        ),
    ],
)
def test_what_cannot_be_is_named(
    tmp_path: Path, path: tuple[str | int, ...], value: object, message: str
) -> None:
    whole: Any = _good()
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(GoldenError) as caught:
        read_golden(_write(tmp_path, whole))
    assert message in caught.value.message


@pytest.mark.parametrize("where", [(), ("input",), ("examples", 0)])
def test_unknown_and_missing_keys_are_refused(tmp_path: Path, where: tuple[str | int, ...]) -> None:
    for change in ("more", "less"):
        whole: Any = _good()
        inner = whole
        for key in where:
            inner = inner[key]
        if change == "more":
            inner["extra"] = 1
        else:
            inner.pop(next(iter(inner)))
        with pytest.raises(GoldenError, match="exactly"):
            read_golden(_write(tmp_path, whole))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 200_000, '{"format": ' + "9" * 5000 + "}", "\x00"]
)
def test_broken_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(GoldenError):
        read_golden(_write(tmp_path, text))


def test_a_file_too_large_is_not_parsed(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match="bytes expected, got more"):
        read_golden(_write(tmp_path, " " * (MAX_DOCUMENT_BYTES + 1)))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(_good()))
    (tmp_path / "golden.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(GoldenError, match="a file expected, got none"):
        read_golden(tmp_path)


def test_one_file_twice_is_refused(tmp_path: Path) -> None:
    whole = _good()
    whole["examples"] *= 2
    with pytest.raises(GoldenError, match="each file once"):
        read_golden(_write(tmp_path, whole))
