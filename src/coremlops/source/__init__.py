"""A trained PyTorch model as `train` leaves it: the program, and `model.json` that says how to feed it.

`convert` reads one to make a Core ML model, `verify` reads one to judge it, so it lives below both.
torch is imported when a program is loaded, not before.
"""

from __future__ import annotations

from coremlops.source.card import Card, ImageInput, parse_image_input, read_card
from coremlops.source.place import Source, open_source

__all__ = ["Card", "ImageInput", "Source", "open_source", "parse_image_input", "read_card"]
