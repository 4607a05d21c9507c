"""A student as a user writes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def make() -> tuple[Any, Any]:
    """Pictures of 8 x 8 to the logits of ten digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)), torch.zeros(
        1, 1, 8, 8
    )


def regressor() -> tuple[Any, Any]:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), torch.zeros(1, 4)


def two_inputs() -> tuple[Any, Any]:
    return nn.Bilinear(4, 4, 2), (torch.zeros(1, 4), torch.zeros(1, 4))


def too_few() -> tuple[Any, Any]:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.zeros(1, 1, 8, 8)
