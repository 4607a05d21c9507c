"""The network for the phone: 666 numbers."""

from __future__ import annotations

import torch
from torch import nn


def make() -> tuple[nn.Module, torch.Tensor]:
    """[n, 1, 8, 8], 0 to 1, to logits [n, 10]; and an example input."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return net, torch.zeros(1, 1, 8, 8)
