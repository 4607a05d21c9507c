"""Untrained networks of the usual shapes, for measurements: try `coremlops bench nets:lstm`.

Each function gives (module, example inputs). Weights are random from a fixed seed; batch norms are given
the statistics of a few random batches, so that values neither vanish nor overflow fp16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Net = tuple[Any, tuple[Any, ...]]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class _Inverted(nn.Module):  # type: ignore[misc]
    """MobileNetV2's block: widen, depthwise, narrow; a residual where shapes allow (Sandler et al., 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int) -> None:
        super().__init__()
        inner = inputs * widen
        first = [*_conv(inputs, inner, 1), nn.ReLU6()] if widen > 1 else []
        depthwise = [*_conv(inner, inner, 3, stride, inner), nn.ReLU6()]
        self.body = nn.Sequential(*first, *depthwise, *_conv(inner, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Any) -> Any:
        return x + self.body(x) if self.residual else self.body(x)


class _Bottleneck(nn.Module):  # type: ignore[misc]
    """ResNet-50's block (He et al., 2015)."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(inputs, inner, 1),
            nn.ReLU(),
            *_conv(inner, inner, 3, stride),
            nn.ReLU(),
            *_conv(inner, inner * 4, 1),
        )
        same = stride == 1 and inputs == inner * 4
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(inputs, inner * 4, 1, stride))

    def forward(self, x: Any) -> Any:
        return torch.relu(self.body(x) + self.shortcut(x))


class _Recurrent(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(80, 256, 2, batch_first=True)
        self.head = nn.Linear(256, 128)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Any) -> Any:
        n, tokens, width = x.shape
        parts = self.qkv(self.first(x)).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, tokens, width))
        return x + self.mlp(self.second(x))


class _Vision(nn.Module):  # type: ignore[misc]
    """ViT-S/16 (Dosovitskiy et al., 2020)."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.places = nn.Parameter(torch.randn(1, 197, width) * 0.02)
        self.blocks = nn.Sequential(*(_Attention(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token, x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


def _settled(net: Any, *example: Any) -> Net:
    """The net with batch statistics of its example, in evaluation mode."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        for _ in range(2):
            net.train()(*example)
    return net.eval(), example


def _picture() -> Any:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def mobilenet_v2() -> Net:
    """MobileNetV2 at 224 x 224."""
    torch.manual_seed(0)
    rows = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    layers, inputs = [*_conv(3, 32, 3, 2), nn.ReLU6()], 32
    for widen, outputs, count, stride in rows:
        for index in range(count):
            layers.append(_Inverted(inputs, outputs, stride if index == 0 else 1, widen))
            inputs = outputs
    layers += [*_conv(320, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return _settled(nn.Sequential(*layers), _picture().repeat(2, 1, 1, 1))[0], (_picture(),)


def resnet50() -> Net:
    """ResNet-50 at 224 x 224: 102 MB in fp32."""
    torch.manual_seed(0)
    layers, inputs = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
    for inner, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(count):
            layers.append(_Bottleneck(inputs, inner, stride if index == 0 else 1))
            inputs = inner * 4
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)]
    return _settled(nn.Sequential(*layers), _picture().repeat(2, 1, 1, 1))[0], (_picture(),)


def vit_s16() -> Net:
    """ViT-S/16 at 224 x 224."""
    torch.manual_seed(0)
    return _Vision(384, 12, 6).eval(), (_picture(),)


def lstm() -> Net:
    """Two LSTM layers of 256 over 100 frames of 80."""
    torch.manual_seed(0)
    return _Recurrent().eval(), (torch.randn(1, 100, 80),)


NETS: dict[str, Callable[[], Net]] = {
    "mobilenet_v2": mobilenet_v2,
    "resnet50": resnet50,
    "vit_s16": vit_s16,
    "lstm": lstm,
}
