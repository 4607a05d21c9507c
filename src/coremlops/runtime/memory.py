"""How much memory a model may ask for: a file of a kilobyte can ask for a terabyte.

A size may be known at run time alone, and a type that a file declares may be a lie, so what is bounded is
what ONNX Runtime allocates. It takes a limit only for an allocator of its whole environment; so each session
gets an allocator of its own there, just before it is made, and has it alone.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.errors import ModelError, ModelFormatError, UsageError

LIMIT_VARIABLE = "COREMLOPS_MEMORY_BYTES"
HINT = f"{LIMIT_VARIABLE} in the environment changes the limit; 0 switches it off"
_UNKNOWN_BYTES = 8 << 30  # of a machine that does not say how much memory it has
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_REFUSALS = ("Available memory of", "Failed to allocate memory", "bad_alloc", "bad allocation")
_ALLOCATORS = "session.use_env_allocators"
_making = threading.Lock()


def limit_bytes() -> int:
    """How much a model may ask for beyond its weights: half of what the machine has; 0 for no limit."""
    said = bytes_said(LIMIT_VARIABLE)
    return machine_bytes() // 2 if said is None else said


def bytes_said(variable: str) -> int | None:
    """A number of bytes from the environment; None where it says nothing. Raises UsageError."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise UsageError(f"{variable} in the environment: a whole number of bytes expected, got {text:.40}")
    return int(text)


def constant_bytes(model_bytes: int) -> int:
    """How much the constants of a model of this size may take, once decoded."""
    limit = limit_bytes()
    return limit + model_bytes if limit else sys.maxsize


def machine_bytes() -> int:
    """The memory of this machine, or of the container that this process lives in."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        found = _UNKNOWN_BYTES
    return min([found, *_numbers(_CGROUPS)])


def _numbers(files: Iterable[str]) -> Iterator[int]:
    for name in files:
        try:
            yield int(Path(name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # not there, or "max"
            continue


def available_bytes() -> int | None:
    """How much memory could be taken now without harm to others; None where nothing says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


@contextmanager
def bounded(options: Any, weight_bytes: int) -> Iterator[None]:
    """The session that is made inside, with these options, allocates at most the limit and its weights."""
    import onnxruntime

    limit = limit_bytes()
    if not limit:
        yield
        return
    options.add_session_config_entry(_ALLOCATORS, "1")
    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )

    def register(most: int) -> None:
        """An allocator in the place of the last one, which lives on in the sessions that have it."""
        onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg(most, -1, -1, -1))

    with _making:
        register(limit + weight_bytes)
        try:
            yield
        finally:
            register(0)  # so that no other session of this process shares it


def is_refusal(error: Exception) -> bool:
    """Whether the engine failed because there was no more memory for it."""
    return any(words in str(error) for words in _REFUSALS)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Raise ModelError where this process finds no memory for an array. `what`: is being done, in errors."""
    try:
        yield
    except MemoryError as error:
        raise exhausted(what, error) from error


def exhausted(what: str, error: MemoryError) -> ModelError:
    """Our error for a MemoryError. `what`: was being done."""
    return ModelError(f"{what}: not enough memory: {str(error) or 'an allocation failed'}")


def filled(
    shape: Sequence[int], value: Any, dtype: Any, what: str, *, beside: int = 0
) -> np.ndarray[Any, Any]:
    """An array that a file asks for, of one value everywhere. `beside`: bytes of others that stay.

    Raises ModelFormatError for a shape that no array can have, and for one past the limit.
    """
    sizes = [size or 1 for size in shape]  # one of no elements can be too large, too
    size = math.prod(sizes) * np.dtype(dtype).itemsize + beside
    if min(sizes, default=1) < 0 or size > (limit_bytes() or sys.maxsize):
        raise ModelFormatError(
            f"{what} has the shape {list(shape)}: {size} bytes; at most {limit_bytes()}", hint=HINT
        )
    try:
        return np.full(shape, value, dtype) if value else np.zeros(shape, dtype)
    except (ValueError, MemoryError) as error:
        raise ModelFormatError(f"{what} has the shape {list(shape)}: {error}") from error
