"""Support vector machines, in plain ONNX and double: its own SVM operators compute in float32."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from coremlops.dialects.classic.numbers import Array
from coremlops.dialects.classic.svm import (
    Kernel,
    SupportVectorClassifier,
    SupportVectorRegressor,
    SupportVectors,
)
from coremlops.dialects.mil.graph import TensorType
from coremlops.errors import ModelFormatError
from coremlops.lower.classic.context import ClassicLowering, room
from coremlops.lower.context import Lowering
from coremlops.lower.onnx_graph import OnnxGraph
from coremlops.lower.registry import Value

_LEAST = 1e-7  # libsvm keeps the probability of a pair this far from 0 and 1
_PRECISION = 0.005  # and stops the iteration at this error, divided by the number of classes


def lower_svm_regressor(low: ClassicLowering, model: SupportVectorRegressor) -> None:
    """The kernel's values, weighed and summed."""
    kernel = _kernel_values(low, model.kernel, model.vectors)
    total = low.product(kernel, low.constant(model.coefficients[:, None]))
    low.give(low.only_output(), low.ctx.node("Sub", total, low.constant([[model.rho]])), 1)


def lower_svm_classifier(low: ClassicLowering, model: SupportVectorClassifier) -> None:
    """As libsvm: without probabilities the pairs vote; with them the largest probability wins."""
    decisions = _decisions(low, model)
    if len(model.prob_a):
        low.classify(model.labels, _probabilities(low, model, decisions))
    else:
        low.classify(
            model.labels, None, low.ctx.node("ArgMax", _votes(low, model, decisions), axis=0, keepdims=0)
        )


def _kernel_values(low: ClassicLowering, kernel: Kernel, vectors: SupportVectors) -> Value:
    """The kernel of the input and each vector, [1, vectors]."""
    row, width = low.vector()
    matrix = low.constant(_dense(low, vectors, width))
    node = low.ctx.node
    if kernel.kind == "rbf":
        apart = node("Sub", matrix, row)
        squares = node("ReduceSum", node("Mul", apart, apart), low.ctx.ints([1]), keepdims=0)
        scaled = node("Mul", squares, low.constant(-kernel.gamma))
        return low.reshape(node("Exp", scaled), [1, vectors.count])
    dots = low.reshape(low.product(matrix, node("Transpose", row)), [1, vectors.count])
    if kernel.kind == "linear":
        return dots
    inner = node("Add", node("Mul", dots, low.constant(kernel.gamma)), low.constant(kernel.c))
    if kernel.kind == "sigmoid":
        return node("Tanh", inner)
    return node("Pow", inner, low.constant(kernel.degree))


def _dense(low: ClassicLowering, vectors: SupportVectors, width: int) -> Array:
    if vectors.count * width > room(len(vectors.values)):
        raise ModelFormatError(
            f"{low.where}: {vectors.count} support vectors of {width} numbers are too many"
        )
    if vectors.columns.size and vectors.columns.max() >= width:
        raise ModelFormatError(
            f"{low.where}: a support vector has {vectors.columns.max() + 1} numbers; the inputs have {width}"
        )
    dense = np.zeros((vectors.count, width))
    dense[vectors.rows, vectors.columns] = vectors.values
    return dense


def _decisions(low: ClassicLowering, model: SupportVectorClassifier) -> Value:
    """The decision values [pairs], in the order (0, 1), (0, 2), ..., (1, 2), ...

    All partial sums [classes - 1, classes] of a row of coefficients over the vectors of a class come from one
    product; a pair adds two of them.
    """
    node, classes = low.ctx.node, len(model.per_class)
    kernel = _kernel_values(low, model.kernel, model.vectors)
    weighed = node("Mul", low.constant(model.coefficients), kernel)
    owner = np.repeat(np.arange(classes), model.per_class)[:, None] == np.arange(classes)
    sums = low.reshape(low.product(weighed, low.constant(owner)), [-1])
    first, second = _pairs(classes)
    own = node("Gather", sums, low.ctx.ints((second - 1) * classes + first))
    other = node("Gather", sums, low.ctx.ints(first * classes + second))
    return node("Sub", node("Add", own, other), low.constant(model.rho))


def _pairs(classes: int) -> tuple[Array, Array]:
    pairs = np.array(list(itertools.combinations(range(classes), 2)), np.int64)
    return pairs[:, 0], pairs[:, 1]


def _votes(low: ClassicLowering, model: SupportVectorClassifier, decisions: Value) -> Value:
    """How many pairs each class wins, [classes]."""
    first, second = _pairs(len(model.per_class))
    wins = low.ctx.node("Greater", decisions, low.constant(0))
    winners = low.ctx.node("Where", wins, low.ctx.ints(first), low.ctx.ints(second))
    return low.ctx.node(
        "ScatterElements",
        low.constant(np.zeros(len(model.per_class))),
        winners,
        low.constant(np.ones(len(first))),
        reduction="add",
    )


def _probabilities(low: ClassicLowering, model: SupportVectorClassifier, decisions: Value) -> Value:
    """One probability a class, from those of the pairs."""
    node, classes = low.ctx.node, len(model.per_class)
    scaled = node("Add", node("Mul", decisions, low.constant(model.prob_a)), low.constant(model.prob_b))
    pair = node("Sigmoid", node("Neg", scaled))
    pair = node("Clip", pair, low.constant(_LEAST), low.constant(1 - _LEAST))
    rest = node("Sub", low.constant(1), pair)
    if classes == 2:
        return node("Concat", pair, rest, axis=0)
    first, second = _pairs(classes)
    places = np.concatenate([first * classes + second, second * classes + first])
    flat = node(
        "ScatterElements",
        low.constant(np.zeros(classes * classes)),
        low.ctx.ints(places),
        node("Concat", pair, rest, axis=0),
    )
    return _coupled(low, low.reshape(flat, [classes, classes]), classes)


def _coupled(low: ClassicLowering, pair: Value, classes: int) -> Value:
    """The probabilities [classes] that fit those of the pairs [classes, classes] best.

    libsvm's iteration, stopped where it stops: its results are those of an unfinished iteration, so an exact
    solution would differ. One turn of the loop is the update of one class; before the first of them the error
    decides whether to go on. Source: libsvm, `multiclass_probability`; Wu, Lin and Weng (2004), algorithm 2.
    """
    node = low.ctx.node
    across = node("Transpose", pair)
    inside = node("ReduceSum", node("Mul", pair, pair), low.ctx.ints([0]), keepdims=0)
    matrix = node("Sub", node("Mul", low.constant(np.eye(classes)), inside), node("Mul", pair, across))
    state = np.full(classes, 1 / classes), np.zeros(classes), np.zeros(())
    return low.ctx.nodes(
        "Loop",
        len(state),
        low.ctx.constant(max(100, classes) * classes, np.int64),
        low.ctx.constant(True, np.bool_),
        *map(low.constant, state),
        body=_coupling_turn(low, matrix, classes),
    )[0]


def _coupling_turn(low: ClassicLowering, matrix: Value, classes: int) -> Any:
    """The body of the loop, with the matrix Q: (p, Q p, p.Q p) -> the same after the update of one class."""
    graph = low.ctx.graph.inner("coupling")
    turn = Lowering(graph, precision="float32", opset=low.ctx.opset)
    node, many, one = turn.node, TensorType("fp64", (classes,)), TensorType("fp64", ())
    counters = ("count", TensorType("int64", ())), ("going", TensorType("bool", ()))
    places = ("p", many), ("product", many), ("square", one)
    count, _, p, product, square = (_graph_input(graph, name, type_) for name, type_ in (*counters, *places))

    at = node("Mod", count, turn.constant(classes, np.int64))
    first = node("Equal", at, turn.constant(0, np.int64))  # here libsvm computes anew what it else updates
    product = node("Where", first, node("MatMul", matrix, p), product)
    square = node("Where", first, node("ReduceSum", node("Mul", p, product), keepdims=0), square)
    error = node("ReduceMax", node("Abs", node("Sub", product, square)), keepdims=0)
    small = node("Less", error, turn.constant(_PRECISION / classes, np.float64))
    done = node("And", first, small)

    row, product_here = node("Gather", matrix, at, axis=0), node("Gather", product, at, axis=0)
    here = node("Gather", row, at, axis=0)
    step = node("Div", node("Sub", square, product_here), here)
    step = node("Where", done, turn.constant(0, np.float64), step)
    shrink = node("Add", step, turn.constant(1, np.float64))
    chosen = node("Equal", turn.ints(np.arange(classes)), at)
    moved = node("Add", p, node("Where", chosen, step, turn.constant(0, np.float64)))
    twice = node("Mul", product_here, turn.constant(2, np.float64))
    gain = node("Mul", step, node("Add", node("Mul", step, here), twice))
    results = (
        (node("Not", done), counters[1][1]),
        (node("Div", moved, shrink), many),
        (node("Div", node("Add", product, node("Mul", step, row)), shrink), many),
        (node("Div", node("Div", node("Add", square, gain), shrink), shrink), one),
    )
    for value, type_ in results:
        graph.output(value.name, type_)
    return graph.body()


def _graph_input(graph: OnnxGraph, name: str, type_: TensorType) -> Value:
    name = graph.reserve(name)
    graph.input(name, type_)
    return Value(name)
