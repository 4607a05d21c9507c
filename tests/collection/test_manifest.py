"""A version's manifest: no member can leave its folder or shadow another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coremlops.collection import Manifest, Member
from coremlops.errors import RepositoryError

A, B = "a" * 64, "b" * 64
GOLDEN = Member("golden/golden.json", A, 3)
MODEL = Member("model.mlpackage/Manifest.json", B, 5)


def manifest(*members: Member) -> Manifest:
    return Manifest("faces", "faces", 2, "default", "c" * 64, "mlpackage", members)


def read(*members: Member, **keys: Any) -> Manifest:
    value = json.loads(manifest(*members).to_bytes()) | keys
    return Manifest.from_bytes(json.dumps(value).encode(), most_bytes=1000)


def test_bytes_round_trip() -> None:
    whole = manifest(GOLDEN, MODEL)
    assert Manifest.from_bytes(whole.to_bytes()) == whole
    assert (whole.length, whole.payload) == (8, "model.mlpackage")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../model.mlpackage",
        "model.mlpackage/../../x",
        "model.mlpackage//x",
        "model.mlpackage/.",
        "model.mlpackage/a\\..\\b",
        "model.mlpackage/a\x00b",
        "model.mlpackage/a\nb",
        "model.mlpackage/C:x",
        "model.mlpackage/\u202egnp",
        "model.mlpackage/" + "x" * 256,
        "model.mlpackage/" + "/".join("x" * 20),
        "model.mlpackage/" + "/".join(["y" * 100] * 6),
        "other/x",
        "model.mlmodel",
        "",
    ],
)
def test_path_traversal_and_strange_names_are_refused(path: str) -> None:
    members = sorted([GOLDEN, MODEL, Member(path, A, 3)], key=lambda member: member.path)
    with pytest.raises(RepositoryError, match="member"):
        read(*members)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("model.mlpackage/A", "model.mlpackage/a"),
        ("model.mlpackage/Data", "model.mlpackage/data/x"),
        ("model.mlpackage/e\u0301", "model.mlpackage/\u00e9"),
        ("model.mlpackage/stra\u00dfe", "model.mlpackage/strasse"),
        ("model.mlpackage/x", "model.mlpackage/x/y"),
    ],
)
def test_members_that_meet_on_another_file_system_are_refused(first: str, second: str) -> None:
    members = sorted([GOLDEN, Member(first, A, 3), Member(second, A, 3)], key=lambda member: member.path)
    with pytest.raises(RepositoryError, match="collides"):
        read(*members)


def test_other_wrong_manifests_are_refused() -> None:
    for members, words in (
        ((MODEL,), "no member golden/golden.json"),
        ((GOLDEN,), "the model itself is missing"),
        ((MODEL, GOLDEN), "do not rise"),
        ((GOLDEN, GOLDEN, MODEL), "do not rise"),
        ((GOLDEN, Member(MODEL.path, A, 5)), "one content with two lengths"),
        ((GOLDEN, Member(MODEL.path, B, 999)), "1002 bytes, at most 1000"),
        ((GOLDEN, Member(MODEL.path, B, 2000)), "'length'"),
        ((GOLDEN, Member(MODEL.path, B, -1)), "'length'"),
        ((Member("golden", A, 3), MODEL), "a file inside that folder"),
    ):
        with pytest.raises(RepositoryError, match=words):
            read(*members)
    with pytest.raises(RepositoryError, match="'kind'"):
        read(GOLDEN, MODEL, kind="exe")
    with pytest.raises(RepositoryError, match="a collection's name"):
        read(GOLDEN, MODEL, collection="../faces")
    with pytest.raises(RepositoryError, match="'members'"):
        read(members=[{}] * 10_001)
