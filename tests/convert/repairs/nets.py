"""Nets that TorchScript reads: annotations as strings it does not, so none are postponed here."""

import torch
from torch import nn


class Strided(nn.Module):  # type: ignore[misc, unused-ignore]
    """As silero-vad has it: a convolution whose stride is an attribute, branches and checks on shapes."""

    hop: int

    def __init__(self) -> None:
        super().__init__()
        self.hop = 2
        self.register_buffer("basis", torch.randn(6, 1, 4))
        self.cell = nn.LSTMCell(3, 5)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.dim() != 2:
            raise ValueError(f"2 axes expected, got {x.dim()}")
        parts = torch.conv1d(x.unsqueeze(1), self.basis, stride=self.hop)
        size = torch.sqrt(parts[:, :3] ** 2 + parts[:, 3:] ** 2).mean(-1)
        hidden, cell = state[0], state[1]
        for _ in range(2):
            hidden, cell = self.cell(size, (hidden, cell))
        return hidden, torch.stack([hidden, cell])


class Block(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.conv(x))


class Unknown(nn.Module):  # type: ignore[misc, unused-ignore]
    """An op that coremltools lacks and torch does not decompose."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i0e(x)


class Wide(nn.Module):  # type: ignore[misc, unused-ignore]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 2**40
