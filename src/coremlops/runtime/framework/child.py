"""The process that holds one model in Apple's framework; `python -m coremlops.runtime.framework.child`.

Reads messages from stdin and answers each on stdout: first `load`, then any number of `predict`. Ends when
stdin does. What libraries print goes to stderr.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from coremlops.runtime.framework.wire import receive, send


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    model: Any = None
    while True:
        try:
            message = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if "load" in message:
                model = _load(**message["load"])
                send(answers, {"ok": True})
            else:
                send(answers, _predict(model, message["predict"], message["state"]))
        except Exception as error:  # whatever it is, the other side must hear it
            send(answers, {"error": f"{type(error).__name__}: {error}"})


def _load(path: str, compute_units: str, function_name: str | None) -> Any:
    import coremltools

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # says what is raised below
        units = coremltools.ComputeUnit[compute_units]
        model = coremltools.models.MLModel(path, compute_units=units, function_name=function_name)
    if model.__proxy__ is None:
        raise model._framework_error or RuntimeError("the framework does not take the model")
    return model


def _predict(model: Any, inputs: dict[str, Any], state: dict[str, Any] | None) -> dict[str, Any]:
    """States live with the caller: they are written before a prediction, and read after it."""
    if state is None:
        return {"outputs": model.predict(inputs), "state": {}}
    held = model.make_state()
    for name, value in state.items():
        held.write_state(name, value)
    outputs = model.predict(inputs, state=held)
    return {"outputs": outputs, "state": {name: held.read_state(name) for name in state}}


if __name__ == "__main__":
    main()
