"""`uses: compress`: a Core ML model with smaller weights."""
