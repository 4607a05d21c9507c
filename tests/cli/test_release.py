"""`coremlops release`, command by command, and the commands of docs/release.md as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from coremlops.cli import main
from tests.release.models import write_model, write_pictures

PAGE = Path(__file__).parents[2] / "docs" / "release.md"
PHONE = {"os": "iOS", "os_version": "17.4", "device_class": "phone", "chip": "A17 Pro", "region": "AT"}


class Cli:
    """The command line in a folder with a repository; answers as JSON, or the error."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def __call__(self, *words: str) -> Any:
        assert main([*words, "--json"]) == 0, self._capsys.readouterr().err
        return json.loads(self._capsys.readouterr().out)

    def text(self, *words: str) -> str:
        assert main([*words]) == 0, self._capsys.readouterr().err
        return self._capsys.readouterr().out

    def refused(self, code: int, *words: str) -> str:
        assert main([*words]) == code
        return self._capsys.readouterr().err

    def rule(self, name: str, rule: object) -> str:
        (self.folder / name).write_text(json.dumps(rule))
        return name


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Two models, pictures, and an empty repository in the working folder."""
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it in a process that used it
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, gain in (("one", 0.02), ("two", 0.03), ("a17", 0.04)):
        write_model(folder / f"{name}.mlpackage", gain=gain, extra_bytes=500)
    write_pictures(folder / "pictures")
    assert main(["repo", "init"]) == 0
    capsys.readouterr()
    return Cli(folder, capsys)


def publish(cli: Cli, name: str, *more: str) -> Any:
    return cli("release", "publish", f"{name}.mlpackage", "--golden", "pictures", *more)


def test_publish_promote_list(cli: Cli) -> None:
    assert publish(cli, "one")["version"] == 1
    assert publish(cli, "one")["action"] == "present"
    assert publish(cli, "two")["version"] == 2
    assert cli("release", "promote", "--version", "1")["current"] == 1
    found = cli("release", "list")["models"]["faces"]
    assert (found["staging"]["current"]["version"], found["release"]["current"]["version"]) == (2, 1)
    text = cli.text("release", "list")
    assert re.search(r"2  .*staging\n.*1  .*release", text)


def test_promote_on_terms(cli: Cli) -> None:
    publish(cli, "one")
    rule = cli.rule("austria.json", {"region": ["AT"]})
    words = ("--rule", rule, "--percent", "12.5", "--start", "2026-12-01T06:00:00Z", "--hold")
    cli("release", "promote", *words)
    entry = cli("release", "list")["models"]["faces"]["release"]["current"]
    assert entry["rule"] == {"region": ["AT"]}
    assert entry["rollout"]["basis_points"] == 1250
    assert (entry["start"], entry["hold"]) == ("2026-12-01T06:00:00Z", True)
    assert "release (12.5 %, from 2026-12-01T06:00:00Z)" in cli.text("release", "list")


def test_rollout_halt_rollback_embedded(cli: Cli) -> None:
    publish(cli, "one")
    cli("release", "promote")
    publish(cli, "two")
    cli("release", "promote", "--percent", "10")
    assert cli("release", "rollout", "--percent", "50")["action"] == "done"
    assert cli("release", "rollout", "--percent", "50")["action"] == "present"
    assert "--lower" in cli.refused(1, "release", "rollout", "--percent", "20")
    cli("release", "rollout", "--percent", "20", "--lower")
    assert cli("release", "halt")["action"] == "done"
    assert cli("release", "list")["models"]["faces"]["release"]["halted"] == [2]
    cli("release", "rollout", "--percent", "100")
    assert cli("release", "list")["models"]["faces"]["release"]["halted"] == []
    assert cli("release", "rollback")["current"] == 1
    assert cli("release", "promote", "--version", "2")["current"] == 2
    assert cli("release", "embedded")["version"] == 3
    assert cli("release", "list")["models"]["faces"]["release"]["current"]["embedded"] is True


def explained(device: str, *more: str) -> tuple[str, ...]:
    return "release", "explain", "--device", device, "--channel", "staging", *more


def test_variants_and_explain(cli: Cli) -> None:
    rule = cli.rule("a17.json", {"chip": ["A17 Pro"]})
    publish(cli, "one", "--variant", "a17=a17.mlpackage", "--requires", f"a17={rule}")
    variants = cli("release", "list")["models"]["faces"]["staging"]["current"]["variants"]
    assert [each["name"] for each in variants] == ["a17", "default"]
    assert variants[0]["requires"]["chip"] == ["A17 Pro"]
    assert variants[0]["requires"]["os"][0]["name"]  # what the model's own version needs stays
    for chip, expected in (("A17 Pro", "a17"), ("A15", "default")):
        device = cli.rule("phone.json", PHONE | {"chip": chip})
        found = cli(*explained(device))["models"]["faces"]
        assert (found["use"], found["version"], found["variant"]) == ("get", 1, expected)
    device = cli.rule("old.json", PHONE | {"os_version": "12"})
    assert cli(*explained(device))["models"]["faces"]["use"] == "keep"
    assert "needs iOS" in cli.text(*explained(device))


def test_diff(cli: Cli) -> None:
    publish(cli, "one")
    cli("release", "promote")
    rule = cli.rule("a17.json", {"chip": ["A17 Pro"]})
    publish(cli, "two", "--variant", "a17=a17.mlpackage", "--requires", f"a17={rule}", "--percent", "50")
    found = cli("release", "diff")
    assert (found["before"], found["after"]) == (1, 2)
    changes = {each["name"]: each for each in found["variants"]}
    assert {name: each["what"] for name, each in changes.items()} == {"a17": "added", "default": "changed"}
    paths = {each["path"] for each in changes["default"]["files"]}
    assert "model.mlpackage/Data/com.apple.CoreML/model.mlmodel" in paths
    assert "model.mlpackage/Manifest.json" not in paths
    assert changes["default"]["fetch"] > 500
    assert found["terms"]["rollout"][0] is None
    assert "a17 requires" in found["terms"]
    text = cli.text("release", "diff", "1", "2")
    assert text.startswith("version 1 -> 2\n")
    assert "weight.bin: 500 -> 500" in text
    same = cli("release", "diff", "1", "1")
    assert [each["what"] for each in same["variants"]] == ["same"]
    assert "no channel has a version 9" in cli.refused(1, "release", "diff", "1", "9")


def test_kinds_that_are_carried(cli: Cli, tmp_path: Path) -> None:
    compiled = cli.folder / "one.mlmodelc"
    (compiled / "weights").mkdir(parents=True)
    (compiled / "model.mil").write_text("program(1.0)")
    (compiled / "weights" / "weight.bin").write_bytes(b"weights")
    rule = cli.rule("phones.json", {"os": [{"name": "iOS", "min": "17"}], "chip": ["A17 Pro"]})
    words = ("release", "publish", "one.mlpackage", "--golden", "pictures", "--variant", "a17=one.mlmodelc")
    assert "--requires a17=RULE.json" in cli.refused(2, *words)
    found = cli(*words, "--requires", f"a17={rule}")
    assert any("devices are the first to check it" in note for note in found["notes"])
    variants = cli("release", "list")["models"]["faces"]["staging"]["current"]["variants"]
    assert [(each["name"], each["kind"]) for each in variants] == [
        ("a17", "mlmodelc"),
        ("default", "mlpackage"),
    ]
    assert variants[0]["model"] != variants[1]["model"]
    profile = PHONE | {"kinds": ["mlmodelc", "mlpackage"]}
    device = cli.rule("phone.json", profile)
    assert cli(*explained(device))["models"]["faces"]["variant"] == "a17"
    cli.rule("phone.json", PHONE)  # one that runs packages alone
    assert cli(*explained(device))["models"]["faces"]["variant"] == "default"
    cli("release", "promote")
    assert cli("repo", "verify")["ok"] is True
    assert "mlmodelc" in cli.refused(2, "release", "publish", "one.mlmodelc", "--golden", "pictures")
    (compiled / "link").symlink_to("/etc/passwd")
    assert "plain files" in cli.refused(1, *words, "--requires", f"a17={rule}")


def test_what_cannot_be_published_is_said_and_nothing_changes(cli: Cli, tmp_path: Path) -> None:
    publish(cli, "one")
    before = (cli.folder / "repository/metadata/timestamp.json").read_bytes()
    rule = cli.rule("macs.json", {"device_class": ["mac"], "os": [{"name": "iOS"}]})
    pads = cli.rule("pads.json", {"device_class": ["pad"]})
    (cli.folder / "model.tflite").write_bytes(b"x")
    two = ("release", "publish", "two.mlpackage", "--golden", "pictures")
    said = [
        cli.refused(1, *two, "--rule", pads, "--requires", f"default={rule}"),
        cli.refused(1, "release", "publish", "model.tflite", "--golden", "pictures"),
        cli.refused(2, *two, "--variant", "nonsense"),
        cli.refused(2, *two, "--requires", "other=pads.json"),
        cli.refused(1, *two, "--variant", "UPPER=a17.mlpackage"),
        cli.refused(1, *two, "--variant", "first=a17.mlpackage"),
        cli.refused(1, *two, "--rule", cli.rule("bad.json", {"os": [{"name": "Android"}]})),
        cli.refused(2, *two, "--percent", "101"),
        cli.refused(2, *two, "--start", "tomorrow"),
        cli.refused(2, "release", "publish", "two.mlpackage"),
        cli.refused(2, *two, "--channel", "release"),
    ]
    words = ["no device can get", "tflite", "NAME=FILE", "no such variant", "variant's name", "comes first",
             "Android", "percentage", "2026-01-31T12:00:00Z", "golden", "report"]  # fmt: skip
    for text, word in zip(said, words, strict=True):
        assert word in text
        assert "Traceback" not in text
    assert (cli.folder / "repository/metadata/timestamp.json").read_bytes() == before


def test_the_commands_of_the_page_run(cli: Cli) -> None:
    publish(cli, "one")
    cli("release", "promote")
    publish(cli, "two")
    (cli.folder / "a17.mlpackage").rename(cli.folder / "detector.mlpackage")
    page = PAGE.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, flags=re.M | re.S)
    commands = [line.split("#")[0] for block in blocks for line in block.splitlines() if line.strip()]
    assert len(commands) >= 8
    objects = re.findall(r"^    (\{.*?\})$", page, flags=re.M | re.S)
    cli.rule("german-phones.json", json.loads(objects[0].replace("\n", " ")))
    profile = objects[1].replace("\n", " ").replace("<32 hex digits>", "0" * 32)
    cli.rule("profile.json", json.loads(profile))
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "coremlops"
        cli.text(*words[1:])


@pytest.mark.parametrize("percent", ["", "101", "-1", "half", "12.345"])
def test_a_share_that_is_none_is_refused_and_offers_nothing(cli: Cli, percent: str) -> None:
    """An empty one too: a script's variable that is not set must not offer a version to everybody."""
    publish(cli, "one")
    for words in (["promote"], ["rollout", "--channel", "staging", "--lower"]):
        assert "--percent: " in cli.refused(2, "release", *words, f"--percent={percent}")
    assert "--start: " in cli.refused(2, "release", "promote", "--start", "")
    assert cli("release", "list")["models"]["faces"]["release"]["current"] is None


def test_promoting_again_widens_a_share_with_the_same_devices(cli: Cli) -> None:
    def rollout() -> Any:
        return cli("release", "list")["models"]["faces"]["release"]["current"]["rollout"]

    publish(cli, "one")
    cli("release", "promote", "--percent", "10")
    first = rollout()
    cli("release", "promote", "--percent", "40")
    assert rollout() == {"basis_points": 4000, "salt": first["salt"]}
    said = cli.refused(1, "release", "promote", "--percent", "5")
    assert "is offered to 40 % of all devices already" in said
    assert "rollout --channel release --percent 5 --lower" in said
    assert rollout()["basis_points"] == 4000


def test_what_a_command_leaves_as_it_is_is_said(cli: Cli) -> None:
    publish(cli, "one")
    again = publish(cli, "one", "--percent", "10")
    assert (again["action"], "keeps its rule, share" in again["warning"]) == ("present", True)
    assert publish(cli, "one", "--percent", "100")["warning"] == ""
    cli("release", "promote")
    cli("release", "halt")
    assert "is halted, so no further device takes it" in cli("release", "promote")["warning"]
    cli("release", "rollout", "--percent", "100")
    assert cli("release", "promote")["warning"] == ""


def test_each_command_says_what_it_did(cli: Cli) -> None:
    publish(cli, "one")
    cli("release", "promote", "--percent", "50")
    publish(cli, "two")
    cli("release", "promote", "--percent", "10")
    older = ("--version", "1")
    assert "release: version 1 (" in (said := cli.text("release", "rollout", "--percent", "60%", *older))
    assert "is now offered to 60 % of all devices" in said
    assert "is already offered to 60 %" in cli.text("release", "rollout", "--percent", "60", *older)
    assert re.fullmatch(
        r"faces/release: version 1 \(.*\) is now halted\n", cli.text("release", "halt", *older)
    )
    assert "is already halted" in cli.text("release", "halt", *older)
    assert "is now at version 3 (the app's model)" in cli.text("release", "embedded")


def test_a_publish_says_on_a_terminal_what_it_does(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def err() -> str:
        cli._capsys.readouterr()
        assert main(["release", "publish", "one.mlpackage", "--golden", "pictures", "--json"]) == 0
        return cli._capsys.readouterr().err

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = err()
    for line in ("reading one.mlpackage", "golden set of one.mlpackage", "writing and signing"):
        assert line in shown
    assert shown.endswith("\r\x1b[K")
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert err() == ""


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"os": [{"name": "iOS", "below": "15"}]}, "no system is iOS before 15 and "),
        ({"os": [{"name": "iOS"}], "device_class": ["watch", "tv"]}, "no watch or tv runs iOS"),
    ],
)
def test_a_rule_that_no_device_meets_is_refused_by_every_command(cli: Cli, rule: Any, said: str) -> None:
    publish(cli, "one")
    name = cli.rule("rule.json", rule)
    for words in (["promote"], ["publish", "two.mlpackage", "--golden", "pictures"]):
        assert said in cli.refused(1, "release", *words, "--rule", name)
    found = cli("release", "list")["models"]["faces"]
    assert (found["staging"]["current"]["version"], found["release"]["current"]) == (1, None)


def test_a_model_that_is_too_large_is_refused_before_it_is_read(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (cli.folder / "huge.mlmodel").open("wb") as file:
        file.truncate(4 * 1024**3 + 1)  # sparse: it takes no room

    def read(model: Path) -> str:
        raise AssertionError("it was read")

    monkeypatch.setattr("coremlops.pipeline.releases.model_digest", read)
    said = cli.refused(1, "release", "publish", "huge.mlmodel", "--golden", "pictures")
    assert "has 4294967297 bytes, at most 4294967296 are allowed" in said
    for name, words in (("gone.mlpackage", "no model at"), ("pictures", "expected .mlpackage or")):
        assert words in cli.refused(1, "release", "publish", name, "--golden", "pictures")


def test_reset_makes_staging_what_release_is(cli: Cli) -> None:
    publish(cli, "one")
    cli("release", "promote")
    publish(cli, "two")
    said = cli("release", "reset")
    assert {name: each["version"] for name, each in said["models"].items()} == {"faces": 1}
    assert cli("release", "list")["models"]["faces"]["staging"]["current"]["version"] == 1
    assert "faces/staging is now at version 1, as release is" in cli.text("release", "reset")
    assert publish(cli, "two")["version"] == 3
    assert "holds no model" in cli.refused(1, "release", "halt", "--model", "two")
