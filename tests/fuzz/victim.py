"""Reads, loads and runs one damaged model: whatever comes out that is no error of ours is a finding."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np

import coremlops
from coremlops.errors import CoremlopsError
from coremlops.model.description import ArrayFeature, DictionaryFeature, Feature, ImageFeature, ScalarFeature
from coremlops.runtime import describe

TIME_LIMIT_S = 2.0
MAX_ELEMENTS = 1 << 20  # of an input that is made here
OUTCOMES = ("unreadable", "refused", "failed", "ran")


def attempt(path: Path, number: int) -> str:
    """How far the model came, one of OUTCOMES. Raises what is no `CoremlopsError`."""
    rng = random.Random(number)
    try:
        said = describe(path)
    except CoremlopsError:
        return "unreadable"
    try:
        model = coremlops.load(
            path,
            precision=rng.choice(("typed", "float32", "float16")),
            function_name=rng.choice([None, *said["functions"]]),
            threads=1,
            time_limit_s=TIME_LIMIT_S,
        )
    except CoremlopsError:
        return "refused"
    try:
        state = model.make_state() if model.description.states else None
        inputs = {feature.name: _value(feature, rng) for feature in model.description.inputs}
        inner = rng.sample(model.inner_names, 1) if model.inner_names and rng.random() < 0.1 else []
        model.predict(inputs, state=state, intermediates=inner)
    except CoremlopsError:
        return "failed"
    return "ran"


def _value(feature: Feature, rng: random.Random) -> Any:
    match feature:
        case ImageFeature(width=width, height=height):
            if width * height > MAX_ELEMENTS:
                width = height = 1
            return np.zeros((height, width, 3), np.uint8)
        case ArrayFeature(shape=shape, dtype=dtype):
            if any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
                shape = (1,)
            return np.full(shape or (2, 4), rng.choice((0, 1, -1, 3)), dtype)
        case ScalarFeature(dtype="string"):
            return "x"
        case ScalarFeature():
            return 1
        case DictionaryFeature(key="string"):
            return {"x": 1.0}
        case DictionaryFeature():
            return {1: 1.0}
    return []
