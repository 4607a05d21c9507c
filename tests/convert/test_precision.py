"""Which ops stay in float32."""

from __future__ import annotations

import pytest

from coremlops.convert.precision import Precision
from coremlops.errors import UsageError


@pytest.mark.parametrize(
    ("pattern", "name", "kind", "kept"),
    [
        ("exp_3", "exp_3", "exp", True),
        ("exp_3", "exp_30", "exp", False),
        ("decoder*", "decoder_7", "conv", True),
        ("type:softmax", "attention", "softmax", True),
        ("type:softmax", "softmax", "exp", False),
        ("softmax", "attention", "softmax", False),
    ],
)
def test_a_pattern_is_of_names_or_of_a_type(pattern: str, name: str, kind: str, kept: bool) -> None:
    assert Precision("float16", (pattern,)).keeps(name, kind) is kept


def test_a_pattern_that_no_op_has_is_an_error_that_names_the_nearest() -> None:
    precision = Precision("float16", ("exp_1", "sotfmax"))
    assert precision.keeps("exp_1", "exp")
    assert not precision.keeps("softmax", "softmax")
    with pytest.raises(UsageError, match="no op is called 'sotfmax'") as caught:
        precision.check()
    assert caught.value.hint == "did you mean 'softmax'?"


def test_in_float32_everything_is_kept_anyway() -> None:
    Precision("float32", ("nothing",)).check()
