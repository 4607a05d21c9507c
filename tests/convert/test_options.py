"""Options, provenance, and what counts as noise."""

from __future__ import annotations

import sys
import warnings

import pytest

from coremlops.convert import ConvertOptions, Provenance
from coremlops.convert.noise import Heard, listening
from coremlops.errors import UsageError


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (
            {"target": "ios16"},
            "target: one of iOS15, iOS16, iOS17, iOS18, iOS26 expected, got 'ios16'",
            "did you mean iOS16?",
        ),
        (
            {"precision": "fp16"},
            "precision: one of float16, float32 expected, got 'fp16'",
            "did you mean float16?",
        ),
    ],
)
def test_an_unknown_word_names_the_nearest(options: dict[str, str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ConvertOptions(**options)  # type: ignore[arg-type]
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_provenance_comes_from_the_environment_of_a_step() -> None:
    environment = {
        "COREMLOPS_RUN_ID": "r1",
        "COREMLOPS_DATA_DIGEST": "d1",
        "COREMLOPS_CODE_DIGEST": "c1",
        "HOME": "/root",
    }
    assert Provenance.from_environment(environment) == Provenance("r1", "d1", "c1")
    assert Provenance.from_environment({}) == Provenance()


def test_noise_is_dropped_and_what_may_matter_is_kept() -> None:
    with listening() as heard:
        print("Failed to load _MLModelProxy: No module named 'coremltools.libcoremlpython'", file=sys.stderr)
        print("\rConverting ops:  12%|###   | 3/20 [00:00<00:01]\rConverting: 100%|###|", file=sys.stderr)
        print("WARNING: a constant was clipped", file=sys.stderr)
        warnings.warn("old", FutureWarning, stacklevel=1)
        warnings.warn("overflow encountered in cast", RuntimeWarning, stacklevel=1)
    assert heard.lines == (
        "WARNING: a constant was clipped",
        "RuntimeWarning: overflow encountered in cast",
    )


def test_what_was_said_is_kept_when_the_block_fails() -> None:
    said: list[Heard] = []

    def fail() -> None:
        with listening() as heard:
            said.append(heard)
            print("before it failed", file=sys.stderr)
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fail()
    assert said[0].lines == ("before it failed",)
