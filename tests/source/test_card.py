"""model.json is read strictly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import InputError
from coremlops.source import read_card
from tests.verify.fixtures import card


def _write(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "model.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_card_survives_a_round_trip(tmp_path: Path) -> None:
    value = card(224, 112, 1 / 128, -0.5, ["ada", "böb"])
    read = read_card(_write(tmp_path, value))
    assert read.to_json() == value
    assert (read.input.width, read.input.height, read.input.channels) == (224, 112, 3)
    assert read.input.bias == (-0.5, -0.5, -0.5)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "format 1 expected, got 2"),
        (("labels",), [], "labels: a list of 1 to"),
        (("labels",), ["a", "a"], "got twice: a"),
        (("labels",), ["a\nb"], "a printable name expected, got 'a\\nb'"),
        (("labels",), [1], "a printable name expected, got 1"),
        (("input", "width"), 0, "input.width: a whole number 1..8192 expected, got 0"),
        (("input", "width"), 224.0, "input.width: a whole number 1..8192 expected, got 224.0"),
        (("input", "scale"), 0, "input.scale: not 0"),
        (("input", "scale"), "1", "input.scale: a finite number expected, got '1'"),
        (("input", "bias"), [0.0], "input.bias: a list of 3 numbers expected, got [0.0]"),
        (("input", "bias"), [0, 0, float("nan")], "input.bias: a finite number expected, got nan"),
        (("input", "scale"), 10**400, "input.scale: a finite number expected, got 1000"),
        (("input", "scale"), 1e300, "input.scale: a finite number expected, got 1e+300"),
        (("input", "color"), [], "input.color: one of RGB, L expected, got []"),
        (("input", "color"), "BGR", "input.color: one of RGB, L expected, got 'BGR'"),
        (("input", "image_option"), "crop", "one of scaleFit, centerCrop, scaleFill expected, got 'crop'"),
        (("input", "name"), "../x", "a plain name such as 'image' expected"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, path: tuple[str, ...], value: object, message: str) -> None:
    whole: dict[str, Any] = card(224, 224, 1.0, 0.0, ["a", "b"])
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InputError) as caught:
        read_card(_write(tmp_path, whole))
    assert message in caught.value.message


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    whole = card(224, 224, 1.0, 0.0, ["a"])
    whole["label"] = ["a"]
    with pytest.raises(InputError) as caught:
        read_card(_write(tmp_path, whole))
    assert caught.value.message == "model.json: unknown key 'label'"
    assert caught.value.hint == "did you mean 'labels'?"


@pytest.mark.parametrize("text", ["", "[" * 100_000, "{", "null"])
def test_broken_json_is_an_input_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        read_card(_write(tmp_path, text))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json: missing input"):
        read_card(_write(tmp_path, {"format": 1, "labels": ["a"]}))
