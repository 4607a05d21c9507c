"""The packages that showed the traps, as far as they are installed, and what was measured on all of them."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def shown() -> Any:
    sys.path.insert(0, str(BENCHMARKS / "runtime"))
    spec = importlib.util.spec_from_file_location("repairs_benchmark", BENCHMARKS / "repairs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS / "runtime"))


def committed() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((BENCHMARKS / "repairs.json").read_text())["rows"]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({row["net"] for row in committed()}))
def test_the_package_converts_and_computes_what_torch_does(name: str, shown: Any) -> None:
    if importlib.util.find_spec(shown.SHOWN[name].package) is None:
        pytest.skip(f"{shown.SHOWN[name].package} is not installed")
    for row in shown.prove(name):
        assert row["float32_db"] >= 90
        assert row["typed_db"] >= 50
        assert set(row["repairs"]) & set(row["left_out"])
        assert "Error" in row["without"]


def test_what_was_measured_covers_every_package_and_passes() -> None:
    rows = committed()
    assert {row["net"] for row in rows} == {
        "mtcnn_rnet",
        "mtcnn_onet",
        "silero_vad_16k",
        "silero_vad_8k",
        "resemblyzer",
        "minilm_eager",
        "minilm_sdpa",
    }
    assert all(row["float32_db"] >= 90 and row["typed_db"] >= 50 for row in rows)
    assert all("Error" in row["without"] for row in rows)


def test_what_was_measured_on_architectures_passes() -> None:
    rows = json.loads((BENCHMARKS / "repairs_architectures.json").read_text())["rows"]
    assert len(rows) == 28
    assert all(float(row["mended_float32"]) >= 90 and float(row["mended"]) >= 50 for row in rows)
    decoders = {row["net"] for row in rows if row["infinite_masks"] == "NaN"}
    assert decoders == {"gpt2", "llama", "qwen2", "gemma2", "mistral", "phi"}
    assert sum("Error" not in row["plain"] for row in rows) == 6
