"""A model in Apple's framework, from this side of its process."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from coremlops.errors import MissingExtraError, ModelError, UsageError
from coremlops.model.description import Feature, ImageFeature
from coremlops.runtime.framework.wire import receive, send
from coremlops.runtime.images import convert_colour, image_from_array

COMPUTE_UNITS = ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE")
TIME_LIMIT_S = 600.0  # a first load may compile for the Neural Engine, which takes minutes
# Not written out: a module's name in the code counts as an import in a step's key, and only a Mac's process
# reaches coremltools through this one.
CHILD = (sys.executable, "-P", "-m", f"{__package__}.child")


def open_part(
    path: Path,
    features: Sequence[Feature],
    *,
    precision: str,
    compute_units: str,
    function_name: str | None,
    time_limit_s: float | None,
) -> FrameworkPart:
    """The model in Apple's framework; see `FrameworkPart`.

    Raises UsageError where the framework is not, and for a precision that it does not know.
    """
    check_available(precision)
    return FrameworkPart(
        path,
        features,
        compute_units=compute_units,
        function_name=function_name,
        time_limit_s=time_limit_s,
    )


def check_available(precision: str) -> None:
    """Raises UsageError where Apple's framework is not, or for a precision that it does not know."""
    if sys.platform != "darwin":
        raise UsageError(
            f"the engine coreml is Apple's own framework, which is on a Mac; this is {sys.platform}",
            hint="the engine onnxruntime runs Core ML models here",
        )
    if importlib.util.find_spec("coremltools") is None:
        raise MissingExtraError("coremltools", "convert")
    if precision != "typed":
        raise UsageError(f"the engine coreml runs what the file declares; precision {precision!r} is ours")


class FrameworkPart:
    """One model in Apple's framework; see `Part`. One prediction at a time.

    A call that takes longer than the time limit, and one after which the process is gone, raises ModelError;
    the next call starts a new process.
    """

    def __init__(
        self,
        path: Path,
        features: Sequence[Feature],
        *,
        compute_units: str = "ALL",
        function_name: str | None = None,
        time_limit_s: float | None = None,
        command: Sequence[str] = CHILD,
    ) -> None:
        """Start the process and load the model.

        `features`: the inputs. `time_limit_s`: for loading, and for each prediction; None for 600. Raises
        UsageError for unknown compute units, ModelError when the framework refuses the model.
        """
        if compute_units not in COMPUTE_UNITS:
            raise UsageError(
                f"unknown compute units {compute_units!r}; expected one of {', '.join(COMPUTE_UNITS)}"
            )
        self._model = {"path": str(path), "compute_units": compute_units, "function_name": function_name}
        self._images = {item.name: item.colour for item in features if isinstance(item, ImageFeature)}
        self._limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._ask(None)

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, np.ndarray[Any, Any]] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """See `Part.run`. Raises UsageError for intermediates: the framework does not show them."""
        if tuple(intermediates):
            raise UsageError(
                "Apple's framework does not show intermediate values",
                hint="the engine onnxruntime does",
            )
        inputs = {name: self._feature(name, value) for name, value in features.items()}
        answer = self._ask({"predict": inputs, "state": None if state is None else dict(state)})
        for name, value in answer["state"].items():
            if state is not None:
                state[name][...] = value
        outputs: dict[str, Any] = answer["outputs"]
        return outputs

    def _feature(self, name: str, value: Any) -> Any:
        """A picture in the mode that coremltools asks for; anything else as it is."""
        colour = self._images.get(name)
        if colour is None:
            return value
        picture = image_from_array(value, name=name) if isinstance(value, np.ndarray) else value
        if colour == "GRAYSCALE_FLOAT16":
            return picture.convert("F")
        return convert_colour(picture, colour)

    def _ask(self, message: dict[str, Any] | None) -> dict[str, Any]:
        """Send a message, if any, to a process that holds the model; its answer."""
        with self._lock:
            if self._process is None:
                process = _Process(self._command)
                weakref.finalize(self, process.end)
                self._answer(process, {"load": self._model})
                self._process = process
            return {} if message is None else self._answer(self._process, message)

    def _answer(self, process: _Process, message: dict[str, Any]) -> dict[str, Any]:
        """One message and its answer. A process that fails to answer in time is ended."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.end()

        timer = threading.Timer(self._limit_s, stop)
        timer.start()
        try:
            send(process.inputs, message)
            answer = receive(process.outputs)
        except (OSError, EOFError, ModelError) as error:
            self._process = None
            process.end()
            process.close()
            if late.is_set():
                raise ModelError(
                    f"{self._model['path']}: no answer within {self._limit_s:g} s; its process was ended"
                ) from None
            if isinstance(error, ModelError):
                raise
            raise ModelError(
                f"{self._model['path']}: its process ended ({process.ending()}): {process.last_words()}"
            ) from None
        finally:
            timer.cancel()
        if late.is_set():  # it answered while it was being ended
            self._process = None
        if "error" in answer:
            raise ModelError(f"{self._model['path']}: {answer['error']}")
        return answer


class _Process:
    """A child in a process group of its own, with pipes for messages and a file for what it prints."""

    def __init__(self, command: Sequence[str]) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  closed with this object
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101  asked for above
        assert self._process.stdout is not None  # noqa: S101  asked for above
        self.inputs: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self.outputs: BinaryIO = self._process.stdout  # type: ignore[assignment]

    def end(self) -> None:
        """Kill the whole group; harmless when it is gone."""
        # PermissionError is macOS's word for a group of zombies.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Let go of the pipes, and of what was not yet read at the other end."""
        for stream in (self.inputs, self.outputs):
            with suppress(OSError):
                stream.close()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ending(self) -> str:
        """How it ended: an exit code, or the name of a signal."""
        code = self._process.wait()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def last_words(self) -> str:
        """The last line that it printed."""
        self._printed.seek(0)
        lines = self._printed.read()[-4096:].decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it printed nothing")
