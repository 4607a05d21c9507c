"""`coremlops release enrol`, `reports` and `promote --require`, as a user types them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from coremlops.release import Repository
from coremlops.telemetry.count import Count
from coremlops.telemetry.report import Report
from coremlops.telemetry.store import Store
from tests.cli.test_shipping import Shell
from tests.cli.test_shipping import shell as shell
from tests.telemetry.reports import FAIL, PASS, enrolled, signed

ASK = ("release", "promote", "--reports", "reports.sqlite", "--require")
NOW = datetime.now(UTC).replace(microsecond=0)


class Group:
    """Enrolled devices, and what they say of version 1."""

    def __init__(self, repository: Path, name: str | None = None, collection: str | None = None) -> None:
        self.store = Store(Path("reports.sqlite"))
        opened = Repository.open(repository, collection, name)
        current = opened.line("staging").current
        assert current is not None
        (variant,) = current.variants
        self._of: dict[str, Any] = {
            "collection": opened.collection,
            "name": opened.model_name,
            "variant": variant.name,
            "model": variant.model,
            "manifest": variant.manifest,
            "at": NOW,
        }

    def say(self, base: Report = PASS, **changes: Any) -> None:
        key = enrolled(self.store, NOW)
        self.store.report(signed(key, replace(base, **self._of), **changes), now=NOW)


@pytest.fixture
def testers(shell: Shell) -> Group:
    shell("repo", "init")
    shell("release", "publish", "one.mlpackage", "--golden", "golden")
    shell("release", "enrol", "--reports", "reports.sqlite")
    return Group(shell.folder / "repository")


def test_codes_are_printed_once_and_kept_as_hashes(shell: Shell) -> None:
    codes = shell("release", "enrol", "--reports", "r.sqlite", "--count", "3").split()
    assert len(set(codes)) == 3
    assert all(len(code) == 19 for code in codes)
    made = shell.json("release", "enrol", "--reports", "r.sqlite", "--expires", "12h")
    assert set(made) == {"reports", "codes", "expires"}
    data = Path("r.sqlite").read_bytes()
    assert not any(code.replace("-", "").encode() in data for code in codes)
    for wrong in ("7", "0d", "91d", "d7"):
        shell("release", "enrol", "--reports", "r.sqlite", "--expires", wrong, code=2)
    shell("release", "enrol", "--reports", "r.sqlite", "--count", "0", code=2)


def test_a_promotion_waits_for_three_devices_of_two_classes(shell: Shell, testers: Group) -> None:
    asked = (*ASK, "golden:devices=3,classes=2")
    shell(*asked, code=3)
    assert "3 devices that passed expected, got 0" in shell.err
    testers.say()
    testers.say()
    testers.say()
    shell(*asked, code=3)
    assert "2 kinds of devices expected, got 1 (phone A17 Pro)" in shell.err
    testers.say(chip="M4", device_class="pad", os="iPadOS")
    assert shell.json(*asked)["version"] == 1
    line = json.loads((shell.folder / "repository/audit.jsonl").read_text().splitlines()[-1])["line"]
    assert line["detail"] | {"reports": "", "manifests": []} == {
        "require": "golden:devices=3,classes=2,failures=0,proof=device",
        "devices": 4,
        "classes": ["pad M4", "phone A17 Pro"],
        "failures": 0,
        "proofs": {"device": 4},
        "manifests": [],
        "reports": "",
    }


def test_one_device_that_failed_stops_a_promotion_unless_so_many_may(shell: Shell, testers: Group) -> None:
    testers.say()
    testers.say(FAIL)
    shell(*ASK, "golden:devices=1", code=3)
    assert "at most 0 failed devices expected, got 1 (outputs 1)" in shell.err
    shell(*ASK, "golden:devices=1,failures=1")


def test_anonymous_counts_and_emulated_passes_promote_nothing(shell: Shell, testers: Group) -> None:
    for _ in range(5):
        testers.store.count(Count("faces", "faces", 1, True, "iOS"))
    testers.say(proof="emulated", compute_units="cpu", os="Linux", device_class="other", chip="")
    shell(*ASK, "golden:devices=1", code=3)
    assert "(1 more passed, with a proof below device)" in shell.err
    shell(*ASK, "golden:devices=1,proof=emulated")


def test_a_requirement_needs_reports_and_reports_a_requirement(shell: Shell, testers: Group) -> None:
    shell("release", "promote", "--require", "golden:devices=1", code=2)
    shell("release", "promote", "--reports", "reports.sqlite", code=2)
    shell("release", "promote", "--require", "golden:devices=1", "--reports", "none.sqlite", code=1)
    assert "no reports at none.sqlite" in shell.err


def test_what_came_in_is_listed(shell: Shell, testers: Group) -> None:
    testers.say()
    testers.say(FAIL)
    testers.store.count(Count("faces", "faces", 1, True, "iOS", latency=4))
    text = shell("release", "reports", "--reports", "reports.sqlite")
    assert "faces: 2 devices enrolled, 2 reports" in text
    assert "FAIL outputs" in text
    assert "anonymous: latency 16 ms: 1" in text
    listed = shell.json("release", "reports", "--reports", "reports.sqlite", "--version", "1")
    assert sorted(each["ok"] for each in listed["reports"]) == [False, True]
    assert {len(each["pseudonym"]) for each in listed["reports"]} == {64}
    empty = shell.json("release", "reports", "--reports", "reports.sqlite", "--version", "2")
    assert (empty["reports"], empty["anonymous"]) == ([], [])


def test_two_models_are_told_apart_and_one_gets_no_promotion_by_the_other(
    shell: Shell, testers: Group
) -> None:
    shell("release", "publish", "two.mlpackage", "--golden", "golden", "--model", "hands")
    hands = Group(shell.folder / "repository", "hands")
    listed: tuple[str, ...] = ("release", "reports", "--reports", "reports.sqlite")
    testers.say()
    assert shell(*listed).splitlines()[1].split()[0] == "version"  # nothing to tell apart yet
    shell("repo", "add", "other")
    shell(
        "release",
        "publish",
        "two.mlpackage",
        "--golden",
        "golden",
        "--collection",
        "other",
        "--model",
        "feet",
    )
    Group(shell.folder / "repository", "feet", "other").say()
    head, line = shell(*listed, "--collection", "other").splitlines()[1:]
    assert (head.split()[0], line.split()[0]) == ("model", "feet"), "whose reports they are is said"
    listed += ("--collection", "faces")
    hands.say(FAIL)
    hands.store.count(Count("faces", "hands", 1, True, "iOS"))
    head, *lines = shell(*listed).splitlines()[1:]
    assert head.split()[:2] == ["model", "version"]
    assert [line.split()[0] for line in lines] == ["faces", "hands", "hands", "hands"]
    assert shell(*listed, "--model", "hands").splitlines()[1].split()[0] == "version"
    found = shell.json(*listed, "--model", "hands")
    assert [(each["name"], each["ok"]) for each in found["reports"]] == [("hands", False)]
    assert {each["name"] for each in found["anonymous"]} == {"hands"}
    shell(*listed, "--model", "hand", code=1)
    assert "hand" in shell.err
    asked = (*ASK, "golden:devices=1", "--collection", "faces")
    shell(*asked, "--model", "hands", code=3)
    assert "1 devices that passed expected, got 0" in shell.err
    shell(*asked, code=1)
    assert "faces holds several models: faces, hands" in shell.err
    assert shell.json(*asked, "--model", "faces")["version"] == 1
    hands.say()
    shell(*ASK, "golden:devices=2,failures=1", *asked[-2:], "--model", "hands", code=3)
    assert "2 devices that passed expected, got 1" in shell.err
