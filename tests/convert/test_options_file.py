"""Options from YAML and JSON: the dataclass's own fields; what is unknown names what is near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coremlops.convert import ConvertOptions, Input, Output
from coremlops.convert.options_file import KEYS, parse_options, read_options
from coremlops.errors import UsageError

FULL = """
target: iOS18
precision: float16
capture: export
inputs:
  - {name: image, type: image, shape: 320x224, scale: 1/255, mean: [0.5, 0.4, 0.3], std: 0.25}
  - ids=tensor:int32,1x8|1x16
outputs:
  - {name: p, post: softmax}
keep_float32: kept.json
states: ["*cache*"]
labels: labels.txt
weights: best.pt
without_repairs: [squares]
functions: {a: a.pt2, b: "net:make"}
default_function: a
author: Ada
version: 1.2
metadata: {team: vision}
"""


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text(FULL)
    (tmp_path / "kept.json").write_text('{"format": 1, "keep_float32": ["exp_*", "type:softmax"]}')
    (tmp_path / "labels.txt").write_text("red\n\nblue\n")
    (tmp_path / "a.pt2").touch()
    assert parse_options(read_options(tmp_path / "o.yaml")) == ConvertOptions(
        target="iOS18",
        capture="export",
        inputs=(
            Input(
                "image",
                type="image",
                shapes=((1, 3, 224, 320),),
                scale=1 / 255,
                mean=(0.5, 0.4, 0.3),
                std=(0.25,),
            ),
            Input("ids", dtype="int32", shapes=((1, 8), (1, 16))),
        ),
        outputs=(Output("p", post="softmax"),),
        keep_float32=("exp_*", "type:softmax"),
        states=("*cache*",),
        labels=("red", "blue"),
        weights=tmp_path / "best.pt",
        without_repairs=("squares",),
        functions={"a": str(tmp_path / "a.pt2"), "b": "net:make"},
        default_function="a",
        author="Ada",
        version="1.2",
        metadata={"team": "vision"},
    )


def test_every_field_can_be_said() -> None:
    assert set(KEYS) == set(ConvertOptions.__dataclass_fields__) - {"card", "provenance"}


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ({"tarrget": "iOS15"}, "options: unknown key 'tarrget'", "did you mean target?"),
        (
            {"target": "iOS14"},
            "target: one of iOS15, iOS16, iOS17, iOS18, iOS26 expected",
            "did you mean iOS1",
        ),
        ({"inputs": {"name": "x"}}, "options: inputs: a list expected", ""),
        ({"inputs": [{"shape": [1]}]}, "options: inputs: a name expected", ""),
        ({"inputs": [3]}, "an object with a name expected, got 3", ""),
        ({"inputs": [{"name": "x", "type": 3}]}, "type: a word expected, got 3", ""),
        ({"outputs": [{"name": "x", "pots": "softmax"}]}, "unknown key 'pots'", "did you mean post?"),
        ({"labels": ["a", "a"]}, "got twice: a", ""),
        ({"labels": "none.txt"}, "none.txt: a file of labels, one a line, expected", ""),
        ({"keep_float32": "none.json"}, "none.json cannot be read", ""),
        ({"metadata": ["a"]}, "keys with texts expected", ""),
        ({"states": "cache"}, "options: states: a list expected", ""),
    ],
)
def test_what_a_file_cannot_say(value: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(value)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "options as YAML or JSON expected"),
        ("- a", "keys such as target: iOS17 expected"),
        ("a: !!python/object:os.system {}", "options as YAML or JSON expected"),
        ("\ud800", "text in UTF-8 expected"),
    ],
)
def test_a_file_of_something_else(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "o.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError) as caught:
        read_options(path)
    assert message in caught.value.message


def test_a_recipe_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"format": 2, "keep_float32": []}')
    with pytest.raises(UsageError, match="format 1 expected, got 2"):
        parse_options({"keep_float32": str(path)})
    path.write_text('["exp"]')
    with pytest.raises(UsageError, match="a recipe is"):
        parse_options({"keep_float32": str(path)})
