"""coremltools' own prediction through the bridge, in fresh processes: whichever was imported first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCENARIO = Path(__file__).parent / "scenario.py"
HELD = [11.0, 22.5]  # ten and twenty in the state, and the input


@pytest.fixture(scope="module", params=["bridge", "coremltools"])
def answers(request: pytest.FixtureRequest) -> Any:
    done = subprocess.run(
        [sys.executable, str(SCENARIO), request.param], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first: str = request.param
    return {"first": first, "stderr": done.stderr, **json.loads(done.stdout)}


def test_installing_twice_is_harmless_and_imports_no_coremltools(answers: Any) -> None:
    assert answers["installed"] == [True, True]
    assert answers["lazy"] == (answers["first"] == "coremltools")


def test_its_complaints_about_the_framework_are_gone(answers: Any) -> None:
    # What was printed before we came cannot be taken back; it shows that this test can fail.
    assert ("Failed to load _MLModelProxy" in answers["stderr"]) == (answers["first"] == "coremltools")


def test_halves_come_as_floats_and_scalars_with_a_shape(answers: Any) -> None:
    assert answers["values"] == {
        "twice": ["ndarray", "float32", [2], [2.0, 5.0]],
        "sum": ["ndarray", "float32", [1], [3.5]],
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("batch", [[2.0, 5.0], [4.0, 7.0]]),
        ("torch_and_lists", [[6.0, 8.0], [2.0, 4.0]]),
        ("durations", [None, True, True]),
        ("saved", [2.0, 5.0]),
        ("compiled_path", [[2.0, 5.0], ".mlmodelc", False]),
        ("compile_model", [True, True, [2.0, 5.0]]),
        ("asset", [[2.0, 5.0], [2.0, 5.0]]),
        ("asset_with_weights", 240.0),
        ("functions", [[2.0, 5.0], [2.0, 5.0], [3.0, 7.5]]),
        ("states", [[[1.0, 2.5], [2.0, 5.0], HELD], ["ndarray", "float32", [2], [2.0, 5.0]], [0.0, 0.0]]),
        ("image", ["RGBA", [2, 3], [10, 20, 30], [20, 40, 60, 255]]),
        ("classifier", {"label": "b", "label_probs": {"a": 0.25, "b": 0.75}}),
        ("devices", ["MLCPUComputeDevice"] * 2),
        ("the_truth", [False, False]),
    ],
)
def test_what_coremltools_asks_of_the_framework_works(answers: Any, name: str, expected: Any) -> None:
    assert answers[name] == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a_wrong_input", "expected the shape [2], got [3, 3]"),
        ("a_size_out_of_range", "Size (99) of dimension (1) is not in allowed range (3..5)"),
        (
            "a_shape_not_enumerated",
            "MultiArray Shape (2 x 4) was not in enumerated set of allowed shapes: input 'x'",
        ),
        ("an_index_out_of_range", "Unable to compute the prediction using ML Program"),
        ("a_wrong_state", "no state 'nothing'"),
        ("a_state_of_another_shape", "expected numbers of the shape [2], got float64 of the shape [3]"),
        ("a_compute_plan", "only it can say that"),
        ("a_model_structure", "read by Apple's framework alone"),
        ("a_blob_outside", "'../weight.bin' does not lie below the model"),
        ("no_compiled_model", "no compiled model at /nowhere.mlmodelc"),
    ],
)
def test_what_fails_is_an_error_of_ours_and_a_runtime_error(answers: Any, name: str, words: str) -> None:
    kind, is_runtime_error, text = answers[name]
    assert (kind, is_runtime_error) == ("BridgeError", True)
    assert words in text


def test_a_model_that_cannot_run_is_still_converted_and_saved(answers: Any) -> None:
    warned, kind, text = answers["a_model_that_cannot_run"]
    assert (warned, kind) == (["RuntimeWarning"], "BridgeError")
    assert "VisionFeaturePrint" in text
