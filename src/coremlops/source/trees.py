"""Boosted trees and forests as one value, whichever library grew them.

XGBoost, CatBoost and scikit-learn's forests round an input to float32 before they compare it; Core ML
compares doubles. `rounded_below` and `rounded_up_to` give the threshold that decides alike for every double.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from coremlops.errors import ConversionError, InputError
from coremlops.source.reference import Reference, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABEL, PROBABILITIES, PREDICTION = "classLabel", "classLabel_probs", "prediction"
MAX_NODES = 10_000_000
MAX_DEPTH = 1000


@dataclass(frozen=True, slots=True)
class Branch:
    """To `yes` where the feature is less than (`strict`) or at most the threshold; places in the tree.

    `missing_yes`: where NaN goes.
    """

    feature: int
    threshold: float
    strict: bool
    yes: int
    no: int
    missing_yes: bool


@dataclass(frozen=True, slots=True)
class Leaf:
    """What is added, by dimension of the sum."""

    values: tuple[tuple[int, float], ...]


Tree: TypeAlias = tuple[Branch | Leaf, ...]  # the root is the first


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """The sum of `base` and of one leaf a tree, then a transform.

    transform: "" (the sum), "sigmoid" or "softmax". labels: of a classifier; with one dimension the sum is
    the score of the second of two. None for a regressor. notes: what a reader of a conversion must know.
    """

    features: tuple[str, ...]
    trees: tuple[Tree, ...]
    base: tuple[float, ...]
    transform: str = ""
    labels: tuple[str, ...] | tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableReference(Reference):
    """A model of a row of features, run by the library that made it; `raw` is what a converter takes.

    Each feature is an input of its own, a number, or there is one input, an array of them (of a one-hot
    encoder a number or a text). Outputs: `prediction` of a regressor; `classLabel` and `classLabel_probs`
    [classes] of a classifier. `labels`: its classes; `run`: a row [features] to the prediction, or to the
    probabilities; where it gives none (`probable`), to the place of the class.
    """

    labels: tuple[Any, ...] | None = None
    run: Any = field(default=None, repr=False)
    probable: bool = True

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        import numpy as np

        kind: Any = object if self.inputs[0].dtype == "str" else self.inputs[0].dtype
        try:
            pairs = zip(self.ordered(inputs), self.inputs, strict=True)
            row = np.hstack([np.asarray(value, kind).reshape(_fixed(item)) for value, item in pairs])
        except ValueError as error:
            raise InputError(f"{self.name}: a number for each feature expected: {error}") from error
        try:
            answer = np.asarray(self.run(row), np.float64).ravel()
        except ValueError as error:
            raise InputError(
                f"{self.name} does not take {row.tolist()}: {error}",
                hint="give rows such as it was fitted on: --data",
            ) from error
        if self.labels is None:
            return {PREDICTION: answer.reshape(()) if answer.size == 1 else answer}
        if not self.probable:
            return {LABEL: np.asarray(self.labels[int(answer[0])])}
        if answer.size == 1:
            answer = np.array([1 - answer[0], answer[0]])
        # A tie of two that share one score is the second's, else the first's: as the libraries and Core ML.
        shared = isinstance(self.raw, Ensemble) and len(self.raw.base) == 1
        best = int(answer[1] >= answer[0]) if shared else int(answer.argmax())
        return {LABEL: np.asarray(self.labels[best]), PROBABILITIES: answer}


def _fixed(item: Tensor) -> tuple[int, ...]:
    return tuple(size for size in item.shape or () if size is not None)


def feature_tensors(names: tuple[str, ...], where: str) -> tuple[Tensor, ...]:
    """An input for each feature. Raises InputError for names that are empty or stand twice."""
    if not names or not all(names) or len(set(names)) != len(names):
        raise InputError(
            f"{where}: each feature a name of its own expected, got {', '.join(names) or 'none'}"
        )
    return tuple(Tensor(name, (), "float64") for name in names)


def rounded_below(threshold: float) -> tuple[float, bool]:
    """(t, strict) such that `x < t`, or `x <= t` where not strict, is `float32(x) < threshold`.

    >>> rounded_below(0.5)
    (0.49999998509883875, True)
    """
    import numpy as np

    top = np.float32(threshold)
    return _between(_next(top, -np.inf), top)


def rounded_up_to(threshold: float) -> tuple[float, bool]:
    """(t, strict) such that the comparison is `float32(x) <= threshold`, a double."""
    import numpy as np

    low = np.float32(threshold)
    if float(low) > threshold:
        low = _next(low, -np.inf)
    return _between(low, _next(low, np.inf))


def _next(value: Any, towards: float) -> Any:
    import numpy as np

    with np.errstate(over="ignore"):
        return np.nextafter(value, np.float32(towards))


def _between(low: Any, top: Any) -> tuple[float, bool]:
    """The middle of two float32 neighbours: a double there rounds to the one whose last bit is 0."""
    import numpy as np

    # What is past the largest float32 rounds to infinity as if that were the next power of two.
    ends = [float(np.clip(np.float64(end), -(2.0**128), 2.0**128)) for end in (low, top)]
    strict = bool(np.float32(low).view(np.uint32) & 1)
    return sum(ends) / 2, strict


def check_tree(tree: Tree, features: int, where: str) -> None:
    """Each node is reached once, from the root, and compares a feature that is there.

    Raises InputError, and ConversionError for a tree deeper than Core ML's readers are asked to take.
    """
    seen, level, depth = 0, [0], 0
    while level:
        seen += len(level)
        depth += 1
        if seen > len(tree):
            raise InputError(f"{where}: a tree's node has two parents")
        if depth > MAX_DEPTH:
            raise ConversionError(f"{where}: a tree is deeper than {MAX_DEPTH}")
        below = []
        for place in level:
            node = tree[place]
            if isinstance(node, Branch):
                if not (0 <= node.feature < features and min(node.yes, node.no) > 0):
                    raise InputError(
                        f"{where}: a branch of a tree names feature {node.feature} of {features}"
                    )
                if max(node.yes, node.no) >= len(tree):
                    raise InputError(f"{where}: a branch of a tree leads out of it")
                below += [node.yes, node.no]
        level = below
    if seen != len(tree):
        raise InputError(f"{where}: {len(tree) - seen} nodes of a tree hang on no root")
