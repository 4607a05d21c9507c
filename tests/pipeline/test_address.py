"""Where a project's runs are tracked."""

from __future__ import annotations

from pathlib import Path

import pytest

from coremlops.errors import ConfigError
from coremlops.pipeline.address import tracking_uri
from coremlops.pipeline.project import load_project


@pytest.mark.parametrize("name", ["what?", "100%41"])
def test_a_folder_that_no_address_can_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / name
    root.mkdir()
    text = "project: p\npipelines: {main: {steps: {a: {path: a}}}}\n"
    (root / "coremlops.yaml").write_text(text)
    with pytest.raises(ConfigError, match="MLflow cannot keep a store in"):
        tracking_uri(load_project(root))
    elsewhere = f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri(load_project(root), elsewhere) == elsewhere
    assert tracking_uri(load_project(root), "http://mlflow.example") == "http://mlflow.example"
