"""Trains the teacher on the pictures that have a label, moved about by up to a pixel."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn


def network() -> nn.Module:
    """[n, 1, 8, 8] to logits [n, 10]: 117,066 numbers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3)),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Dropout(0.4), nn.Linear(512, 10)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--downstream", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    given = np.load(args.data / "labelled.npz")
    pictures, truth = torch.from_numpy(given["x"]), torch.from_numpy(given["truth"]).long()
    net = network().train()
    optimizer = torch.optim.AdamW(net.parameters(), 0.001)
    loss = torch.zeros(())
    for epoch in range(1, args.epochs + 1):
        for some in torch.randperm(len(pictures)).split(32):
            right, down = torch.randint(-1, 2, (2,)).tolist()
            loss = nn.functional.cross_entropy(net(pictures[some].roll((down, right), (2, 3))), truth[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 10 == 0:
            print(f"epoch {epoch}/{args.epochs}: loss {loss.item():.4f}", flush=True)
    program = torch.export.export(net.eval(), (torch.zeros(1, 1, 8, 8),))
    torch.export.save(program, args.downstream / "model.pt2")
    (args.downstream / "metrics.json").write_text(json.dumps({"train_loss": loss.item()}) + "\n")


if __name__ == "__main__":
    main()
