"""Which ops compute in float16: all of a model's, or all but those that are named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from coremlops.errors import UsageError

TYPE = "type:"


class Precision:
    """What is handed to coremltools as `compute_precision`, and what it was asked about.

    `keep`: glob patterns of op names, or `type:softmax`. A name is what coremltools knows before it chooses
    the precision, `14`, or what it writes into the file, `op_14`, which is what a user sees.
    """

    def __init__(self, precision: str, keep: Sequence[str] = ()) -> None:
        self.precision = precision
        self.keep = tuple(keep)
        self.used: set[str] = set()
        self.names: set[str] = set()

    def for_coremltools(self, ct: Any) -> Any:
        """The value of `compute_precision`; `ct` is the module."""
        if self.precision == "float32":
            return ct.precision.FLOAT32
        if not self.keep:
            return ct.precision.FLOAT16
        return ct.transform.FP16ComputePrecision(op_selector=lambda op: not self.keeps(op.name, op.op_type))

    def keeps(self, name: str, kind: str) -> bool:
        """Whether an op stays in float32."""
        written = _written(name)
        self.names |= {written, TYPE + kind}
        names = (name, written)
        found = {
            item
            for item in self.keep
            if any(fnmatchcase(text, item) for text in ((TYPE + kind,) if item.startswith(TYPE) else names))
        }
        self.used |= found
        return bool(found)

    def check(self) -> None:
        """After a conversion. Raises UsageError for a pattern that no op has: it would be kept in vain."""
        for pattern in self.keep:
            if self.precision == "float16" and pattern not in self.used:
                near = get_close_matches(pattern, self.names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "see the names with coremlops describe"
                raise UsageError(f"keep_float32: no op is called {pattern!r}", hint=hint)


def _written(name: str) -> str:
    """An op's name as a file may hold it. Source: coremltools 9.0, `passes/defs/preprocess.py`."""
    plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"op_{plain}" if plain[:1].isdigit() else plain
