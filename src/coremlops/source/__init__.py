"""What a Core ML model is made from and asked with: trained models, and data.

`convert` reads a source to make a Core ML model, `verify` to judge it, `golden` reads pictures; so it lives
below them. Names are imported when they are used, torch and Pillow when a program or a picture is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.source.card import (
        Card as Card,
    )
    from coremlops.source.card import (
        ImageInput as ImageInput,
    )
    from coremlops.source.card import (
        parse_image_input as parse_image_input,
    )
    from coremlops.source.card import (
        parse_labels as parse_labels,
    )
    from coremlops.source.card import (
        read_card as read_card,
    )
    from coremlops.source.pictures import (
        SUFFIXES as SUFFIXES,
    )
    from coremlops.source.pictures import (
        Labelled as Labelled,
    )
    from coremlops.source.pictures import (
        open_picture as open_picture,
    )
    from coremlops.source.pictures import (
        read_labelled as read_labelled,
    )
    from coremlops.source.place import (
        Source as Source,
    )
    from coremlops.source.place import (
        open_source as open_source,
    )
    from coremlops.source.reference import (
        Reference as Reference,
    )
    from coremlops.source.reference import (
        Tensor as Tensor,
    )
    from coremlops.source.reference import (
        kept as kept,
    )
    from coremlops.source.reference import (
        open_reference as open_reference,
    )
    from coremlops.source.reference import (
        user_object as user_object,
    )
    from coremlops.source.samples import (
        Sample as Sample,
    )
    from coremlops.source.samples import (
        Samples as Samples,
    )
    from coremlops.source.samples import (
        feed as feed,
    )
    from coremlops.source.samples import (
        open_samples as open_samples,
    )
    from coremlops.source.samples import (
        preparation as preparation,
    )
    from coremlops.source.samples import (
        tensor as tensor,
    )

_HOME = {
    "SUFFIXES": "pictures",
    "Card": "card",
    "ImageInput": "card",
    "Labelled": "pictures",
    "Reference": "reference",
    "Sample": "samples",
    "Samples": "samples",
    "Source": "place",
    "Tensor": "reference",
    "feed": "samples",
    "kept": "reference",
    "open_picture": "pictures",
    "open_reference": "reference",
    "open_samples": "samples",
    "open_source": "place",
    "parse_image_input": "card",
    "parse_labels": "card",
    "preparation": "samples",
    "read_card": "card",
    "read_labelled": "pictures",
    "tensor": "samples",
    "user_object": "reference",
}

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
    "kept",
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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.source' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.source.{_HOME[name]}"), name)
