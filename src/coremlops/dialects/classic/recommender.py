"""Item similarity recommenders.

Source: `ItemSimilarityRecommender.proto`; Apple's own checks in coremltools,
`mlmodel/src/ItemSimilarityRecommenderCommon.cpp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coremlops.dialects.classic.numbers import Labels
from coremlops.errors import ModelFormatError

MAX_ITEMS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class ItemSimilarityRecommender:
    """Items scored by their similarity to the items that were seen.

    `similar`: for each item that may be seen, (item, similarity) of those like it. `shifts`: an item's score
    adjustment. Items are counted from 0; `items` are their names. The rest are names of inputs and outputs,
    empty when there is none.
    """

    similar: Mapping[int, tuple[tuple[int, float], ...]]
    shifts: Mapping[int, float]
    items: Labels | range
    items_input: str
    count_input: str
    restriction_input: str
    exclusion_input: str
    list_output: str
    scores_output: str


def read_recommender(message: Any, *, where: str) -> ItemSimilarityRecommender:
    """An `ItemSimilarityRecommender`. Raises ModelFormatError."""
    similar: dict[int, tuple[tuple[int, float], ...]] = {}
    for entry in message.itemItemSimilarities:
        alike = tuple((other.itemId, other.similarityScore) for other in entry.similarItemList)
        similar[entry.itemId] = similar.get(entry.itemId, ()) + alike
    last = max(
        (item for key, alike in similar.items() for item in (key, *(other for other, _ in alike))), default=-1
    )
    names = tuple(message.itemStringIds.vector) or tuple(message.itemInt64Ids.vector)
    if message.itemStringIds.vector and message.itemInt64Ids.vector:
        raise ModelFormatError(f"{where}: items have names of both kinds, strings and integers")
    if last >= MAX_ITEMS or (names and last >= len(names)) or len(set(names)) != len(names):
        raise ModelFormatError(
            f"{where}: item {last} of {len(names)} names; expected one name each, at most {MAX_ITEMS} items"
        )
    return ItemSimilarityRecommender(
        similar=similar,
        shifts={entry.itemId: entry.itemScoreAdjustment for entry in message.itemItemSimilarities},
        items=names or range(last + 1),
        items_input=message.itemInputFeatureName,
        count_input=message.numRecommendationsInputFeatureName,
        restriction_input=message.itemRestrictionInputFeatureName,
        exclusion_input=message.itemExclusionInputFeatureName,
        list_output=message.recommendedItemListOutputFeatureName,
        scores_output=message.recommendedItemScoreOutputFeatureName,
    )
