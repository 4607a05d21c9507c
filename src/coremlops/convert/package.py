"""Where a conversion goes; what both it and a compression need is in `coremlops.model.writing`."""

from __future__ import annotations

from coremlops.model.writing import DEBUG_FILE, make_reproducible, placed

__all__ = ["DEBUG_FILE", "make_reproducible", "placed"]
