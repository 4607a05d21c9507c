"""How a built-in step ends that cannot do its work.

Imports nothing heavy: a run with nothing to do reads this too.
"""

from __future__ import annotations

import sys

from coremlops.errors import CoremlopsError


def said(error: CoremlopsError) -> int:
    """Print an error, what a gate found and what to do, to stderr; the step's exit code."""
    print(f"error: {error.message}", file=sys.stderr)
    for line in getattr(error, "failed", ()):
        print(f"  {line}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    return error.exit_code
