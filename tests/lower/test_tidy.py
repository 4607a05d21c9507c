"""What is left out of a graph, against ONNX's own evaluator on the whole one."""

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest

from coremlops.lower.tidy import tidied, used_names

X = np.array([[-1.5, 0.25], [2.0, -3.0]], np.float32)
RESULTS = "(float[2, 2] x) => (float[2, 2] y, float[2, 2] z)"
IF = """
    b = If(c) <
        then_branch = g1 () => (float[2, 2] t) { t = Neg(a) },
        else_branch = g2 () => (float[2, 2] e) { e = Identity(a) }
    >
"""


def graph(nodes: str, constants: str = "") -> Any:
    head = '<ir_version: 9, opset_import: ["" : 18]> g'
    made = onnx.parser.parse_model(f"{head} {RESULTS} {constants} {{ {nodes} }}")
    onnx.checker.check_model(made, full_check=True)
    return made


# nodes, constants, the nodes that stay
CASES = {
    "a result that is used elsewhere": ("a = Relu(x) y = Identity(a) z = Neg(a)", "", ["Relu", "Neg"]),
    "one value under two names": ("a = Relu(x) y = Identity(a) z = Identity(a)", "", ["Relu", "Identity"]),
    "a copy that goes on": ("a = Relu(x) y = Identity(a) z = Neg(y)", "", ["Relu", "Neg"]),
    "a copy of a result": ("y = Relu(x) z = Identity(y)", "", ["Relu", "Identity"]),
    "an input": ("y = Identity(x) z = Neg(x)", "", ["Identity", "Neg"]),
    "a constant": ("y = Identity(w) z = Neg(x)", "<float[2, 2] w = {1, 2, 3, 4}>", ["Identity", "Neg"]),
    "what nobody takes": (
        "y = Relu(x) d = Add(x, w) f = Neg(d) z = Neg(x)",
        "<float[1] w = {1}>",
        ["Relu", "Neg"],
    ),
    "a value that a branch takes": (
        f"a = Relu(x) y = Identity(a) s = ReduceMax <keepdims = 0> (x) c = Greater(s, w) {IF} z = Neg(b)",
        "<float w = {0}>",
        ["Relu", "ReduceMax", "Greater", "If", "Neg"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_results_stay(case: str) -> None:
    nodes, constants, kept = CASES[case]
    whole = graph(nodes, constants)
    before = whole.SerializeToString()
    found = tidied(whole)
    assert whole.SerializeToString() == before
    onnx.checker.check_model(found, full_check=True)
    assert [node.op_type for node in found.graph.node] == kept
    assert [value.name for value in found.graph.output] == ["y", "z"]
    used = set().union(*(used_names(node) for node in found.graph.node))
    assert {tensor.name for tensor in found.graph.initializer} <= used
    for x in (X, -abs(X)):
        results, expected = (
            onnx.reference.ReferenceEvaluator(model).run(None, {"x": x}) for model in (found, whole)
        )
        for one, other in zip(results, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_branch_that_gives_a_value_from_outside() -> None:
    """Our own graphs have such: the checker allows it, ONNX's parser writes it as no body can."""
    whole = graph(CASES["a value that a branch takes"][0], CASES["a value that a branch takes"][1])
    (branch,) = (node for node in whole.graph.node if node.op_type == "If")
    for attribute in branch.attribute:
        del attribute.g.node[:]
        attribute.g.output[0].name = "a"
    found = tidied(whole)
    (branch,) = (node for node in found.graph.node if node.op_type == "If")
    assert [attribute.g.output[0].name for attribute in branch.attribute] == ["y", "y"]
