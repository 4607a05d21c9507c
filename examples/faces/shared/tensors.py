"""Prepared pictures as the tensors that the network takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from shared.photos import open_photo

# EfficientNet-Lite was trained on (pixel - 127) / 128.
SCALE = 1 / 128
BIAS = -127 / 128


def read_labels(folder: Path) -> list[str]:
    """The people of a prepared folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def read_tensors(folder: Path, labels: list[str]) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """All pictures of a prepared folder: float32 [n, 3, height, width], int64 [n] label indices, n names."""
    pictures, targets, names = [], [], []
    for index, label in enumerate(labels):
        for path in sorted((folder / label).iterdir()):
            pixels = np.asarray(open_photo(path), dtype=np.float32).transpose(2, 0, 1)
            pictures.append(torch.from_numpy(pixels * SCALE + BIAS))
            targets.append(index)
            names.append(f"{label}/{path.name}")
    return torch.stack(pictures), torch.tensor(targets), names
