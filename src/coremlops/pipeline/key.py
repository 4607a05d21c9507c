"""The key of a pure step: BLAKE3 over everything that its output may depend on.

The ingredients are kept beside the output, so that `coremlops why` can name what changed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from blake3 import blake3

from coremlops.pipeline.project import ReadyStep

FORMAT = 1


class Ingredients(NamedTuple):
    """What an output depends on.

    `command`: the template, before values are put in. `params`: name to value. `inputs`: name to tree digest.
    `code`: `step` and each folder under `code:` to tree digest. `distributions`: name to version.
    `python`: the ABI. `environment`: kind of the declared environment to the digest of its file.
    """

    command: str
    params: Mapping[str, str]
    inputs: Mapping[str, str]
    code: Mapping[str, str]
    distributions: Mapping[str, str]
    python: str
    environment: Mapping[str, str]

    def key(self) -> str:
        """64 hex digits that change if and only if an ingredient does."""
        document = {"format": FORMAT, **self.as_json()}
        return blake3(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return self._asdict()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ingredients:
        return cls(**{name: value[name] for name in cls._fields})


def python_abi() -> str:
    """The interpreter, its version and the machine: what compiled modules are made for."""
    # sysconfig knows the same and costs 5 ms to import
    return f"{sys.implementation.cache_tag}{sys.abiflags}-{sys.platform}-{os.uname().machine}"


def ingredients_of(
    ready: ReadyStep,
    *,
    inputs: Mapping[str, str],
    code: Mapping[str, str],
    distributions: Mapping[str, str],
    environment: Mapping[str, str],
) -> Ingredients:
    """Gather a step's ingredients. `inputs` and `code` map names to tree digests."""
    return Ingredients(
        command=ready.mlproject.command,
        params=dict(ready.params),
        inputs=dict(inputs),
        code=dict(code),
        distributions=dict(distributions),
        python=python_abi(),
        environment=dict(environment),
    )
