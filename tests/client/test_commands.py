"""`coremlops device` of a collection of two models, and of one: what is printed, and what JSON says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coremlops.cli import main
from tests.client.conftest import Pair, World

FLAT = (
    *("outcome", "collection", "channel", "version", "digest"),
    *("changed", "offered", "refused", "reason", "received_bytes"),
)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `coremlops device`; exit code and what was printed."""

    def run(where: World | Pair, command: str, *words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["device", command, "--device", str(where.device.folder), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_an_update_prints_a_line_for_each_model(pair: Pair, say: Any) -> None:
    pair.publish("detector", pair.versions[3])
    one, four = (pair.versions[place].digest[:12] for place in (0, 3))
    code, out, err = say(pair, "update")
    assert (code, out.splitlines()) == (
        0,
        [
            f"classifier: nothing newer than version 1 ({one})",
            f"detector: now at version 2 ({four}) of app/staging",
        ],
    )
    assert (
        "detector version 2: model.mlpackage/Data/com.apple.CoreML/weights/weight.bin (200000 bytes)" in err
    )


def test_an_update_in_json(pair: Pair, say: Any) -> None:
    _, weights = pair.publish_two()
    pair.server.hidden.add(weights)
    code, out, _ = say(pair, "update", "--json")
    said = json.loads(out)
    assert (code, list(said)) == (1, [*FLAT, "models"])
    assert (said["outcome"], said["version"], said["digest"], said["offered"]) == (
        "offline",
        None,
        None,
        None,
    )
    assert [(name, each["outcome"], each["version"]) for name, each in said["models"].items()] == [
        ("classifier", "updated", 2),
        ("detector", "offline", 1),
    ]
    assert said["received_bytes"] == sum(each["received_bytes"] for each in said["models"].values()) > 200_000
    code, out, _ = say(pair, "update")
    assert (code, out.splitlines()[1].split(": ")[:2]) == (1, ["detector", "could not look for an update"])
    assert out.splitlines()[1].endswith(f"; stays at version 1 ({pair.versions[1].digest[:12]})")


def test_an_update_of_one_of_them(pair: Pair, say: Any) -> None:
    pair.publish_two()
    code, out, _ = say(pair, "update", "--model", "detector")
    assert (code, out) == (0, f"now at version 2 ({pair.versions[3].digest[:12]}) of app/staging\n")
    assert pair.active() == {"classifier": 1, "detector": 2}
    said = "refused: app/staging has no model 'detectr'; it has classifier, detector\n"  # and no more
    assert say(pair, "update", "--model", "detectr")[:2] == (1, said)
    code, out, _ = say(pair, "update", "--model", "detectr", "--model", "classifier")
    assert code == 1
    assert "detectr: refused: app/staging has no model 'detectr'; it has classifier, detector" in out
    assert pair.active() == {"classifier": 2, "detector": 2}


def test_a_plan_says_each_model_and_the_sum(pair: Pair, say: Any) -> None:
    weights = pair.publish("detector", pair.versions[3])
    code, out, _ = say(pair, "update", "--plan", "--json")
    plan = json.loads(out)
    assert (code, plan["outcome"], plan["version"]) == (0, "get", None)
    assert [(name, each["outcome"], each["version"]) for name, each in plan["models"].items()] == [
        ("classifier", "current", 1),
        ("detector", "get", 2),
    ]
    assert 200_000 < plan["missing"] == plan["models"]["detector"]["missing"] < plan["total"]
    code, out, _ = say(pair, "update", "--plan")
    size = f"{plan['missing']} of {plan['models']['detector']['total']} bytes"
    assert f"detector: would get version 2, default: {size}" in out
    assert out.splitlines()[-1] == f"would get {plan['missing']} bytes in all"
    assert not any(weights in each.path for each in pair.server.log)


def test_start_started_and_predict_name_a_model(pair: Pair, say: Any, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (30, 30), (250, 5, 5)).save(tmp_path / "red.png")
    asked = f"image={tmp_path / 'red.png'}"
    for command, words in (("start", ()), ("started", ()), ("predict", ("--input", asked))):
        code, _, err = say(pair, command, *words)
        assert (code, "app holds several models: classifier, detector" in err) == (1, True)
        assert "name one: --model NAME" in err
    code, out, _ = say(pair, "start", "--model", "detector", "--json")
    assert (code, json.loads(out)["path"]) == (0, str(pair.device.model("detector")))
    assert (pair.device.folder / "starts-detector.json").exists()
    assert say(pair, "started", "--model", "detector")[0] == 0
    assert not (pair.device.folder / "starts-detector.json").exists()
    code, out, _ = say(pair, "predict", "--model", "classifier", "--input", asked, "--json")
    assert (code, json.loads(out)["classLabel"]) == (0, "red")
    code, _, err = say(pair, "start", "--model", "detectr")
    assert (code, "app has no model 'detectr' here; it has classifier, detector" in err) == (1, True)


def test_status_shows_all_models(pair: Pair, say: Any) -> None:
    pair.publish("detector", pair.versions[3])
    say(pair, "update")
    one, two, four = (pair.versions[place].digest[:12] for place in (0, 1, 3))
    code, out, _ = say(pair, "status")
    assert (code, out.splitlines()[:-1]) == (
        0,
        [
            f"{pair.device.folder}: app/staging at {pair.server.url}",
            "  classifier",
            f"    active    version 1 ({one})",
            "    previous  none",
            "  detector",
            f"    active    version 2 ({four})",
            f"    previous  version 1 ({two})",
        ],
    )
    said = json.loads(say(pair, "status", "--json")[1])
    assert list(said["models"]) == ["classifier", "detector"]
    assert {said[key] for key in ("version", "digest", "active", "previous", "embedded", "refused")} == {None}


def test_of_one_model_all_is_as_it_was(world: World, say: Any) -> None:
    world.publish_two()
    said = json.loads(say(world, "update", "--json")[1])
    assert (said["outcome"], said["version"], said["digest"], said["changed"], said["offered"]) == (
        *("updated", 2, world.two.digest),
        *(True, 2),
    )
    assert list(said["models"]) == ["faces"]
    assert {**said["models"]["faces"], "collection": "faces", "channel": "staging"} == {
        key: said[key] for key in FLAT
    }
    code, out, _ = say(world, "update")
    assert (code, out) == (0, f"faces/staging: nothing newer than version 2 ({world.two.digest[:12]})\n")
    plan = json.loads(say(world, "update", "--plan", "--json")[1])
    assert (plan["outcome"], plan["version"], plan["variant"], plan["missing"]) == (
        "current",
        2,
        "default",
        0,
    )
    code, out, _ = say(world, "status")
    assert out.splitlines()[1:3] == [
        f"  active    version 2 ({world.two.digest[:12]})",
        f"  previous  version 1 ({world.one.digest[:12]})",
    ]
    status = json.loads(say(world, "status", "--json")[1])
    assert (status["version"], status["active"]["version"], status["previous"]["version"]) == (2, 2, 1)
    assert (status["refused"], status["embedded"]) == ([], False)
