"""A student learns scikit-learn's digits; what it reached is computed here, by torch alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import DataError, InputError, ModelError, UsageError
from coremlops.improve.distill import Distillation, DistillOptions, Lesson, _Training, distill, save
from coremlops.pipeline.components.distill.__main__ import main as step
from coremlops.source.reference import Reference, Tensor, TorchReference, open_reference
from coremlops.source.samples import Sample, Samples, open_samples

torch: Any = pytest.importorskip("torch")
datasets: Any = pytest.importorskip("sklearn.datasets")
STUDENT = "tests.improve.digits_student:"


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    found = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))[:240]
    return (found.images[order, None] / 16).astype(np.float32), found.target[order]


def _samples(digits: tuple[Any, Any], labelled: int = 240) -> Samples:
    items = [
        Sample(str(i), {"x": x[None]}, int(y) if i < labelled else None)
        for i, (x, y) in enumerate(zip(*digits, strict=True))
    ]
    return Samples("digits", len(items), lambda: iter(items))


def _teacher(digits: tuple[Any, Any], softmax: bool = False) -> TorchReference:
    """A logistic regression that is fitted in closed form: ridge on one-hot targets, sharpened."""
    x, y = digits[0].reshape(len(digits[0]), -1).astype(np.float64), np.eye(10)[digits[1]]
    weight = np.linalg.solve(x.T @ x + np.eye(64), x.T @ y) * 8
    linear = torch.nn.Linear(64, 10, bias=False)
    linear.weight.data = torch.from_numpy(weight.T).float()
    parts = [torch.nn.Flatten(), linear] + ([torch.nn.Softmax(1)] if softmax else [])
    return _reference(torch.nn.Sequential(*parts).eval(), (1, 1, 8, 8))


def _reference(module: Any, shape: tuple[int, ...]) -> TorchReference:
    return TorchReference(
        "torch.nn.Module", "teacher", "a digest", (Tensor("x", shape),), module, call=module.forward
    )


def _options(**values: Any) -> DistillOptions:
    return DistillOptions(**{"epochs": 6, "learning_rate": 0.01, **values})


def _state(made: Distillation) -> dict[str, Any]:
    return {name: value.numpy().copy() for name, value in made.module.state_dict().items()}


def test_a_student_learns_what_its_teacher_says(digits: tuple[Any, Any]) -> None:
    made = distill(_teacher(digits), open_reference(f"{STUDENT}make"), _samples(digits), _options(epochs=20))
    with torch.no_grad():
        said = made.module(torch.from_numpy(digits[0])).argmax(1).numpy()
    assert (said == digits[1]).mean() > 0.85
    assert made.metrics["held_out_accuracy"] == pytest.approx(
        (said[_held(240)] == digits[1][_held(240)]).mean()
    )
    assert made.metrics["parameters"] == 64 * 12 + 12 + 12 * 10 + 10


def _held(count: int) -> Any:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[: round(count * 0.2)].numpy()


def test_the_loss_is_the_one_of_the_paper(digits: tuple[Any, Any]) -> None:
    """Against NumPy: T^2 KL(teacher || student) of softened distributions, and cross entropy."""
    random = np.random.default_rng(1)
    output, taught, truth = random.normal(size=(5, 4)), random.normal(size=(5, 4)), np.array([0, 1, 2, 3, 0])
    known = np.array([True, True, False, True, False])

    class Fixed(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return torch.from_numpy(output)[x[:, 0].long()]

    def softmax(values: Any) -> Any:
        powers = np.exp(values - values.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    heat, hard = 3.0, 0.25
    first, second = softmax(taught / heat), softmax(output / heat)
    soft = heat**2 * (first * np.log(first / second)).sum(1).mean()
    entropy = -np.log(softmax(output)[np.arange(5), truth])[known].mean()
    lesson = Lesson(
        torch.arange(5.0)[:, None],
        torch.from_numpy(taught),
        torch.from_numpy(truth),
        torch.from_numpy(known),
        False,
        None,
    )
    training = _Training.__new__(_Training)
    training.options, training.lesson, training.module = (
        _options(temperature=heat, hard=hard),
        lesson,
        Fixed(),
    )
    found = float(training.loss(torch.arange(5)))
    assert found == pytest.approx((1 - hard) * soft + hard * entropy, rel=1e-6)


def test_a_student_gives_what_its_teacher_gives(digits: tuple[Any, Any], tmp_path: Path) -> None:
    made = distill(
        _teacher(digits, softmax=True), open_reference(f"{STUDENT}make"), _samples(digits), _options()
    )
    save(made, tmp_path)
    answer = open_reference(tmp_path)({"input": digits[0][:1]})["output_0"]
    assert answer.sum() == pytest.approx(1, abs=1e-6)
    assert json.loads((tmp_path / "metrics.json").read_text()) == made.metrics


def test_a_core_ml_model_can_teach(tmp_path: Path) -> None:
    from tests.compress.fixtures import network

    model = network(tmp_path / "net.mlpackage")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(24, 1, 48)).astype(np.float32))
    teacher = open_reference(model)
    module = torch.nn.Linear(48, 48)
    student = TorchReference(
        "torch.nn.Module",
        "s",
        "d",
        (Tensor("x", (1, 48)),),
        module,
        examples=(torch.zeros(1, 48),),
        call=module.forward,
    )
    data = open_samples(tmp_path / "data.npz", teacher.inputs)
    made = distill(teacher, student, data, _options(loss="mse", hard=0.0, epochs=60))
    first = distill(teacher, student, data, _options(loss="mse", hard=0.0, epochs=1))
    assert made.metrics["held_out_rmse_to_teacher"] < 0.9 * first.metrics["held_out_rmse_to_teacher"]


def test_values_are_learned_with_the_truth_beside(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(120, 4)).astype(np.float32)
    weight = random.normal(size=(4, 2)).astype(np.float32)
    teacher = torch.nn.Linear(4, 2, bias=False)
    teacher.weight.data = torch.from_numpy(weight.T.copy())
    items = [Sample(str(i), {"x": row[None]}, row @ weight) for i, row in enumerate(x)]
    data = Samples("rows", len(items), lambda: iter(items))
    made = distill(
        _reference(teacher, (1, 4)),
        open_reference(f"{STUDENT}regressor"),
        data,
        _options(loss="mse", hard=0.5, epochs=80),
    )
    assert made.metrics["held_out_teacher_rmse"] == pytest.approx(0, abs=1e-5)
    assert made.metrics["held_out_rmse"] < 0.5 * np.std(x @ weight)


def test_training_that_was_killed_goes_on_and_ends_with_the_same_bits(
    digits: tuple[Any, Any], tmp_path: Path
) -> None:
    data, teacher = _samples(digits), _teacher(digits)
    whole = distill(teacher, open_reference(f"{STUDENT}make"), data, _options())

    def killed(epoch: int, of: int, losses: Mapping[str, float]) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "c.pt"
    with pytest.raises(KeyboardInterrupt):
        distill(
            teacher, open_reference(f"{STUDENT}make"), data, _options(progress=killed), checkpoint=checkpoint
        )
    with pytest.raises(UsageError, match="another distillation"):
        distill(teacher, open_reference(f"{STUDENT}make"), data, _options(seed=1), checkpoint=checkpoint)
    resumed = distill(teacher, open_reference(f"{STUDENT}make"), data, _options(), checkpoint=checkpoint)
    assert resumed.resumed == 3
    assert resumed.metrics == whole.metrics
    for name, value in _state(whole).items():
        assert np.array_equal(value, _state(resumed)[name])
    assert not list(tmp_path.iterdir())


def test_the_best_epoch_is_kept_not_the_last(digits: tuple[Any, Any]) -> None:
    seen: list[float] = []
    options = _options(
        epochs=12, learning_rate=0.3, progress=lambda epoch, of, losses: seen.append(losses["held_out_loss"])
    )
    made = distill(_teacher(digits), open_reference(f"{STUDENT}make"), _samples(digits), options)
    assert made.metrics["held_out_loss"] == min(seen)
    assert made.metrics["best_epoch"] == 1 + int(np.argmin(seen))


def test_seeds_differ_and_a_seed_repeats(digits: tuple[Any, Any]) -> None:
    def weights(seed: int) -> Any:
        made = distill(
            _teacher(digits),
            open_reference(f"{STUDENT}make"),
            _samples(digits),
            _options(epochs=1, seed=seed),
        )
        return _state(made)["1.weight"]

    assert np.array_equal(weights(0), weights(0))
    assert not np.array_equal(weights(0), weights(1))


def test_a_loss_that_is_no_number_is_an_error(digits: tuple[Any, Any]) -> None:
    with pytest.raises(ModelError, match=r"epoch \d+: the loss .*(nan|inf)") as caught:
        distill(
            _teacher(digits),
            open_reference(f"{STUDENT}make"),
            _samples(digits),
            _options(loss="mse", hard=0.0, learning_rate=1e30),
        )
    assert "learning rate" in caught.value.hint


@pytest.mark.parametrize(
    ("student", "labelled", "hard", "error", "match"),
    [
        ("two_inputs", 240, 0.1, UsageError, "one example input"),
        ("too_few", 240, 0.1, InputError, r"gives \[\d+, 3\] for \d+ samples; the teacher 10"),
        ("make", 0, 0.1, DataError, "only hard=0"),
    ],
)
def test_what_does_not_fit_is_said(
    digits: tuple[Any, Any], student: str, labelled: int, hard: float, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        distill(
            _teacher(digits),
            open_reference(STUDENT + student),
            _samples(digits, labelled),
            _options(hard=hard),
        )


def test_a_teacher_that_gives_no_number_is_refused(digits: tuple[Any, Any]) -> None:
    class Broken(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return torch.full((1, 10), torch.nan)

    teacher: Reference = _reference(Broken(), (1, 1, 8, 8))
    with pytest.raises(InputError, match="no number"):
        distill(teacher, open_reference(f"{STUDENT}make"), _samples(digits), _options())


@pytest.mark.parametrize("name", ["temperature", "epochs", "batch", "learning_rate", "threads"])
def test_options_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: "):
        _options(**{name: 0})


def test_a_truth_that_is_no_class_of_the_teacher_is_refused(digits: tuple[Any, Any]) -> None:
    wrong = digits[0][:4], np.array([1, 2, 10, 3])
    with pytest.raises(DataError, match="10 is none of the teacher's 10 classes"):
        distill(_teacher(digits), open_reference(f"{STUDENT}make"), _samples(wrong), _options())


def test_the_step_leaves_a_model_as_train_does(
    digits: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = _teacher(digits)
    (tmp_path / "teacher").mkdir()
    torch.export.save(
        torch.export.export(teacher.raw, (torch.zeros(1, 1, 8, 8),)), tmp_path / "teacher/model.pt2"
    )
    np.savez(tmp_path / "data.npz", x=digits[0], truth=digits[1])
    arguments = ["--teacher", str(tmp_path / "teacher"), "--data", str(tmp_path / "data.npz")]
    arguments += ["--downstream", str(tmp_path / "out"), "--epochs", "2"]
    assert step([*arguments, "--student", f"{STUDENT}make"]) == 0
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["metrics.json", "model.pt2"]
    assert "epoch 2/2: loss" in capsys.readouterr().out
    assert step([*arguments, "--student", f"{STUDENT}missing"]) == 2
    assert "missing" in capsys.readouterr().err
