"""What a Core ML model is made from and asked with: trained models, and data.

`convert` reads a source to make a Core ML model, `verify` to judge it, `golden` reads pictures; so it lives
below them. torch and Pillow are imported when a program or a picture is loaded, not before.
"""

from __future__ import annotations

from coremlops.source.card import Card, ImageInput, parse_image_input, parse_labels, read_card
from coremlops.source.pictures import SUFFIXES, Labelled, open_picture, read_labelled
from coremlops.source.place import Source, open_source
from coremlops.source.reference import Reference, Tensor, open_reference, user_object
from coremlops.source.samples import Sample, Samples, feed, open_samples, preparation, tensor

__all__ = [
    "SUFFIXES",
    "Card",
    "ImageInput",
    "Labelled",
    "Reference",
    "Sample",
    "Samples",
    "Source",
    "Tensor",
    "feed",
    "open_picture",
    "open_reference",
    "open_samples",
    "open_source",
    "parse_image_input",
    "parse_labels",
    "preparation",
    "read_card",
    "read_labelled",
    "tensor",
    "user_object",
]
