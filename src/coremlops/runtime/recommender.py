"""What an item similarity recommender answers.

The score of item k is the sum, over the items i that were seen, of similarity(k, i) * (score_i - shift_k).
Items that were seen are left out unless the caller says which to leave out.
Source: `ItemSimilarityRecommender.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from coremlops.dialects.classic.recommender import ItemSimilarityRecommender
from coremlops.errors import InputError


def recommend(
    model: ItemSimilarityRecommender, places: Mapping[Any, int], features: Mapping[str, Any]
) -> dict[str, Any]:
    """The recommended items, best first (of equal ones, the first), and their scores.

    `places`: the place of each of the model's items. Raises InputError.
    """
    seen = _seen(model, places, features)
    scores = np.zeros(len(places))
    for item, score in seen.items():
        for other, similarity in model.similar.get(item, ()):
            scores[other] += similarity * (score - model.shifts.get(other, 0.0))
    allowed = np.ones(len(places), np.bool_)
    if model.restriction_input and features.get(model.restriction_input) is not None:
        allowed[:] = False
        allowed[_places(model.restriction_input, features, places)] = True
    if model.exclusion_input and features.get(model.exclusion_input) is not None:
        allowed[_places(model.exclusion_input, features, places)] = False
    else:
        allowed[list(seen)] = False
    order = np.argsort(-scores, kind="stable")
    best = order[allowed[order]][: _count(model, features)]
    names = model.items
    outputs: dict[str, Any] = {}
    if model.list_output:
        outputs[model.list_output] = [names[place] for place in best.tolist()]
    if model.scores_output:
        outputs[model.scores_output] = {names[place]: float(scores[place]) for place in best.tolist()}
    return outputs


def _seen(
    model: ItemSimilarityRecommender, places: Mapping[Any, int], features: Mapping[str, Any]
) -> dict[int, float]:
    """The items that were seen, with their scores: 1 where the caller gives none."""
    given = features.get(model.items_input)
    if given is None:
        raise InputError(f"input {model.items_input!r} is missing")
    if not isinstance(given, Mapping):
        return dict.fromkeys(_places(model.items_input, features, places), 1.0)
    try:
        return {places[item]: float(score) for item, score in given.items() if item in places}
    except (TypeError, ValueError) as error:
        raise InputError(f"input {model.items_input!r}: expected scores by item: {error}") from error


def _places(name: str, features: Mapping[str, Any], places: Mapping[Any, int]) -> list[int]:
    """The places of listed items; those that the model does not know are left out."""
    given = features[name]
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"input {name!r}: expected a list of items, got {type(given).__name__}")
    items = [item.item() if isinstance(item, np.generic) else item for item in given]
    try:
        return [places[item] for item in items if item in places]
    except TypeError as error:
        raise InputError(f"input {name!r}: expected a list of items: {error}") from error


def _count(model: ItemSimilarityRecommender, features: Mapping[str, Any]) -> int | None:
    given = features.get(model.count_input) if model.count_input else None
    if given is None:
        return None
    try:
        return max(0, int(given))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"input {model.count_input!r}: expected a number of items: {error}") from error
