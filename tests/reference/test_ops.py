"""Each op in `typed` mode against the interpreter, over dtypes and edge shapes; none is without an oracle.

Judged as in `test_typed`: to the bit where float32 arithmetic determines the result, else within one fp16
step, or 2e-5 in fp32.
"""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Constant, NamedType, Operation, Ref
from coremlops.lower import supported_ops
from tests.lower.programs import constant, function, run, typed
from tests.reference import interpreter
from tests.reference.cases import MOVED, Case, cases
from tests.reference.test_typed import agree

HERE = Path(__file__).parents[1]
CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_like_the_reference(case: Case) -> None:
    arrays, constants = case.arrays(np.random.default_rng(8)), case.constants()
    inputs: dict[str, tuple[Ref | Constant, ...]] = {}
    for name in arrays:
        key = name.split(".")[0]
        inputs[key] = (*inputs.get(key, ()), Ref(name))
    inputs |= {name: (constant(value),) for name, value in constants.items()}
    given = {name: typed(case.dtype_of(name), *array.shape) for name, array in arrays.items()}
    values = {name: interpreter.rounded(array, given[name]) for name, array in arrays.items()}
    bare = Operation(case.op, "op", inputs, (), (), {})
    with np.errstate(all="ignore"):
        found = interpreter.OPS[case.op](interpreter.bound(bare, values, lambda _: np.empty(0)))
    raw = found if isinstance(found, tuple) else (found,)
    types = [typed(dtype or case.dtype, *np.shape(value)) for dtype, value in zip(case.out, raw, strict=True)]
    names = [f"result{index}" for index in range(len(types))]
    outputs = tuple(NamedType(name, type_) for name, type_ in zip(names, types, strict=True))
    made = Operation(case.op, "op", inputs, outputs, (), {})
    got = run(function(given, [made], *names), **arrays)
    for name, type_, value in zip(names, types, raw, strict=True):
        want = interpreter.rounded(value, type_)
        assert got[name].shape == want.shape
        agree(case.op, type_, got[name], want)
        if case.op in MOVED and want.dtype.kind == "f":  # the signs of zeros, too
            assert np.array_equal(np.signbit(got[name]), np.signbit(want))


# What a table of values cannot hold, and the test in tests/lower/ that judges its numbers.
ELSEWHERE = {
    "cast": "ops/test_elementwise_unary.py::test_cast",
    "classify": "ops/test_tensors.py::test_classify_is_left_to_the_host",
    "cond": "ops/test_control_flow.py::test_a_branch_sees_what_is_outside",
    "const": "ops/test_control_flow.py::test_a_branch_that_gives_what_is_outside_or_constant",
    "conv_quantized": "ops/test_conv.py::test_a_quantized_weight",
    "coreml_update_state": "ops/test_states.py::test_an_update_is_the_result_and_the_state",
    "non_maximum_suppression": "ops/test_non_maximum_suppression.py::test_against_the_reference",
    "range_1d": "ops/test_tensor_operation.py::test_range_1d",
    "read_state": "ops/test_states.py::test_a_branch_writes_a_state",
    "reshape_like": "ops/test_tensor_transformation.py::test_reshape_like",
    "while_loop": "ops/test_control_flow.py::test_a_loop",
    "write_state": "ops/test_states.py::test_a_branch_writes_a_state",
    "constexpr_affine_dequantize": "ops/test_constexpr_ops.py::test_affine",
    "constexpr_blockwise_shift_scale": "ops/test_constexpr_ops.py::test_blocks",
    "constexpr_cast": "ops/test_constexpr_ops.py::test_cast",
    "constexpr_lut_to_dense": "ops/test_constexpr_ops.py::test_packed_table",
    "constexpr_lut_to_sparse": "ops/test_constexpr_ops.py::test_a_sparse_table",
    "constexpr_sparse_blockwise_shift_scale": "ops/test_constexpr_ops.py::test_sparse_blocks",
    "constexpr_sparse_to_dense": "ops/test_constexpr_ops.py::test_packed_mask",
    "random_bernoulli": "ops/test_random.py::test_bernoulli",
    "random_categorical": "ops/test_random.py::test_categorical",
    "random_normal": "ops/test_random.py::test_normal",
    "random_uniform": "ops/test_random.py::test_uniform",
} | {
    f"{op}": "ops/test_control_flow.py::test_a_list_grows_and_is_zero_where_nothing_was_written"
    for op in ("make_list", "list_length", "list_write", "list_read", "list_gather", "list_scatter")
}


def test_no_op_is_without_an_oracle() -> None:
    judged = {case.op for case in CASES} | set(ELSEWHERE)
    assert judged == set(supported_ops())


@cache
def written(file: str) -> tuple[set[str], set[str]]:
    """The functions of a file of tests, and the strings in it."""
    tree = list(ast.walk(ast.parse((HERE / "lower" / file).read_text())))
    strings = {node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {node.name for node in tree if isinstance(node, ast.FunctionDef)}, strings


@pytest.mark.parametrize("op", ELSEWHERE)
def test_the_test_that_judges_an_op_elsewhere_is_there(op: str) -> None:
    file, name = ELSEWHERE[op].split("::")
    functions, strings = written(file)
    assert name in functions
    assert op in strings


def test_each_op_of_the_table_has_numbers_that_tell() -> None:
    """Of each op some case has results that differ from each other, and the shapes are not all alike."""
    rng, telling = np.random.default_rng(8), Counter[str]()
    for case in CASES:
        inputs: dict[str, Any] = {}
        for name, array in case.arrays(rng).items():
            value = array.astype(np.float32) if array.dtype.kind == "f" else array
            key, *place = name.split(".")
            inputs[key] = [*inputs.get(key, []), value] if place else value
        with np.errstate(all="ignore"):
            found = interpreter.OPS[case.op](inputs | case.constants())
        first = np.asarray(found[0] if isinstance(found, tuple) else found)
        telling[case.op] += len(np.unique(first)) > 1
    assert {op for op in {case.op for case in CASES} if not telling[op]} <= {"fill", "fill_like"}


@pytest.mark.slow
def test_every_op_that_coremltools_writes_is_judged() -> None:
    pytest.importorskip("coremltools")
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    registered = set(SSAOpRegistry.core_ops) - {"_const_symbolic"}  # never written into a file
    assert len(registered) == 167
    assert registered <= {case.op for case in CASES} | set(ELSEWHERE)
