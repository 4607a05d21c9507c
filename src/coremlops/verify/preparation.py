"""Whether an app prepares pictures as training did: the model's recorded preparation against training's own.

The record is the metadata `com.coremlops.preparation`, which the app's accessor follows. Training's own is a
function of the user's, a path or a PIL picture to the array that the net takes. Where they part, the likely
causes are named (`causes.py`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.errors import CoremlopsError, InputError, UsageError
from coremlops.source import ImageInput, Sample, Samples, open_samples, user_object
from coremlops.verify.causes import EXPLAINS, How, diagnose, render
from coremlops.verify.gates import Verdict
from coremlops.verify.sides import ModelSide, open_model
from coremlops.verify.statistics import Running
from coremlops.verify.views import heat, jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

MAX_TRIED = 6  # pictures on which other ways are tried
SHOWN = 4


@dataclass(frozen=True, slots=True)
class ParityGates:
    """mean_abs: of all pixels, in levels of 255. top1_agreement, snr_db: of what the model then says."""

    mean_abs: float = 2.0
    top1_agreement: float = 1.0
    snr_db: float = 20.0

    def changed(self, settings: Sequence[str]) -> ParityGates:
        """With `NAME=NUMBER` settings over them. Raises UsageError."""
        values = {}
        known = [item.name for item in fields(self)]
        for setting in settings:
            name, _, text = setting.partition("=")
            try:
                values[name] = float(text)
            except ValueError:
                values[name] = math.nan
            if name not in known or not math.isfinite(values[name]):
                raise UsageError(f"gate {setting!r}: one of {', '.join(known)} = a number expected")
        return replace(self, **values)


@dataclass(frozen=True, slots=True)
class Shown:
    """One example for the page: `data:` URIs of both preparations and of their difference."""

    name: str
    mean_abs: float
    recorded: str
    training: str
    difference: str


@dataclass(frozen=True, slots=True)
class Parity:
    """What was found. `mean_abs`, `max_abs`: levels of 255 for pictures, else the array's own unit.

    `record`: what the model's metadata says, None for nothing; `unexplained`: what is left of the root mean
    square when the causes are taken away, as a share.
    """

    model: str
    digest: str
    function: str
    record: ImageInput | None
    data_digest: str
    examples: int
    mean_abs: float
    max_abs: float
    snr_db: float
    top1_agreement: float | None
    causes: tuple[str, ...]
    unexplained: float
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    shown: tuple[Shown, ...] = field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        return all(verdict.ok for verdict in self.verdicts)

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(str(verdict) for verdict in self.verdicts if not verdict.ok)

    def summary(self) -> str:
        """A few lines for a terminal."""
        said = f"{'the same' if self.ok else 'NOT the same'} preparation: {self.model} and {self.function}, "
        lines = [f"{said}{self.examples} examples, mean |Δ| {self.mean_abs:.3g}, max {self.max_abs:.3g}"]
        if self.top1_agreement is not None:
            lines.append(f"same label {self.top1_agreement:.1%}, SNR of the outputs {self.snr_db:.1f} dB")
        lines += [f"likely: {cause}" for cause in self.causes]
        lines += [f"  {'ok  ' if verdict.ok else 'FAIL'} {verdict}" for verdict in self.verdicts]
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    def to_json(self) -> dict[str, Any]:
        """A report of its own kind: it proves no conversion."""
        return {
            "format": 1,
            "kind": "preparation",
            "proof": "emulated",
            "ok": self.ok,
            "model": {"digest": self.digest},
            "function": self.function,
            "record": self.record.to_json() if self.record else None,
            "data": {"digest": self.data_digest, "examples": self.examples},
            "mean_abs": self.mean_abs,
            "max_abs": self.max_abs,
            "snr_db": self.snr_db,
            "top1_agreement": self.top1_agreement,
            "causes": list(self.causes),
            "unexplained": self.unexplained,
            "gates": [verdict.to_json() for verdict in self.verdicts],
            "notes": list(self.notes),
        }


def compare_preparation(
    model: Path, function: str, data: str | Path, gates: ParityGates | None = None
) -> Parity:
    """Prepare the same files both ways, and ask the model with both.

    `function`: `module:function`: a PIL picture, or a path when its parameter is called or typed so, to an
    array [3, height, width], [height, width, 3], or either with a leading 1. For a model without a picture:
    the sample's arrays (of `raw` alone, where the data has that) to the input's array.
    Raises UsageError for a function that fails, InputError for arrays of another shape, and what
    `open_samples` raises.
    """
    gates = gates or ParityGates()
    side = open_model(model)
    own = user_object(function)
    if not callable(own):
        raise UsageError(f"{function}: a function expected, got {type(own).__name__}")
    samples = open_samples(data, side.description.inputs)
    if side.image is None:
        return _arrays(side, own, function, samples, gates)
    return _pictures(side, own, function, samples, Path(data), gates)


def _pictures(
    side: ModelSide,
    own: Callable[..., Any],
    function: str,
    samples: Samples,
    folder: Path,
    gates: ParityGates,
) -> Parity:
    image, record, notes = side.image, side.record, []
    assert image is not None  # noqa: S101
    grey = image.colour.startswith("GRAY")
    if record is None:
        bias = (0.0,) if grey else (0.0,) * 3
        color = "L" if grey else "RGB"
        record = ImageInput(image.name, image.width, image.height, color, 1.0, bias, "scaleFit")
        notes.append("The model records no preparation: scaleFit and pixels 0 to 255 were taken.")
    if (record.width, record.height, record.color) != (image.width, image.height, "L" if grey else "RGB"):
        raise InputError(
            f"{side.path}: the record says {record.width} x {record.height} {record.color}, the model takes "
            f"{image.width} x {image.height} {image.colour}"
        )
    tried: list[tuple[Any, NDArray[np.float64]]] = []
    running = Running()
    shown: list[Shown] = []
    total, largest, same, clipped = 0.0, 0.0, [], 0.0
    for sample in samples:
        picture = next(iter(sample.inputs.values()))
        theirs = _called(own, function, picture, folder / sample.name)
        values = _as_planes(theirs, record, function)
        pixels = (values - np.array(record.bias)) / record.scale
        ours = render(picture, record, How())
        gap = np.abs(pixels - ours)
        total, largest = total + float(gap.mean()), max(largest, float(gap.max()))
        clipped += float(((pixels < -0.5) | (pixels > 255.5)).mean())
        if len(tried) < MAX_TRIED:
            tried.append((picture, values))
        same.append(_asked(side, sample, image.name, (_image(ours), _image(pixels)), running))
        shown.append(_shown(sample.name, ours, pixels, gap))
        shown = sorted(shown, key=lambda item: item.mean_abs, reverse=True)[:SHOWN]
    count = len(same)
    if clipped / count > 0.001:
        notes.append(
            f"{clipped / count:.1%} of training's numbers are outside of what pixels of 0 to 255 give by the "
            "record; for the model they were clipped."
        )
    causes, unexplained = diagnose(tried, record)
    agreement = sum(bool(item) for item in same) / count if side.labels else None
    return _parity(
        side, function, samples, gates, total / count, largest, running.total().snr_db, agreement, causes,
        unexplained, notes, tuple(shown),
    )  # fmt: skip


def _arrays(
    side: ModelSide, own: Callable[..., Any], function: str, samples: Samples, gates: ParityGates
) -> Parity:
    notes = [
        "The model takes no picture and records no preparation: the data's arrays are what the app gives."
    ]
    running = Running()
    total, largest, xs, ys = 0.0, 0.0, [], []
    feature = side.description.inputs[0].name
    same = []
    for sample in samples:
        inputs = {name: value for name, value in sample.inputs.items() if name != "raw"}
        asked = replace(sample, inputs=inputs)
        fed = side.fed(asked)
        try:
            theirs = np.asarray(own(sample.inputs.get("raw", inputs)), np.float64)
        except Exception as error:
            raise UsageError(f"{function} raised {type(error).__name__}: {str(error)[:200]}") from error
        ours = np.asarray(fed[feature], np.float64)
        if theirs.size != ours.size or not np.isfinite(theirs).all():
            raise InputError(
                f"{sample.name}: {function} gives {list(theirs.shape)}, {list(ours.shape)} of finite numbers "
                f"expected, as the input {feature}"
            )
        theirs = theirs.reshape(ours.shape)
        gap = np.abs(theirs - ours)
        total, largest = total + float(gap.mean()), max(largest, float(gap.max()))
        xs.append(ours.ravel())
        ys.append(theirs.ravel())
        other = theirs.astype(np.asarray(fed[feature]).dtype)
        same.append(_asked(side, asked, feature, (fed[feature], other), running))
    x, y = np.concatenate(xs), np.concatenate(ys)
    spread = float(x.var())
    scale = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread else 0.0
    offset = float(y.mean() - scale * x.mean())
    left = float(np.sqrt(((y - scale * x - offset) ** 2).mean()))
    before = float(np.sqrt(((y - x) ** 2).mean()))
    explained = before > 0 and left < EXPLAINS * before
    unexplained = left / before if explained else float(before > 0)
    causes = (f"scale and bias: training's array is the app's * {scale:.6g} + {offset:.6g}",) * explained
    agreement = sum(bool(item) for item in same) / len(same) if side.labels else None
    return _parity(
        side, function, samples, replace(gates, mean_abs=math.inf), total / len(same), largest,
        running.total().snr_db, agreement, causes, unexplained, notes, (),
    )  # fmt: skip


def _parity(
    side: ModelSide,
    function: str,
    samples: Samples,
    gates: ParityGates,
    mean_abs: float,
    max_abs: float,
    snr_db: float,
    agreement: float | None,
    causes: tuple[str, ...],
    unexplained: float,
    notes: list[str],
    shown: tuple[Shown, ...],
) -> Parity:
    verdicts = [Verdict("snr_db", gates.snr_db, snr_db, True)]
    if math.isfinite(gates.mean_abs):
        verdicts.insert(0, Verdict("mean_abs", gates.mean_abs, mean_abs, False))
    if agreement is not None:
        verdicts.append(Verdict("top1_agreement", gates.top1_agreement, agreement, True))
    return Parity(
        model=side.name,
        digest=side.digest,
        function=function,
        record=side.record,
        data_digest=samples.digest,
        examples=len(samples),
        mean_abs=mean_abs,
        max_abs=max_abs,
        snr_db=snr_db,
        top1_agreement=agreement,
        causes=causes,
        unexplained=unexplained,
        verdicts=tuple(verdicts),
        notes=tuple(notes),
        shown=shown,
    )


def _called(own: Callable[..., Any], function: str, picture: Image.Image, path: Path) -> Any:
    """What training's function gives."""
    parameters = list(inspect.signature(own).parameters.values())
    first = parameters[0] if parameters else None
    by_path = first is not None and (
        first.name in ("path", "file", "filename", "file_name")
        or str(first.annotation) in ("str", "Path", "pathlib.Path", "<class 'str'>", "<class 'pathlib.Path'>")
    )
    try:
        return own(path if by_path else picture.copy())
    except CoremlopsError:
        raise
    except Exception as error:  # a user's function raises what it likes
        raise UsageError(
            f"{function} raised {type(error).__name__} for {path.name}: {str(error)[:200]}",
            hint="it is called with a PIL picture, or with a path when its parameter is called path",
        ) from error


def _as_planes(value: Any, record: ImageInput, function: str) -> NDArray[np.float64]:
    """Training's array as [height, width, channels]. Raises InputError."""
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    flat = array[0] if array.ndim == 4 and len(array) == 1 else array
    flat = flat[..., None] if flat.ndim == 2 else flat
    wanted = (record.height, record.width, record.channels)
    if flat.ndim == 3 and flat.shape == (wanted[2], *wanted[:2]) and flat.shape != wanted:
        flat = flat.transpose(1, 2, 0)
    if flat.shape != wanted or flat.dtype.kind not in "biuf" or not np.isfinite(flat).all():
        raise InputError(
            f"{function}: finite numbers [{wanted[2]}, {wanted[0]}, {wanted[1]}] expected, as the net's "
            f"own, got {array.dtype} {list(array.shape)}",
            hint="give what the net itself is called with",
        )
    return flat.astype(np.float64)


def _image(pixels: NDArray[np.float64]) -> Image.Image:
    from PIL import Image

    values = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def _asked(
    side: ModelSide, sample: Sample, name: str, both: tuple[Any, Any], running: Running
) -> bool | None:
    """Ask the model with both; whether it names one label, None for what is no classifier."""
    answers = [side.ask(replace(sample, inputs={**sample.inputs, name: value})) for value in both]
    label = side.description.predicted_label
    numbers = []
    for answer in answers:
        found = [
            np.array(list(value.values())) if isinstance(value, dict) else np.asarray(value)
            for key, value in answer.items()
            if key != label
        ]
        numbers.append(np.concatenate([item.ravel().astype(np.float64) for item in found if item.size]))
    running.add(numbers[0], numbers[1])
    return answers[0][label] == answers[1][label] if side.labels else None


def _shown(
    name: str, ours: NDArray[np.float64], theirs: NDArray[np.float64], gap: NDArray[np.float64]
) -> Shown:
    mean = gap.mean(2)
    return Shown(
        name, float(gap.mean()), jpeg(_image(ours)), jpeg(_image(theirs)), heat(mean, 0, max(mean.max(), 1))
    )


def render_parity(found: Parity) -> str:
    """The report as one page."""
    from coremlops.verify.html import page

    kind, sign, title = ("good", "✓", "The same") if found.ok else ("bad", "✕", "Not the same")
    causes = "".join(f'<p class="note">{escape(cause)}</p>' for cause in found.causes)
    unit = "levels of 255" if found.shown else "in the array's unit"
    tiles = [("Mean difference", f"{found.mean_abs:.3g}", unit), ("Largest", f"{found.max_abs:.3g}", unit)]
    tiles.append(("Outputs", f"{found.snr_db:.1f} dB", "signal to noise"))
    if found.top1_agreement is not None:
        tiles.append(("Same label", f"{found.top1_agreement:.1%}", f"of {found.examples}"))
    shown = "".join(
        f'<article class="card"><div class="maps">'
        f'<img src="{item.recorded}" alt="recorded"><img src="{item.training}" alt="training">'
        f'<img src="{item.difference}" alt="difference"></div><div class="inside">'
        f'<p class="strong file">{escape(item.name)}</p><p class="quiet">mean |Δ| {item.mean_abs:.3g}</p>'
        "</div></article>"
        for item in found.shown
    )
    rows = "".join(f"<tr><td>{escape(str(verdict))}</td></tr>" for verdict in found.verdicts)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in found.notes)
    record = escape(str(found.record.to_json())) if found.record else "none"
    return page(
        f"{title}: {found.model}",
        f'<header class="{kind}"><div class="seal" aria-hidden="true">{sign}</div><div><p class="eyebrow">'
        f"{escape(found.model)} and {escape(found.function)}</p><h1>{title} preparation</h1>"
        f'<p class="lead">{found.examples} files, prepared as the model records it and as training does.'
        "</p></div></header>"
        '<section class="tiles">'
        + "".join(
            f'<div class="tile"><span class="name">{name}</span><span class="value">{value}</span>'
            f'<span class="quiet">{note}</span></div>'
            for name, value, note in tiles
        )
        + "</section>"
        + (f"<section><h2>Likely cause</h2>{causes}</section>" if causes else "")
        + f"<section><h2>Gates</h2><table><tbody>{rows}</tbody></table></section>"
        + (
            "<section><h2>The worst files</h2>"
            '<p class="quiet">As recorded, as in training, and where they differ.</p>'
            f'<div class="cards wide">{shown}</div></section>'
            if shown
            else ""
        )
        + f"<section><h2>What this rests on</h2><p class='prose'>The record is drawn by this machine, not by "
        f"Vision. It says: {record}.</p>{notes}</section>",
    )
