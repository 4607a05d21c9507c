"""What to do with each weight of a model: settings, and the recipe that holds them.

{"format": 1, "model": "<digest>" or null,
 "default": {"method": "palettize", "bits": 4, "group": 16},
 "weights": {"head_weight_to_fp16": {"method": "quantize", "bits": 8}}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coremlops.errors import InputError, UsageError

FORMAT = 1
MAX_RECIPE_BYTES = 16 << 20

# Which of a setting's fields each method reads; the first one is what a bare number in its text means.
FIELDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "palettize": ("bits", "group", "mode", "lut_bits", "sparsity"),
    "quantize": ("bits", "block", "mode", "sparsity"),
    "prune": ("sparsity", "pattern"),
    "activations": ("bits", "mode"),
    "gptq": ("bits", "block"),
    "sparse_gpt": ("sparsity", "pattern", "bits"),
    "sensitive_kmeans": ("bits", "group"),
}
# Methods that look at data, not weights alone: a whole model at a time, so no recipe names them.
CALIBRATED = ("activations", "gptq", "sparse_gpt", "sensitive_kmeans")
BITS = {
    "palettize": (1, 2, 3, 4, 6, 8),
    "quantize": (4, 8),
    "activations": (8,),
    "gptq": (2, 3, 4, 8),
    "sparse_gpt": (0, 4, 8),
    "sensitive_kmeans": (2, 3, 4, 6, 8),
}
MODES = {
    "palettize": ("kmeans", "uniform", "unique"),
    "quantize": ("symmetric", "asymmetric"),
    "activations": ("symmetric", "asymmetric"),
}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value in known:
        return
    near = get_close_matches(value, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else ""
    raise UsageError(f"{what}: one of {', '.join(known)} expected, got {value!r}", hint=hint)


@dataclass(frozen=True, slots=True)
class Setting:
    """What happens to one weight. Fields that its method does not read are at their defaults.

    `bits`: of an index into the table, or of a stored integer. `group`: how many output channels share a
    table, 0 for the whole tensor. `lut_bits`: 8 stores the table itself as int8; 0 leaves it.
    `block`: how many input channels share a scale, 0 for a scale an output channel, -1 for one scale.
    `sparsity`: the share of values that become zero, those nearest to it; with palettize and quantize, the
    others are then compressed further. `pattern`: `n:m`, n zeros in each m neighbours of the input channels.
    `mode`: how a table is found (`kmeans`, `uniform` or `unique`), or where the integers' zero lies
    (`symmetric` or `asymmetric`); empty for the first of those. The methods in CALIBRATED take data.

    Raises UsageError for values that no model can hold.
    """

    method: str
    bits: int = 0
    group: int = 0
    block: int = 0
    sparsity: float = 0.0
    lut_bits: int = 0
    mode: str = ""
    pattern: str = ""

    def __post_init__(self) -> None:
        _one_of("method", self.method, tuple(FIELDS))
        for entry in fields(self)[1:]:
            value = getattr(self, entry.name)
            if value != entry.default and entry.name not in FIELDS[self.method]:
                raise UsageError(
                    f"{self.method}: {entry.name} means nothing here, got {value!r}",
                    hint=f"{self.method} takes {', '.join(FIELDS[self.method]) or 'nothing'}",
                )
        if self.method in BITS:
            if self.bits not in BITS[self.method]:
                known = ", ".join(map(str, BITS[self.method]))
                raise UsageError(f"{self.method}: bits of {known} expected, got {self.bits}")
            if self.mode:
                _one_of(f"{self.method}: mode", self.mode, MODES[self.method])
        if self.method in ("prune", "sparse_gpt") and bool(self.pattern) == bool(self.sparsity):
            raise UsageError(
                f"{self.method}: a sparsity between 0 and 1 or a pattern such as 2:4 expected, and not both"
            )
        if not 0 <= self.sparsity < 1:
            raise UsageError(f"{self.method}: a sparsity from 0 to below 1 expected, got {self.sparsity}")
        if self.group < 0 or self.block < -1 or self.lut_bits not in (0, 8):
            raise UsageError(
                f"{self.method}: group from 0, block from -1 and lut_bits of 0 or 8 expected, got "
                f"group {self.group}, block {self.block}, lut_bits {self.lut_bits}"
            )
        if self.pattern:
            self.zeros_of  # noqa: B018 - raises

    @property
    def zeros_of(self) -> tuple[int, int]:
        """(n, m) of the pattern `n:m`. Raises UsageError."""
        first, _, second = self.pattern.partition(":")
        if not (first.isdigit() and second.isdigit() and 0 < int(first) < int(second) <= 256):
            raise UsageError(f"{self.method}: a pattern such as 2:4 expected, got {self.pattern!r}")
        return int(first), int(second)

    @property
    def how(self) -> str:
        """The mode in force."""
        return self.mode or (MODES[self.method][0] if self.method in MODES else "")

    @classmethod
    def parse(cls, text: str) -> Setting:
        """A setting from a command line: `palettize:4:group=16`, `quantize:8`, `prune:0.5`, `none`.

        Raises UsageError.
        """
        pattern = re.search(
            r":pattern=[^:]*:?[^:=]*$", text
        )  # the one value that holds a colon; it comes last
        method, *rest = (text[: pattern.start()] if pattern else text).split(":")
        rest += [pattern.group()[1:]] if pattern else []
        _one_of("method", method, tuple(FIELDS))
        values: dict[str, Any] = {"method": method}
        for index, part in enumerate(rest):
            name, equals, value = part.partition("=")
            if not equals:
                if index or not FIELDS[method]:
                    raise UsageError(f"{text!r}: name=value expected, got {part!r}")
                name, value = FIELDS[method][0], part
            if name in values and values[name] != _number(value):
                raise UsageError(f"{text!r}: {name} is said twice, {values[name]} and {value}")
            values[name] = _number(value)
        return cls.from_json(values, where=repr(text))

    @classmethod
    def from_json(cls, values: object, *, where: str) -> Setting:
        """A setting from what JSON held. Raises UsageError that names `where`."""
        if not isinstance(values, dict) or not isinstance(values.get("method"), str):
            raise UsageError(f'{where}: a setting such as {{"method": "palettize", "bits": 4}} expected')
        known = {entry.name: type(entry.default) for entry in fields(cls)[1:]}
        for name, value in values.items():
            if name == "method":
                continue
            _one_of(f"{where}: a field", name, tuple(known))
            kind = known[name]
            if kind is float and type(value) is int:
                continue
            if type(value) is not kind:
                raise UsageError(f"{where}: {name} is a {kind.__name__}, got {value!r}")
        try:
            return cls(**values)
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", hint=error.hint) from None

    def to_json(self) -> dict[str, Any]:
        """The method, and what differs from the defaults."""
        return {"method": self.method} | {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)[1:]
            if getattr(self, entry.name) != entry.default
        }

    def __str__(self) -> str:
        """What `parse` reads."""
        values = self.to_json()
        parts = [values.pop("method")]
        first = FIELDS[self.method][:1]
        pattern = values.pop("pattern", None)
        if first and first[0] in values:
            parts.append(str(values.pop(first[0])))
        parts += [f"{name}={value}" for name, value in values.items()]
        return ":".join(parts + ([f"pattern={pattern}"] if pattern else []))


NONE = Setting("none")


@dataclass(frozen=True, slots=True)
class Recipe:
    """`default` holds for each weight of more than 2048 values that `weights` does not name.

    `model`: the digest of the model that it was made for; None fits every model.
    """

    default: Setting = NONE
    weights: Mapping[str, Setting] = field(default_factory=dict)
    model: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))
        for name, setting in {"the default": self.default, **self.weights}.items():
            if setting.method in CALIBRATED:
                raise UsageError(f"{name}: {setting.method} is for a whole model, and no part of a recipe")

    @classmethod
    def parse(cls, text: str | bytes, *, where: str = "the recipe") -> Recipe:
        """A recipe from its JSON. Raises UsageError."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: not JSON ({error})") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            got = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise UsageError(f"{where}: a recipe of format {FORMAT} expected, got {got!r}")
        for name in values:
            _one_of(f"{where}: a field", name, ("format", "model", "default", "weights"))
        model, weights = values.get("model"), values.get("weights", {})
        if not (model is None or isinstance(model, str)) or not isinstance(weights, dict):
            raise UsageError(f"{where}: model is a digest or null, weights a mapping of names to settings")
        default = values.get("default")
        return cls(
            default=NONE if default is None else Setting.from_json(default, where=f"{where}: default"),
            weights={
                name: Setting.from_json(entry, where=f"{where}: {name}") for name, entry in weights.items()
            },
            model=model,
        )

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """A recipe from a file. Raises UsageError, and InputError for a file that cannot be read."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_RECIPE_BYTES + 1)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        if len(data) > MAX_RECIPE_BYTES:
            raise InputError(f"{path}: larger than {MAX_RECIPE_BYTES} bytes")
        return cls.parse(data, where=str(path))

    def to_json(self) -> dict[str, Any]:
        """The content of a recipe's file, weights in the order of their names."""
        return {
            "format": FORMAT,
            "model": self.model,
            "default": self.default.to_json(),
            "weights": {name: self.weights[name].to_json() for name in sorted(self.weights)},
        }
