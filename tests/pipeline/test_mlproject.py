"""`MLproject` files as MLflow reads them, with mistakes named."""

from __future__ import annotations

import pytest

from coremlops.errors import ConfigError
from coremlops.pipeline.mlproject import MLProject, parse_mlproject
from coremlops.pipeline.yamlfile import parse_yaml

GOOD = """
name: train
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      upstream: path
      downstream: path
      epochs: {type: int, default: 20}
      rate: {type: float, default: 1e-3}
      name: {default: "a b"}
    command: "python -u -m tool.train {upstream} {downstream} --epochs {epochs} --rate {rate} {name} '{{}}'"
"""


def parse(text: str) -> MLProject:
    return parse_mlproject(parse_yaml(text.encode(), "train/MLproject"), "train/MLproject")


def test_short_and_long_forms() -> None:
    project = parse(GOOD)
    assert {name: (item.type, item.default) for name, item in project.parameters.items()} == {
        "upstream": ("path", None),
        "downstream": ("path", None),
        "epochs": ("int", "20"),
        "rate": ("float", "1e-3"),
        "name": ("string", "a b"),
    }
    assert project.environment == {"python_env": "python_env.yaml"}
    assert project.modules == ("tool.train",)


def test_values_are_quoted_for_the_shell() -> None:
    values = {"upstream": "/x y", "downstream": "/d", "epochs": "3", "rate": "1", "name": "$(id); '"}
    assert parse(GOOD).render(values) == (
        "python -u -m tool.train '/x y' /d --epochs 3 --rate 1 '$(id); '\"'\"'' '{}'"
    )


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("entry_points", "entrypoints", "unknown key 'entrypoints'", "did you mean 'entry_points'?"),
        ("main:", "mian:", "has no entry point `main`", "did you mean 'mian'?"),
        ("command:", "comand:", "unknown key 'comand'", "did you mean 'command'?"),
        ("type: int", "type: integer", "unknown type 'integer'", "did you mean 'int'?"),
        ("default: 20", "default: many", "parameter epochs is of type int, got 'many'", ""),
        ("{rate}", "{rat}", "{rat} names no parameter", "did you mean 'rate'?"),
        ("{rate}", "{rate.real}", "{rate.real} names no parameter", ""),
        ("{rate}", "{rate!r}", "names no parameter", ""),
        ("{rate}", "{rate", "command", ""),
        (
            "python_env: python_env.yaml",
            "docker_env: {image: x}",
            "docker_env is not supported",
            "take docker",
        ),
        ("upstream: path", "up-stream: path", "'up-stream' is no name of a parameter", ""),
    ],
)
def test_a_mistake_is_named(old: str, new: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new, 1))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "train/MLproject" in caught.value.message


def test_a_uri_needs_a_scheme() -> None:
    text = GOOD.replace("epochs: {type: int, default: 20}", "epochs: {type: uri, default: there}")
    with pytest.raises(ConfigError, match="is a URI, got 'there'"):
        parse(text)
