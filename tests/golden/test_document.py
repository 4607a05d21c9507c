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
    numbers = {"name": "p", "measure": "numbers", "tolerance": 0.02, "spread": 0.001, "largest": 0.1}
    return {
        "format": 0,
        "model": "0" * 64,
        "label": "c",
        "outputs": [
            {"name": "c", "measure": "equal", "tolerance": 0.0, "spread": 0.0},
            {**numbers, "largest_spread": 0.01, "scale": 2.0},
            {"name": "t", "measure": "none"},
        ],
        "examples": [
            {
                "calls": [
                    {
                        "inputs": {
                            "image": {"type": "picture", "file": "0001.png", "sha256": "1" * 64},
                            "x": {
                                "type": "tensor", "file": "0002.bin", "sha256": "2" * 64,
                                "dtype": "float32", "shape": [2, 3],
                            },
                            "n": {"type": "number", "value": "-inf"},
                            "d": {"type": "dictionary", "keys": [1, 2], "values": [0.5, 1.0]},
                            "s": {"type": "texts", "value": ["a", ""]},
                        },
                        "outputs": {
                            "c": {"type": "text", "value": "ada", "decided": True},
                            "p": {
                                "type": "tensor", "dtype": "float32", "shape": [1, 900], "values": [1.0, 2.5],
                                "positions": [3, 899], "rms": 1.5, "finite": True,
                            },
                            "t": {"type": "integers", "values": [1, -5]},
                        },
                    }
                ]
            }
        ],
        "decisions": [
            {
                "at": "2026-11-25T12:00:00Z", "by": "eve@box", "reason": "A12 flushes small values",
                "basis": "factor 2", "changes": [{"name": "p", "before": [0.01, 0.05], "after": [0.02, 0.1]}],
            }
        ],
    }  # fmt: skip


def _write(tmp_path: Path, value: object) -> Path:
    text = value if isinstance(value, str) else json.dumps(value)
    (tmp_path / "golden.json").write_text(text)
    return tmp_path


def test_a_good_one_survives_a_round_trip(tmp_path: Path) -> None:
    found = read_golden(_write(tmp_path, _good()))
    assert found.to_json() == _good()
    assert json.loads(found.to_bytes()) == _good()
    assert found.files == {"0001.png": "1" * 64, "0002.bin": "2" * 64}


CALL = ("examples", 0, "calls", 0)
X, P = (*CALL, "inputs", "x"), (*CALL, "outputs", "p")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 1, "format 1, and this coremlops reads format 0 alone"),
        (("format",), False, "'format': expected a whole number"),
        (("model",), "x" * 64, "'model': expected 64 lower-case hex digits"),
        (("label",), "q", "'label': expected one of the outputs"),
        (("outputs",), [], "'outputs': expected 1 to 512 things"),
        (("outputs", 0, "measure"), "none", "outputs[0]: unknown key"),
        (("outputs", 0, "measure"), "all", "a measure of numbers, equal, none expected, got 'all'"),
        (("outputs", 0, "name"), "p", "'outputs': expected each output once"),
        (("outputs", 0, "name"), "\x1b[2J", "'name': expected a name that prints"),
        (("outputs", 1, "tolerance"), 0.9, "'tolerance': expected a number from 0 to 0.25, got 0.9"),
        (("outputs", 1, "tolerance"), 10**400, "'tolerance': expected a number from 0 to inf, got 1000"),
        (("outputs", 1, "tolerance"), "0.1", "'tolerance': expected a number"),
        (("outputs", 1, "largest"), 1e4, "'largest': expected a number from 0 to 1000"),
        (("outputs", 1, "scale"), 0, "'scale': expected a number above 0"),
        (("outputs", 1, "scale"), 2.6, "'scale': expected at most 2.5, 1 or the largest value, got 2.6"),
        (("outputs", 1, "scale"), 1e308, "'scale': expected at most 2.5"),
        (("outputs", 1, "scale"), 10**400, "'scale': expected a number from 0 to inf"),
        (("examples",), [], "'examples': expected 1 to 32 things"),
        (("examples",), [{}] * 33, "'examples': expected a list of at most 32"),
        (("examples", 0, "calls"), [], "'calls': expected 1 to 64 things"),
        ((*CALL, "inputs"), [], "'inputs': expected an object"),
        ((*CALL, "outputs"), {}, "'outputs': expected exactly c, p, t"),
        ((*CALL, "inputs", "image", "type"), "pickle", "a type of picture, tensor"),
        ((*CALL, "inputs", "image", "file"), "../../etc/passwd", "'file': expected a name such as 0001.png"),
        ((*CALL, "inputs", "image", "file"), "0001.png\n", "'file': expected a name such as 0001.png"),
        ((*X, "file"), "0001.png", "'file': expected a name such as 0001.bin"),
        ((*X, "sha256"), "1", "'sha256': expected 64"),
        ((*X, "dtype"), "object", "'dtype': expected one of float16"),
        ((*X, "shape"), [2**40, 2**40], "'shape': expected at most"),
        ((*X, "shape"), [-1], "'shape': expected sizes"),
        ((*X, "shape"), [1] * 17, "'shape': expected a list of at most 16"),
        ((*CALL, "inputs", "n", "value"), "one", "'value': expected a value of the type number"),
        ((*CALL, "inputs", "n", "value"), True, "'value': expected a value of the type number"),
        ((*CALL, "inputs", "d", "keys"), [1, "2"], "'keys': expected different keys of one type"),
        ((*CALL, "inputs", "d", "keys"), [1], "'values': expected 1 numbers"),
        ((*CALL, "inputs", "s", "value"), [1], "'value': expected texts"),
        ((*CALL, "outputs", "c", "value"), 3, "'value': expected a value of the type text"),
        ((*CALL, "outputs", "c", "decided"), 1, "'decided': expected true or false"),
        ((*P, "values"), [1.0], "'values': expected 2 numbers"),
        ((*P, "values"), [0.0] * 5000, "'values': expected a list of at most 4096"),
        ((*P, "positions"), [3, 900], "'positions': expected rising numbers from 0 to 899"),
        ((*P, "positions"), [3, 3], "'positions': expected rising numbers"),
        ((*P, "rms"), -1, "'rms': expected a finite number"),
        ((*CALL, "outputs", "t", "values"), [2**63], "'values': expected integers"),
        (("decisions", 0, "at"), "today", "'at': expected a time"),
        (("decisions", 0, "changes", 0, "after"), [1], "'after': expected two numbers"),
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


@pytest.mark.parametrize("where", [(), ("outputs", 1), ("examples", 0), CALL, X, P, ("decisions", 0)])
def test_unknown_and_missing_keys_are_refused(tmp_path: Path, where: tuple[str | int, ...]) -> None:
    for change in ("more", "less"):
        whole: Any = _good()
        inner = whole
        for key in where:
            inner = inner[key]
        if change == "more":
            inner["extra"] = 1
        else:
            inner.pop(
                next(
                    key
                    for key in inner
                    if key != "type" and key not in ("rms", "finite", "label", "decisions")
                )
            )
        with pytest.raises(GoldenError, match=r"unknown key|is missing|measure of|exactly"):
            read_golden(_write(tmp_path, whole))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 200_000, '{"format": ' + "9" * 5000 + "}", "\x00", "NaN"]
)
def test_broken_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(GoldenError):
        read_golden(_write(tmp_path, text))


def test_nothing_compared_is_no_golden_set(tmp_path: Path) -> None:
    whole = _good()
    whole["outputs"] = [{"name": name, "measure": "none"} for name in "cpt"]
    with pytest.raises(GoldenError, match="one that is compared"):
        read_golden(_write(tmp_path, whole))


def test_a_file_too_large_is_not_parsed(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match="bytes expected, got more"):
        read_golden(_write(tmp_path, " " * (MAX_DOCUMENT_BYTES + 1)))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(_good()))
    (tmp_path / "golden.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(GoldenError, match="a file expected, got none"):
        read_golden(tmp_path)


@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_the_scale_of_an_output_that_is_0_everywhere_is_at_most_1(tmp_path: Path, scale: float) -> None:
    good = _good()
    answer = good["examples"][0]["calls"][0]["outputs"]["p"]
    answer |= {"values": [0.0, "inf"], "rms": 0.0}
    good["outputs"][1]["scale"] = scale
    folder = _write(tmp_path, good)
    if scale <= 1:
        assert read_golden(folder).limits[1].scale == scale
    else:
        with pytest.raises(GoldenError, match=r"at most 1, 1 or the largest value, got 1\.1"):
            read_golden(folder)
