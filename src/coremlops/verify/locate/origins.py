"""Where an op stands in the user's model: what the conversion wrote down, else what the source says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.verify.locate.location import Finding

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

    It is a help for reading: a file that is missing, too large or no such JSON says nothing.
    """

    def __init__(self, model: Path, known: Mapping[str, Origin] | None = None) -> None:
        self.model = model
        self.known = (
            dict(known) if known is not None else _read(model.with_name(f"{model.stem}.origins.json"))
        )

    def with_pairs(self, pairs: Mapping[str, Pair]) -> Origins:
        """What the source's nodes say, for the ops that nothing is known of."""
        from coremlops.verify.locate.numeric import plain

        said = {
            plain(pair.operation.name): Origin(pair.inner.module, pair.inner.source)
            for pair in pairs.values()
            if pair.inner.module or pair.inner.source
        }
        return Origins(self.model, said | self.known)

    def of(self, operation: str) -> Origin:
        return self.known.get(operation, Origin())

    def placed(self, finding: Finding) -> Finding:
        """The finding with its place, where it has none."""
        origin = self.of(finding.op)
        return replace(
            finding, module=finding.module or origin.module, source=finding.source or origin.source
        )


def _read(path: Path) -> dict[str, Origin]:
    from coremlops.verify.locate.numeric import plain

    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        value: Any = json.loads(path.read_text("utf-8"))
        return {
            plain(name): Origin(str(item.get("module", "")), str(item.get("source", "")))
            for name, item in value["ops"].items()
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}
