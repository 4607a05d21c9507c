"""The Core ML flavor: what is logged is what runs, through every shape of input that pyfunc takes."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coremlops
from coremlops import __version__
from coremlops.errors import InputError, ModelFormatError, TrackingError
from coremlops.model import model_digest
from coremlops.tracking import flavor
from coremlops.tracking.flavor import load_model, log_model
from coremlops.tracking.registry import mirror_alias
from coremlops.tracking.store import default_store, import_mlflow
from tests.handmade import adder
from tests.release.models import COLOURS, write_model
from tests.tracking.conftest import Project

mlflow = import_mlflow()


def picture(colour: str, width: int = 8, height: int = 8) -> Image.Image:
    return Image.new("RGB", (width, height), COLOURS[colour])


def as_bytes(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def predictor(path: Path) -> flavor.Predictor:
    return flavor.Predictor(coremlops.load(path))


@pytest.fixture
def run_id(project: Project) -> Iterator[str]:
    experiment = project.client.create_experiment("faces", artifact_location=str(project.root / "mlruns"))
    with default_store(project.uri):
        yield str(project.client.create_run(experiment).info.run_id)


@pytest.fixture
def staged(project: Project, run_id: str, tmp_path: Path) -> Path:
    """A model that `models:/faces@staging` names."""
    write_model(tmp_path / "faces.mlpackage", extra_bytes=100)
    path = tmp_path / "faces.mlpackage"
    log_model(path, "faces", run_id=run_id, registered_model_name="faces", precision="float32")
    assert mirror_alias(project.uri, "faces", "staging", model_digest(path))
    return path


@pytest.mark.usefixtures("staged")
def test_pyfunc_takes_pictures_in_every_shape(tmp_path: Path) -> None:
    import pandas  # type: ignore[import-untyped, unused-ignore]

    model = mlflow.pyfunc.load_model("models:/faces@staging")
    red, blue = picture("red"), picture("blue", 30, 20)
    blue.save(tmp_path / "blue.png")
    path = str(tmp_path / "blue.png")
    table = pandas.DataFrame
    cases: list[tuple[Any, list[str]]] = [
        (red, ["red"]),
        (np.asarray(red), ["red"]),
        (path, ["blue"]),
        ([path, red], ["blue", "red"]),
        ({"image": red}, ["red"]),
        ({"image": [red, path]}, ["red", "blue"]),
        (np.stack([np.asarray(red), np.asarray(picture("green"))]), ["red", "green"]),
        (table({"image": [path, path]}), ["blue", "blue"]),
        (table({"photo": [as_bytes(red), as_bytes(blue)]}), ["red", "blue"]),
        (table({"image": [red, blue], "taken": [1, 2]}), ["red", "blue"]),
    ]
    for given, labels in cases:
        answer = model.predict(given)
        assert list(answer.columns) == ["classLabel", "classLabel_probs"]
        assert list(answer["classLabel"]) == labels
        for label, probabilities in zip(labels, answer["classLabel_probs"], strict=True):
            assert max(probabilities, key=probabilities.get) == label


@pytest.mark.usefixtures("staged")
def test_pyfunc_prepares_as_the_metadata_says_unless_told() -> None:
    # A little green in the middle between red and blue: it is all that a centred crop sees.
    wide = Image.new("RGB", (80, 8), COLOURS["red"])
    wide.paste(COLOURS["blue"], (40, 0, 80, 8))
    wide.paste(COLOURS["green"], (36, 0, 44, 8))
    model = load_model("models:/faces@staging")
    loaded = flavor.Predictor(model)
    by_metadata = loaded.predict(wide)
    by_call = loaded.predict(wide, {"image_option": "centerCrop"})
    assert by_call["classLabel"][0] == "green"
    assert by_metadata["classLabel"][0] != "green"
    assert (
        by_metadata["classLabel_probs"][0]
        == model.predict({"image": wide}, image_option="scaleFill")["classLabel_probs"]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"photo": "x.png"}, "expected {'image': picture}, got 'photo'"),
        (b"no picture", "10 bytes cannot be read as a picture"),
        ("gone.png", "no picture at gone.png"),
        (7, "expected a PIL image or a uint8 array, got int"),
    ],
)
def test_what_is_no_picture_is_refused(staged: Path, given: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        predictor(staged).predict(given)
    assert message in caught.value.message


def test_a_table_without_the_column_is_refused(staged: Path) -> None:
    import pandas  # type: ignore[import-untyped, unused-ignore]

    with pytest.raises(InputError, match="expected a column 'image', got a, b"):
        predictor(staged).predict(pandas.DataFrame({"a": [1], "b": [2]}))


def test_what_is_logged_says_what_it_is(project: Project, staged: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts("models:/faces@staging"))
    assert (folder / "requirements.txt").read_text() == f"coremlops=={__version__}\n"
    assert model_digest(folder / "model.mlpackage") == model_digest(staged)
    info = mlflow.models.get_model_info("models:/faces@staging")
    assert info.flavors["coreml"] == {
        "data": "model.mlpackage",
        "digest": model_digest(staged),
        "precision": "float32",
        "coremlops_version": __version__,
    }
    assert info.flavors["python_function"]["loader_module"] == "coremlops.tracking.flavor"
    assert load_model("models:/faces@staging").precision == "float32"
    assert load_model("models:/faces/1", precision="typed").precision == "typed"


def test_log_model_uses_the_run_that_is_active(project: Project, run_id: str, tmp_path: Path) -> None:
    write_model(tmp_path / "faces.mlpackage", extra_bytes=100)
    with mlflow.start_run(run_id=run_id):
        info = log_model(tmp_path / "faces.mlpackage", "faces", params={"epochs": "3"})
    outputs = project.client.get_run(run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [info.model_id]
    assert project.client.get_logged_model(info.model_id).params == {"epochs": "3"}


def test_the_module_is_a_flavor_for_mlflow_s_own_log(run_id: str, tmp_path: Path) -> None:
    write_model(tmp_path / "faces.mlpackage", extra_bytes=100)
    info = mlflow.models.Model.log(
        None, flavor=flavor, name="faces", run_id=run_id, model=tmp_path / "faces.mlpackage"
    )
    answer = mlflow.pyfunc.load_model(info.model_uri).predict(picture("green"))
    assert list(answer["classLabel"]) == ["green"]


def test_a_model_without_a_picture_takes_its_inputs_by_name(run_id: str, tmp_path: Path) -> None:
    import pandas  # type: ignore[import-untyped, unused-ignore]

    info = log_model(adder(tmp_path / "adder.mlpackage"), "adder", run_id=run_id)
    model = mlflow.pyfunc.load_model(info.model_uri)
    ones = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model.predict({"x": ones})["y"][0], [[1, 2, 3], [4, 5, 6]])
    answer = model.predict(pandas.DataFrame({"x": [ones, 2 * ones]}))
    np.testing.assert_array_equal(answer["y"][1], [[2, 3, 4], [5, 6, 7]])
    with pytest.raises(InputError, match="expected a table or a dictionary of inputs, got list"):
        flavor.Predictor(load_model(info.model_uri)).predict([ones])


def test_a_model_of_another_flavor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    with pytest.raises(ModelFormatError, match="has no flavor 'coreml'"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("data", ["../../etc", "/etc", "model.mlpackage/../..", "x.mlpackage"])
def test_a_flavor_that_names_another_file_is_refused(tmp_path: Path, data: str) -> None:
    (tmp_path / "MLmodel").write_text(f"flavors: {{coreml: {{data: {data}}}}}\n")
    with pytest.raises(ModelFormatError, match=r"expected model\.mlpackage or"):
        load_model(str(tmp_path))


@pytest.mark.usefixtures("run_id")
def test_a_name_that_is_not_registered_is_our_error() -> None:
    with pytest.raises(TrackingError, match="cannot fetch models:/nobody@staging"):
        load_model("models:/nobody@staging")


def test_a_path_that_is_no_model_is_refused(run_id: str, package: Callable[[str], Path]) -> None:
    shutil.rmtree(package("one"))
    with pytest.raises(ModelFormatError):
        log_model("gone.txt", "faces", run_id=run_id, digest="0" * 64)
