"""What every step does around its own work."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coremlops.errors import CoremlopsError


def run(main: Callable[[], None]) -> None:
    """Run a step; an error of ours becomes one clear line and an exit code."""
    try:
        main()
    except CoremlopsError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"error: {error.message}{hint}", file=sys.stderr)
        sys.exit(error.exit_code)


def write_json(path: Path, value: Any) -> None:
    """Write `value` with sorted keys, so that equal values are equal files."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
