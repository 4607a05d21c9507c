"""A project whose pipelines publish several models into one collection."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import ConfigError, RepositoryError, StepError, UsageError
from coremlops.model import model_digest
from coremlops.pipeline import releases, run, standing
from coremlops.pipeline.components.publish import reconcile
from coremlops.pipeline.forms import Given
from coremlops.pipeline.shipping import Shipping, shipping
from coremlops.release import Repository
from tests.release.models import write_model, write_pictures

TAKE = """\
name: take
entry_points:
  main:
    parameters: {made: path, downstream: path}
    command: "cp -r {made}/. {downstream}"
"""
PIPELINE = """\
  {name}:
    steps:
      convert: {{path: take, inputs: {{made: ./made/{name}/convert}}}}
      verify: {{path: take, inputs: {{made: ./made/{name}/verify}}}}
      publish: {{uses: publish, inputs: {{model: convert, report: verify, golden: ./golden}},
                params: {{collection: app{params}}}}}
"""
NAMES = ("classifier", "detector")
REGISTER = "      register: {uses: register, inputs: {model: convert, report: verify}, params: {name: %s}}\n"


class App:
    """A project with a pipeline for each of two models, and what these convert and prove."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "take").mkdir(parents=True)
        (root / "take" / "MLproject").write_text(TAKE)
        write_pictures(root / "golden")
        self.repository = Repository.init(root / "repository", "app")
        for name, gain in zip(NAMES, (0.02, 0.03), strict=True):
            self.make(name, gain)
        self.save(**{name: f", model_name: {name}" for name in NAMES})

    def save(self, **params: str) -> None:
        """Write `coremlops.yaml`, with this beside each publish step's collection."""
        pipelines = [PIPELINE.format(name=name, params=said) for name, said in params.items()]
        (self.root / "coremlops.yaml").write_text("project: app\npipelines:\n" + "".join(pipelines))

    def make(self, name: str, gain: float) -> str:
        """Another model of this name; its digest."""
        convert, verify = (self.root / "made" / name / step for step in ("convert", "verify"))
        shutil.rmtree(convert, ignore_errors=True)
        digest = model_digest(write_model(convert / "model.mlpackage", gain=gain, extra_bytes=500))
        (convert / "conversion.json").write_text(json.dumps({"digest": digest, "bytes": 1}))
        verify.mkdir(exist_ok=True)
        report = {"format": 1, "ok": True, "model": {"digest": digest}, "gates": []}
        (verify / "report.json").write_text(json.dumps(report))
        return digest

    def publish(self, name: str) -> tuple[str, dict[str, Any]]:
        """Run the pipeline of a model: what came of its publish step, and the receipt."""
        step = run(self.root, pipeline=name).step("publish")
        assert step.output is not None
        receipt: dict[str, Any] = json.loads((step.output / "receipt.json").read_text())
        return step.status, receipt


@pytest.fixture
def app(tmp_path: Path, quiet: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    quiet(tmp_path / "app")
    return App(tmp_path / "app")


def test_each_pipeline_publishes_its_own_model_and_finds_it_present(app: App) -> None:
    for name in NAMES:
        status, receipt = app.publish(name)
        assert (status, receipt["action"], receipt["name"], receipt["version"]) == ("ran", "done", name, 1)
    assert receipt["notes"] == ["detector is a new model of app, beside classifier"]
    for name in NAMES:
        status, receipt = app.publish(name)
        assert (status, receipt["action"], receipt["name"]) == ("present", "present", name)
    digest = app.make("detector", 0.04)
    status, receipt = app.publish("detector")
    assert (status, receipt["name"], receipt["version"], receipt["model"]) == ("ran", "detector", 2, digest)
    assert app.publish("classifier")[0] == "present"
    found = standing.listing(Shipping(app.repository.folder))
    assert {name: channels[0].line.last_version for name, channels in found.items()} == {
        "classifier": 1,
        "detector": 2,
    }


def test_a_model_that_another_name_has_is_not_present(app: App) -> None:
    app.publish("classifier")
    app.make("detector", 0.02)  # the very bytes of the classifier
    assert app.publish("detector")[0] == "ran"
    assert app.publish("detector")[0] == "present"


def test_a_rollback_of_one_model_is_undone_by_no_run_of_either(app: App) -> None:
    for name in NAMES:
        app.publish(name)
    app.make("detector", 0.04)
    app.publish("detector")
    releases.rollback(shipping(app.root, {}, "detector"), "staging")
    status, receipt = app.publish("detector")
    assert (status, receipt["version"], receipt["current"], receipt["rolled_back"]) == ("present", 2, 1, True)
    status, receipt = app.publish("classifier")
    assert (status, receipt["version"], receipt["rolled_back"]) == ("present", 1, False)


def test_a_step_that_names_none_of_several_is_refused_before_the_first_step(app: App) -> None:
    for name in NAMES:
        app.publish(name)
    app.save(classifier="")
    app.make("classifier", 0.05)
    with pytest.raises(StepError, match="app holds several models: classifier, detector") as refused:
        run(app.root, pipeline="classifier")
    assert refused.value.hint == "add `model_name: NAME` to the step's params"
    app.make("classifier", 0.02)
    inputs = {name: app.root / "made" / "classifier" / name for name in ("convert", "verify")}
    params = {"repository": str(app.repository.folder), "collection": "app", "channel": "staging"}
    given = {"model": inputs["convert"], "report": inputs["verify"]}
    assert reconcile.present(given, params, app.root) is None
    assert reconcile.present(given, params | {"model_name": "classifier"}, app.root) is not None
    assert reconcile.present(given, params | {"model_name": "detector"}, app.root) is None


def test_a_step_that_names_none_publishes_the_only_model(app: App) -> None:
    app.save(classifier="")
    assert app.publish("classifier")[1]["name"] == "app"
    assert app.publish("classifier")[0] == "present"


def test_a_step_that_names_none_does_not_publish_to_what_another_step_names(app: App) -> None:
    """The only model so far is the other step's: as a version of it another model would go out."""
    app.save(classifier="", detector=", model_name: detector")
    app.publish("detector")
    expected = "a publish step to app names no model, and others publish there detector"
    with pytest.raises(StepError, match=expected) as refused:
        run(app.root, pipeline="classifier")
    assert refused.value.hint == "add `model_name: NAME` to its params"
    given = Given(app.root / "made/classifier/convert/model.mlpackage", app.root / "golden")
    with pytest.raises(UsageError, match=expected):
        releases.publish([given], shipping(app.root, {}))
    assert releases.publish([given], shipping(app.root, {}, "classifier")).version == 1
    assert replace(app.repository, name="detector").line("staging").last_version == 1


def test_two_steps_of_a_pipeline_do_not_publish_two_models_as_one(app: App) -> None:
    file = app.root / "coremlops.yaml"
    app.save(classifier="")
    second = "      second: {uses: publish, inputs: {model: %s, report: verify, golden: ./golden}, %s}\n"
    one = file.read_text()
    params = "params: {collection: app%s}"
    for model, said in (("verify", params % ", model_name: other"), ("convert", params % "")):
        file.write_text(one + second % (model, said))
        assert shipping(app.root, {}).collection == "app"
    file.write_text(one + second % ("verify", params % ""))
    with pytest.raises(ConfigError, match="classifier: publish and second publish two models as versions of"):
        shipping(app.root, {})
    with pytest.raises(StepError, match="publish two models as versions of one"):
        run(app.root, pipeline="classifier")


def test_a_model_released_without_staging_counts_as_one_of_several(app: App) -> None:
    """The step reads its channel's index, and the other's for what else the collection holds."""
    app.save(classifier="", detector=", model_name: detector, channel: release")
    app.publish("classifier")
    app.publish("detector")
    assert app.repository.index("staging").names == ("app",)
    with pytest.raises(StepError, match="app holds several models: app, detector"):
        run(app.root, pipeline="classifier")


def test_a_project_ships_each_model_as_its_pipeline_registers_it(app: App) -> None:
    app.save(classifier=", model_name: classifier", detector=", model_name: detector, name: found_by_name")
    file = app.root / "coremlops.yaml"
    lines = file.read_text().replace("      publish:", REGISTER % "our_classifier" + "      publish:")
    file.write_text(lines)
    for model, registered in (("classifier", "our_classifier"), ("detector", "found_by_name")):
        where = shipping(app.root, {}, model)
        assert (where.collection, where.model) == ("app", model)
        assert where.registered("app", model, only=False) == registered
    assert shipping(app.root, {}).model is None, "of two neither is meant"
    assert shipping(app.root, {}, "other").registered("app", "other") == "other"


def test_a_named_model_goes_where_its_own_step_publishes_it(app: App) -> None:
    app.save(classifier=", model_name: classifier", detector=", model_name: detector, repository: elsewhere")
    file = app.root / "coremlops.yaml"
    first, last = file.read_text().rsplit("collection: app", 1)
    file.write_text(f"{first}collection: vision{last}")
    where = {model: shipping(app.root, {}, model) for model in NAMES}
    assert {model: (each.repository.name, each.collection) for model, each in where.items()} == {
        "classifier": ("repository", "app"),
        "detector": ("elsewhere", "vision"),
    }


def test_of_several_register_steps_in_a_pipeline_that_of_the_same_model_counts(app: App) -> None:
    file = app.root / "coremlops.yaml"
    more = "      second: {uses: register, inputs: {model: verify, report: verify}, params: {name: second}}\n"
    text = file.read_text().replace("      publish:", more + REGISTER % "first" + "      publish:")
    file.write_text(text)
    assert shipping(app.root, {}, "detector").registered("app", "detector") == "first"


def test_promoting_moves_the_alias_of_the_model_that_is_meant(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.save(classifier=", model_name: classifier, name: ours", detector=", model_name: detector")
    moved: list[tuple[str, str]] = []

    def move(uri: str, name: str, alias: str, digest: str) -> bool:
        moved.append((name, alias))
        return True

    for name in NAMES:
        app.publish(name)
    (app.root / "mlflow.db").write_bytes(b"no database")
    monkeypatch.setattr("coremlops.tracking.mirror_alias", move, raising=False)
    for name in NAMES:
        assert releases.promote(shipping(app.root, {}, name)).alias
    assert moved == [("ours", "release"), ("detector", "release")]
    with pytest.raises(RepositoryError, match="several models"):
        releases.promote(shipping(app.root, {}))


def test_the_name_of_a_step_that_names_no_model_is_for_the_only_model_alone() -> None:
    where = Shipping(Path("repository"), "app", names={("app", ""): "ours", ("other", "detector"): "theirs"})
    assert where.registered("app", "classifier") == "ours"
    assert where.registered("app", "detector", only=False) == "detector"


def test_a_run_looks_at_the_alias_of_its_own_model(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.save(classifier=", model_name: classifier, name: ours", detector=", model_name: detector")
    for name in NAMES:
        app.publish(name)
    asked: list[str] = []

    def peek(uri: str, name: str, alias: str) -> None:
        asked.append(f"{name}@{alias}")

    monkeypatch.setattr(reconcile, "peek_alias", peek)
    for name in NAMES:
        assert app.publish(name)[0] == "present"
    assert asked == ["ours@staging", "detector@staging"]


def test_the_project_of_the_page_ships_both_models(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "release.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.M | re.S)
    (tmp_path / "coremlops.yaml").write_text(text)
    for model, registered in (("classifier", "our-classifier"), ("detector", "detector")):
        where = shipping(tmp_path, {}, model)
        assert (where.collection, where.model) == ("app", model)
        assert where.registered("app", model, only=False) == registered
