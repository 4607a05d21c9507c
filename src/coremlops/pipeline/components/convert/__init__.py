"""The step `convert`: `model.pt2` or `model.pt` in, `model.mlpackage` and `conversion.json` out."""
