"""Several models in one collection, as a user types it: what is done to one leaves the others alone."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from coremlops.cli import main
from coremlops.collection import index_path
from coremlops.release import Repository
from coremlops.release.roles import Roles
from coremlops.release.targets import file_of
from tests.cli.test_release import PHONE, Cli
from tests.cli.test_release import cli as cli

NAMED = ("--model", "classifier")
VERBS: dict[str, tuple[str, ...]] = {
    "promote": ("promote",),
    "rollout": ("rollout", "--percent", "100"),
    "halt": ("halt",),
    "rollback": ("rollback",),
    "embedded": ("embedded",),
    "diff": ("diff",),
}


def publish(cli: Cli, name: str, *more: str) -> Any:
    return cli("release", "publish", f"{name}.mlpackage", "--golden", "pictures", *more)


@pytest.fixture
def app(cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """A collection `app` with two versions of a classifier and one of a detector, in both channels."""
    (cli.folder / "repository").rename(cli.folder / "faces")
    assert main(["repo", "init", "--collection", "app"]) == 0
    capsys.readouterr()
    publish(cli, "one", *NAMED)
    cli("release", "promote", *NAMED)
    publish(cli, "two", "--model", "detector")
    cli("release", "promote", "--model", "detector", "--percent", "10")
    publish(cli, "a17", *NAMED)
    cli("release", "promote", *NAMED, "--percent", "20")
    return cli


def index(cli: Cli, channel: str = "release") -> bytes:
    """The channel's index as devices get it."""
    repository = Repository.open(cli.folder / "repository")
    roles = Roles(repository.folder, repository.keys, clock=repository.clock, expiry=repository.expiry)
    path = index_path("app", channel)
    sha256 = roles.targets(f"app-{channel}").signed.targets[path].hashes["sha256"]
    return (repository.folder / "targets" / file_of(path, sha256)).read_bytes()


def line(data: bytes, name: str) -> bytes:
    """The bytes of one model's line in an index."""
    (found,) = [each for each in json.loads(data)["models"] if each["name"] == name]
    text = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
    assert text in data
    return text


def test_versions_count_for_each_model_and_a_new_one_is_said(cli: Cli) -> None:
    assert publish(cli, "one")["notes"] == []
    found = publish(cli, "two", "--model", "detector")
    assert (found["collection"], found["name"], found["version"]) == ("faces", "detector", 1)
    assert found["notes"] == ["detector is a new model of faces, beside faces"]
    assert publish(cli, "a17", "--model", "faces")["version"] == 2
    again = publish(cli, "two", "--model", "detector")
    assert (again["action"], again["notes"]) == ("present", [])
    said = cli.text("release", "publish", "two.mlpackage", "--golden", "pictures", "--model", "detector")
    assert re.fullmatch(r"detector of faces/staging is already at version 1 \([0-9a-f]{12}\)\n", said)


def test_the_first_model_may_have_a_name_of_its_own_and_need_not_be_named_again(cli: Cli) -> None:
    found = publish(cli, "one", *NAMED)
    assert (found["name"], found["version"], found["notes"]) == ("classifier", 1, [])
    found = publish(cli, "two")
    assert (found["name"], found["version"]) == ("classifier", 2)
    assert cli("release", "promote")["name"] == "classifier"
    assert list(cli("release", "list")["models"]) == ["classifier"]


@pytest.mark.parametrize("verb", ["promote", "rollout", "halt", "rollback", "embedded", "publish"])
def test_what_is_done_to_one_model_leaves_the_others_byte_for_byte(app: Cli, verb: str) -> None:
    def others() -> tuple[bytes, bytes, Any]:
        listed = app("release", "list")["models"]["detector"]
        return line(index(app), "detector"), line(index(app, "staging"), "detector"), listed

    if verb == "promote":
        publish(app, "one", *NAMED, "--again")
    before, was = (
        others(),
        (index(app), index(app, "staging"), app("release", "list")["models"]["classifier"]),
    )
    # `two` is the detector's model; here it becomes a version of the classifier.
    found = publish(app, "two", *NAMED) if verb == "publish" else app("release", *VERBS[verb], *NAMED)
    assert (found["action"], found["name"]) == ("done", "classifier")
    assert others() == before
    assert (index(app), index(app, "staging"), app("release", "list")["models"]["classifier"]) != was


def test_a_halt_of_one_model_halts_no_version_of_that_number_of_another(app: Cli) -> None:
    app("release", "halt", *NAMED, "--version", "1")
    models = app("release", "list")["models"]
    assert (models["classifier"]["release"]["halted"], models["detector"]["release"]["halted"]) == ([1], [])
    said = app.text("release", "halt", *NAMED, "--version", "1")
    assert re.fullmatch(r"classifier of app/release: version 1 \(.*\) is already halted\n", said)


@pytest.mark.parametrize("verb", [*VERBS, "publish"])
def test_of_several_models_one_must_be_named(app: Cli, verb: str) -> None:
    words = VERBS.get(verb, ("publish", "one.mlpackage", "--golden", "pictures"))
    before = index(app)
    said = app.refused(1, "release", *words)
    assert "error: app holds several models: classifier, detector\n" in said
    assert "hint: name one: --model NAME" in said
    assert index(app) == before


@pytest.mark.parametrize("verb", [*VERBS, "list", "explain", "reports"])
def test_a_model_that_the_collection_does_not_hold_is_an_error(app: Cli, verb: str) -> None:
    device = app.rule("phone.json", PHONE)
    words = VERBS | {
        "list": ("list",),
        "explain": ("explain", "--device", device),
        "reports": ("reports", "--reports", "reports.sqlite"),
    }
    before = index(app)
    said = app.refused(1, "release", *words[verb], "--model", "clasifier")
    assert "app holds no model 'clasifier'; it holds classifier, detector" in said
    assert index(app) == before


@pytest.mark.parametrize("name", ["", "Classifier", "-x", "a/b", "a" * 41])
def test_a_name_that_can_be_none_makes_no_model(app: Cli, name: str) -> None:
    words = ("release", "publish", "one.mlpackage", "--golden", "pictures", f"--model={name}")
    assert "a model's name is 1 to 40 of a-z, 0-9 and '-'" in app.refused(1, *words)
    assert list(app("release", "list")["models"]) == ["classifier", "detector"]


def test_the_list_has_a_table_of_each_model(app: Cli) -> None:
    text = app.text("release", "list").splitlines()
    assert [line.split()[0] if line else "" for line in text] == [
        "classifier", "version", "2", "1", "", "detector", "version", "1",
    ]  # fmt: skip
    assert text[2].endswith("staging, release (20 %)")
    assert text[-1].endswith("staging, release (10 %)")
    one = app.text("release", "list", "--model", "detector").splitlines()
    assert one == text[-2:]
    models = app("release", "list")["models"]
    assert models == {name: app("release", "list", "--model", name)["models"][name] for name in models}
    assert {name: list(each) for name, each in models.items()} == {
        "classifier": ["staging", "release"],
        "detector": ["staging", "release"],
    }


def test_explain_says_what_a_device_gets_of_each_model(app: Cli) -> None:
    app("release", "rollout", "--percent", "100", "--model", "detector")
    carried = {"embedded_version": {"classifier": 1, "detector": 2}}
    words = ("release", "explain", "--device", app.rule("phone.json", PHONE | carried))
    said = app(*words)
    found = said["models"]
    assert (said["collection"], said["channel"]) == ("app", "release")
    assert {name: (each["use"], each["version"]) for name, each in found.items()} == {
        "classifier": ("get", 1),  # without an install ID it is in no share
        "detector": ("embedded", 1),
    }
    text = app.text(*words).splitlines()
    assert (text[0], text[-2:]) == (
        "classifier",
        ["  version 1: the app carries version 2, which is newer", "  uses the model that the app carries"],
    )
    one = app.text(*words, "--model", "detector").splitlines()
    assert one == [each.strip() for each in text[-2:]]
    assert list(app(*words, *NAMED)["models"]) == ["classifier"]


def test_a_difference_is_of_one_model(app: Cli) -> None:
    found = app("release", "diff", "1", "2", *NAMED)
    assert (found["collection"], found["name"], found["before"], found["after"]) == (
        "app",
        "classifier",
        1,
        2,
    )
    assert "no channel has a version 2" in app.refused(1, "release", "diff", "1", "2", "--model", "detector")


def test_a_project_of_several_models_publishes_none_that_is_not_named(cli: Cli) -> None:
    """Not even as the only one that the collection holds so far."""
    step = "{steps: {publish: {uses: publish, inputs: {model: ./m, report: ./r, golden: ./g}, params: %s}}}"
    steps = [step % f"{{collection: faces, model_name: {name}}}" for name in ("classifier", "detector")]
    (cli.folder / "coremlops.yaml").write_text(
        f"project: app\npipelines: {{classifier: {steps[0]}, detector: {steps[1]}}}\n"
    )
    publish(cli, "one", *NAMED)
    said = cli.refused(2, "release", "publish", "two.mlpackage", "--golden", "pictures")
    assert "the project publishes several models to faces: classifier, detector" in said
    assert cli("release", "promote")["name"] == "classifier", "which is the only one to promote"
    assert list(cli("release", "list")["models"]) == ["classifier"]


def test_a_project_names_its_model_and_another_repository_has_its_own(app: Cli) -> None:
    (app.folder / "coremlops.yaml").write_text(
        "project: app\npipelines: {main: {steps: {publish: {uses: publish, "
        "inputs: {model: ./m, report: ./r, golden: ./g}, "
        "params: {collection: app, model_name: classifier}}}}}\n"
    )
    assert app("release", "promote")["name"] == "classifier"
    assert "a model's name is" in app.refused(1, "release", "promote", "--model", "")
    words = ("release", "publish", "one.mlpackage", "--golden", "pictures", "--repository", "faces")
    assert app(*words)["name"] == "faces"
    assert list(app("release", "list")["models"]) == ["classifier", "detector"]
    app("repo", "add", "shop")
    words = ("release", "publish", "one.mlpackage", "--golden", "pictures", "--collection", "shop")
    assert app(*words)["name"] == "shop", "the project's model is not another collection's"
