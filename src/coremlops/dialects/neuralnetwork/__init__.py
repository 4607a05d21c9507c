"""Neural networks of layers, the format before ML Programs: the graph, and its reader."""

from __future__ import annotations

from coremlops.dialects.neuralnetwork.graph import Fields, Layer, MeanImage, Network, Scaler, Weights
from coremlops.dialects.neuralnetwork.reader import layer_kinds, read_network

__all__ = ["Fields", "Layer", "MeanImage", "Network", "Scaler", "Weights", "layer_kinds", "read_network"]
