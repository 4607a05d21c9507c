"""Named after the attack: each leaves the old model active, with a reason.

Of attackers who hold the network and no key; those who have keys, fast-forward among them, are in
`test_stolen_keys.py`. The update workflow alone, step by step, is in `workflow/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import DownloadHTTPError

from coremlops.client import Device, UpdateResult
from coremlops.client.web import Web
from coremlops.release import Repository
from coremlops.release.expiry import utc_now
from coremlops.release.terms import Form
from tests.client.conftest import QUICK, World


def assert_refused(world: World, result: UpdateResult, words: str) -> None:
    """Refused with this reason, which is remembered; version 1 is active and works."""
    assert (result.outcome, result.version, result.changed) == ("refused", 1, False), result
    assert result.refused is not None
    assert words in result.refused, result.refused
    last = world.again().status().last
    assert last is not None
    assert (last.outcome, last.reason) == ("refused", result.reason)
    world.assert_old_model_works()


def flip(suffix: str, at: int = -1) -> Callable[[str, bytes], bytes]:
    """One bit of the file that ends so."""

    def change(path: str, data: bytes) -> bytes:
        if not path.endswith(suffix):
            return data
        changed = bytearray(data)
        changed[at] ^= 1
        return bytes(changed)

    return change


def test_tampered_payload(world: World) -> None:
    world.publish_two()
    weights = world.member("weight.bin")
    world.server.change = flip(weights)
    result = world.device.update()
    assert_refused(world, result, "its SHA-256 is not the signed one")
    assert result.reason.startswith(
        "version 2: model.mlpackage/Data/com.apple.CoreML/weights/weight.bin: tampered"
    )
    assert not (world.device.folder / "downloads" / f"{weights}.part").exists()
    world.server.change = None
    assert world.device.update().version == 2


@pytest.mark.parametrize(
    "name", ["golden.json", "model.mlmodel", "weight.bin", "Manifest.json", ".png", "the manifest"]
)
def test_tampered_member(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a member is decoded before all of its bytes are the signed ones."""
    newest = world.repository.line("staging").current
    assert newest is not None
    member = newest.variants[0].manifest if name == "the manifest" else world.member(name)
    read: list[bytes] = []
    real = json.loads

    def loads(data: str | bytes, **options: Any) -> Any:
        read.append(data.encode() if isinstance(data, str) else data)
        return real(data, **options)

    monkeypatch.setattr(json, "loads", loads)
    for decoder in ("coremlops.golden.check", "coremlops.client.models.model_digest"):
        monkeypatch.setattr(decoder, lambda *paths: pytest.fail("decoded"))
    new = Device.install(
        *(world.folder / "new", world.server.url, "faces", "staging", world.repository.root_file),
        limits=QUICK,
    )
    world.server.change = flip(member)
    result = new.update()
    assert (result.outcome, result.version, result.judgement) == ("refused", None, None)
    assert "its SHA-256 is not the signed one" in result.reason
    signed = world.repository.folder / f"targets/faces/members/{member}.{member}"
    assert flip(member)(member, signed.read_bytes()) not in read
    assert list((new.folder / "models").rglob("*")) == []


def test_tampered_index(world: World) -> None:
    world.publish_two()
    world.server.change = flip("index.json", 5)
    assert_refused(world, world.device.update(), "tampered file")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "faces-staging", "faces-members"])
def test_tampered_metadata(world: World, role: str) -> None:
    """The expiry moved by a year; the signature no longer fits."""
    world.publish_two()

    def change(path: str, data: bytes) -> bytes:
        if not path.endswith(f"{role}.json"):
            return data
        value = json.loads(data)
        value["signed"]["expires"] = "2099-01-01T00:00:00Z"
        return json.dumps(value).encode()

    world.server.change = change
    assert_refused(world, world.device.update(), "tampered metadata")


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 5000, b"\xff" * 99, b'{"signed": {"_type": "root"}}'])
def test_metadata_that_is_none(world: World, data: bytes) -> None:
    world.publish_two()
    world.server.change = lambda path, old: data if path.endswith("timestamp.json") else old
    assert_refused(world, world.device.update(), "bad metadata")


def test_arbitrary_installation(world: World, tmp_path: Path) -> None:
    other = Repository.init(tmp_path / "other")
    other.publish([Form(world.two.model, world.two.golden)])
    world.server.folder = other.folder
    assert_refused(world, world.device.update(), "tampered metadata")


def test_rollback(world: World) -> None:
    old = world.keep("old")
    world.publish_two()
    world.repository.rollback("staging")
    assert world.device.update().version == 1
    world.server.folder = old
    assert_refused(world, world.device.update(), "replayed or mixed metadata")


def test_rollback_of_a_device_that_has_the_newer_version(world: World) -> None:
    old = world.keep("old")
    world.publish_two()
    assert world.device.update().version == 2
    world.server.folder = old
    result = world.device.update()
    assert (result.outcome, result.version) == ("refused", 2)
    assert "replayed or mixed metadata" in result.reason


@pytest.mark.parametrize("role", ["snapshot", "faces-staging", "faces-members"])
def test_mix_and_match(world: World, role: str) -> None:
    """An older file of a role, signed and real, under the newer file's name."""
    metadata = world.repository.folder / "metadata"
    old = (metadata / f"2.{role}.json").read_bytes()
    world.publish_two()
    assert (metadata / f"3.{role}.json").exists()
    world.server.change = lambda path, data: old if path.endswith(f"/3.{role}.json") else data
    assert_refused(world, world.device.update(), "replayed or mixed metadata")


def test_expired_timestamp(world: World) -> None:
    past = replace(
        Repository.open(world.repository.folder, clock=lambda: utc_now() - timedelta(days=8)),
        clock_checked=True,
    )
    past.publish([Form(world.two.model, world.two.golden)])
    assert_refused(world, world.device.update(), "expired metadata: timestamp.json is expired")
    assert "timestamp" in world.repository.renew()
    assert world.device.update().version == 2


def test_freeze(world: World, later: Callable[[float], None]) -> None:
    """The attacker answers with what the device has already, for ever."""
    assert world.device.update().outcome == "current"
    later(8)
    assert_refused(world, world.device.update(), "expired metadata")
    last = world.again().status().last
    assert last is not None
    assert last.reason.endswith(f"; the clock here says {utc_now():%Y-%m-%d}")  # it may be the one to blame


@pytest.mark.parametrize("name", ["weight.bin", "golden.json"])
def test_endless_data_in_a_member(world: World, name: str) -> None:
    world.publish_two()
    world.server.endless.add(world.member(name))
    assert_refused(world, world.device.update(), "more than the signed")
    assert not (world.device.folder / "downloads" / f"{world.member(name)}.part").exists()


def test_endless_data_in_metadata(world: World) -> None:
    world.publish_two()
    world.server.endless.add("timestamp.json")
    assert_refused(world, world.device.update(), "endless data")


def test_wrong_length_of_a_member(world: World) -> None:
    world.publish_two()
    weights = world.member("weight.bin")
    world.server.change = lambda path, data: data + b"x" if path.endswith(weights) else data
    assert_refused(world, world.device.update(), "more than the signed 200000 bytes")
    world.server.change = lambda path, data: data[:-1] if path.endswith(weights) else data
    result = world.device.update()
    assert (result.outcome, result.version) == ("offline", 1)
    assert "199999 of 200000 bytes came" in result.reason
    world.assert_old_model_works()


@pytest.mark.parametrize("change", [b"", b" ", None])
def test_wrong_length_of_the_index(world: World, change: bytes | None) -> None:
    world.publish_two()
    world.server.change = lambda path, data: (
        (data[:-1] if change is None else data + change) if path.endswith(".index.json") else data
    )
    if change == b"":
        assert world.device.update().version == 2
    else:
        assert_refused(world, world.device.update(), "tampered file" if change is None else "endless data")


def test_extraneous_dependency(world: World) -> None:
    """A manifest that names one file more, a real one that the same role signed: it is not this version's."""
    world.publish_two()
    entry = world.repository.line("staging").current
    assert entry is not None
    manifest, other = entry.variants[0].manifest, world.member("weight.bin")

    def add(path: str, data: bytes) -> bytes:
        if not path.endswith(f"/{manifest}.{manifest}"):
            return data
        value = json.loads(data)
        value["members"].append({"path": "model.mlpackage/extra", "sha256": other, "length": 200_000})
        return json.dumps(value).encode()

    world.server.change = add
    assert_refused(world, world.device.update(), "more than the signed")


def test_slow_retrieval_is_given_up_and_what_came_is_kept(world: World) -> None:
    from coremlops.client import Limits

    world.publish_two()
    # Every transfer is slower than this: what is tested is the giving up, not a time.
    impatient = Limits(retries=0, grace_s=0.0, slowest_bytes_s=1e15)
    result = Device(world.device.folder, limits=impatient).update()
    assert (result.outcome, result.version) == ("offline", 1)
    assert "slower than" in result.reason
    world.assert_old_model_works()


def test_a_failing_golden_set(world: World, tmp_path: Path) -> None:
    wrong = shutil.copytree(world.two.golden, tmp_path / "wrong")
    text = (wrong / "golden.json").read_text()
    promised = json.loads(text)
    for item in promised["examples"]:
        item["calls"][0]["outputs"]["classLabel"]["value"] = "blue"
    (wrong / "golden.json").write_text(json.dumps(promised))
    world.repository.publish([Form(world.two.model, wrong)])
    result = world.device.update()
    assert_refused(world, result, "expected 'blue', got")
    assert result.judgement is not None
    assert [each.name for each in result.judgement.outputs if not each.ok] == ["classLabel"]
    assert [each.version for each in world.device.status().refused] == [2]

    world.server.log.clear()
    assert_refused(world, world.again().update(), "expected 'blue', got")
    assert [each.path for each in world.server.log] == ["/metadata/2.root.json", "/metadata/timestamp.json"]

    world.repository.publish([Form(world.two.model, world.two.golden)], again=True)
    assert world.device.update().version == 3


def test_a_golden_set_of_another_model(world: World) -> None:
    world.repository.publish([Form(world.two.model, world.one.golden)])
    assert_refused(world, world.device.update(), "golden set")


def test_a_newer_coremlops_judges_a_refused_version_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import coremlops
    from coremlops import golden
    from coremlops.errors import GoldenError

    def fails(model: Path, folder: Path) -> None:
        raise GoldenError("an engine's fault")

    world.publish_two()
    with monkeypatch.context() as patch:
        patch.setattr(golden, "check", fails, raising=False)
        assert_refused(world, world.device.update(), "an engine's fault")
    assert world.device.update().outcome == "refused"
    monkeypatch.setattr(coremlops, "__version__", "99.0")
    assert world.device.update().version == 2


def test_an_engine_that_raises_anything_is_a_refusal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from coremlops import golden

    def fails(model: Path, folder: Path) -> None:
        raise RuntimeError("the engine fell over")

    world.publish_two()
    monkeypatch.setattr(golden, "check", fails, raising=False)
    assert_refused(world, world.device.update(), "RuntimeError: the engine fell over")


def test_a_reason_with_half_a_character_leaves_the_device_readable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an engine says goes into state.json, which is read strictly: a lone surrogate is replaced."""
    from coremlops import golden

    def fails(model: Path, folder: Path) -> None:
        raise RuntimeError("bad op \udcff")

    world.publish_two()
    monkeypatch.setattr(golden, "check", fails, raising=False)
    assert_refused(world, world.device.update(), "bad op ?")
    assert [each.version for each in world.again().status().refused] == [2]


@pytest.mark.parametrize("url", ["https://u:hunter2@models.example/r", "http://hunter2@models.example"])
def test_a_url_with_a_password_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    """It would stand in state.json, which others may read, and in every message."""
    from coremlops.errors import UsageError

    with pytest.raises(UsageError, match="no user name or password") as caught:
        Device.install(tmp_path / "phone", url, "faces", "staging", b"{}")
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert not (tmp_path / "phone").exists()


@pytest.mark.parametrize("url", ["http://a\nb", "http://models.example/a b", "https://a\x1b[2Jb"])
def test_a_url_that_would_break_a_line_is_refused(tmp_path: Path, url: str) -> None:
    from coremlops.errors import UsageError

    with pytest.raises(UsageError, match="a repository's URL is") as caught:
        Device.install(tmp_path / "phone", url, "faces", "staging", b"{}")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_a_redirect_leads_to_no_file_of_the_device(world: World, tmp_path: Path, scheme: str) -> None:
    """A server that answers "look at file:///..." gets nothing read: redirects are http and https alone."""
    world.publish_two()
    target = f"{scheme}://{world.repository.folder}/metadata/timestamp.json"
    world.server.redirect["timestamp.json"] = target
    result = world.device.update()
    assert (result.outcome, result.version) == ("offline", 1)
    assert world.server.log[-1].status == 302
    world.assert_old_model_works()


def test_endless_redirects(world: World) -> None:
    world.publish_two()
    world.server.redirect["timestamp.json"] = f"{world.server.url}/metadata/timestamp.json"
    result = world.device.update()
    assert (result.outcome, result.version) == ("offline", 1)
    assert "too many redirects" in result.reason
    assert len(world.server.log) < 10
    world.assert_old_model_works()


def test_a_name_with_a_slash_leads_to_no_other_folder(tmp_path: Path) -> None:
    """A role called `../secret`, quoted in a file: URL."""
    (tmp_path / "repository").mkdir()
    (tmp_path / "secret.json").write_text("{}")
    for quoted in ("..%2Fsecret.json", "..%2fsecret.json"):
        with pytest.raises(DownloadHTTPError, match="no file can have this name") as caught:
            Web().read(f"{(tmp_path / 'repository').as_uri()}/{quoted}")
        assert caught.value.status_code == 404


def test_a_manifest_that_names_another_digest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that lies about the digest: the signatures are right, the promise is not."""
    monkeypatch.setattr("coremlops.release.repository.model_digest", lambda path: "d" * 64)
    world.publish_two()
    assert_refused(world, world.device.update(), f"the manifest says {'d' * 64}")


def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish_two()
    usage = shutil.disk_usage(world.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    world.server.log.clear()
    assert_refused(world, world.device.update(), "the disk has 1000 bytes free, the update needs")
    assert world.server.sent(world.member("weight.bin")) == []


def test_a_member_that_is_not_there(world: World) -> None:
    world.publish_two()
    world.server.hidden.add(world.member("weight.bin"))
    result = world.device.update()
    assert (result.outcome, result.version) == ("offline", 1)
    assert "the server answers 404" in result.reason
    world.assert_old_model_works()
