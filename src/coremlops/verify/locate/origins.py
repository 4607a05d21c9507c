"""Where an op stands in the user's model: what the conversion wrote down, else what the source says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.dialects.mil import Function
from coremlops.verify.locate.location import Finding
from coremlops.verify.locate.numeric import plain

if TYPE_CHECKING:
    from coremlops.verify.locate.conversion import Pair

MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Origin:
    """A module path such as `features.3.conv`, and a line such as `net.py:41`; either may be empty."""

    module: str = ""
    source: str = ""


class Origins:
    """`<stem>.origins.json` beside a package: {"format": 1, "ops": {op: {"module": ..., "source": ...}}}.

    Of a package with several functions their ops stand under "functions", by the function's name.

    It is a help for reading: a file that is missing, too large or no such JSON says nothing.
    """

    def __init__(self, known: Mapping[str, Origin]) -> None:
        self.known = dict(known)

    @classmethod
    def beside(cls, model: Path, function: Function) -> Origins:
        """What the file says of a function's ops, by their own names or those of their results."""
        said = _read(model.with_name(f"{model.stem}.origins.json"), function.name)
        known = {}
        for operation in function.block.operations if said else ():
            names = (operation.name, *(entry.name for entry in operation.outputs))
            found = next((said[name] for name in names if name in said), None)
            if found is not None:
                known[plain(operation.name)] = found
        return cls(known)

    def with_pairs(self, pairs: Mapping[str, Pair]) -> Origins:
        """What the source's nodes say, for the ops that nothing is known of."""
        said = {
            plain(pair.operation.name): Origin(pair.inner.module, pair.inner.source)
            for pair in pairs.values()
            if pair.inner.module or pair.inner.source
        }
        return Origins(said | self.known)

    def of(self, operation: str) -> Origin:
        return self.known.get(operation, Origin())

    def placed(self, finding: Finding) -> Finding:
        """The finding with its place, where it has none."""
        origin = self.of(finding.op)
        return replace(
            finding, module=finding.module or origin.module, source=finding.source or origin.source
        )


def _read(path: Path, function: str) -> dict[str, Origin]:
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        value: Any = json.loads(path.read_text("utf-8"))
        return {
            str(name): Origin(str(item.get("module", "")), _own(str(item.get("source", ""))))
            for name, item in (value.get("functions", {}).get(function) or value["ops"]).items()
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}


def _own(source: str) -> str:
    """A line of the user's; TorchScript's own text, which is in the file of weights, is none."""
    return "" if "__torch__" in source else source
