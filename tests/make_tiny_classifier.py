"""Writes the classifier of the `tiny_classifier` fixture: `python make_tiny_classifier.py OUT.mlpackage`.

It is run in a process of its own, so that no test process imports coremltools for it.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path


def main(path: str, precision: str) -> None:
    """Convert a little net that answers `ada` to red pictures and `bob` to blue ones."""
    warnings.simplefilter("ignore")
    import coremltools
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.ZeroPad2d((0, 1, 0, 1)),
        torch.nn.Conv2d(3, 8, 3, stride=2),
        torch.nn.ReLU6(),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=8),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 2),
        torch.nn.Softmax(dim=1),
    ).eval()
    with torch.no_grad():
        for layer in (net[1], net[3], net[8]):
            layer.weight.mul_(0.1)
            layer.bias.zero_()
        net[1].weight[0, 0].fill_(1 / 9)  # the red that a window sees
        net[1].weight[1, 2].fill_(1 / 9)  # the blue
        net[3].weight[:2, 0, 1, 1] += 1
        net[8].weight[0, :2] += torch.tensor([4.0, -4.0])
        net[8].weight[1, :2] += torch.tensor([-4.0, 4.0])
    preparation = {
        "name": "image",
        "width": 16,
        "height": 16,
        "color": "RGB",
        "scale": 1 / 128,
        "bias": [-127 / 128] * 3,
        "image_option": "centerCrop",
    }
    model = coremltools.convert(
        torch.jit.trace(net, torch.zeros(1, 3, 16, 16)),
        inputs=[
            coremltools.ImageType(
                name="image", shape=(1, 3, 16, 16), scale=preparation["scale"], bias=preparation["bias"]
            )
        ],
        classifier_config=coremltools.ClassifierConfig(["ada", "bob"]),
        minimum_deployment_target=coremltools.target.iOS16,
        compute_precision=getattr(coremltools.precision, precision),
    )
    model.user_defined_metadata["com.coremlops.preparation"] = json.dumps(preparation)
    model.save(str(Path(path)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "FLOAT16")
