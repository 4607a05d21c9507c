"""Signatures from several machines: what one lacks waits in the repository until another gives it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coremlops.cli import main, parser_for
from coremlops.release import Repository
from coremlops.release.terms import Form
from tests.cli.test_refused import later as later
from tests.release.conftest import golden as golden
from tests.release.models import write_model


class Machines:
    """Machines that share a repository; each has keys of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._patch, self._capsys = folder, patch, capsys
        self.repository = folder / "repository"
        self.err = ""

    def __call__(self, machine: str, *words: str, code: int = 0) -> str:
        self._patch.setenv("COREMLOPS_CONFIG", str(self.folder / machine))
        self._capsys.readouterr()
        got = main(list(words))
        out, self.err = self._capsys.readouterr()
        assert got == code, (out, self.err)
        return out

    def json(self, machine: str, *words: str, code: int = 0) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self(machine, *words, "--json", code=code))
        return value

    def keys(self, machine: str) -> Path:
        return next((self.folder / machine / "keys").iterdir())

    def move(self, file: str, to: str) -> None:
        """Carry a key from `first` to another machine."""
        source = self.keys("first") / file
        target = self.folder / to / "keys" / self.keys("first").name / file
        for folder in reversed(target.parents[:4]):
            if not folder.exists():
                folder.mkdir(mode=0o700)
        shutil.move(source, target)

    def files(self) -> dict[str, bytes]:
        """What devices may see."""
        return {
            path.relative_to(self.repository).as_posix(): path.read_bytes()
            for path in self.repository.rglob("*")
            if path.is_file() and path.parent.name == "metadata"
        }

    def waiting(self) -> set[str]:
        return {path.stem for path in (self.repository / "pending").iterdir()}

    def pending(self) -> str:
        found = re.search(r"left pending as ([0-9a-f]{12})", self.err)
        assert found, self.err
        return found[1]


@pytest.fixture
def machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], golden: Path
) -> Machines:
    """Two of three release keys must sign, two of two halt keys: the second of each on another machine."""
    found = Machines(tmp_path, monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    options = ("--threshold", "release=2", "--keys", "release=3", "--threshold", "halt=2")
    said = found("first", "repo", "init", "repository", *options)
    files = "release.pem, release-2.pem, release-3.pem"
    assert f"  release: 2 of 3 must sign; carry them to their machines: {files}\n" in said
    found.move("release/release-2.pem", "second")
    found.move("release/release-3.pem", "third")
    found.move("halt/halt-2.pem", "second")
    repository = Repository.open(found.repository)
    for gain in (0.02, 0.03):
        repository.publish([Form(write_model(tmp_path / f"{gain}.mlpackage", gain=gain), golden)])
    return found


def released(machines: Machines) -> int | None:
    current = Repository.open(machines.repository).line("release").current
    return None if current is None else current.version


def test_what_lacks_a_signature_waits_until_another_machine_gives_it(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = "somebody who decides"
    monkeypatch.setenv("COREMLOPS_ACTOR", actor)
    before = machines.files()
    machines("first", "release", "promote", code=3)
    assert "faces-release has 1 of 2 signatures" in machines.err
    change = machines.pending()
    assert f"where a further release key is: coremlops repo sign {change}" in machines.err
    assert machines.files() == before, "a device sees nothing"
    listed = machines("second", "repo", "sign")
    assert f"{change}  promote faces 2 in release, by " in listed
    assert "faces-release: changed faces/release/index.json: offers of faces version 2" in listed
    assert "waits for 1 of faces-release (release key)" in listed
    assert released(machines) is None
    # The second machine has no key of snapshot and timestamp: it signs, and the first commits.
    machines("second", "repo", "sign", change, code=3)
    assert "snapshot has 0 of 1 signatures" in machines.err
    assert f"where further keys are (snapshot, timestamp): coremlops repo sign {change}" in machines.err
    assert machines.files() == before
    monkeypatch.setenv("COREMLOPS_ACTOR", "the publisher")
    machines("first", "repo", "sign", change)
    assert released(machines) == 2
    assert json.loads(machines("first", "repo", "sign", "--json"))["pending"] == []
    assert machines.json("first", "repo", "status")["ok"] is True
    repository = Repository.open(machines.repository)
    assert repository.audit() == 3
    last = json.loads((machines.repository / "audit.jsonl").read_text().splitlines()[-1])["line"]
    assert len(last["keys"]["faces-release"]) == 2
    assert (last["actor"], last["detail"]["asked_by"]) == ("the publisher", actor)


def test_the_same_key_twice_is_one_signature(machines: Machines) -> None:
    machines("first", "release", "promote", code=3)
    again = machines.json("first", "release", "promote", code=3)
    assert again["action"] == "pending"
    change = again["change"]
    assert machines.waiting() == {change}, "asked for again: the same, not another"
    machines("first", "release", "promote", "--version", "1", code=3)
    assert len(machines.waiting()) == 2
    machines("first", "repo", "sign", change, code=1)
    assert "waits for a release key, and none that has not signed is here" in machines.err
    assert released(machines) is None


def test_a_change_that_somebody_else_signed_is_not_replaced(machines: Machines) -> None:
    machines("first", "release", "promote", code=3)
    change = machines.pending()
    machines("second", "repo", "sign", change, code=3)
    machines("first", "release", "promote", code=3)
    assert change in machines.waiting()


def test_a_change_that_another_commit_overtook_is_refused(machines: Machines) -> None:
    machines("first", "release", "promote", "--version", "1", code=3)
    stale = machines.pending()
    machines("first", "release", "promote", "--version", "2", code=3)
    newer = machines.pending()
    for machine, code in (("third", 3), ("first", 0)):
        machines(machine, "repo", "sign", newer, code=code)
    before = machines.files()
    machines("second", "repo", "sign", stale, code=1)
    assert (
        f"change {stale} is stale: it was made from faces-release version 1, the repository is at 2"
        in machines.err
    )
    assert "refused: change" in machines("second", "repo", "sign")
    assert machines.files() == before
    assert released(machines) == 2
    machines("second", "repo", "sign", stale, "--drop")
    assert machines("second", "repo", "sign") == "nothing waits for a signature\n"


def test_a_renewed_timestamp_does_not_overtake_a_change(machines: Machines) -> None:
    machines("first", "release", "halt", "--channel", "staging", code=3)
    change = machines.pending()
    machines("first", "release", "promote", code=3)
    machines("third", "repo", "sign", machines.pending(), code=3)
    machines("first", "repo", "sign", machines.pending())
    machines("second", "repo", "sign", change, code=3)
    machines("first", "repo", "sign", change)
    repository = Repository.open(machines.repository)
    current = repository.line("staging").current
    assert current is not None
    assert repository.halts("staging").halted("faces", current)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("altered", "it was altered"),
        ("unsigned", "has no signature of a key that is trusted now"),
        ("file", "is not whole in the repository"),
        ("damaged", "no strict JSON"),
        ("top", "roles"),
    ],
)
def test_a_change_that_nobody_trusted_made_is_not_signed(machines: Machines, how: str, said: str) -> None:
    machines("first", "release", "promote", code=3)
    change = machines.pending()
    before = machines.files()
    path = machines.repository / "pending" / f"{change}.json"
    value = json.loads(path.read_text())
    role = json.loads(value["roles"]["faces-release"])
    if how == "altered":
        role["signed"]["expires"] = "2099-01-01T00:00:00Z"
    elif how == "unsigned":
        for each in role["signatures"]:
            each["sig"] = "00" * 64
    elif how == "file":
        for file in (machines.repository / "targets" / "faces" / "release").glob("*.index.json"):
            file.unlink()
    value["roles"]["faces-release"] = json.dumps(role)
    if how == "top":
        value["roles"] = {}
    path.write_text("[" if how == "damaged" else json.dumps(value))
    machines("second", "repo", "sign", change, code=1)
    assert said in machines.err
    assert path.exists()
    assert machines.files() == before


def test_no_such_change(machines: Machines) -> None:
    machines("first", "repo", "sign", "abc", code=1)
    assert "no pending change 'abc'" in machines.err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--threshold", "release=two"), 2, "--threshold: such as release=2 expected, got 'release=two'"),
        (("--threshold", "relase=2"), 2, "no key is called 'relase'"),
        (("--threshold", "root=3", "--keys", "root=2"), 1, "3 of 2 root keys cannot sign"),
        (("--keys", "root=0"), 1, "1 of 0 root keys cannot sign"),
        (("--threshold", "timestamp=2"), 1, "timestamp is signed by one machine alone"),
        (("--key-uri", "root"), 2, "--key-uri: such as timestamp=hsm:2 expected"),
        (("--key-uri", "root=ftp:x"), 1, "no way to a key: 'ftp:x'"),
    ],
)
def test_keys_that_cannot_be_make_no_repository(
    machines: Machines, options: tuple[str, ...], code: int, said: str
) -> None:
    machines("fresh", "repo", "init", "other", *options, code=code)
    assert said in machines.err
    assert not (machines.folder / "other").exists()
    assert not (machines.folder / "fresh").exists()


@pytest.fixture
def offline(machines: Machines) -> Machines:
    """Root's two keys lie on `vault` and `vault2`, that of targets on `vault`; both must sign as root."""
    machines("fresh", "repo", "init", "other", "--threshold", "root=2")
    shutil.rmtree(machines.repository)
    shutil.move(machines.folder / "other", machines.repository)
    shutil.rmtree(machines.folder / "first")
    (machines.folder / "fresh").rename(machines.folder / "first")
    machines.move("root/root.pem", "vault")
    machines.move("root/targets.pem", "vault")
    machines.move("root/root-2.pem", "vault2")
    return machines


def test_an_offline_root_of_two_machines_gives_the_publisher_a_new_timestamp_key(offline: Machines) -> None:
    """The publisher makes the key, which never leaves it; root's holders sign what they have read."""
    before = offline.files()
    old = Repository.open(offline.repository, config=offline.folder / "first").keys.keyids("timestamp")[0]
    offline("first", "repo", "rotate", "timestamp", code=3)
    assert "root has 0 of 2 signatures" in offline.err
    new = offline.err.split("new keys: timestamp ")[1].split()[0]
    assert len(new) == 16
    change = offline.pending()
    listed = offline("vault", "repo", "sign")
    assert f"timestamp: no longer the key {old[:16]}" in listed
    assert f"timestamp: a new key {new}" in listed
    offline("vault", "repo", "sign", change, code=3)
    assert "root has 1 of 2 signatures" in offline.err
    offline("vault2", "repo", "sign", change, code=3)
    assert offline.files() == before
    offline("first", "repo", "sign", change)
    status = offline.json("first", "repo", "status")
    assert {each["role"]: each["version"] for each in status["roles"]}["root"] == 3
    assert next(each for each in status["roles"] if each["role"] == "timestamp")["key_present"]
    retired = (offline.keys("first") / "retired").iterdir()
    assert [path.name for path in retired] == [f"timestamp-{old[:16]}.pem"]
    root = json.loads((offline.repository / "metadata" / "3.root.json").read_text())
    assert {each["keyid"] for each in root["signatures"]} == set(root["signed"]["roles"]["root"]["keyids"])


def test_whoever_keeps_a_release_key_makes_a_new_one_where_it_is(machines: Machines) -> None:
    """`repo init` made three; each holder replaces its own, and none was ever elsewhere."""
    old = Repository.open(machines.repository, config=machines.folder / "second").keys.keyids("release")
    machines("second", "repo", "rotate", "release", code=3)
    change = machines.pending()
    machines("first", "repo", "sign", change)
    now = Repository.open(machines.repository, config=machines.folder / "second").keys
    assert len(now.keyids("release")) == 2
    machines("first", "release", "promote", code=3)
    machines("second", "repo", "sign", machines.pending(), code=3)
    machines("first", "repo", "sign", machines.pending())
    assert released(machines) == 2
    now = Repository.open(machines.repository, config=machines.folder / "second").keys
    assert len(now.keyids("release")) == 1, "put aside by the machine that has it, with its next signature"
    status = machines.json("second", "repo", "status")
    keys = next(each["keys"] for each in status["roles"] if each["role"] == "faces-release")
    assert list(keys.values()).count(True) == 1
    assert not keys.keys() & set(old)


def test_root_is_renewed_by_its_holders(offline: Machines) -> None:
    offline("vault", "repo", "renew", "--role", "root", "--role", "targets", code=3)
    change = offline.pending()
    assert "1 of root (root key)" in offline("vault2", "repo", "sign")
    offline("vault2", "repo", "sign", change, code=3)
    assert change in offline("first", "repo", "status")
    assert offline.json("first", "repo", "status")["pending"] == [change]
    offline("first", "repo", "sign", change)
    versions = {each["role"]: each["version"] for each in offline.json("first", "repo", "status")["roles"]}
    assert (versions["root"], versions["targets"]) == (2, 2)


def test_a_change_made_by_nobody_who_has_a_key_is_not_signed_by_root(offline: Machines) -> None:
    """Somebody who can write to the repository asks for a key of theirs."""
    offline("first", "repo", "rotate", "timestamp", code=3)
    change = offline.pending()
    path = offline.repository / "pending" / f"{change}.json"
    value = json.loads(path.read_text())
    roots = [json.loads(each) | {"signatures": []} for each in value["roots"]]
    path.write_text(json.dumps(value | {"roots": [json.dumps(each) for each in roots]}))
    offline("vault", "repo", "sign", change, code=1)
    assert "has no signature of a key that is trusted now" in offline.err


def test_what_several_must_renew_is_named_and_renewed(machines: Machines, later: Callable[..., None]) -> None:
    later(days=340)
    machines("first", "repo", "renew")
    machines("first", "repo", "status", code=3)
    assert (
        "run `coremlops repo renew --role faces-release` where a release key is; 2 must sign" in machines.err
    )
    machines("first", "repo", "renew", "--role", "root", "--role", "targets")
    machines("first", "repo", "renew", "--role", "faces-release", "--role", "faces-halt", code=3)
    change = machines.pending()
    machines("second", "repo", "sign", change, code=3)
    machines("first", "repo", "sign", change)
    machines("first", "repo", "status")
    assert machines.err == ""


def test_the_commands_of_the_page_about_keys_are_commands() -> None:
    text = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()
    commands = [
        shlex.split(line, comments=True)
        for line in text.splitlines()
        if line.strip().startswith("coremlops repo")
    ]
    assert len(commands) > 8
    for _, group, *words in commands:
        parser_for(group).parse_args(words)
    for words in re.findall(r"`repo ([^`]+)`", text):
        parser_for("repo").parse_args(shlex.split(words))


def test_every_repo_command_takes_the_repository_in_both_forms(machines: Machines) -> None:
    """`repo status FOLDER` beside `repo sign --repository FOLDER` alone would be a trap."""
    folder = str(machines.repository)
    commands: list[tuple[str, ...]] = [("status",), ("renew",), ("verify",), ("gc", "--dry-run"), ("sign",)]
    for command, *more in [*commands, ("rotate", "timestamp")]:
        for where in ([folder], ["--repository", folder]):
            machines("first", "repo", command, *where, *more)
    elsewhere = str(machines.folder / "elsewhere")
    machines("first", "repo", "init", "--repository", elsewhere)
    machines("first", "repo", "status", folder, "--repository", elsewhere, code=2)
    assert "one repository expected" in machines.err


@pytest.mark.parametrize(
    "words",
    [
        ("sign", "abc", "def"),
        ("sign", "--drop"),
        ("rotate", "repository"),
        ("rotate", "bogus"),
        ("rotate", "timestamp", "--key-uri", "bogus=hsm:2"),
        ("init", "new", "--threshold", "bogus=2"),
    ],
)
def test_a_command_line_that_cannot_be_right_ends_with_2(machines: Machines, words: tuple[str, ...]) -> None:
    machines("first", "repo", *words, code=2)
    assert machines.err.startswith("error: ")


def test_a_change_may_be_named_by_how_it_begins(machines: Machines) -> None:
    machines("first", "release", "promote", code=3)
    change = machines.pending()
    assert machines.json("second", "repo", "sign", change[:5], "--drop")["change"] == change


@pytest.mark.parametrize("form", ["FOLDER CHANGE --drop", "FOLDER --drop CHANGE", "--drop FOLDER CHANGE"])
def test_the_folder_may_stand_before_drop_and_the_change_behind_it(machines: Machines, form: str) -> None:
    machines("first", "release", "promote", code=3)
    change = machines.pending()
    places = {"FOLDER": str(machines.repository), "CHANGE": change}
    machines("first", "repo", "sign", *(places.get(word, word) for word in form.split()))
    assert machines.waiting() == set()


def test_renew_says_what_is_due_still(machines: Machines, later: Callable[..., None]) -> None:
    """A scheduler that reads "nothing is due" while a role ends elsewhere would be no use."""
    later(days=350)
    shown = machines.json("second", "repo", "renew", "--clock-checked")
    assert shown["renewed"] == []
    assert "root" in shown["due"]
    assert "nothing that is due has its key here" in machines("second", "repo", "renew", "--clock-checked")
    assert "warning: root is due to be signed anew" in machines.err


def test_what_lies_in_pending_and_is_no_change_stops_nothing_and_can_be_dropped(machines: Machines) -> None:
    pending = machines.repository / "pending"
    (pending / "cccccccccccc.json").mkdir(parents=True)
    (pending / "aaaaaaaaaaaa.json").write_text("{")
    (pending / "bbbbbbbbbbbb.json").symlink_to("/proc/self/mem")  # which cannot be read
    machines("first", "repo", "renew", "--role", "timestamp")
    listed = machines("first", "repo", "sign")
    assert "aaaaaaaaaaaa" in listed
    assert "cannot be read" in listed
    for change in ("aaaa", "bbbb"):
        machines("first", "repo", "sign", "--drop", change)
    assert machines("first", "repo", "sign") == "nothing waits for a signature\n"
