"""The step `distill`: a teacher and data in; a smaller student, as `train` leaves a model, out."""
