"""Writes seeds of every kind for `campaign.py`, beside those of `corpus.py`: `handmade.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, where `tests` lies

from tests.fuzz.program_seeds import write_programs
from tests.fuzz.seeds import write_handmade

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_handmade(folder)
    write_programs(folder)
