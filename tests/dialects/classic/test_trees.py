"""A tree ensemble that is no forest is refused before anything walks it."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.classic.trees import LEAF, MAX_TREE_DEPTH, read_tree_classifier, read_tree_regressor
from coremlops.errors import ModelFormatError
from coremlops.model.proto import message_class


def ensemble(*nodes: tuple[int, ...], dimensions: int = 1) -> Any:
    """Nodes of tree 0: (id,) is a leaf, (id, true, false) a branch; a fourth number is the tree."""
    message = message_class("TreeEnsembleRegressor")()
    message.treeEnsemble.numPredictionDimensions = dimensions
    for place, *children in nodes:
        node = message.treeEnsemble.nodes.add(nodeId=place, nodeBehavior=LEAF)
        if children:
            node.nodeBehavior, node.trueChildNodeId, node.falseChildNodeId = 1, children[0], children[1]
            node.treeId = children[2] if len(children) > 2 else 0
        else:
            node.evaluationInfo.add(evaluationValue=place)
    return message


def chain(depth: int) -> list[tuple[int, ...]]:
    branches = [(2 * level, 2 * level + 1, 2 * level + 2) for level in range(depth)]
    return [*branches, *((2 * level + 1,) for level in range(depth)), (2 * depth,)]


def test_a_tree() -> None:
    read = read_tree_regressor(ensemble((0, 1, 2), (2,), (1,)), where="m")
    assert read.roots.tolist() == [0]
    assert (read.true[0], read.false[0]) == (2, 1)
    assert read.leaf_values.tolist() == [2, 1]
    assert read.base.tolist() == [0]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (ensemble((0, 1, 2), (1,), (1,), (2,)), "tree 0 has two nodes 1"),
        (ensemble((0, 1, 2), (1,)), "the child 2 of node 0 is not there"),
        (ensemble((0, 1, 1), (1,)), "node 1 has several parents"),
        (ensemble((0, 2, 3), (1, 2, 4), (2,), (3,), (4,)), "node 2 has several parents"),
        (ensemble((0, 1, 2), (1,), (2,), (3,)), "2 roots in 1 trees"),
        (ensemble((0, 0, 1), (1,)), "hang on no root: a cycle"),
        (ensemble((0, 1, 2), (1, 0, 3), (2,), (3,)), "hang on no root: a cycle"),
        (ensemble((0, 1, 2), (1,), (2,), (3, 4, 5), (4, 3, 6), (5,), (6,)), "hang on no root: a cycle"),
        (ensemble((0, 1, 2, 7), (1,), (2,)), "tree 7: the child 1 of node 0 is not there"),
        (ensemble(*chain(MAX_TREE_DEPTH + 1)), "deeper than 1000"),
        (ensemble((0,), dimensions=0), "0 prediction dimensions"),
        (ensemble((0,), dimensions=1 << 60), "prediction dimensions"),
    ],
)
def test_what_is_no_forest(message: Any, words: str) -> None:
    with pytest.raises(ModelFormatError, match=words):
        read_tree_regressor(message, where="m")


def test_the_deepest_tree_is_read() -> None:
    read = read_tree_regressor(ensemble(*chain(MAX_TREE_DEPTH)), where="m")
    assert read.modes.size == 2 * MAX_TREE_DEPTH + 1
    assert np.count_nonzero(read.modes == LEAF) == MAX_TREE_DEPTH + 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda node: setattr(node, "nodeBehavior", 7), "unknown behaviour 7"),
        (lambda node: setattr(node, "nodeBehavior", -1), "unknown behaviour"),
        (lambda node: setattr(node.evaluationInfo[0], "evaluationIndex", 1), "past the last one"),
        (lambda node: setattr(node.evaluationInfo[0], "evaluationIndex", 1 << 63), "past the last one"),
        (lambda node: setattr(node, "branchFeatureIndex", 1 << 63), "past the last possible one"),
    ],
)
def test_nodes_out_of_range(change: Any, words: str) -> None:
    message = ensemble((0,))
    change(message.treeEnsemble.nodes[0])
    with pytest.raises(ModelFormatError, match=words):
        read_tree_regressor(message, where="m")


def test_base_predictions_of_another_number() -> None:
    message = ensemble((0,))
    message.treeEnsemble.basePredictionValue.extend([1, 2])
    with pytest.raises(ModelFormatError, match="2 base predictions for 1 dimensions"):
        read_tree_regressor(message, where="m")


@pytest.mark.parametrize(("dimensions", "labels"), [(1, (0, 1)), (3, (0, 1, 2))])
def test_classes_without_names_are_counted(dimensions: int, labels: tuple[int, ...]) -> None:
    message = message_class("TreeEnsembleClassifier")()
    message.treeEnsemble.CopyFrom(ensemble((0,), dimensions=dimensions).treeEnsemble)
    assert read_tree_classifier(message, where="m").labels == labels
    message.stringClassLabels.vector.extend("abcd")
    with pytest.raises(ModelFormatError, match="4 labels"):
        read_tree_classifier(message, where="m")
