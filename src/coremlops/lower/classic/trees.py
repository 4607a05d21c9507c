"""Tree ensembles: ONNX's own operator finds the leaves, a table holds their values.

`ai.onnx.ml.TreeEnsemble` (version 5) compares in double, as Core ML does, but adds one number a leaf to one
target; a leaf of Core ML holds one number for each class. So each tree is a target of its own, and the
number of a leaf is its row in a table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coremlops.dialects.classic.numbers import Array
from coremlops.dialects.classic.trees import LEAF, TreeEnsemble
from coremlops.errors import ModelFormatError
from coremlops.lower.classic.context import ClassicLowering, room
from coremlops.lower.onnx_ml import from_array
from coremlops.lower.registry import Unsupported, Value

_EQUAL, _NOT_EQUAL = 4, 5


def lower_trees(low: ClassicLowering, model: TreeEnsemble) -> None:
    """A sum of leaves, transformed; see `dialects.classic.trees`."""
    scores = _scores(low, model)
    if model.labels is None:
        low.give(low.only_output(), _transformed(low, model, scores), len(model.base))
    elif len(model.base) == 1:
        _two_classes(low, model, scores)
    else:
        low.classify(model.labels, _transformed(low, model, scores))


def _two_classes(low: ClassicLowering, model: TreeEnsemble, score: Value) -> None:
    """One score: of the second class.

    A tie is the second's: coremltools' converter lowers a leaf of exactly 0.5 to make it the first's.
    """
    if model.transform == "Classification_SoftMax":
        raise Unsupported("a softmax over one score")
    second = score if model.transform == "NoTransform" else low.ctx.node("Sigmoid", score)
    first = low.ctx.node("Sub", low.constant(1), second)
    chosen = low.ctx.node("GreaterOrEqual", second, low.constant(0.5))
    both = low.ctx.node("Concat", first, second, axis=1)
    low.classify(model.labels or (), both, low.ctx.node("Cast", chosen, to=7))


def _transformed(low: ClassicLowering, model: TreeEnsemble, scores: Value) -> Value:
    match model.transform:
        case "NoTransform":
            return scores
        case "Regression_Logistic":
            return low.ctx.node("Sigmoid", scores)
        case "Classification_SoftMax":
            return low.ctx.node("Softmax", scores, axis=1)
    raise Unsupported(f"{model.transform} of {len(model.base)} scores")


def _scores(low: ClassicLowering, model: TreeEnsemble) -> Value:
    """The sums [1, dimensions]."""
    row, width = low.vector()
    leaf = model.modes == LEAF
    if np.any(model.features[~leaf] >= width):
        raise ModelFormatError(
            f"{low.where}: a tree compares feature {model.features[~leaf].max()}; the inputs have {width}"
        )
    table = _leaf_table(low, model)
    lone = leaf[model.roots]  # trees of one leaf, which no lookup is needed for
    base = model.base + table[np.cumsum(leaf)[model.roots[lone]] - 1].sum(axis=0)
    base = low.constant(base[None])
    if lone.all():
        return base
    found = low.ctx.node("TreeEnsemble", row, domain="ai.onnx.ml", **_attributes(model, leaf, lone))
    rows = low.ctx.node("Gather", low.constant(table), low.ctx.node("Cast", found, to=7), axis=0)
    summed = low.ctx.node("ReduceSum", rows, low.ctx.ints([1]), keepdims=0)
    return low.ctx.node("Add", summed, base)


def _leaf_table(low: ClassicLowering, model: TreeEnsemble) -> Array:
    """The values of the leaves [leaves, dimensions], in the order of their nodes."""
    leaf = model.modes == LEAF
    count, dimensions = int(leaf.sum()), len(model.base)
    if count * dimensions > room(len(model.leaf_values)):
        raise ModelFormatError(f"{low.where}: {count} leaves of {dimensions} values are too many")
    table = np.zeros((count, dimensions))
    places = np.cumsum(leaf) - 1
    np.add.at(table, (places[model.leaf_nodes], model.leaf_dimensions), model.leaf_values)
    return table


def _attributes(model: TreeEnsemble, leaf: Array, lone: Array) -> dict[str, Any]:
    """The operator's attributes: branches and leaves are counted apart; a tree gives its leaf's number."""
    branch = ~leaf
    places = np.where(leaf, np.cumsum(leaf), np.cumsum(branch)) - 1
    # NaN is not equal to anything, which would send it to the true child; turned around, the flag decides.
    turned = model.modes[branch] == _NOT_EQUAL
    true, false = model.true[branch], model.false[branch]
    true, false = np.where(turned, false, true), np.where(turned, true, false)
    modes = np.where(turned, _EQUAL, model.modes[branch])
    missing = model.missing_true[branch] ^ turned
    return {
        "n_targets": int((~lone).sum()),
        "aggregate_function": 1,  # SUM
        "post_transform": 0,  # NONE
        "tree_roots": places[model.roots[~lone]].tolist(),
        "nodes_modes": from_array(modes.astype(np.uint8)),
        "nodes_featureids": model.features[branch].tolist(),
        "nodes_splits": from_array(model.thresholds[branch]),
        "nodes_missing_value_tracks_true": missing.astype(np.int64).tolist(),
        "nodes_truenodeids": places[true].tolist(),
        "nodes_trueleafs": leaf[true].astype(np.int64).tolist(),
        "nodes_falsenodeids": places[false].tolist(),
        "nodes_falseleafs": leaf[false].astype(np.int64).tolist(),
        # No branch leads to a lone leaf, so its target does not matter.
        "leaf_targetids": np.where(lone, 0, np.cumsum(~lone) - 1)[model.trees[leaf]].tolist(),
        "leaf_weights": from_array(np.arange(leaf.sum(), dtype=np.float64)),
    }
