"""Any model, not only one of pictures: published, taken by a device, and asked there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.cli import main
from tests import classic_models as classic
from tests.runtime.test_parts import counter


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Publishes a model with inputs, updates a device, and answers its predict as JSON and as text."""
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        assert main(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    def ask(model: Path, *given: str, **inputs: Any) -> tuple[Any, str]:
        np.savez(tmp_path / "golden.npz", **inputs)
        run("repo", "init", "repository", "--collection", "any")
        run("release", "publish", str(model), "--golden", "golden.npz")
        first = ("--url", f"file://{tmp_path}/repository", "--root", "repository/metadata/1.root.json")
        run("device", "update", "--device", "phone", "--channel", "staging", *first)
        words = ["device", "predict", "--device", "phone", *(f"--input={each}" for each in given)]
        return json.loads(run(*words, "--json")), run(*words)

    return ask


def test_text_in_and_text_out(phone: Any, tmp_path: Path) -> None:
    spec = classic.spec({"x": "string"}, {"y": "string"})
    spec.description.input[0].type.isOptional = True
    spec.imputer.imputedStringValue, spec.imputer.replaceStringValue = "unknown", "?"
    path = classic.save(spec, tmp_path)
    (tmp_path / "x.json").write_text('"a\\u001b[31m"')
    answer, text = phone(path, "x=x.json", x=np.array(["?", "known"]))
    assert answer == {"y": "a\x1b[31m"}
    assert "\x1b" not in text


def test_several_inputs(phone: Any, tmp_path: Path) -> None:
    spec = classic.spec({"a": "double", "b": "double"}, {"y": (2,)})
    spec.featureVectorizer.inputList.add(inputColumn="a", inputDimensions=1)
    spec.featureVectorizer.inputList.add(inputColumn="b", inputDimensions=1)
    path = classic.save(spec, tmp_path)
    (tmp_path / "a.json").write_text("1.5")
    np.save(tmp_path / "b.npy", np.float64(2.5))
    answer, _ = phone(path, "a=a.json", "b=b.npy", a=np.array([1.0, 2.0]), b=np.array([3.0, 4.0]))
    assert answer == {"y": [1.5, 2.5]}


def test_a_state_begins_as_zeros(phone: Any, tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", x)
    answer, _ = phone(counter(tmp_path / "a.mlpackage", "fp16"), "x=x.npy", x=np.stack([x, x]))
    assert answer["z"] == x.tolist()
