"""Architectures of transformers with random weights, given to coremltools as they are and with repairs.

python benchmarks/repairs_architectures.py [--out benchmarks/repairs_architectures.json] [NAME ...]

It needs `pip install transformers` beside coremltools and torch; no weights are loaded. Each net is small and
is given traced and exported (`run_decompositions({})` in both columns). A text is padded as is usual: for a
decoder on the left, so that its first rows keep nothing; those rows are not compared. `plain`, `mended` and
`infinite_masks` (mended but for `mask-range`): signal to noise in dB against torch of the float16 package in
typed mode; NaN where a value is not finite; or what was raised.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coremlops.convert.repairs import RULES
from tests.convert.repairs.proof import Net, converted, executed, expected, program, snr_db

WITHOUT = tuple(rule.name for rule in RULES if rule.name != "dialect")
TEXT = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
VISION = {key: TEXT[key] for key in list(TEXT)[1:5]} | {"image_size": 32, "patch_size": 8}
PADDED = 2
Shown = tuple[Any, tuple[Any, ...]]


def _tokens(left: bool) -> tuple[Any, Any]:
    tokens = torch.randint(1, 90, (1, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 8, dtype=torch.int32)
    mask[0, :PADDED] = 0
    return tokens.to(torch.int32), mask if left else mask.flip(1)


def _model(kind: str, settings: dict[str, Any]) -> Any:
    config = hf.CONFIG_MAPPING[kind](**settings)
    return hf.AutoModel.from_config(config, attn_implementation="eager").eval()


def encoder(kind: str, **settings: Any) -> Shown:
    run = lambda model, tokens, mask: model(input_ids=tokens, attention_mask=mask).last_hidden_state  # noqa: E731
    return Net(run, _model(kind, settings or TEXT)), _tokens(left=False)


def decoder(kind: str, **settings: Any) -> Shown:
    def run(model: Any, tokens: Any, mask: Any) -> Any:
        found = model(input_ids=tokens, attention_mask=mask, use_cache=False)
        return found.last_hidden_state[:, PADDED:]

    return Net(run, _model(kind, settings or TEXT)), _tokens(left=True)


def picture(kind: str, **settings: Any) -> Shown:
    run = lambda model, pixels: model(pixels).last_hidden_state  # noqa: E731
    return Net(run, _model(kind, settings or VISION)), (torch.randn(1, 3, 32, 32),)


def t5() -> Shown:
    config = hf.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    run = lambda model, tokens, mask: model(input_ids=tokens, attention_mask=mask).last_hidden_state  # noqa: E731
    return Net(run, hf.T5EncoderModel(config).eval()), _tokens(left=False)


def wav2vec2() -> Shown:
    settings = {key: TEXT[key] for key in list(TEXT)[1:5]}
    convolutions = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2)}
    places = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    net = _model("wav2vec2", settings | convolutions | places)
    return Net(lambda model, sound: model(sound).last_hidden_state, net), (torch.randn(1, 400),)


def mamba() -> Shown:
    net = _model_without_attention("mamba", vocab_size=100, hidden_size=16, num_hidden_layers=1, state_size=4)
    run = lambda model, tokens: model(input_ids=tokens, use_cache=False).last_hidden_state  # noqa: E731
    return Net(run, net), _tokens(left=False)[:1]


def convnext() -> Shown:
    net = _model_without_attention("convnext", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    return Net(lambda model, pixels: model(pixels).last_hidden_state, net), (torch.randn(1, 3, 32, 32),)


def _model_without_attention(kind: str, **settings: Any) -> Any:
    return hf.AutoModel.from_config(hf.CONFIG_MAPPING[kind](**settings)).eval()


GROUPED = TEXT | {"num_key_value_heads": 2}
NETS: dict[str, Callable[[], Shown]] = {
    "bert": lambda: encoder("bert"),
    "roberta": lambda: encoder("roberta"),
    "distilbert": lambda: encoder("distilbert", vocab_size=100, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "t5 (encoder)": t5,
    "gpt2": lambda: decoder("gpt2", vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "llama": lambda: decoder("llama", **GROUPED),
    "qwen2": lambda: decoder("qwen2", **GROUPED),
    "gemma2": lambda: decoder("gemma2", head_dim=8, **GROUPED),
    "mistral": lambda: decoder("mistral", sliding_window=4, **GROUPED),
    "phi": lambda: decoder("phi"),
    "mamba": mamba,
    "vit": lambda: picture("vit"),
    "convnext": convnext,
    "wav2vec2": wav2vec2,
}


def measure(name: str, way: str) -> dict[str, Any]:
    torch.manual_seed(0)
    net, examples = NETS[name]()
    want = expected(net, examples)

    def outcome(precision: str, skip: tuple[str, ...]) -> tuple[str, list[str]]:
        try:
            raw = program(net, examples, way)
            made, repairs, _ = converted(raw, examples, precision=precision, skip=skip)
            got = executed(made, examples, "float32" if precision == "float32" else "typed")
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:160], []
        db = snr_db(want, got)
        return "NaN" if math.isinf(db) else f"{db:.1f}", [repair.name for repair in repairs]

    exact, repairs = outcome("float32", ())
    typed, _ = outcome("float16", ())
    plain, _ = outcome("float16", WITHOUT)
    masks, _ = outcome("float16", ("mask-range",)) if "mask-range" in repairs else ("", [])
    return {
        "net": name,
        "way": way,
        "plain": plain,
        "mended": typed,
        "mended_float32": exact,
        "infinite_masks": masks,
        "repairs": repairs,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("names", nargs="*", default=list(NETS), metavar="NAME")
    options = parser.parse_args()
    rows = []
    for name in options.names:
        for way in ("trace", "export"):
            rows.append(measure(name, way))
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        about = {"command": "python benchmarks/repairs_architectures.py", "transformers": hf.__version__}
        options.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
