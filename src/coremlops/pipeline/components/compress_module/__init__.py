"""`uses: compress_module`: a PyTorch module compressed by data, before it is converted."""
