"""Words that a person writes, checked against those that are known; what is near is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from coremlops.errors import UsageError


def one_of(value: object, known: Sequence[str], what: str) -> None:
    """Raises UsageError with the nearest known word for one that is not known."""
    if value not in known:
        raise UsageError(
            f"{what}: one of {', '.join(known)} expected, got {short(value)}", hint=near(value, known)
        )


def check_keys(found: Iterable[object], known: Sequence[str], where: str) -> None:
    """Raises UsageError for a key that is not known."""
    for key in found:
        if key not in known:
            raise UsageError(
                f"{where}: unknown key {short(key)}", hint=near(key, known) or f"known are {', '.join(known)}"
            )


def near(value: object, known: Sequence[str]) -> str:
    found = get_close_matches(str(value), known, n=1, cutoff=0.4)
    return f"did you mean {found[0]}?" if found else ""


def identifier(name: str) -> str:
    """Core ML's name for one of the source: letters, digits and _."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain.isidentifier() else f"_{plain}"


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
