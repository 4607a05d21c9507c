"""A search on a small net by hand; its numbers against predictions of the files themselves."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.compress import Recipe, Setting, compress
from coremlops.digest import sha256_file
from coremlops.errors import DataError, GateError, ModelError, UsageError
from coremlops.improve.front_page import render_front
from coremlops.improve.search import Search, SearchOptions, _Searching, search
from coremlops.source.reference import open_reference
from coremlops.source.samples import Samples, open_samples
from tests.compress.fixtures import network

SETTINGS = tuple(Setting.parse(f"palettize:{bits}:group=16") for bits in (1, 2, 4, 6))


def _data(folder: Path, count: int = 6) -> Samples:
    values = np.random.default_rng(5).normal(size=(count, 1, 48)).astype(np.float32)
    np.savez(folder / "data.npz", x=values)
    return open_samples(folder / "data.npz", coremlops.load(folder / "net.mlpackage").description.inputs)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return network(tmp_path / "net.mlpackage")


def _search(model: Path, name: str = "out.mlpackage", **options: Any) -> Search:
    options = {"settings": SETTINGS, "points": 4, **options}
    return search(model, model.parent / name, _data(model.parent), options=SearchOptions(**options))


def _db(path: Path, model: Path, data: Samples) -> float:
    """An oracle of its own: `predict` of both files, the first in float32."""
    exact, other = coremlops.load(model, precision="float32"), coremlops.load(path)
    pairs = [(exact.predict(s.inputs)["y"], other.predict(s.inputs)["y"]) for s in data]
    power = sum(float(np.square(a.astype(np.float64)).sum()) for a, _ in pairs)
    return float(
        10 * np.log10(power / sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in pairs))
    )


def test_the_smallest_model_that_keeps_a_quality_is_written_and_measured_as_a_file(model: Path) -> None:
    found = _search(model, quality_db=15.0)
    assert found.snr_db == pytest.approx(
        _db(model.parent / "out.mlpackage", model, _data(model.parent)), abs=1e-3
    )
    assert found.snr_db >= 15
    for settings in itertools.product(("none", *SETTINGS), repeat=2):  # no recipe of these is smaller
        chosen = {name: Setting.parse(str(s)) for name, s in zip(("first", "second"), settings, strict=True)}
        made = compress(model, model.parent / "other.mlpackage", Recipe(weights=chosen))
        if made.bytes < found.compression.bytes - 64:
            assert _db(made.path, model, _data(model.parent)) < 15


def test_the_best_model_of_so_many_bytes_is_written(model: Path) -> None:
    uniform = compress(model, model.parent / "uniform.mlpackage", Recipe(SETTINGS[2]))
    found = _search(model, budget_bytes=uniform.bytes + 300)
    assert found.compression.bytes <= uniform.bytes + 300
    assert found.snr_db >= _db(uniform.path, model, _data(model.parent)) - 1e-3


def test_files_that_grow_beyond_their_estimate_end_below_the_budget(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file takes more than was thought, the next one still more: as EfficientNet's did."""
    made: list[int] = []
    compressed = _Searching.compressed

    def larger(self: Any, point: Any, folder: Path) -> Any:
        compression = compressed(self, point, folder)
        made.append(compression.bytes + 60 * (len(made) + 1))
        return replace(compression, bytes=made[-1])

    monkeypatch.setattr(_Searching, "compressed", larger)
    budget = compress(model, model.parent / "uniform.mlpackage", Recipe(SETTINGS[2])).bytes
    found = _search(model, budget_bytes=budget)
    assert len(made) > 1
    assert made[0] > budget
    assert found.compression.bytes == made[-1] <= budget


def test_one_weight_alone_does_what_a_file_with_it_compressed_does(model: Path) -> None:
    found = _search(model)
    for name, option in ((n, o) for n, options in found.weights.items() for o in options[1:]):
        made = compress(
            model, model.parent / "one.mlpackage", Recipe(weights={name: Setting.parse(option.setting)})
        )
        exact = coremlops.load(model, precision="float32")
        other = coremlops.load(made.path, precision="float32")
        data = _data(model.parent)
        pairs = [(exact.predict(s.inputs)["y"], other.predict(s.inputs)["y"]) for s in data]
        error = sum(float(np.square(a - b).sum()) for a, b in pairs)
        assert option.noise == pytest.approx(
            error / sum(float(np.square(a).sum()) for a, _ in pairs), rel=1e-3
        )


def test_a_search_that_was_killed_goes_on_where_it_stopped_and_finds_the_same(model: Path) -> None:
    whole = _search(model, "whole.mlpackage", quality_db=15.0)
    calls = 0

    def killed(done: int, of: int, what: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _search(model, quality_db=15.0, progress=killed)
    assert not (model.parent / "out.mlpackage").exists()
    resumed = _search(model, quality_db=15.0)
    assert resumed.reused > 0
    assert resumed.executed < whole.executed
    first, second = ({**entry.to_json()} for entry in (whole, resumed))
    assert json.dumps(first) == json.dumps(second)
    again = _search(model, quality_db=15.0)
    assert again.executed == 0


def test_equal_searches_write_equal_files_however_many_work_on_them(model: Path) -> None:
    one = _search(model, "one.mlpackage", workers=1)
    four = _search(model, "four.mlpackage", workers=4)
    assert one.compression.digest == four.compression.digest
    assert one.to_json() == four.to_json()


def test_against_a_source_quality_is_what_the_source_says(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "source.mlpackage"
    compress(model, other, Recipe(Setting.parse("palettize:6:group=16")))
    options = SearchOptions(settings=SETTINGS, points=4, quality_db=10.0)
    found = search(
        model, tmp_path / "out.mlpackage", _data(tmp_path), against=open_reference(other), options=options
    )
    assert found.unchanged_db == pytest.approx(_db(model, other, _data(tmp_path)), abs=0.2)
    assert found.snr_db == pytest.approx(_db(found.compression.path, other, _data(tmp_path)), abs=1e-3)
    with pytest.raises(GateError, match=r"as it is, the model keeps \d+\.\d dB"):
        search(
            model,
            tmp_path / "out.mlpackage",
            _data(tmp_path),
            against=open_reference(other),
            options=SearchOptions(settings=SETTINGS, quality_db=90.0, journal=tmp_path / "j"),
        )


def test_a_budget_that_nothing_keeps_leaves_what_was_there(model: Path) -> None:
    _search(model)
    before = sha256_file(model.parent / "out.mlpackage" / "Manifest.json")
    with pytest.raises(GateError, match=r"no recipe keeps the budget of 100 bytes: the smallest .* bytes"):
        _search(model, budget_bytes=100)
    assert sha256_file(model.parent / "out.mlpackage" / "Manifest.json") == before
    assert not list(model.parent.glob(".search-*"))


def test_other_data_is_another_search(model: Path) -> None:
    _search(model)
    with pytest.raises(UsageError, match="another search: data differ"):
        search(
            model,
            model.parent / "out.mlpackage",
            _data(model.parent, 3),
            options=SearchOptions(settings=SETTINGS),
        )


def test_what_the_target_cannot_hold_is_not_tried(tmp_path: Path) -> None:
    model = network(tmp_path / "net.mlpackage", version=7)
    with pytest.raises(UsageError, match="none of the settings can be held") as caught:
        _search(model)
    assert "--target iOS18" in caught.value.hint
    assert _search(model, target="iOS18").compression.target == "iOS18"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"budget_bytes": 1, "quality_db": 1.0}, "got both"),
        ({"budget_bytes": 0}, "1 byte or more"),
        ({"quality_db": float("nan")}, "in dB expected"),
        ({"points": 1}, "2 points"),
        ({"workers": 0}, "1 worker"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        SearchOptions(**options)


def test_several_functions_are_refused(tmp_path: Path) -> None:
    model = network(tmp_path / "net.mlpackage", functions=2)
    with pytest.raises(ModelError, match="one function expected"):
        search(
            model, tmp_path / "out.mlpackage", open_samples(None, coremlops.load(model).description.inputs)
        )


def test_data_without_numbers_is_refused_and_nothing_is_written(model: Path) -> None:
    np.savez(model.parent / "nan.npz", x=np.full((2, 1, 48), np.nan, np.float32))
    data = open_samples(model.parent / "nan.npz", coremlops.load(model).description.inputs)
    with pytest.raises(DataError, match="NaN"):
        search(model, model.parent / "out.mlpackage", data)
    assert sorted(entry.name for entry in model.parent.iterdir()) == ["nan.npz", "net.mlpackage"]


def test_the_page_shows_every_measured_recipe_and_fetches_nothing(model: Path) -> None:
    found = _search(model, quality_db=15.0)
    page = render_front(found)
    assert page.count('class="measured"') == len(found.front)
    assert page.count('class="uniform"') == len(found.uniform) + 1  # and the legend's
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
