"""What `typed` means, in NumPy; see `interpreter`."""

from tests.reference import functions, images, interpreter, recurrent, tensors

__all__ = ["functions", "images", "interpreter", "recurrent", "tensors"]
