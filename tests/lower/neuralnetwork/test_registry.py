"""The registry of layers: complete, and each rule names the fields of its layer."""

from collections.abc import Callable

import pytest

from coremlops.dialects.neuralnetwork import layer_kinds
from coremlops.lower.neuralnetwork.registry import STRUCTURAL, layer, layer_rule, supported_layers


def test_every_layer_of_the_format_has_a_rule() -> None:
    assert set(supported_layers()) == set(layer_kinds())


@pytest.mark.parametrize("kind", [kind for kind in layer_kinds() if kind not in STRUCTURAL])
def test_a_rule_names_every_field(kind: str) -> None:
    rule = layer_rule(kind)
    assert rule is not None
    assert sorted(rule.fields) == sorted(layer_kinds()[kind])


def test_two_rules_for_one_layer() -> None:
    rule = layer_rule("softmax")
    assert rule is not None
    function: Callable[..., object] = rule.function
    with pytest.raises(ValueError, match="two rules lower the layer 'softmax'"):
        layer("softmax")(function)
