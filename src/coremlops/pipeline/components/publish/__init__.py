"""The step `publish`: a proven model becomes the current version of a channel.

Inputs: `model` (what `convert` made), `report` (`verify`), `golden` (pictures that may be published).
Writes `receipt.json`. An effect: it is reconciled by digest, see `reconcile.present`.
"""
