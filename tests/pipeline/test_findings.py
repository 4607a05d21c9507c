"""What a step says about its output, read from hostile files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coremlops.errors import StepError
from coremlops.pipeline.findings import failed_gates, read_dataset, read_metrics
from coremlops.verify import Gates


def test_a_number_beyond_every_float_is_the_steps_failure(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"a": 1' + "0" * 400 + "}")
    with pytest.raises(StepError, match=r"metrics\.json holds numbers, got a: 1000"):
        read_metrics(tmp_path, "train")


@pytest.mark.parametrize("digest", [r"a\u0000b", r"\ud800", r"a\nb"])
def test_a_digest_that_no_environment_can_carry_is_the_steps_failure(tmp_path: Path, digest: str) -> None:
    (tmp_path / "dataset.json").write_text(f'{{"name": "n", "digest": "{digest}"}}')
    with pytest.raises(StepError, match="needs 'digest' as text"):
        read_dataset(tmp_path, "prepare")


def test_a_pipeline_says_of_a_gate_what_verify_says(tmp_path: Path) -> None:
    verdicts = Gates(snr_db=99.0, max_abs=0.01).judge(
        {"snr_db": 53.42414785194319, "max_abs": 0.25, "top1_agreement": None, "accuracy_drop": 0.0}
    )
    (tmp_path / "report.json").write_text(json.dumps({"gates": [item.to_json() for item in verdicts]}))
    assert failed_gates(tmp_path) == tuple(str(item) for item in verdicts if not item.ok)
    assert failed_gates(tmp_path)[0] == "snr_db: at least 99 expected, got 53.42"
