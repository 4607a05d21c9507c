"""Trees to a `TreeEnsembleClassifier` or `TreeEnsembleRegressor`. Source: `TreeEnsemble.proto`."""

from __future__ import annotations

from typing import Any

from coremlops.source.trees import Branch, Ensemble

_LESS_OR_EQUAL, _LESS, _LEAF = 0, 1, 6
_TRANSFORMS = {
    "": "NoTransform",
    "sigmoid": "Regression_Logistic",
    "softmax": "Classification_SoftMax",
}


def write_ensemble(spec: Any, model: Ensemble) -> None:
    """Fill a `Model` message's trees; its labels are the caller's, as is its description."""
    chosen = spec.treeEnsembleRegressor if model.labels is None else spec.treeEnsembleClassifier
    transforms = chosen.DESCRIPTOR.fields_by_name["postEvaluationTransform"].enum_type.values_by_name
    chosen.postEvaluationTransform = transforms[_TRANSFORMS[model.transform]].number
    trees = chosen.treeEnsemble
    trees.numPredictionDimensions = len(model.base)
    trees.basePredictionValue.extend(model.base)
    for number, tree in enumerate(model.trees):
        for place, node in enumerate(tree):
            made = trees.nodes.add(treeId=number, nodeId=place)
            if isinstance(node, Branch):
                made.nodeBehavior = _LESS if node.strict else _LESS_OR_EQUAL
                made.branchFeatureIndex = node.feature
                made.branchFeatureValue = node.threshold
                made.trueChildNodeId, made.falseChildNodeId = node.yes, node.no
                made.missingValueTracksTrueChild = node.missing_yes
            else:
                made.nodeBehavior = _LEAF
                for dimension, value in node.values:
                    made.evaluationInfo.add(evaluationIndex=dimension, evaluationValue=value)
