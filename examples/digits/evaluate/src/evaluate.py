"""Accuracy of the teacher, of the student, and of the same network trained alone, on pictures new to all."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("teacher", "student", "alone")
    for name in ("data", "downstream", *names):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    given = np.load(args.data / "test.npz")
    metrics = {}
    for name in names:
        net = torch.export.load(getattr(args, name) / "model.pt2").module()
        with torch.no_grad():
            said = [int(net(torch.from_numpy(picture[None])).argmax()) for picture in given["x"]]
        metrics[f"{name}_accuracy"] = float((np.array(said) == given["truth"]).mean())
        print(f"{name}: {metrics[f'{name}_accuracy']:.1%} of {len(said)}")
    text = json.dumps(metrics, indent=2, sort_keys=True) + "\n"
    (args.downstream / "metrics.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
