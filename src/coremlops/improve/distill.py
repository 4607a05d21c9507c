"""Distil: a small network learns from a large one's answers, which say more than labels do.

The teacher is anything that answers: a PyTorch file, an ONNX file, or a Core ML model that our runtime
executes. Source of the loss: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.digest import sha256_bytes
from coremlops.errors import DataError, InputError, ModelError, UsageError
from coremlops.source.card import Card
from coremlops.source.reference import CoreMLReference, Reference, TorchReference
from coremlops.source.samples import Sample, Samples, feed, preparation

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOSSES = ("kl", "mse")
FORMAT = 1
LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True, slots=True)
class DistillOptions:
    """How the student learns.

    `loss`: `kl` of distributions softened by `temperature`, for classifiers, or `mse` of the outputs, for
    regressors and features. `hard`: how much the true labels or values count, 0 to 1, beside the teacher; 1
    is the student trained alone. `held_out`: the share of the samples that chooses the best epoch.
    `learning_rate` falls to 0 along a cosine. `progress` is called with (epoch, of, losses).
    """

    loss: str = "kl"
    temperature: float = 4.0
    hard: float = 0.1
    epochs: int = 100
    batch: int = 32
    learning_rate: float = 0.001
    weight_decay: float = 0.01
    held_out: float = 0.2
    seed: int = 0
    threads: int = 1
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"loss: one of {', '.join(LOSSES)} expected, got {self.loss!r}")
        for name, ok, expected in (
            ("temperature", self.temperature > 0, "more than 0"),
            ("hard", 0 <= self.hard <= 1, "0 to 1"),
            ("epochs", self.epochs >= 1, "1 or more"),
            ("batch", self.batch >= 1, "1 or more"),
            ("learning_rate", self.learning_rate > 0, "more than 0"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("held_out", 0 < self.held_out < 1, "between 0 and 1"),
            ("threads", self.threads >= 1, "1 or more"),
        ):
            value = getattr(self, name)
            if not ok or not math.isfinite(value):
                raise UsageError(f"{name}: {expected} expected, got {value}")

    def to_json(self) -> dict[str, Any]:
        """What decides the result."""
        found = asdict(replace(self, progress=None))
        del found["progress"]
        return found


@dataclass(frozen=True, slots=True)
class Distillation:
    """A student that learned. `module`: its best epoch's weights, giving what the teacher gives: logits, or
    probabilities. `example`: an input of zeros. `card`: how a picture becomes its tensor, as the teacher's.
    `metrics`: numbers of the held-out samples, among others. `resumed`: epochs that an earlier call had done.
    """

    module: Any
    example: Any
    card: Card | None
    metrics: Mapping[str, float]
    resumed: int


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is learned from: inputs [n, ...], the teacher's outputs [n, k], truths or None, as tensors.

    `known`: which samples have a truth. `probabilities`: whether that is what the teacher gives.
    """

    inputs: Any
    taught: Any
    truth: Any
    known: Any
    probabilities: bool
    card: Card | None


def distill(
    teacher: Reference,
    student: Reference,
    data: Samples,
    options: DistillOptions,
    *,
    checkpoint: Path | None = None,
) -> Distillation:
    """Train the module of `student`, a `module:factory` whose forward gives logits or values.

    The same teacher, student, data and options give the same weights on one machine. `checkpoint`: a file
    that is written after each epoch and removed at the end; when it is there, training goes on from it.

    Raises UsageError for a student that is no module of one input, DataError for samples without what the
    loss needs, InputError for outputs that do not fit, ModelError when the loss is no number.
    """
    import torch

    if not isinstance(student, TorchReference) or student.examples is None or len(student.examples) != 1:
        raise UsageError(
            f"{student.name}: a student is module:factory, and the factory gives (module, one example input)"
        )
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    try:
        lesson = prepare(teacher, student, data, options)
        about = sha256_bytes(
            json.dumps([FORMAT, teacher.digest, student.digest, data.digest, options.to_json()]).encode()
        )
        return _Training(student, lesson, options, checkpoint, about).run()
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def prepare(teacher: Reference, student: Reference, data: Samples, options: DistillOptions) -> Lesson:
    """Ask the teacher once about each sample. Raises DataError and InputError."""
    import torch

    inputs, taught, truths = [], [], []
    card = card_of(teacher)
    given = replace(student, card=card)
    for sample in data:
        [value] = feed(sample, given).values()
        inputs.append(np.asarray(value, np.float32))
        taught.append(_answer(_ask(teacher, sample), teacher))
        if not np.isfinite(taught[-1]).all():
            raise InputError(f"{teacher.name}: {sample.name}: the answer is no number")
        truths.append(_known(sample.truth))
    if len(inputs) < 2:
        raise DataError(f"{data.about}: at least 2 samples expected, some of which are held out")
    shapes = {value.shape for value in inputs}
    if len(shapes) > 1:
        raise DataError(f"{data.about}: inputs of one shape expected, got {sorted(shapes)[:3]}")
    answers = np.stack(taught).astype(np.float32)
    if options.loss == "mse" and not options.hard:
        truths = [None] * len(truths)  # labels beside features, which the student is not asked for
    known = np.array([truth is not None for truth in truths])
    if options.hard and not known.any():
        raise DataError(f"{data.about}: no sample has a truth, so only hard=0 is possible")
    probabilities = options.loss == "kl" and bool(
        (answers >= 0).all() and np.abs(answers.sum(1) - 1).max() < 1e-2
    )
    if probabilities:
        answers = np.log(np.maximum(answers, LEAST_PROBABILITY))
    truth = (
        _classes(truths, card.labels if card is not None else (), answers.shape[1])
        if options.loss == "kl"
        else _values(truths, answers.shape[1])
    )
    return Lesson(
        torch.from_numpy(np.concatenate(inputs)),
        torch.from_numpy(answers),
        torch.from_numpy(truth),
        torch.from_numpy(known),
        probabilities,
        card,
    )


def card_of(teacher: Reference) -> Card | None:
    """The `model.json` beside a source; of a Core ML model, what it says of its picture and its labels."""
    if not isinstance(teacher, CoreMLReference):
        return teacher.card
    image = preparation(teacher.raw.description)
    return None if image is None else Card(image, tuple(map(str, teacher.raw.description.labels)))


def _ask(teacher: Reference, sample: Sample) -> Mapping[str, Any]:
    if isinstance(teacher, CoreMLReference):
        return teacher(feed(sample, teacher.raw.description))
    return teacher(feed(sample, teacher))


def _known(truth: Any) -> Any:
    """A truth of NaN is none: an array has a place for each sample."""
    if isinstance(truth, str) or truth is None:
        return truth
    return None if np.isnan(np.asarray(truth, np.float64)).all() else truth


def _answer(outputs: Mapping[str, Any], teacher: Reference) -> NDArray[Any]:
    """The one output of floats, flat; of a Core ML classifier its probabilities, in the labels' order."""
    found = []
    for value in outputs.values():
        if isinstance(value, Mapping):
            found.append(np.array(list(value.values()), np.float32))
        elif np.asarray(value).dtype.kind == "f":
            found.append(np.asarray(value).reshape(-1))
    if len(found) != 1:
        raise InputError(f"{teacher.name}: one output of floats expected, got {len(found)}")
    return found[0]


def _classes(truths: list[Any], labels: tuple[str, ...], count: int) -> NDArray[np.int64]:
    texts = sorted({truth for truth in truths if isinstance(truth, str)})
    order = {label: i for i, label in enumerate(labels or texts)}
    found = np.zeros(len(truths), np.int64)
    for i, truth in enumerate(truths):
        if truth is None:
            continue
        place = order.get(truth, -1) if isinstance(truth, str) else int(truth)
        if not 0 <= place < count:
            raise DataError(f"the truth {truth!r} is none of the teacher's {count} classes")
        found[i] = place
    return found


def _values(truths: list[Any], count: int) -> NDArray[np.float32]:
    found = np.zeros((len(truths), count), np.float32)
    for i, truth in enumerate(truths):
        if truth is None:
            continue
        value = np.asarray(truth, np.float32).reshape(-1)
        if value.size != count:
            raise DataError(f"a truth of {count} values expected, as the teacher gives, got {value.size}")
        found[i] = value
    return found


class _Training:
    def __init__(
        self,
        student: TorchReference,
        lesson: Lesson,
        options: DistillOptions,
        checkpoint: Path | None,
        about: str,
    ) -> None:
        import torch

        self.lesson, self.options, self.checkpoint, self.about = lesson, options, checkpoint, about
        count = len(lesson.inputs)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(options.seed))
        held = min(count - 1, max(1, round(count * options.held_out)))
        self.held, self.rest = order[:held], order[held:]
        self.module = student.raw
        self.example = torch.zeros_like((student.examples or (torch.zeros(0),))[0])
        torch.manual_seed(options.seed)
        for part in self.module.modules():  # a factory's start is the same each time; this is the seed's own
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.best: dict[str, Any] = {"loss": math.inf, "epoch": 0, "state": None}

    def run(self) -> Distillation:
        import torch

        resumed = self._resume()
        for epoch in range(resumed + 1, self.options.epochs + 1):
            losses = self._epoch(epoch)
            if losses["held_out_loss"] < self.best["loss"]:
                state = {name: value.clone() for name, value in self.module.state_dict().items()}
                self.best = {"loss": losses["held_out_loss"], "epoch": epoch, "state": state}
            self._save(epoch)
            if self.options.progress is not None:
                self.options.progress(epoch, self.options.epochs, losses)
        self.module.load_state_dict(self.best["state"])
        self.module.eval()
        metrics = self._metrics()
        module = self.module
        if self.lesson.probabilities:
            module = torch.nn.Sequential(module, torch.nn.Softmax(1))
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)
        return Distillation(module.eval(), self.example, self.lesson.card, metrics, resumed)

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass; its own seed, so that training that was resumed goes the same way."""
        import torch

        seed = self.options.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        rate = self.options.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / self.options.epochs)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.module.train()
        order = self.rest[torch.randperm(len(self.rest), generator=torch.Generator().manual_seed(seed))]
        total = 0.0
        for some in order.split(self.options.batch):
            if len(some) == 1 and len(order) > 1:
                continue  # a norm over one sample has no spread
            loss = self.loss(some)
            if not torch.isfinite(loss):
                raise ModelError(
                    f"epoch {epoch}: the loss is {loss.item()}",
                    hint=f"try a learning rate below {self.options.learning_rate:g}",
                )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(some)
        self.module.eval()
        with torch.no_grad():
            held = self.loss(self.held).item()
        if not math.isfinite(held):
            raise ModelError(
                f"epoch {epoch}: the loss of the held-out samples is {held}",
                hint=f"try a learning rate below {self.options.learning_rate:g}",
            )
        return {"loss": total / len(order), "held_out_loss": held}

    def loss(self, some: Any) -> Any:
        """Of these samples: the teacher's part and, where a truth is known, the truth's."""
        from torch.nn import functional

        options, lesson = self.options, self.lesson
        output = self._forward(lesson.inputs[some])
        taught, known = lesson.taught[some], lesson.known[some]
        if options.loss == "kl":
            heat = options.temperature
            soft = functional.kl_div(
                functional.log_softmax(output / heat, 1),
                functional.log_softmax(taught / heat, 1),
                reduction="batchmean",
                log_target=True,
            )
            # Gradients of softened distributions are smaller by the temperature's square.
            soft = soft * heat**2
            hard = functional.cross_entropy(output, lesson.truth[some], reduction="none")
        else:
            soft = functional.mse_loss(output, taught)
            hard = functional.mse_loss(output, lesson.truth[some], reduction="none").mean(1)
        share = known.float()
        hard = (hard * share).sum() / share.sum().clamp(min=1)
        return (1 - options.hard) * soft + options.hard * hard

    def _forward(self, inputs: Any) -> Any:
        import torch

        output = self.module(inputs)
        expected = self.lesson.taught.shape[1]
        if not isinstance(output, torch.Tensor) or output.flatten(1).shape != (len(inputs), expected):
            got = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise InputError(
                f"the student gives {got} for {len(inputs)} samples; the teacher {expected} numbers for each"
            )
        return output.flatten(1)

    def _metrics(self) -> dict[str, float]:
        import torch

        lesson = self.lesson
        with torch.no_grad():
            output = self._forward(lesson.inputs[self.held])
        taught, truth, known = (part[self.held] for part in (lesson.taught, lesson.truth, lesson.known))
        found = {
            "held_out_loss": self.best["loss"],
            "best_epoch": self.best["epoch"],
            "parameters": sum(part.numel() for part in self.module.parameters()),
            "samples": len(lesson.inputs),
            "samples_with_truth": int(lesson.known.sum()),
        }
        if self.options.loss == "kl":
            said, said_by_teacher = output.argmax(1), taught.argmax(1)
            found["held_out_agreement"] = (said == said_by_teacher).float().mean().item()
            if known.any():
                found["held_out_accuracy"] = (said == truth)[known].float().mean().item()
                found["held_out_teacher_accuracy"] = (said_by_teacher == truth)[known].float().mean().item()
        else:
            found["held_out_rmse_to_teacher"] = (output - taught).square().mean().sqrt().item()
            if known.any():
                found["held_out_rmse"] = (output - truth)[known].square().mean().sqrt().item()
                found["held_out_teacher_rmse"] = (taught - truth)[known].square().mean().sqrt().item()
        return found

    def _save(self, epoch: int) -> None:
        """Written beside, then renamed: a crash leaves the one before."""
        import torch

        if self.checkpoint is None:
            return
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_name(f".{self.checkpoint.name}.partial")
        state = {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({"about": self.about, "epoch": epoch, "best": self.best, **state}, partial)
        os.replace(partial, self.checkpoint)  # noqa: PTH105

    def _resume(self) -> int:
        """Load what an earlier call left; how many epochs it had done. Raises UsageError."""
        import torch

        if self.checkpoint is None or not self.checkpoint.exists():
            return 0
        try:
            found = torch.load(self.checkpoint, weights_only=True)
            about = found["about"]
        except Exception as error:  # torch raises anything for a file that is none of its own
            raise UsageError(
                f"{self.checkpoint}: a checkpoint of `distill` expected; it is left alone"
            ) from error
        if about != self.about:
            raise UsageError(
                f"{self.checkpoint}: the checkpoint of another distillation",
                hint="remove it to begin again; the teacher, the student, the data or a parameter changed",
            )
        self.module.load_state_dict(found["module"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.best = found["best"]
        return int(found["epoch"])


def save(made: Distillation, folder: Path) -> None:
    """`model.pt2`, `model.json` where pictures go in, and `metrics.json`: what a step `train` leaves."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    program = torch.export.export(made.module, (made.example,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, which no model should carry
    torch.export.save(program, folder / "model.pt2")
    if made.card is not None:
        _write(folder / "model.json", made.card.to_json())
    _write(folder / "metrics.json", dict(made.metrics))


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")
