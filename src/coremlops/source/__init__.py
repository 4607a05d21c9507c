"""What training leaves on disk: a trained PyTorch model with its `model.json`, and labelled pictures.

`convert` reads the model to make a Core ML model, `verify` to judge it, `golden` reads pictures; so it lives
below them. torch and Pillow are imported when a program or a picture is loaded, not before.
"""

from __future__ import annotations

from coremlops.source.card import Card, ImageInput, parse_image_input, parse_labels, read_card
from coremlops.source.pictures import SUFFIXES, Labelled, open_picture, read_labelled
from coremlops.source.place import Source, open_source

__all__ = [
    "SUFFIXES",
    "Card",
    "ImageInput",
    "Labelled",
    "Source",
    "open_picture",
    "open_source",
    "parse_image_input",
    "parse_labels",
    "read_card",
    "read_labelled",
]
