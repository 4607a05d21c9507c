"""What people write on a command line or in `coremlops.yaml`, as values."""

from __future__ import annotations

import re
from pathlib import Path

from coremlops.errors import UsageError

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}


def parse_bytes(text: str, where: str) -> int:
    """`50MB`, `1.5 GiB` or a plain number, in bytes. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in _UNITS:
        raise UsageError(f"{where}: a size such as 50MB or 1.5GiB expected, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def model_of(path: Path) -> Path:
    """The model itself: a folder that holds `model.mlpackage`, as `convert` leaves it, means that."""
    inner = path / "model.mlpackage"
    return inner if inner.is_dir() and not (path / "Manifest.json").exists() else path
