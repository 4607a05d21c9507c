"""Where a trained model lies: a folder, or the program's file with `model.json` beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.digest import members_digest, sha256_bytes, sha256_file
from coremlops.errors import InputError
from coremlops.source.card import Card, read_card

if TYPE_CHECKING:
    from coremlops.source.program import Program

# Suffix -> what the file must be. A bare pickle (`torch.save(model)`) is never opened.
KINDS = {".pt2": "torch.export", ".pt": "TorchScript"}


@dataclass(frozen=True, slots=True)
class Source:
    """A trained model on disk. `card` is None when no `model.json` lies beside the program."""

    path: Path
    kind: str
    card: Card | None

    @property
    def digest(self) -> str:
        """SHA-256 over the program's bytes and what the card says, whatever the folder is called."""
        members = {self.path.name: sha256_file(self.path)}
        if self.card is not None:
            members["model.json"] = sha256_bytes(json.dumps(self.card.to_json(), sort_keys=True).encode())
        return members_digest(members)

    def with_card(self, card: Card) -> Source:
        return replace(self, card=card)

    def load(self) -> Program:
        """The program, ready to run on the CPU. See `coremlops.source.program` for what is trusted."""
        from coremlops.source.program import load_program

        return load_program(self.path)


def open_source(path: Path) -> Source:
    """Find a program and its card; nothing is loaded yet.

    `path`: `model.pt2`, `model.pt`, or a folder that holds exactly one of them.
    Raises InputError when there is no program, two of them, or a card that cannot be read.
    """
    if path.is_dir():
        found = [path / f"model{suffix}" for suffix in KINDS if (path / f"model{suffix}").is_file()]
        if len(found) != 1:
            got = " and ".join(item.name for item in found) or "neither"
            raise InputError(
                f"{path}: model.pt2 or model.pt expected, got {got}",
                hint="save the trained net with torch.export.save(program, 'model.pt2')",
            )
        path = found[0]
    if not path.is_file():
        raise InputError(f"{path}: no such file; a .pt2, a TorchScript .pt or a folder with one expected")
    if path.suffix not in KINDS:
        raise InputError(
            f"{path}: a name that ends in {' or '.join(KINDS)} expected, got {path.suffix or 'no suffix'!r}",
            hint="save the trained net with torch.export.save(program, 'model.pt2')",
        )
    card = path.with_name("model.json")
    return Source(path, KINDS[path.suffix], read_card(card) if card.is_file() else None)
