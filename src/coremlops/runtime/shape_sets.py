"""Enumerated shapes of several inputs: those at one place of the lists belong together.

Core ML compiles an ML Program for the sets (all first shapes, all second ones, ...), not for every mixture.
Source: coremltools 9.0, `_validate_enumerated_shape_inputs` (lists of one length), and its issue 2271: what
mixes two places of the lists fails on a Mac.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from coremlops.errors import InputError
from coremlops.model import ArrayFeature, Feature, ImageFeature

# The specification version of iOS 18. Before it Core ML had one such input at most; a list held a shape once.
FIRST_WITH_SETS = 9
MAX_SHOWN = 4  # sets that an error names

Shape: TypeAlias = tuple[int, ...]


def have_sets(features: Sequence[Feature]) -> bool:
    """Whether several inputs have enumerated shapes, so that `check_sets` has something to look at."""
    return len(_listed(features)) > 1


def check_sets(features: Sequence[Feature], tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """The tensors of all inputs with enumerated shapes have those of one place in their lists.

    One input alone may have any of its shapes; so may all have their default ones. Raises InputError.
    """
    listed = _listed(features)
    if len(listed) < 2:
        return
    sets = list(zip(*map(_shapes, listed), strict=False))
    given = tuple(_given(feature, tensors[feature.name]) for feature in listed)
    if given in sets or given == tuple(map(_default, listed)):
        return
    names = [feature.name for feature in listed]
    shown = " or ".join(_words(names, entry) for entry in sets[:MAX_SHOWN])
    more = f" or {len(sets) - MAX_SHOWN} more sets" if len(sets) > MAX_SHOWN else ""
    raise InputError(
        f"the inputs {', '.join(map(repr, names))} take their shapes together: expected "
        f"{shown}{more}; got {_words(names, given)}",
        hint="Core ML asks that the i-th shape of one input comes with the i-th of all others",
    )


def _listed(features: Sequence[Feature]) -> list[ImageFeature | ArrayFeature]:
    several = (feature for feature in features if isinstance(feature, ImageFeature | ArrayFeature))
    return [feature for feature in several if len(_shapes(feature)) > 1]


def _shapes(feature: ImageFeature | ArrayFeature) -> tuple[Shape, ...]:
    return feature.sizes if isinstance(feature, ImageFeature) else feature.shapes


def _default(feature: ImageFeature | ArrayFeature) -> Shape:
    return (feature.width, feature.height) if isinstance(feature, ImageFeature) else feature.shape


def _given(feature: ImageFeature | ArrayFeature, tensor: np.ndarray[Any, Any]) -> Shape:
    shape: Shape = tensor.shape
    return shape[:-3:-1] if isinstance(feature, ImageFeature) else shape


def _words(names: Sequence[str], shapes: Sequence[Shape]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in zip(names, shapes, strict=True))
