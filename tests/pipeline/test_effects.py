"""Effect steps: reconciled on every run, never skipped for a cache hit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import InputError, StepError
from coremlops.pipeline import components, run, why
from coremlops.pipeline.components import COMPONENTS, Component
from tests.pipeline.conftest import Tiny

MLPROJECT = """
name: bundle
entry_points:
  main:
    parameters:
      model: path
      downstream: path
      app: {type: path, default: app}
    command: "mkdir -p {app} && cp {model}/all.txt {app}/model.txt
      && [ ! -e {app}/fail ] && echo x > {downstream}/x"
"""


class Place(Component):
    """A tiny `bundle`: what should be is that `app/model.txt` equals the model."""

    @property
    def folder(self) -> Path:
        return PLACES[0]

    def present(
        self, inputs: Mapping[str, Path], params: Mapping[str, str], project: Path
    ) -> Mapping[str, Any] | None:
        there = Path(params["app"]) / "model.txt"
        if there.exists() and there.read_bytes() == (inputs["model"] / "all.txt").read_bytes():
            return {"action": "present", "bytes": there.stat().st_size}
        return None


PLACES: list[Path] = []


@pytest.fixture
def project(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    folder = tiny.root.parent / "component"
    folder.mkdir()
    (folder / "MLproject").write_text(MLPROJECT)
    PLACES[:] = [folder]
    monkeypatch.setitem(COMPONENTS, "bundle", Place("bundle", effect=True))
    tiny.steps.append("      place: {uses: bundle, inputs: {model: b}, params: {app: there}}")
    tiny.save()
    tiny.step("after", "cp {x}/x {downstream}", {"x": "place"})
    tiny.save()
    return tiny


def status(result: Any, name: str = "place") -> str:
    found: str = result.step(name).status
    return found


def test_an_effect_is_done_once_and_then_found_present(project: Tiny) -> None:
    first = run(project.root)
    assert status(first) == "ran"
    assert (project.root / "there" / "model.txt").read_text() == "onehello\n"
    effects = project.root / ".coremlops" / "effects" / "place"
    assert json.loads((effects / "receipt.json").read_text()) == {"action": "done"}
    second = run(project.root)
    assert status(second) == "present"
    assert not second.work


def test_an_effect_whose_result_is_gone_is_done_again_though_nothing_else_changed(project: Tiny) -> None:
    run(project.root)
    (project.root / "there" / "model.txt").unlink()
    assert why(project.root, "place").reasons == ("what it made is no longer there",)
    result = run(project.root)
    assert (status(result), status(result, "b")) == ("ran", "cached")
    assert (project.root / "there" / "model.txt").exists()


def test_a_step_after_an_effect_is_cached_while_the_effect_is_present(project: Tiny) -> None:
    assert status(run(project.root), "after") == "ran"
    run(project.root)
    assert status(run(project.root), "after") == "cached"


def test_force_runs_an_effect_that_is_present(project: Tiny) -> None:
    run(project.root)
    assert status(run(project.root, force=["place"])) == "ran"


def test_a_failed_effect_leaves_what_it_left_before(project: Tiny) -> None:
    run(project.root)
    effects = project.root / ".coremlops" / "effects" / "place"
    before = {path.name: path.read_bytes() for path in effects.iterdir()}
    (project.root / "there" / "fail").touch()
    with pytest.raises(StepError, match="step place failed"):
        run(project.root, overrides={"word": "bye"})
    assert {path.name: path.read_bytes() for path in effects.iterdir()} == before


def test_what_writes_outside_of_the_store_is_an_effect() -> None:
    effects = {name for name, item in components.COMPONENTS.items() if item.effect}
    assert effects == {"register", "publish", "bundle"}


def test_an_effect_waits_for_all_steps_before_it(tiny: Tiny, project: Tiny) -> None:
    place = project.steps.pop(-2)
    project.step("judge", "sleep 0.2 && exit 1", {"x": "./data"})
    project.steps += [place]
    project.steps.remove(next(step for step in project.steps if step.startswith("      after")))
    project.save()
    result = run(project.root, jobs=4, check=False)
    assert result.step("judge").status == "failed"
    assert not (project.root / "there" / "model.txt").exists()


def test_what_an_effect_would_refuse_in_any_case_is_refused_before_the_first_step(
    project: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(self: Component, sources: Mapping[str, Path], params: Mapping[str, str], root: Path) -> None:
        assert params["app"] == str(project.root / "there")
        raise InputError("no key", hint="make one")

    with monkeypatch.context() as patched:
        patched.setattr(Place, "check", check, raising=False)
        result = run(project.root, check=False)
    assert [(step.name, step.status) for step in result.steps] == [("place", "failed")]
    assert isinstance(result.error, StepError)
    assert (result.error.message, result.error.step) == ("step place cannot start: no key", "place")
    assert (result.error.hint, result.error.log_tail) == ("make one", ())
    first = run(project.root)
    assert {step.status for step in first.steps} == {"ran"}, "nothing had run"
