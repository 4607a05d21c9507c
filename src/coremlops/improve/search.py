"""Search the recipe: the bits that each weight deserves, measured by executing the model.

First each weight alone is replaced by all that could become of it. That gives a front of recipes, by the
model that errors add up; recipes along it are measured as a whole, and so are uniform ones beside them. The
one that keeps the budget is compressed for good, and the file's own quality is what counts.
"""

from __future__ import annotations

import json
import math
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from coremlops.compress import Compression, Encoding, Recipe, Setting, compress, encode
from coremlops.compress.compression import SMALLEST_WEIGHT
from coremlops.compress.encoding import Unfit
from coremlops.compress.targets import name_of, needs, version_of
from coremlops.digest import sha256_bytes
from coremlops.errors import GateError, UsageError
from coremlops.improve.expected import expected_outputs, prove
from coremlops.improve.front import Option, Point, filled, front, neighbours, spaced, sum_of, worthwhile
from coremlops.improve.journal import Journal
from coremlops.improve.trials import Noise, Trials
from coremlops.model.writing import placed
from coremlops.source.reference import Reference
from coremlops.source.samples import Samples, feed
from coremlops.verify.locate.numeric import decibel
from coremlops.verify.locate.program import Program

NONE = Setting("none")
SETTINGS = tuple(
    Setting.parse(text)
    for text in (
        *(f"palettize:{bits}:group=16" for bits in (1, 2, 3, 4, 6)),
        *(f"palettize:{bits}" for bits in (1, 2, 3, 4, 6, 8)),
        "quantize:4:block=32",
        "quantize:8:block=32",
        "quantize:8",
    )
)
QUALITY_DB = 30.0
OVERHEAD_BYTES = 220  # that a compressed weight takes about, beyond its values: records, its operation
KEPT_BYTES = 1 << 30  # of encoded weights, for the recipes that are measured later
ATTEMPTS = 8  # how often to compress for good
STRICTER_DB = 0.05
ROUNDS = 2  # of looking for better recipes around the best one


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The budget: `budget_bytes` of the whole package, or `quality_db` that its worst output keeps.

    `settings`: what a weight may become, besides staying. `points`: how many recipes of the front to measure.
    `workers`: candidates at once. `target`: the system that the result is declared for. `journal`: where
    measurements are kept. `progress` is called with (done, of, what).
    """

    budget_bytes: int | None = None
    quality_db: float | None = None
    settings: Sequence[Setting] = SETTINGS
    points: int = 16
    workers: int = 2
    target: str | None = None
    journal: Path | None = None
    progress: Callable[[int, int, str], None] | None = None

    def __post_init__(self) -> None:
        if self.budget_bytes is not None and self.quality_db is not None:
            raise UsageError("a budget of bytes or of quality expected, got both")
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise UsageError(f"a budget of 1 byte or more expected, got {self.budget_bytes}")
        if self.quality_db is not None and not math.isfinite(self.quality_db):
            raise UsageError(f"a budget in dB expected, got {self.quality_db}")
        if self.points < 2 or self.workers < 1:
            raise UsageError("at least 2 points and 1 worker expected")


@dataclass(frozen=True, slots=True)
class Measured:
    """A recipe that was executed as a whole. `bytes`: of the package, as estimated from its weights.

    `setting`: of a uniform one. `expected_db`: what the sum of single errors said; None of a uniform one.
    `agreement`: share of equal first labels, None of what is no classifier.
    """

    bytes: int
    snr_db: float
    expected_db: float | None = None
    setting: str = ""
    agreement: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "bytes": self.bytes,
            "snr_db": self.snr_db,
            "expected_db": self.expected_db,
            "setting": self.setting,
            "agreement": self.agreement,
        }


@dataclass(frozen=True, slots=True)
class Search:
    """What was found. `snr_db`, `agreement`: of the file that was written, in its own types, on this data.

    `weights`: (setting, bytes, noise) of what was executed, by weight. `executed`: measurements that were
    made now, `reused`: lines read from the journal.
    """

    compression: Compression
    snr_db: float
    agreement: float | None
    unchanged_db: float
    front: tuple[Measured, ...]
    uniform: tuple[Measured, ...]
    weights: Mapping[str, tuple[Option, ...]]
    about: Mapping[str, Any]
    executed: int
    reused: int

    @property
    def recipe(self) -> Recipe:
        return self.compression.recipe

    def to_json(self) -> dict[str, Any]:
        """The content of `search.json`; equal searches give equal text, whether one was killed or not."""
        return {
            "format": 1,
            "proof": "emulated",
            **self.about,
            "chosen": {
                "digest": self.compression.digest,
                "bytes": self.compression.bytes,
                "bytes_before": self.compression.bytes_before,
                "target": self.compression.target,
                "snr_db": self.snr_db,
                "agreement": self.agreement,
                "recipe": self.recipe.to_json(),
            },
            "unchanged_db": self.unchanged_db,
            "front": [point.to_json() for point in self.front],
            "uniform": [point.to_json() for point in self.uniform],
            "weights": {
                name: [
                    {"setting": option.setting, "bytes": option.bytes, "noise_db": -decibel(1, option.noise)}
                    for option in options
                ]
                for name, options in self.weights.items()
            },
        }


def search(
    model: Path,
    out: Path,
    data: Samples,
    *,
    against: Reference | None = None,
    options: SearchOptions | None = None,
) -> Search:
    """Write to `out` the smallest model found that keeps the quality, or the best one of that many bytes.

    Quality is the signal-to-noise ratio in dB of the worst output over all samples, against the reference or,
    without one, this model in float32. Weights of at most 2048 values and those of nested blocks stay.

    Raises GateError when nothing keeps the budget; `out` is then untouched. UsageError for settings that the
    target cannot hold, or a journal of another search; ModelError, InputError, UnsupportedOpsError.
    """
    return _Searching(model, out, data, against, options or SearchOptions()).run()


@dataclass(slots=True)
class _Encodings:
    """What weights become, encoded once and kept as long as there is room."""

    trials: Trials
    held: OrderedDict[tuple[str, Setting], Encoding] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    bytes: int = 0

    def get(self, name: str, setting: Setting) -> Encoding:
        """Raises Unfit."""
        with self.lock:
            if (name, setting) in self.held:
                return self.held[name, setting]
        made = encode(self.trials.values(name), setting, self.trials.found[name].weight, workers=1)
        with self.lock:
            self.held[name, setting] = made
            self.bytes += _memory(made)
            while self.bytes > KEPT_BYTES and len(self.held) > 1:
                self.bytes -= _memory(self.held.popitem(last=False)[1])
        return made


def _memory(encoding: Encoding) -> int:
    return 2 * encoding.dense.nbytes  # with the table's or the integers' own


Uniform: TypeAlias = tuple[Point, Measured]


class _Searching:
    def __init__(
        self, model: Path, out: Path, data: Samples, against: Reference | None, options: SearchOptions
    ) -> None:
        self.model, self.out, self.data, self.options = model, out, data, options
        program = Program(model)
        version = version_of(options.target) if options.target else program.asset.spec.specificationVersion
        self.settings = [setting for setting in options.settings if needs(setting)[0] <= version]
        if not self.settings:
            least = min(needs(setting)[0] for setting in options.settings)
            raise UsageError(
                f"{model}: none of the settings can be held by its target",
                hint=f"--target {name_of(least)} raises it, and older systems then no longer run the model",
            )
        feeds = [program.feeds(feed(sample, program.description)) for sample in data]
        self.trials = Trials(program, feeds)
        if against is not None:
            self.trials.hold_against(expected_outputs(against, data, self.trials))
        self.names = [
            name for name, found in self.trials.found.items() if found.weight.size > SMALLEST_WEIGHT
        ]
        if not self.names:
            raise UsageError(f"{model}: no weight of more than {SMALLEST_WEIGHT} values; nothing to search")
        self.encodings = _Encodings(self.trials)
        self.source = program.asset.digest
        self.before = program.asset.package.bytes
        self.fixed = self.before - sum(self.trials.found[name].weight.bytes for name in self.names)
        self.about = {
            "model": {"digest": self.source, "bytes": self.before},
            "against": None if against is None else {"name": against.name, "digest": against.digest},
            "data": {"digest": data.digest, "about": data.about, "samples": len(data)},
            "settings": [str(setting) for setting in self.settings],
        }
        self.quality_db = QUALITY_DB if options.quality_db is None else options.quality_db
        self.executed = self.done = 0

    def run(self) -> Search:
        path = self.options.journal or self.out.with_name(f"{self.out.stem}.search.jsonl")
        with Journal(path, self.about) as self.journal:
            weights = self.sensitivities()
            self.points = front(weights)
            self.fixed += self.excess(self.points[len(self.points) // 2])
            uniform = self.parallel(self.uniform, self.settings)
            shown = self.parallel(self.measured, spaced(self.points, self.options.points))
            compression, proof = self.chosen(weights, uniform)
            return Search(
                compression=compression,
                snr_db=decibel(1, proof.ratio),
                agreement=self.agreement(proof.agreed / proof.samples),
                unchanged_db=decibel(1, self.trials.unchanged.ratio),
                front=tuple(shown),
                uniform=tuple(entry for _, entry in uniform),
                weights=weights,
                about=self.about,
                executed=self.executed,
                reused=self.journal.reused,
            )

    def parallel(self, measure: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """`measure` of each, some at once; what was begun when one fails is waited for."""
        of = len(self.names) + len(self.settings) + self.options.points
        with ThreadPoolExecutor(self.options.workers) as pool:
            futures = [pool.submit(measure, item) for item in items]
            try:
                for future in as_completed(futures):
                    future.result()
                    self.done += 1
                    if self.options.progress is not None:
                        self.options.progress(min(self.done, of), of, "measuring")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            return [future.result() for future in futures]

    def sensitivities(self) -> dict[str, tuple[Option, ...]]:
        """What each weight could become, and what that alone costs."""
        return dict(zip(self.names, self.parallel(self.sensitivity, self.names), strict=True))

    def sensitivity(self, name: str) -> tuple[Option, ...]:
        known = self.journal.get(f"weight {name}")
        if known is None:
            made = [
                (setting, encoding) for setting in self.settings if (encoding := self.encoded(name, setting))
            ]
            # One that takes more bytes than another and is further from the weight is not worth an execution.
            made = [
                (setting, encoding)
                for setting, encoding in made
                if not any(
                    other.bytes <= encoding.bytes and other.error < encoding.error for _, other in made
                )
            ]
            noises = list(self.trials.each(name, [encoding.dense for _, encoding in made]))
            found = [
                [str(setting), self.size(name, encoding), noise.ratio if math.isfinite(noise.ratio) else None]
                for (setting, encoding), noise in zip(made, noises, strict=True)
            ]
            self.executed += len(found)
            known = self.journal.add(f"weight {name}", {"options": found})
        base = self.trials.unchanged.ratio
        options = [Option("none", self.trials.found[name].weight.bytes, 0.0)]
        for setting, size, ratio in known["options"]:
            options.append(Option(setting, size, math.inf if ratio is None else max(0.0, ratio - base)))
        return tuple(options)

    def encoded(self, name: str, setting: Setting) -> Encoding | None:
        try:
            return self.encodings.get(name, setting)
        except Unfit:
            return None

    def size(self, name: str, encoding: Encoding | None) -> int:
        """What a weight takes in the package; None: as it is."""
        if encoding is None:
            return self.trials.found[name].weight.bytes
        return encoding.bytes + OVERHEAD_BYTES

    def excess(self, point: Point) -> int:
        """What a package takes beyond the estimate: records are padded, and names differ in length."""
        with tempfile.TemporaryDirectory(prefix=".search-", dir=self.out.resolve().parent) as folder:
            return self.compressed(point, Path(folder)).bytes - self.fixed - point.bytes

    def compressed(self, point: Point, folder: Path) -> Compression:
        return compress(
            self.model,
            folder / self.out.name,
            self.recipe(point),
            target=self.options.target,
            encodings=dict(self.encodings.held),
        )

    def recipe(self, point: Point) -> Recipe:
        chosen = {
            name: Setting.parse(option.setting)
            for name, option in point.chosen.items()
            if option.setting != "none"
        }
        return Recipe(weights=chosen, model=self.source)

    def uniform(self, setting: Setting) -> tuple[Point, Measured]:
        """Every weight by one setting; those that it does not fit stay, as `compress` leaves them."""
        chosen = {}
        for name in self.names:
            encoding = self.encoded(name, setting)
            size = self.size(name, encoding)
            chosen[name] = Option("none" if encoding is None else str(setting), size, math.inf)
        point = Point(chosen, sum(option.bytes for option in chosen.values()), math.inf)
        return point, replace(self.measured(point), setting=str(setting), expected_db=None)

    def measured(self, point: Point) -> Measured:
        """A recipe executed as a whole."""
        recipe = self.recipe(point)
        text = json.dumps(recipe.to_json(), sort_keys=True)
        key = f"recipe {sha256_bytes(text.encode())}"
        known = self.journal.get(key)
        if known is None:
            values = {
                name: self.encodings.get(name, setting).dense for name, setting in recipe.weights.items()
            }
            noise = self.trials.together(values)
            self.executed += 1
            known = self.journal.add(
                key, {"snr_db": decibel(1, noise.ratio), "agreement": noise.agreed / noise.samples}
            )
        expected = decibel(1, max(0.0, point.noise + self.trials.unchanged.ratio))
        agreement = self.agreement(known["agreement"])
        return Measured(self.fixed + point.bytes, known["snr_db"], expected, agreement=agreement)

    def agreement(self, share: float) -> float | None:
        return share if self.trials.probabilities else None

    def chosen(
        self, weights: Mapping[str, tuple[Option, ...]], uniform: list[Uniform]
    ) -> tuple[Compression, Noise]:
        """Compress what keeps the budget, measure the file, and be stricter until the file keeps it, too."""
        budget, quality_db = self.options.budget_bytes, self.quality_db
        limit = math.inf if budget is None else float(budget)
        required = quality_db
        with tempfile.TemporaryDirectory(prefix=".search-", dir=self.out.resolve().parent) as folder:
            for _ in range(ATTEMPTS):
                point = self.best(weights, uniform, limit, required)
                compression = self.compressed(point, Path(folder))
                noise = prove(compression.path, self.data, self.trials)
                got = decibel(1, noise.ratio)
                if budget is not None and compression.bytes > budget:
                    # Twice, since the next recipe has another overhead, and is filled up again.
                    limit -= 2 * (compression.bytes - budget) + budget // 1000
                elif budget is None and got < quality_db:
                    required += quality_db - got + STRICTER_DB
                else:
                    with placed(self.out) as partial:
                        compression.path.rename(partial)
                    return replace(compression, path=self.out), noise
        raise self.refused(f"{ATTEMPTS} recipes were compressed, and none keeps it in the file's own types")

    def best(
        self,
        weights: Mapping[str, tuple[Option, ...]],
        uniform: list[Uniform],
        limit: float,
        required: float,
    ) -> Point:
        """The best recipe of the front or the best uniform one, then better ones around it."""
        found = self.pick(self.points, weights, limit, required)
        if found is None:
            raise self.refused(
                f"the smallest recipe takes about {self.fixed + self.points[-1].bytes} bytes"
                if self.options.budget_bytes is not None
                else f"as it is, the model keeps {decibel(1, self.trials.unchanged.ratio):.1f} dB of what is "
                "expected"
            )
        for point, _ in uniform:
            found = self.better(found, point, limit, required)
        for _ in range(ROUNDS):
            near = self.around(found, weights)
            other = self.pick(front(near), near, limit, required)
            if other is None or self.better(found, other, limit, required) is found:
                return found
            found = other
        return found

    def pick(
        self,
        points: list[Point],
        weights: Mapping[str, tuple[Option, ...]],
        limit: float,
        required: float,
    ) -> Point | None:
        """Of a front: the first one of that many bytes, or the last one measured to keep the quality."""
        if self.options.budget_bytes is not None:
            fitting = (point for point in points if self.fixed + point.bytes <= limit)
            first = next(fitting, None)
            return None if first is None else filled(first, weights, limit - self.fixed)
        if self.measured(points[0]).snr_db < required:
            return None
        low, high = 0, len(points)  # low keeps it, high does not
        while high - low > 1:
            middle = (low + high) // 2
            kept = self.measured(points[middle]).snr_db >= required
            low, high = (middle, high) if kept else (low, middle)
        return points[low]

    def better(self, one: Point, other: Point, limit: float, required: float) -> Point:
        """The one that serves the budget better; the first of equals."""
        if self.fixed + other.bytes > limit:
            return one
        got = self.measured(other).snr_db
        if self.options.budget_bytes is not None:
            return other if got > self.measured(one).snr_db else one
        return other if got >= required and other.bytes < one.bytes else one

    def around(
        self, point: Point, weights: Mapping[str, tuple[Option, ...]]
    ) -> dict[str, tuple[Option, ...]]:
        """What each weight's next larger and next smaller option changes here, where sums may be wrong."""
        here = self.ratio(point)
        changes = [
            (name, option)
            for name, options in weights.items()
            for option in neighbours(worthwhile(options), point.chosen[name])
        ]
        ratios = self.parallel(
            lambda change: self.ratio(sum_of({**point.chosen, change[0]: change[1]})), changes
        )
        near = {name: [replace(option, noise=0.0)] for name, option in point.chosen.items()}
        for (name, option), ratio in zip(changes, ratios, strict=True):
            near[name].append(replace(option, noise=ratio - here))
        return {name: tuple(options) for name, options in near.items()}

    def ratio(self, point: Point) -> float:
        return float(10 ** (-self.measured(point).snr_db / 10))

    def refused(self, why: str) -> GateError:
        budget = self.options.budget_bytes
        wanted = f"{budget} bytes" if budget is not None else f"{self.quality_db:g} dB"
        return GateError(f"{self.model}: no recipe keeps the budget of {wanted}: {why}", (why,))
