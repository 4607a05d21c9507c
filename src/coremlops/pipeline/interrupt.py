"""How a run is ended from outside: by a KeyboardInterrupt, at a moment that leaves nothing behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """The signals that ask a run to end."""

    def __init__(self) -> None:
        self._holding = 0
        self._came = False

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Make SIGTERM, and a terminal that is closed, end us as Ctrl-C does, so that steps are ended too.

        Only the main thread can. What is ignored stays so: `nohup` means to go on without the terminal. So
        does a SIGINT handler of the program that we are part of.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ours = [
            n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) not in (signal.SIG_IGN, None)
        ]
        ctrl_c = signal.getsignal(signal.SIGINT)
        if ctrl_c is signal.default_int_handler or isinstance(getattr(ctrl_c, "__self__", None), Interrupts):
            ours.append(signal.SIGINT)
        before = [signal.signal(number, self._interrupt) for number in ours]
        try:
            yield
        finally:
            for number, handler in zip(ours, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes in this block counts at its end: what it starts or ends is never half done."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
            if self._came and not self._holding:
                self._came = False
                raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._holding:
            raise KeyboardInterrupt
        self._came = True
