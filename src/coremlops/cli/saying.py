"""What a long command does now: one line on a terminal, which goes when it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def saying() -> Iterator[Callable[[str], None]]:
    """A function that shows a line on stderr in place of the one before, where that is a terminal."""
    terminal = sys.stderr.isatty()

    def say(line: str) -> None:
        if terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    try:
        yield say
    finally:
        say("")
