"""LightGBM models: the text that `Booster.save_model` writes is read here; answers need the library.

Source: LightGBM's `src/io/tree.cpp` and `include/LightGBM/tree.h`: a row goes left where `x <= threshold`, in
double. What NaN does depends on the branch's missing type: None makes it 0, NaN follows the default side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coremlops.digest import sha256_file
from coremlops.errors import ConversionError, InputError, MissingExtraError
from coremlops.source.trees import Branch, Ensemble, Leaf, TableReference, Tree, check_tree, feature_tensors

MAX_BYTES = 1 << 30
_PLAIN = (
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",
    "lambdarank",
    "rank_xendcg",
)
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2


def open_lightgbm(path: Path) -> TableReference:
    """The model of a text file of LightGBM's. Raises InputError and ConversionError."""
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: at most {MAX_BYTES} bytes expected")
    try:
        found = _read(path.read_text("utf-8"), path.name)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{path}: a LightGBM model expected: {type(error).__name__}: {error}") from error
    return TableReference(
        "lightgbm",
        path.name,
        sha256_file(path),
        feature_tensors(found.features, path.name),
        found,
        labels=found.labels,
        run=_Runner(path),
    )


class _Runner:
    """LightGBM's own answers; the library is loaded by the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.booster: Any = None

    def __call__(self, row: Any) -> Any:
        if self.booster is None:
            try:
                import lightgbm
            except ImportError:
                raise MissingExtraError("lightgbm", "lightgbm") from None
            try:
                self.booster = lightgbm.Booster(model_file=self.path)
            except Exception as error:  # LightGBMError, or what the library makes of a hostile file
                raise InputError(f"{self.path}: LightGBM does not load it: {error}") from error
        return self.booster.predict(row[None], num_threads=1)[0]


def _read(text: str, where: str) -> Ensemble:
    head, *blocks = text.split("\nTree=")
    if not head.startswith("tree"):
        raise InputError(f"{where}: a LightGBM model begins with the line `tree`")
    header = _fields(head)
    names = tuple(header["feature_names"].split())
    groups = int(header["num_tree_per_iteration"])
    if not 1 <= groups <= 10_000:
        raise InputError(f"{where}: {groups} trees an iteration")
    objective, *words = header.get("objective", "regression").split()
    values = dict(word.split(":", 1) for word in words if ":" in word)
    transform, labels = _objective(objective, words, groups, where)
    scale = float(values.get("sigmoid", 1)) if transform == "sigmoid" else 1.0
    if "average_output" in head.splitlines():
        scale /= max(1, len(blocks) // groups)
    made = []
    for place, block in enumerate(blocks):
        here = f"{where}, tree {place}"
        tree = _tree(_fields(block), place % groups, scale, here)
        check_tree(tree, len(names), here)
        made.append(tree)
    return Ensemble(names, tuple(made), (0.0,) * groups, transform, labels)


def _fields(block: str) -> dict[str, str]:
    lines = block.split("\nend of trees", 1)[0].splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _objective(name: str, words: list[str], groups: int, where: str) -> tuple[str, tuple[int, ...] | None]:
    if name in _PLAIN and "sqrt" not in words:
        return "", None
    if name == "binary":
        return "sigmoid", (0, 1)
    if name == "cross_entropy":
        return "sigmoid", None
    if name == "multiclass":
        return "softmax", tuple(range(groups))
    raise ConversionError(
        f"{where}: the objective {' '.join((name, *words))} does not convert: Core ML's trees have no such "
        "transform",
        hint=f"those that do: {', '.join((*_PLAIN, 'binary', 'cross_entropy', 'multiclass'))}",
    )


def _tree(fields: dict[str, str], group: int, scale: float, where: str) -> Tree:
    if int(fields.get("is_linear", 0)):
        raise ConversionError(f"{where}: a tree with linear leaves (linear_tree) does not convert")
    values = [float(value) * scale for value in fields["leaf_value"].split()]
    count = int(fields["num_leaves"])
    if count < 1 or len(values) != count:
        raise InputError(f"{where}: {len(values)} values for {count} leaves")
    leaves = [Leaf(((group, value),)) for value in values]
    if count == 1:
        return (leaves[0],)
    features, left, right, kinds = (
        [int(value) for value in fields[name].split()]
        for name in ("split_feature", "left_child", "right_child", "decision_type")
    )
    thresholds = [float(value) for value in fields["threshold"].split()]
    branches = count - 1
    made: list[Branch | Leaf] = []
    for feature, threshold, yes, no, kind in zip(features, thresholds, left, right, kinds, strict=True):
        # A child below 0 is leaf ~child.
        yes, no = (child if child >= 0 else branches + ~child for child in (yes, no))
        made.append(Branch(feature, threshold, False, yes, no, _missing(kind, threshold, where)))
    if len(made) != branches:
        raise InputError(f"{where}: {len(made)} branches for {count} leaves")
    return (*made, *leaves)


def _missing(kind: int, threshold: float, where: str) -> bool:
    """Whether NaN goes left."""
    if kind & _CATEGORICAL:
        raise ConversionError(
            f"{where}: a split by categories does not convert: a branch of Core ML compares one number",
            hint="train with one-hot columns, or with the codes as plain numbers",
        )
    default_left, missing = bool(kind & _DEFAULT_LEFT), kind >> 2 & 3
    if missing == _MISSING_NAN:
        return default_left
    if missing == _MISSING_ZERO and default_left != (threshold >= 0):
        raise ConversionError(f"{where}: zero means missing (zero_as_missing), which Core ML does not have")
    return threshold >= 0
