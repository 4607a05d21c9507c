"""The step `search`: a Core ML model and data in; a smaller model and the recipe that was found out."""
