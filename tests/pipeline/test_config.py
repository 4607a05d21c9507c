"""`coremlops.yaml`, strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from coremlops.errors import ConfigError
from coremlops.pipeline.config import Config, parse_config
from coremlops.pipeline.yamlfile import MAX_BYTES, YamlCache, parse_yaml

GOOD = """
project: faces
code: [shared]
tracking: {uri: "sqlite:///mlflow.db", experiment: people}
pipelines:
  main:
    steps:
      verify:  {uses: verify, inputs: {model: train, data: prepare/test}}
      train:   {path: train, inputs: {upstream: prepare}, params: {epochs: 20, flag: true}, after: [other]}
      prepare: {path: prepare, inputs: {photos: ./photos}}
      other:   {path: other}
"""


def parse(text: str) -> Config:
    return parse_config(parse_yaml(text.encode(), "coremlops.yaml"))


def test_a_good_file_becomes_values_in_running_order() -> None:
    config = parse(GOOD)
    assert (config.project, config.code, config.experiment) == ("faces", ("shared",), "people")
    steps = config.pipeline("main").steps
    assert [step.name for step in steps] == ["prepare", "other", "train", "verify"]
    train = steps[2]
    assert train.params == {"epochs": "20", "flag": "True"}
    assert train.upstream == ("prepare", "other")
    assert [source.source for source in steps[3].inputs] == ["train", "prepare/test"]
    assert steps[0].inputs[0].source == "./photos"


def test_up_to_keeps_what_a_step_needs() -> None:
    assert [step.name for step in parse(GOOD).pipeline("main").up_to("train").steps] == [
        "prepare",
        "other",
        "train",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("tracking:", "trackin:", "coremlops.yaml: unknown key 'trackin'", "did you mean 'tracking'?"),
        ("after:", "aftr:", "pipelines.main.steps.train: unknown key 'aftr'", "did you mean 'after'?"),
        ("uses: verify", "uses: verfy", "no built-in component 'verfy'", "did you mean 'verify'?"),
        ("{upstream: prepare}", "{upstream: prepar}", "'prepar' names no step", "did you mean 'prepare'?"),
        ("after: [other]", "after: [othr]", "no step 'othr'", "did you mean 'other'?"),
        ("./photos", "./../photos", "'./../photos' is no path inside the project", ""),
        ("./photos", "./.coremlops/store", "is ours", ""),
        ("prepare/test", "prepare/../x", "is no path inside", ""),
        ("{path: other}", "{path: other, uses: verify}", "expected one of `path` and `uses`, got both", ""),
        ("{path: other}", "{}", "expected one of `path` and `uses`, got neither", ""),
        ("project: faces", "project: a b", "'a b' is no name", ""),
        ("project: faces", "", "`project` is missing", "begin the file"),
        ("epochs: 20", "epochs: [20]", "params.epochs: expected one value, got a list", ""),
        ("path: train", "path: 3", "expected text, got int 3", ""),
        ("path: train", "path: .", "is no path inside the project", ""),
        ("main:", "main: {}\n  second:", "pipelines.main has no steps", ""),
        ("other:   {", "train:   {", "the key 'train' stands there twice", ""),
        ("other:   {", "no:   {", "a key must be text, got no", "quotes"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, message: str, hint: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_cycle_is_named_step_by_step() -> None:
    text = """
project: x
pipelines: {main: {steps: {
  free: {path: free},
  a: {path: a, inputs: {u: c}}, b: {path: b, inputs: {u: a/part}}, c: {path: c, after: [b, free]}}}}
"""
    with pytest.raises(ConfigError, match="a -> c -> b -> a") as caught:
        parse(text)
    assert "A needs B" in caught.value.hint


def test_a_step_that_needs_itself_is_a_cycle() -> None:
    with pytest.raises(ConfigError, match="a -> a"):
        parse("project: x\npipelines: {main: {steps: {a: {path: a, inputs: {u: a}}}}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x\n", "coremlops.yaml:2: aliases"),
        ("a: [" + "[" * 30 + "]" * 30 + "]", "nested deeper than 20"),
        ("a: !!python/object/apply:os.system [id]", "coremlops.yaml:1: tags"),
        ("a: !!binary aGk=", "coremlops.yaml:1: tags"),
        ('a: !!int ""', "coremlops.yaml:1: tags"),
        ("a: !!timestamp x", "coremlops.yaml:1: tags"),
        ("? !!str [a]\n: 1", "coremlops.yaml:1: tags"),
        ("a: 0x" + "f" * 9000, "a number of more than 64 bits"),
        ('a: "\\uD800"', "no command line can carry"),
        ('a: "x\\0y"', "no command line can carry"),
        ("a: b: c", "not valid YAML: line 1"),
        ("- a", "expected `key: value` lines, got list"),
        ("? [a, b]\n: 1", "a key must be text"),
        ("a: \x00", "not valid YAML"),
        ("<<: {a: 1}", "unknown key '<<'"),
    ],
)
def test_hostile_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in caught.value.message


def test_too_many_bytes_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "coremlops.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        YamlCache(tmp_path / "cache.json").read(path, "coremlops.yaml")


def test_dates_and_versions_stay_as_written() -> None:
    assert parse_yaml(b"a: 2026-11-21\nb: 1.10\nc: 1e-3\n", "x") == {"a": "2026-11-21", "b": 1.1, "c": "1e-3"}


def test_the_cache_follows_the_bytes_and_survives_damage(tmp_path: Path) -> None:
    path, kept = tmp_path / "coremlops.yaml", tmp_path / "cache.json"
    path.write_text("a: 1")
    cache = YamlCache(kept)
    assert cache.read(path, "x") == {"a": 1}
    cache.save()
    assert YamlCache(kept).read(path, "x") == {"a": 1}
    path.write_text("a: 2")
    assert YamlCache(kept).read(path, "x") == {"a": 2}
    for damage in (
        "{",
        '{"format": 1}',
        '{"format": 1, "files": 3}',
        f'{{"format": 1, "files": {{"{path}": 3}}}}',
    ):
        kept.write_text(damage)
        assert YamlCache(kept).read(path, "x") == {"a": 2}
    kept.write_text("{")
    assert YamlCache(kept).read(path, "x") == {"a": 2}
