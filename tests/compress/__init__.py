"""Tests of coremlops.compress."""
