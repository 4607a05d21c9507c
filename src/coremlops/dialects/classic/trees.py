"""Tree ensembles: the sum of the leaves that an input reaches, one in each tree.

A branch compares one feature with a threshold, in double; the features are counted through all inputs. A
value that is NaN goes to the child that the branch names for missing values.
Source: `TreeEnsemble.proto`; Apple's own checks in coremltools, `mlmodel/src/TreeEnsembleCommon.cpp`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from coremlops.dialects.classic.numbers import Array, Labels, class_labels, enum_name, vector
from coremlops.errors import ModelFormatError

LEAF = 6
# A lookup that walks a tree by recursion must not overflow its stack; the engine does so from 100,000 on.
MAX_TREE_DEPTH = 1000
MAX_DIMENSIONS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class TreeEnsemble:
    """One entry a node: `modes` (0 to 5: <=, <, >=, >, ==, !=; 6: a leaf), `features`, `thresholds`,
    `true` and `false` (the children's places), `missing_true` (where NaN goes).

    `roots`: places of the trees' roots; `trees`: a node's tree, by the place of its root in `roots`. One
    entry a leaf value: `leaf_nodes` (its node), `leaf_dimensions`, `leaf_values`. `base` [dimensions]: what
    the leaves are added to. `transform`: `NoTransform`, `Classification_SoftMax`, `Regression_Logistic` or
    `Classification_SoftMaxWithZeroClassReference`. `labels`: of a classifier; None for a regressor.
    """

    modes: Array
    features: Array
    thresholds: Array
    true: Array
    false: Array
    missing_true: Array
    roots: Array
    trees: Array
    leaf_nodes: Array
    leaf_dimensions: Array
    leaf_values: Array
    base: Array
    transform: str
    labels: Labels | None


def read_tree_classifier(message: Any, *, where: str) -> TreeEnsemble:
    """A `TreeEnsembleClassifier`. Raises ModelFormatError.

    Without labels the classes are 0, 1, ...; one dimension means two classes.
    """
    dimensions = message.treeEnsemble.numPredictionDimensions
    count = 2 if dimensions == 1 else dimensions
    given = class_labels(message)
    if given and len(given) != count:
        raise ModelFormatError(f"{where}: {len(given)} labels for {dimensions} prediction dimensions")
    return _read(message, given, where=where)


def read_tree_regressor(message: Any, *, where: str) -> TreeEnsemble:
    """A `TreeEnsembleRegressor`. Raises ModelFormatError."""
    return _read(message, None, where=where)


def _read(message: Any, labels: Labels | None, *, where: str) -> TreeEnsemble:
    parameters = message.treeEnsemble
    dimensions = parameters.numPredictionDimensions
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ModelFormatError(f"{where}: {dimensions} prediction dimensions; expected 1 to {MAX_DIMENSIONS}")
    base = vector(parameters.basePredictionValue) if parameters.basePredictionValue else np.zeros(dimensions)
    if len(base) != dimensions:
        raise ModelFormatError(f"{where}: {len(base)} base predictions for {dimensions} dimensions")
    nodes = parameters.nodes
    modes = np.fromiter((node.nodeBehavior for node in nodes), np.int64, len(nodes))
    if modes.size and not 0 <= modes.min() <= modes.max() <= LEAF:
        raise ModelFormatError(f"{where}: a tree node of the unknown behaviour {modes.max()}")
    true, false, roots, trees = _links(nodes, modes, where=where)
    leaves = [
        (place, entry.evaluationIndex, entry.evaluationValue)
        for place, node in enumerate(nodes)
        if modes[place] == LEAF
        for entry in node.evaluationInfo
    ]
    if any(dimension >= dimensions for _, dimension, _ in leaves):
        raise ModelFormatError(f"{where}: a leaf adds to a dimension past the last one ({dimensions - 1})")
    if any(node.branchFeatureIndex >= 1 << 31 for node in nodes):
        raise ModelFormatError(f"{where}: a tree node compares a feature past the last possible one")
    if labels == ():
        labels = tuple(range(2 if dimensions == 1 else dimensions))
    return TreeEnsemble(
        modes=modes.astype(np.uint8),
        features=np.fromiter((node.branchFeatureIndex for node in nodes), np.int64, len(nodes)),
        thresholds=np.fromiter((node.branchFeatureValue for node in nodes), np.float64, len(nodes)),
        true=true,
        false=false,
        missing_true=np.fromiter((node.missingValueTracksTrueChild for node in nodes), np.bool_, len(nodes)),
        roots=roots,
        trees=trees,
        leaf_nodes=vector([leaf[0] for leaf in leaves], np.int64),
        leaf_dimensions=vector([leaf[1] for leaf in leaves], np.int64),
        leaf_values=vector([leaf[2] for leaf in leaves]),
        base=base,
        transform=enum_name(message, "postEvaluationTransform", where=where),
        labels=labels,
    )


def _links(nodes: Any, modes: Array, *, where: str) -> tuple[Array, Array, Array, Array]:
    """Places of the children (a leaf is its own) and of the roots, and each node's tree."""
    places: dict[tuple[int, int], int] = {}
    for place, node in enumerate(nodes):
        if places.setdefault((node.treeId, node.nodeId), place) != place:
            raise ModelFormatError(f"{where}: tree {node.treeId} has two nodes {node.nodeId}")
    true, false = np.arange(len(nodes)), np.arange(len(nodes))
    parents = np.zeros(len(nodes), np.int64)
    for place, node in enumerate(nodes):
        if modes[place] == LEAF:
            continue
        for children, child in ((true, node.trueChildNodeId), (false, node.falseChildNodeId)):
            found = places.get((node.treeId, child))
            if found is None:
                raise ModelFormatError(
                    f"{where}: tree {node.treeId}: the child {child} of node {node.nodeId} is not there"
                )
            children[place] = found
            parents[found] += 1
    if parents.size and parents.max() > 1:
        shared = nodes[int(parents.argmax())]
        raise ModelFormatError(f"{where}: tree {shared.treeId}: node {shared.nodeId} has several parents")
    roots = np.flatnonzero(parents == 0)
    owners = {nodes[int(root)].treeId: number for number, root in enumerate(roots)}
    if len(owners) != len(roots):
        raise ModelFormatError(f"{where}: {len(roots)} roots in {len(owners)} trees; expected one each")
    _check_reach(true, false, roots, modes, where=where)
    trees = np.fromiter((owners[node.treeId] for node in nodes), np.int64, len(nodes))
    return true, false, roots, trees


def _check_reach(true: Array, false: Array, roots: Array, modes: Array, *, where: str) -> None:
    """Every node hangs on a root (else it is part of a cycle), and no tree is too deep."""
    level, reached = roots, 0
    for _ in range(MAX_TREE_DEPTH + 1):
        reached += level.size
        branches = level[modes[level] != LEAF]
        level = np.concatenate([true[branches], false[branches]])
        if not level.size:
            break
    else:
        raise ModelFormatError(f"{where}: a tree is deeper than {MAX_TREE_DEPTH}")
    if reached != modes.size:
        raise ModelFormatError(f"{where}: {modes.size - reached} tree nodes hang on no root: a cycle")
