"""Factories of small nets, as a user writes them; `open_reference("tests.convert.nets:conv")`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Conv(nn.Module):  # type: ignore[misc, unused-ignore]
    """A picture of any size -> a map of its size, and four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.first(x))
        return self.second(y), y.mean((2, 3))


class Words(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 8), nn.Linear(8, 3)

    def forward(self, ids: Any, mask: Any) -> Any:
        return {"logits": self.head((self.table(ids) * mask[..., None]).sum(1))}


class Total(nn.Module):  # type: ignore[misc, unused-ignore]
    """It adds up what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        self.total.add_(self.layer(x))
        return self.total * 2


class Classes(nn.Module):  # type: ignore[misc, unused-ignore]
    """Logits of five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: Any) -> Any:
        return self.conv(x).mean((2, 3)) * 8


class Huge(nn.Module):  # type: ignore[misc, unused-ignore]
    """Past 65504 inside: infinite in float16."""

    def forward(self, x: Any) -> Any:
        return torch.relu(x * 400) * 400 / 160000 + 0.01 * x


class Fixed(nn.Module):  # type: ignore[misc, unused-ignore]
    """It takes one width."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


def conv() -> Any:
    return Conv(), torch.randn(1, 3, 16, 24)


def words() -> Any:
    return Words(), {"ids": torch.randint(0, 10, (1, 12)), "mask": torch.ones(1, 12)}


def total() -> Any:
    return Total(), torch.randn(1, 4)


class Added(Total):
    """A program that was scripted sets the buffer to itself for `+=`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total += self.layer(x)
        return self.total * 2


class Replaced(Total):
    """It puts another tensor where the buffer was."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total = self.total + self.layer(x)  # type: ignore[has-type]
        return self.total * 2


def begun() -> Any:
    net = Total()
    net.total += 1
    return net, torch.randn(1, 4)


class Forgotten(Total):
    """It writes what the state is, and does not add to it."""

    def forward(self, x: Any) -> Any:
        self.total.mul_(0).add_(self.layer(x))
        return self.total * 2


def forgotten() -> Any:
    return Forgotten(), torch.randn(1, 4)


class Itself(Total):
    """It answers with the buffer."""

    def forward(self, x: Any) -> Any:
        self.total.add_(self.layer(x))
        return self.total


def itself() -> Any:
    return Itself(), torch.randn(1, 4)


def unshuffle() -> Any:
    """An op of iOS16."""
    return nn.PixelUnshuffle(2), torch.randn(1, 4, 8, 8)


def classes() -> Any:
    return Classes(), torch.randn(1, 3, 8, 8)


def huge() -> Any:
    return Huge(), torch.randn(1, 8)


def fixed() -> Any:
    return Fixed(), torch.randn(1, 16)


def nan() -> Any:
    return nn.Sequential(nn.Linear(4, 4), nn.LogSigmoid()), torch.full((1, 4), float("nan"))


def nested() -> Any:
    return Nested(), torch.randn(1, 4)


class Nested(nn.Module):  # type: ignore[misc, unused-ignore]
    def forward(self, x: Any) -> Any:
        return {"a": [x + 1]}


def shift() -> Any:
    """Bessel functions have no op in Core ML."""
    return Shift(), torch.ones(1, 4, dtype=torch.int32)


class Shift(nn.Module):  # type: ignore[misc, unused-ignore]
    def forward(self, x: Any) -> Any:
        return torch.special.bessel_j0(x.float())


def wide() -> Any:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 8)), torch.randn(1, 64)


def wide_batch() -> Any:
    return wide()[0], torch.randn(4, 64)


class Overflowing(nn.Module):  # type: ignore[misc, unused-ignore]
    """softmax as it is first written down, of a picture and of one number: exp is past 65504."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x: Any, t: Any) -> Any:
        e = torch.exp(self.conv(x).mean((2, 3)) * 0.1 + t * 0.01 + 12)
        return t * 2, torch.log(e / e.sum(1, keepdim=True))


def overflowing() -> Any:
    return Overflowing(), {"x": torch.zeros(1, 3, 16, 24), "t": torch.zeros(1, 1)}
