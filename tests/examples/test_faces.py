"""The example project: what its steps do with good and bad photos."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from coremlops.project import samples, scaffold

FACES = scaffold.template_folder()
Prepare = Callable[[], dict[str, Any]]


@pytest.fixture(scope="module")
def step_module() -> Any:
    """`prepare/src/prepare.py`, imported as it stands."""
    spec = importlib.util.spec_from_file_location("faces_prepare", FACES / "prepare" / "src" / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    samples.write_people(tmp_path / "photos", {"ada": "s1", "ben": "s2"})
    return tmp_path / "photos"


@pytest.fixture
def prepare(step_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Run the step; returns dataset.json. The result lies in `out`."""

    def run() -> dict[str, Any]:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        arguments = ["--photos", str(tmp_path / "photos"), "--downstream", str(out), "--holdout", "0.4"]
        monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
        step_module.step.run(step_module.main)
        dataset: dict[str, Any] = json.loads((out / "dataset.json").read_text())
        return dataset

    return run


def refusal(prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the step prints when it refuses the photos."""
    with pytest.raises(SystemExit) as stop:
        prepare()
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def sides(out: Path) -> dict[str, str]:
    """Each prepared picture and the side that it is on."""
    return {
        f"{path.parent.name}/{path.name}": side
        for side in ("train", "test")
        for path in (out / side).glob("*/*")
    }


def test_photos_are_split_by_person_and_described(prepare: Prepare, photos: Path, tmp_path: Path) -> None:
    dataset = prepare()
    assert dataset["counts"] == {"ada": 10, "ben": 10}
    assert (dataset["name"], dataset["source"], len(dataset["digest"])) == ("photos", "photos", 64)
    found = sides(tmp_path / "out")
    assert len(found) == 20
    for person in ("ada", "ben"):
        tests = [name for name, side in found.items() if side == "test" and name.startswith(person)]
        assert 3 <= len(tests) <= 5
    for path in (tmp_path / "out").rglob("*.png"):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (224, 224))


def test_the_same_photos_give_the_same_files(prepare: Prepare, photos: Path, tmp_path: Path) -> None:
    def tree() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}

    prepare()
    first = tree()
    prepare()
    assert tree() == first


def test_the_digest_is_that_of_the_photos(prepare: Prepare, photos: Path) -> None:
    first = prepare()["digest"]
    (photos / ".DS_Store").write_bytes(b"x")
    assert prepare()["digest"] == first
    (photos / "ada" / "1.png").unlink()
    assert prepare()["digest"] != first


def test_a_photo_stays_on_its_side_when_a_person_arrives(
    prepare: Prepare, photos: Path, tmp_path: Path
) -> None:
    prepare()
    before = sides(tmp_path / "out")
    samples.write_people(photos, {"cleo": "s3"})
    prepare()
    after = sides(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert len(after) == 30


@pytest.mark.parametrize("holdout", [0.1, 0.4, 0.5, 0.9])
@pytest.mark.parametrize("count", [4, 5, 10, 100])
def test_both_sides_have_photos_whatever_the_digests(step_module: Any, count: int, holdout: float) -> None:
    for start in (0, 1 << 31, (1 << 32) - count):  # all below, around and above the threshold
        photos = [
            step_module.Photo("ada", Path(f"{n}.png"), f"{start + n:08x}" + "0" * 56) for n in range(count)
        ]
        train, test = step_module.split(photos, holdout)
        assert sorted((*train, *test), key=photos.index) == photos
        assert len(train) >= 2
        assert len(test) >= 1
        if len(train) > 2:  # else the share gives way
            assert len(test) == pytest.approx(count * holdout, rel=0.26, abs=0.99)


def test_a_duplicate_is_used_once(
    prepare: Prepare, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(photos / "ada" / "1.png", photos / "ada" / "copy.png")
    assert prepare()["counts"]["ada"] == 10
    assert "ignored ada/copy.png: the same picture as ada/1.png" in capsys.readouterr().out
    assert not [name for name in sides(tmp_path / "out") if "copy" in name]


def test_orientation_is_applied(prepare: Prepare, photos: Path, tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown upright, the picture is 20 wide and 40 high
    wide.save(photos / "ada" / "turned.jpg", exif=exif)
    prepare()
    (path,) = (tmp_path / "out").rglob("turned-*.png")
    with Image.open(path) as image:
        corners = [image.getpixel(point) for point in ((2, 112), (112, 2))]
    assert corners == [(0, 0, 0), (255, 255, 255)]  # bars stand left and right, not above and below


def test_what_is_no_photo_is_noted(
    prepare: Prepare, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "ada" / ".DS_Store").write_bytes(b"x")
    (photos / "ada" / "notes.txt").write_text("x")
    (photos / "ben" / "link.png").symlink_to(photos / "ada" / "1.png")
    (photos / "ada" / "folder.png").mkdir()
    assert prepare()["counts"] == {"ada": 10, "ben": 10}
    shown = capsys.readouterr().out
    for name in ("ada/.DS_Store", "ada/notes.txt", "ben/link.png", "ada/folder.png"):
        assert f"ignored {name}: not a photo" in shown


def test_refuses_an_empty_folder(
    prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    assert refusal(prepare, capsys) == (
        "error: expected photos of two people or more, got nobody "
        "(make one folder a person: photos/ada/*.jpg, photos/ben/*.jpg)"
    )


def test_refuses_a_folder_that_is_not_there(prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    assert "photos is not a folder" in refusal(prepare, capsys)


def test_refuses_one_person_only(prepare: Prepare, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(photos / "ben")
    assert "expected photos of two people or more, got ada" in refusal(prepare, capsys)


def test_refuses_too_few_photos_of_a_person(
    prepare: Prepare, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4, 11):
        (photos / "ben" / f"{number}.png").unlink()
    assert "expected 4 different photos or more of ben, got 3" in refusal(prepare, capsys)


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_refuses_a_corrupt_picture_by_name(
    prepare: Prepare, photos: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (photos / "ada" / "broken.jpg").write_bytes(content)
    assert "ada/broken.jpg is not a readable picture" in refusal(prepare, capsys)


def test_refuses_a_truncated_picture(
    prepare: Prepare, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (photos / "ben" / "3.png").read_bytes()
    (photos / "ben" / "3.png").write_bytes(whole[: len(whole) // 2])
    assert "ben/3.png is not a readable picture" in refusal(prepare, capsys)


def test_refuses_one_photo_of_two_people(
    prepare: Prepare, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(photos / "ada" / "1.png", photos / "ben" / "same.png")
    assert "ada/1.png and ben/same.png are the same picture" in refusal(prepare, capsys)


def test_refuses_heic_with_a_way_out(
    prepare: Prepare, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "ada" / "IMG_0001.HEIC").write_bytes(b"x")
    line = refusal(prepare, capsys)
    assert "ada/IMG_0001.HEIC is a HEIC picture" in line
    assert "export it as JPEG" in line


def test_each_step_declares_its_inputs() -> None:
    """`coremlops.yaml` and the `MLproject` files agree, and the pipeline has the eight steps."""
    document = yaml.safe_load((FACES / "coremlops.yaml").read_text())
    steps = document["pipelines"]["main"]["steps"]
    assert list(steps) == [
        "prepare",
        "train",
        "evaluate",
        "convert",
        "verify",
        "register",
        "publish",
        "bundle",
    ]
    for step in steps.values():
        if "path" in step:
            main = yaml.safe_load((FACES / step["path"] / "MLproject").read_text())["entry_points"]["main"]
            for name in (*step["inputs"], "downstream"):
                assert main["parameters"][name] == "path"
                assert f"{{{name}}}" in main["command"]


def run(*command: str, folder: Path = FACES) -> str:
    """Run a command with our environment's `python` first; returns what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def train(upstream: Path, downstream: Path, folder: Path = FACES) -> None:
    downstream.mkdir()
    options = ["--epochs", "100", "--learning-rate", "0.001", "--weight-decay", "0.01", "--seed", "0"]
    paths = ["--upstream", str(upstream), "--downstream", str(downstream)]
    run("python", "src/train.py", *paths, *options, folder=folder / "train")


@pytest.mark.slow
def test_training_is_repeatable_and_recognises_held_out_photos(
    prepare: Prepare, photos: Path, tmp_path: Path
) -> None:
    prepare()
    elsewhere = shutil.copytree(FACES / "train", tmp_path / "elsewhere" / "train").parent
    shutil.copytree(FACES / "shared", elsewhere / "shared")
    train(tmp_path / "out", tmp_path / "first")
    train(tmp_path / "out", tmp_path / "second", elsewhere)
    for name in ("model.pt2", "model.json", "metrics.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()

    card = json.loads((tmp_path / "first" / "model.json").read_text())
    assert card == {
        "format": 1,
        "input": {
            "name": "image",
            "width": 224,
            "height": 224,
            "color": "RGB",
            "scale": 0.0078125,
            "bias": [-0.9921875] * 3,
            "image_option": "scaleFit",
        },
        "labels": ["ada", "ben"],
    }
    (tmp_path / "evaluated").mkdir()
    paths = ["--model", str(tmp_path / "first"), "--data", str(tmp_path / "out")]
    said = run(
        "python",
        "src/evaluate.py",
        *paths,
        "--downstream",
        str(tmp_path / "evaluated"),
        folder=FACES / "evaluate",
    )
    metrics = json.loads((tmp_path / "evaluated" / "metrics.json").read_text())
    assert metrics == {"accuracy": 1.0, "accuracy.ada": 1.0, "accuracy.ben": 1.0}
    page = (tmp_path / "evaluated" / "report.html").read_text()
    assert "100.0% recognised" in page
    assert "//" not in page, "a report is one file: nothing is fetched"
    confident = [float(line.split("(")[1].rstrip(")")) for line in said.splitlines()[:-1]]
    assert max(confident) < 0.999, "a saturated softmax hides conversion errors"


@pytest.mark.slow
def test_a_step_runs_alone_under_mlflow(photos: Path, tmp_path: Path) -> None:
    project = shutil.copytree(
        FACES, tmp_path / "faces", ignore=shutil.ignore_patterns("photos", ".coremlops")
    )
    (tmp_path / "out").mkdir()
    command = ["mlflow", "run", "./prepare", "--env-manager", "local"]
    run(*command, "-P", f"photos={photos}", "-P", f"downstream={tmp_path / 'out'}", folder=project)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["counts"] == {"ada": 10, "ben": 10}


@pytest.mark.slow
def test_mlflow_runs_the_same_pipeline_as_coremlops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    folder = scaffold.create(tmp_path / "friends").folder
    run("mlflow", "run", ".", "--env-manager", "local", "-P", "epochs=40", folder=folder)
    for made in ("Friends.mlpackage", "Friends.version.json", "FriendsModel.swift"):
        assert (folder / "app" / "Friends" / made).exists()
    again = json.loads(run("coremlops", "run", "-P", "train.epochs=40", "--json", folder=folder))
    assert again["ran_steps"] == 0
    assert len(again["steps"]) == 8
