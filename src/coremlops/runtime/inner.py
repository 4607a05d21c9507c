"""The values inside a model, by the names that the program gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from coremlops.errors import UsageError
from coremlops.lower import Lowered
from coremlops.lower.constants import as_computed
from coremlops.runtime.engines import Engine


class Watched:
    """A session that gives inner values beside the outputs.

    It is slower: what is looked at cannot be fused away.
    """

    def __init__(
        self,
        lowered: Lowered,
        names: tuple[str, ...],
        open_session: Callable[[Lowered], Engine],
        *,
        where: str,
    ) -> None:
        """`names` must be in `lowered.inner`. Raises UsageError for one that is not, and ModelError."""
        from onnx import NodeProto, ValueInfoProto

        missing = next((name for name in names if name not in lowered.inner), None)
        if missing is not None and missing in lowered.nested:
            raise UsageError(
                f"{where}: the inner value {missing!r} lies in a block of {lowered.nested[missing]}: "
                "a prediction gives it no value, one, or one a turn",
                hint="ask for what the operation gives; it has a name outside of the block",
            )
        if missing is not None:
            near = get_close_matches(missing, lowered.inner, n=1)
            raise UsageError(
                f"{where}: no inner value {missing!r}",
                hint=f"did you mean {near[0]!r}?"
                if near
                else "values that are used and lie in no nested block can be read, by their names there",
            )
        self._inner = {name: lowered.inner[name] for name in names}
        model = type(lowered.model)()
        model.CopyFrom(lowered.model)
        for name, inner in self._inner.items():
            if inner.constant is None:
                output = _output(name)
                model.graph.node.append(NodeProto(op_type="Identity", input=[inner.source], output=[output]))
                model.graph.output.append(ValueInfoProto(name=output))
        self.session = open_session(replace(lowered, model=model))

    def values(self, results: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """The inner values in the session's results, each rounded as the program's types say."""
        found: dict[str, Any] = {}
        for name, inner in self._inner.items():
            value = results[_output(name)] if inner.constant is None else inner.constant
            found[name] = np.atleast_1d(as_computed(value, round_to_fp16=inner.rounds))
        return found


def _output(name: str) -> str:
    return f"inner value: {name}"
