"""The step `verify`: a Core ML model, its source and labelled pictures in; report and metrics out."""
