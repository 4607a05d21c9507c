"""Our runtime as the plugin of ../shared/apple-suite asks for one: `backend:predict`."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

from coremlops.bridge.standin import framework_predict
from coremlops.errors import BridgeError, CoremlopsError, UnsupportedOpsError
from coremlops.runtime import Model, load

PRECISION = os.environ.get("SUITE_PRECISION", "typed")


@lru_cache(maxsize=2)  # each model has a folder of its own; a test with state predicts many times
def _loaded(path: str, function_name: str | None) -> Model:
    return load(path, precision=PRECISION, function_name=function_name, threads=1)


def predict(
    path: str,
    inputs: dict[str, Any],
    state: MutableMapping[str, Any] | None = None,
    function_name: str | None = None,
) -> dict[str, Any]:
    """Run once, and give what Apple's framework gives to coremltools.

    Raises NotImplementedError for what is not supported, and BridgeError.
    """
    try:
        model = _loaded(path, function_name)
    except UnsupportedOpsError as error:
        raise NotImplementedError(str(error)) from error
    except CoremlopsError as error:  # coremltools expects a RuntimeError for a model that cannot be loaded
        raise BridgeError(str(error)) from error
    return framework_predict(model, inputs, state)
