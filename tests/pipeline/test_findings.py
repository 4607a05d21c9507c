"""What a step says about its output, read from hostile files."""

from __future__ import annotations

from pathlib import Path

import pytest

from coremlops.errors import StepError
from coremlops.pipeline.findings import read_dataset, read_metrics


def test_a_number_beyond_every_float_is_the_steps_failure(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"a": 1' + "0" * 400 + "}")
    with pytest.raises(StepError, match=r"metrics\.json holds numbers, got a: 1000"):
        read_metrics(tmp_path, "train")


@pytest.mark.parametrize("digest", [r"a\u0000b", r"\ud800", r"a\nb"])
def test_a_digest_that_no_environment_can_carry_is_the_steps_failure(tmp_path: Path, digest: str) -> None:
    (tmp_path / "dataset.json").write_text(f'{{"name": "n", "digest": "{digest}"}}')
    with pytest.raises(StepError, match="needs 'digest' as text"):
        read_dataset(tmp_path, "prepare")
