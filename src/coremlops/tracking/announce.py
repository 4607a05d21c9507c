"""Says a line when a server answers: `python -m coremlops.tracking.announce HOST PORT LINE PID`."""

from __future__ import annotations

import os
import socket
import sys
import time

LIMIT_S = 300.0
_POLL_S = 0.1


def announce(host: str, port: int, line: str, server: int) -> bool:
    """Print `line` to stderr when the port takes a connection; whether it did before the server was gone."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        try:
            with socket.create_connection((host, port), timeout=1):
                print(line, file=sys.stderr, flush=True)
                return True
        except OSError:
            time.sleep(_POLL_S)
        try:
            os.kill(server, 0)
        except OSError:
            return False
    return False


if __name__ == "__main__":
    announce(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
