"""Data: each kind of it gives the same questions each time, and what is wrong with it is said."""

from __future__ import annotations

import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coremlops.errors import DataError, InputError, UsageError
from coremlops.model import ArrayFeature, Feature, ImageFeature, ModelDescription
from coremlops.source import Reference, Sample, Tensor, feed, open_samples

ARRAY = ArrayFeature("x", "float32", (1, 4))
IMAGE = ImageFeature("image", 6, 4, "RGB")


def _picture(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), colour).save(path)


def _reference(*inputs: Tensor) -> Reference:
    return Reference("torch.export", "net", "", inputs, None)


def test_labelled_pictures_carry_their_labels(tmp_path: Path) -> None:
    _picture(tmp_path / "b" / "1.png", (1, 2, 3))
    _picture(tmp_path / "a" / "1.png", (4, 5, 6))
    samples = open_samples(tmp_path, [IMAGE])
    found = [(sample.name, sample.truth, sample.inputs["image"].getpixel((0, 0))) for sample in samples]
    assert found == [("a/1.png", "a", (4, 5, 6)), ("b/1.png", "b", (1, 2, 3))]
    assert len(samples) == 2
    assert samples.digest == open_samples(tmp_path, [IMAGE]).digest


def test_a_flat_folder_of_pictures_has_no_truth(tmp_path: Path) -> None:
    _picture(tmp_path / "1.png", (1, 2, 3))
    assert [sample.truth for sample in open_samples(tmp_path, [IMAGE])] == [None]


def test_arrays_of_an_npz_are_split_into_samples(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.savez(tmp_path / "d.npz", x=values, truth=np.array([3, 5]))
    samples = open_samples(tmp_path / "d.npz", [ARRAY])
    for _ in range(2):  # again from the start
        found = list(samples)
        np.testing.assert_array_equal([sample.inputs["x"] for sample in found], values)
        assert [sample.truth for sample in found] == [3, 5]
    assert len(samples.head(1)) == 1
    assert len(list(samples.head(1))) == 1


def test_each_npz_of_a_folder_is_a_sample(tmp_path: Path) -> None:
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", x=np.full((1, 4), i), truth=i)
    assert [int(sample.truth) for sample in open_samples(tmp_path, [ARRAY])] == [0, 1, 2]


def test_a_function_of_the_users_gives_dicts_with_or_without_truths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_data.py").write_text(
        "def rows():\n    yield {'x': [1.0] * 4}\n    yield {'x': [2.0] * 4}, 'b'\n"
    )
    monkeypatch.chdir(tmp_path)
    samples = open_samples("my_data:rows", [ARRAY])
    assert [sample.truth for sample in samples] == [None, "b"]
    assert samples.digest == open_samples("my_data:rows", [ARRAY]).digest


def test_random_samples_are_the_same_each_time_and_say_so() -> None:
    inputs: list[Feature] = [ARRAY, ArrayFeature("ids", "int32", (1, 3)), IMAGE]
    samples = open_samples(None, inputs, count=2, seed=7)
    first, again = list(samples), list(open_samples(None, inputs, count=2, seed=7))
    assert "random" in samples.about
    for a, b in zip(first, again, strict=True):
        for name, value in a.inputs.items():
            np.testing.assert_array_equal(value, b.inputs[name])
    assert first[0].inputs["image"].dtype == np.uint8
    assert set(np.unique(first[0].inputs["ids"])) <= {0, 1}
    assert not np.array_equal(first[0].inputs["x"], first[1].inputs["x"])


def test_nothing_is_made_up_for_an_input_of_unknown_shape() -> None:
    with pytest.raises(DataError, match="cannot be made up"):
        list(open_samples(None, [Tensor("x", None)]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "got no array"),
        ({"x": np.zeros((2, 4)), "y": np.zeros((3, 4))}, "got x 2, y 3"),
        ({"x": np.zeros((0, 4))}, "at least one sample expected"),
        ({"x": np.array([object()])}, "plain arrays expected"),
    ],
)
def test_an_npz_that_is_no_data_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=message):
        list(open_samples(tmp_path / "d.npz", [ARRAY]))


def test_nan_is_refused_unless_it_means_missing(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([[1, np.nan, np.nan, 0]]))
    with pytest.raises(DataError, match="x: numbers expected, got 2 NaN"):
        list(open_samples(tmp_path / "d.npz", [ARRAY]))
    assert len(list(open_samples(tmp_path / "d.npz", [ARRAY], allow_nan=True))) == 1


def test_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got nothing there"):
        open_samples(tmp_path / "none", [ARRAY])
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="a file of another kind"):
        open_samples(tmp_path / "a.txt", [ARRAY])


def test_a_picture_becomes_what_each_side_takes() -> None:
    picture = Image.new("RGB", (6, 4), (10, 20, 30))
    sample = Sample("p", {"image": picture})
    description = ModelDescription(7, (IMAGE,), (), (), (), "", "", "", "", "", "", MappingProxyType({}))
    assert feed(sample, description)["image"].size == (6, 4)
    array = feed(sample, _reference(Tensor("x", (1, 3, 4, 6))))["x"]
    assert array.shape == (1, 3, 4, 6)
    np.testing.assert_array_equal(array[0, :, 0, 0], [10, 20, 30])
    with pytest.raises(InputError, match="takes no picture"):
        feed(sample, _reference(Tensor("x", (1, 7))))


def test_arrays_go_by_name_or_by_position_with_dtype_and_leading_axis() -> None:
    sample = Sample("s", {"b": np.ones(4), "a": np.zeros(4)})
    fed = feed(sample, _reference(Tensor("a", (1, 4)), Tensor("b", (1, 4), "int32")))
    assert fed["a"].shape == (1, 4)
    assert fed["b"].dtype == np.int32
    assert fed["b"].all()
    by_position = feed(sample, _reference(Tensor("p", (4,)), Tensor("q", (4,))))
    assert by_position["p"].all()
    assert not by_position["q"].any()
    with pytest.raises(InputError, match="the input c expected, got b, a"):
        feed(sample, _reference(Tensor("a", (4,)), Tensor("c", (4,))))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def data():\n    yield {'x': 1}\n    raise KeyError('gone')",
            r"raised KeyError: 'gone' \(bad_data\.py:3\)",
        ),
        ("def data(count):\n    return []", "missing a required argument: 'count'"),
    ],
)
def test_what_a_function_of_the_user_raises_is_told_with_its_place(
    tmp_path: Path, code: str, message: str
) -> None:
    (tmp_path / "bad_data.py").write_text(code)
    with pytest.raises(UsageError, match=message):
        open_samples(f"{tmp_path}/bad_data.py:data", [ARRAY])
    sys.modules.pop("bad_data", None)
