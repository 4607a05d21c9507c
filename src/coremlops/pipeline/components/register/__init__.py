"""The step `register`: a proven model becomes a version in MLflow's registry.

Inputs: `model` (what `convert` made), `report` (`verify`), `metrics` (a folder with `metrics.json`).
Writes `receipt.json`. It sets no alias: `publish` and `promote` alone do.
"""
