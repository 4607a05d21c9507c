"""Another system may compute otherwise: what runs is held against its golden set again, unfetched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from coremlops import golden
from coremlops.client.starts import Starts, checks_file
from coremlops.golden import Judgement
from tests.client.conftest import World


def system(world: World, version: str, **more: object) -> None:
    """The device's system is of this version from now on."""
    told = {"os": "iOS", "os_version": version} | more
    (world.device.folder / "profile.json").write_text(json.dumps(told))


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were held against their golden sets, by digest; `bad` ones do not keep them."""
    found: list[str] = []
    real = golden.check

    def check(model: Path, folder: Path) -> Judgement:
        judgement = real(model, folder)
        found.append(model.parent.name)
        if f"bad {model.parent.name}" in found:
            return replace(judgement, ok=False, reason="it answers otherwise here")
        return judgement

    monkeypatch.setattr(golden, "check", check)
    return found


def test_a_system_that_was_updated_checks_what_runs_once(world: World, checks: list[str]) -> None:
    system(world, "17.4")
    assert world.device.update().outcome == "current"
    checks.clear()
    assert world.device.update().outcome == "current"
    assert checks == []
    system(world, "17.5")
    plan = world.device.plan()
    assert (plan.outcome, plan.missing) == ("current", 0)
    assert checks == []
    world.server.log.clear()
    result = world.device.update()
    assert (result.outcome, result.version, result.changed) == ("current", 1, False)
    assert result.judgement is not None
    assert result.judgement.ok
    assert checks == [world.one.digest]
    assert len([each for each in world.server.log if "/members/" in each.path]) <= 1  # the manifest alone
    active = world.device.status().active
    assert active is not None
    assert active.system == "iOS 17.5"
    assert world.device.update().judgement is None


def test_what_answers_otherwise_there_is_left_for_the_version_before(world: World, checks: list[str]) -> None:
    system(world, "17.4")
    world.publish_two()
    assert world.device.update().version == 2
    system(world, "18.0")
    checks.append(f"bad {world.two.digest}")
    result = world.device.update()
    assert (result.outcome, result.version, result.offered, result.changed) == ("refused", 1, 2, True)
    assert "it answers otherwise here" in result.reason
    world.assert_old_model_works()
    left = world.device.folder / "models" / world.two.digest
    assert left.is_dir()  # an app may run it until it starts anew
    checks.clear()
    result = world.device.update()
    assert (result.outcome, result.changed) == ("refused", False)  # remembered, and not looked at again
    assert not left.exists()
    assert checks == []


@pytest.mark.parametrize("carried", [0, 1])
def test_without_a_version_before_it_goes_to_the_apps_own_or_stays(
    world: World, checks: list[str], carried: int
) -> None:
    checks.append(f"bad {world.one.digest}")
    system(world, "18.0", embedded_version=carried)
    assert world.device.update().outcome == "refused"
    assert world.device.status().embedded == bool(carried)
    if not carried:
        world.assert_old_model_works()


def test_a_state_that_names_no_system_is_read(world: World, checks: list[str]) -> None:
    for name in ("state.json", "state.copy.json"):
        path = world.device.folder / name
        state = json.loads(path.read_bytes())
        del state["models"][0]["active"]["system"]
        path.write_text(json.dumps(state))
    assert world.device.update().outcome == "current"
    assert checks == [world.one.digest]


def test_what_takes_the_process_down_there_is_left_after_three_checks(
    world: World, checks: list[str]
) -> None:
    system(world, "17.4")
    world.publish_two()
    assert world.device.update().version == 2
    system(world, "18.0")
    active = world.device.status().active
    assert active is not None
    Starts(active.manifest, 3).save(checks_file(world.device.folder, "faces"))
    checks.clear()
    result = world.device.update()
    assert (result.outcome, result.version, result.changed) == ("refused", 1, True)
    assert "did not end" in result.reason
    assert checks == []


def test_where_the_apps_own_model_runs_nothing_changes(world: World, checks: list[str]) -> None:
    world.repository.offer_embedded("staging")
    system(world, "17.4", embedded_version=1)
    assert world.device.update().outcome == "embedded"
    world.repository.rollback("staging", 1)
    checks.append(f"bad {world.one.digest}")
    result = world.device.update()
    assert (result.outcome, result.changed) == ("refused", False)
    assert world.device.status().embedded
