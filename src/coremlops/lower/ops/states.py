"""Values that outlive a prediction: an input and an output of the graph each.

Source: coremltools, `ops/defs/iOS18/states.py`, and `backend/mil/load.py`, which writes `coreml_update_state`
as `write_state` and `read_state`.
"""

from __future__ import annotations

from coremlops.lower.context import Lowering
from coremlops.lower.registry import State, Value, lowers


@lowers("read_state", rounded=True)
def read_state(ctx: Lowering, input: State) -> Value:
    """What the state holds now; later writes do not change it."""
    return ctx.states[input.name]


@lowers("write_state", rounded=True)
def write_state(ctx: Lowering, input: State, data: Value) -> None:
    """From now on, the state holds `data`."""
    ctx.write(input, data)


@lowers("coreml_update_state", rounded=True)
def coreml_update_state(ctx: Lowering, state: State, value: Value) -> Value:
    """From now on, the state holds `value`, which is the result, too."""
    ctx.write(state, value)
    return value
