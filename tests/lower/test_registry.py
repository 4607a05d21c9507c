"""The registry is strict."""

import pytest

from coremlops.lower import supported_ops
from coremlops.lower.context import Lowering
from coremlops.lower.registry import Rule, Value, lowers, rule_for


def test_two_rules_for_one_op() -> None:
    assert rule_for("relu") is not None
    with pytest.raises(ValueError, match="two rules lower 'relu': relu, "):

        @lowers("relu")
        def another(ctx: Lowering, x: Value) -> Value:
            return x


def test_an_annotation_that_no_input_has() -> None:
    def rule(ctx: Lowering, x: list[int]) -> None: ...

    with pytest.raises(ValueError, match=r"input 'x' has the annotation list\[int\]"):
        _ = Rule("nonsense", rule, moves=False, rounded=False).parameters


@pytest.mark.parametrize("op", sorted(set(supported_ops()) - {"const"}))
def test_every_rule_s_signature_is_understood(op: str) -> None:
    rule = rule_for(op)
    assert rule is not None
    assert all(isinstance(name, str) for name in rule.parameters)


def test_what_an_image_classifier_needs_is_supported() -> None:
    needed = (
        "add avg_pool batch_norm cast classify clip concat const conv "
        "expand_dims identity leaky_relu linear matmul "
        "max_pool maximum minimum mul pad real_div reduce_max reduce_mean reduce_sum relu relu6 "
        "reshape sigmoid silu "
        "softmax squeeze sub tanh transpose"
    )
    assert set(needed.split()) <= set(supported_ops())


def test_defaults_are_those_of_mil() -> None:
    rule = rule_for("conv")
    assert rule is not None
    defaults = {name: entry.default for name, entry in rule.parameters.items() if not entry.required}
    assert defaults == {
        "bias": None,
        "strides": None,
        "pad_type": "valid",
        "pad": None,
        "dilations": None,
        "groups": 1,
    }
