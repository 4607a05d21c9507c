"""`coremlops repo` on a repository of several collections, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coremlops.client import Device
from coremlops.golden import make
from coremlops.release import Repository
from tests.cli.test_signing import Machines
from tests.cli.test_signing import machines as machines
from tests.release.conftest import golden as golden
from tests.release.models import write_model, write_pictures


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machines:
    """One machine that has every key, in the repository's parent folder."""
    monkeypatch.chdir(tmp_path)
    found = Machines(tmp_path, monkeypatch, capsys)
    found("first", "repo", "init", "repository", "--collection", "app")
    return found


def published(first: Machines, collection: str, name: str, gain: float = 0.02) -> None:
    """A version of that gain, on staging."""
    model, answers, pictures = (first.folder / each for each in (f"{gain}.mlpackage", f"{gain}", "pictures"))
    if not pictures.exists():
        write_pictures(pictures)
    if not model.exists():
        make(write_model(model, gain=gain), pictures, answers)
    words = ("--collection", collection, "--model", name, "--golden", str(answers))
    first("first", "release", "publish", str(model), *words)


def test_add_says_what_there_is_now(first: Machines) -> None:
    said = first("first", "repo", "add", "shop")
    assert said == (
        f"{first.repository}: collection shop, channels staging and release\ncollections: app, shop\n"
    )
    shown = first.json("first", "repo", "add", "cats", "--repository", str(first.repository))
    assert shown == {
        "repository": str(first.repository),
        "collection": "cats",
        "collections": ["app", "shop", "cats"],
    }
    first("first", "repo", "add", "shop", code=1)
    assert "has a collection shop already" in first.err
    first("first", "repo", "add", "Shop", code=1)
    assert "a collection's name is 1 to 40 of a-z, 0-9 and '-'" in first.err


def test_init_where_a_repository_is_says_how_a_collection_is_added(first: Machines) -> None:
    first("first", "repo", "init", "repository", code=1)
    assert f"coremlops repo add NAME --repository {first.repository}" in first.err  # not the default, faces


def test_status_shows_every_role_channel_and_model(first: Machines) -> None:
    first("first", "repo", "add", "shop")
    published(first, "app", "app")
    published(first, "shop", "classifier")
    published(first, "shop", "detector")
    published(first, "shop", "detector", 0.03)
    words = ("--channel", "staging", "--collection", "shop", "--model", "detector")
    first("first", "release", "rollback", *words)
    shown = first.json("first", "repo", "status")
    assert shown["collections"] == {
        "app": {"staging": {"app": 1}, "release": {}},
        "shop": {"staging": {"classifier": 1, "detector": 1}, "release": {}},
    }
    assert [each["role"] for each in shown["roles"]][6:10] == [
        *("shop-halt", "shop-release", "shop-staging", "shop-members"),
    ]
    lines = first("first", "repo", "status").splitlines()
    assert [line.split(maxsplit=2) for line in lines[1:5]] == [
        ["app", "staging", "version 1"],
        ["app", "release", "no version"],
        ["shop", "staging", "classifier version 1, detector version 1 (rolled back)"],
        ["shop", "release", "no version"],
    ]


def test_every_command_about_the_whole_needs_no_collection(first: Machines) -> None:
    first("first", "repo", "add", "shop")
    published(first, "shop", "detector")
    renewed = first.json("first", "repo", "renew", "--role", "app-halt", "--role", "shop-members")["renewed"]
    assert renewed == ["app-halt", "shop-members"]
    first("first", "repo", "rotate", "release")
    assert "2 versions" not in first("first", "repo", "verify")
    assert first.json("first", "repo", "verify")["versions"] == 1
    assert first.json("first", "repo", "gc")["files"] == []
    assert first("first", "repo", "sign") == "nothing waits for a signature\n"
    first("first", "repo", "renew", "--role", "shop-nobody", code=1)
    assert "no role 'shop-nobody'; they are root, targets, app-halt" in first.err
    first("first", "release", "publish", "0.02.mlpackage", "--golden", "0.02", code=1)
    assert "has several collections: app, shop" in first.err
    assert "name one: --collection NAME" in first.err


def test_an_addition_that_lacks_a_signature_is_exit_3_and_committed_by_sign(machines: Machines) -> None:
    """The release key's holder beside the one who adds."""
    shown = machines.json("first", "repo", "add", "shop", code=3)
    assert shown["action"] == "pending"
    machines("second", "repo", "status")
    assert list(machines.json("second", "repo", "status")["collections"]) == ["faces"]
    listed = machines("second", "repo", "sign")
    assert f"{shown['change']}  add shop, by " in listed
    assert (
        "  targets: a new collection, shop-halt, shop-release, shop-staging, shop-members, signed" in listed
    )
    assert "waits for 1 of shop-halt (halt key), 1 of shop-release (release key)" in listed
    machines("second", "repo", "sign", shown["change"], code=3)
    machines("first", "repo", "sign", shown["change"])
    assert list(machines.json("second", "repo", "status")["collections"]) == ["faces", "shop"]
    line = json.loads((machines.repository / "audit.jsonl").read_text().splitlines()[-1])["line"]
    assert (line["action"], line["collection"]) == ("add", "shop")


def test_a_device_of_each_collection_updates(first: Machines, tmp_path: Path) -> None:
    """Also one that was installed before the second collection came."""
    root = Repository.open(first.repository).root_file

    def phone(collection: str) -> Device:
        folder = tmp_path / f"phone-{collection}"
        return Device.install(folder, first.repository.as_uri(), collection, "staging", root)

    app = phone("app")
    published(first, "app", "classifier")
    assert [(each.name, each.version) for each in app.update().models] == [("classifier", 1)]
    first("first", "repo", "add", "shop")
    shop = phone("shop")
    published(first, "shop", "classifier", 0.03)
    published(first, "shop", "detector")
    published(first, "app", "detector", 0.03)
    first("first", "repo", "rotate", "staging", "timestamp")
    for device in (app, shop):
        found = device.update()
        assert [(each.name, each.version) for each in found.models] == [("classifier", 1), ("detector", 1)]
