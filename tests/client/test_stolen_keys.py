"""What a thief of each key, who also holds the server, can do to a device; and what he cannot."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Key, MetaFile, Root, Targets

from coremlops.client import Device, UpdateResult
from coremlops.collection import Entry, Halts, Index, Line
from coremlops.release import Repository
from coremlops.release.expiry import utc_now
from coremlops.release.rotation import Rotation
from coremlops.release.terms import Form
from tests.client.conftest import QUICK, Version, World
from tests.client.server import Server, serving
from tests.client.thief import Thief

ONLINE = ("snapshot", "timestamp")


@dataclass
class Heist:
    """Version 1 is on both channels, version 2 on staging; `tester` follows staging and has it.

    `public` follows release, `fresh` makes a device that was never online.
    """

    world: World
    tester: Device
    public: Device

    def steal(self, *keys: str) -> Thief:
        thief = Thief.of(self.world.repository, self.world.folder / "his", *keys)
        self.world.server.folder = thief.folder
        return thief

    def fresh(self, channel: str) -> Device:
        return install(self.world.folder, self.world.server.url, f"fresh-{channel}", channel)


def offering(entry: Entry) -> Index:
    """An index of the release channel that has this version alone."""
    return Index("faces", "release", (Line("faces", "release", "faces", (entry,), entry.version),))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, made: tuple[Version, Version]) -> Path:
    """Everything that a heist begins with, made once: a folder to copy."""
    folder = tmp_path_factory.mktemp("scene")
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch, folder)
        repository = Repository.init(folder / "repository")
        repository.publish([Form(made[0].model, made[0].golden)])
        repository.promote()
        with serving(Server(repository.folder)) as server:
            assert install(folder, server.url, "public", "release").update().version == 1
            repository.publish([Form(made[1].model, made[1].golden)])
            assert install(folder, server.url, "tester", "staging").update().version == 2
    return folder


@pytest.fixture
def heist(
    scene: Path, tmp_path: Path, made: tuple[Version, Version], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Heist]:
    folder = shutil.copytree(scene, tmp_path / "world")
    set_up(monkeypatch, folder)
    repository = Repository.open(folder / "repository")
    with serving(Server(repository.folder)) as server:
        tester = install(folder, server.url, "tester", "staging")
        public = install(folder, server.url, "public", "release")
        yield Heist(World(folder, repository, server, tester, *made), tester, public)


def set_up(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("COREMLOPS_CONFIG", str(folder / "config"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        patch.delenv(name, raising=False)
        patch.delenv(name.upper(), raising=False)


def install(folder: Path, url: str, name: str, channel: str) -> Device:
    root = folder / "repository" / "metadata" / "1.root.json"
    return Device.install(folder / name, url, "faces", channel, root, limits=QUICK)


def assert_safe(device: Device, words: str, version: int | None) -> None:
    """Refused for this reason; what was active is active."""
    result = device.update()
    assert (result.outcome, result.version) == ("refused", version), result
    assert words in result.reason, result.reason


# timestamp


def test_timestamp_key_cannot_roll_back(heist: Heist) -> None:
    thief = heist.steal("timestamp")
    thief.forge("timestamp", lambda signed: setattr(signed, "snapshot_meta", MetaFile(2)))
    assert_safe(heist.tester, "replayed or mixed metadata: New snapshot version must be >= 4", 2)


def test_timestamp_key_cannot_make_up_a_snapshot(heist: Heist) -> None:
    thief = heist.steal("timestamp")
    thief.forge(
        "snapshot", lambda signed: signed.meta.update({"faces-staging.json": MetaFile(9)}), by="timestamp"
    )
    thief.forge("timestamp", lambda signed: setattr(signed, "snapshot_meta", MetaFile(5)))
    assert_safe(heist.tester, "tampered metadata: snapshot was signed by 0/1 keys", 2)
    assert_safe(heist.fresh("staging"), "tampered metadata: snapshot was signed by 0/1 keys", None)


def test_timestamp_key_can_freeze_until_the_snapshot_ends(
    heist: Heist, later: Callable[[float], None]
) -> None:
    thief = heist.steal("timestamp")
    heist.world.repository.promote()
    end = utc_now() + timedelta(days=3650)
    thief.forge("timestamp", lambda signed: setattr(signed, "expires", end))
    result = heist.public.update()
    assert (result.outcome, result.version) == ("current", 1)
    later(29)
    assert heist.public.update().outcome == "current"
    later(31)
    assert_safe(heist.public, "expired metadata: snapshot.json is expired", 1)


# snapshot


def test_snapshot_key_alone_changes_nothing_for_a_device(heist: Heist) -> None:
    """Another snapshot of the same version: a device has its own, and a timestamp names no other."""
    thief = heist.steal("snapshot")
    back = {"faces-staging.json": MetaFile(2)}
    thief.forge("snapshot", lambda signed: signed.meta.update(back), version=4)
    result = heist.tester.update()
    assert (result.outcome, result.version) == ("current", 2)


def test_snapshot_key_can_show_a_new_device_old_releases(heist: Heist) -> None:
    """Real ones, that a channel's own key signed for that channel."""
    thief = heist.steal("snapshot")
    back = {"faces-staging.json": MetaFile(2), "faces-members.json": MetaFile(2)}
    thief.forge("snapshot", lambda signed: signed.meta.update(back), version=4)
    assert heist.fresh("staging").update().version == 1


def test_snapshot_and_timestamp_keys_cannot_roll_back(heist: Heist) -> None:
    thief = heist.steal(*ONLINE)
    thief.lead_to(faces_staging=2)
    assert_safe(heist.tester, "replayed or mixed metadata: Expected faces-staging.json version 2, got 3", 2)


@pytest.mark.parametrize("role", ["targets", "faces-staging", "faces-members", "faces-halt"])
def test_snapshot_and_timestamp_keys_cannot_make_up_a_role(heist: Heist, role: str) -> None:
    thief = heist.steal(*ONLINE)
    version = thief.forge(role, lambda signed: signed.targets.clear(), by="snapshot")
    thief.lead_to(**{role: version})
    heist.world.server.log.clear()
    if role == "faces-members":  # Asked for when there is something to fetch.
        assert_safe(heist.fresh("staging"), f"tampered metadata: {role} was signed by 0/1 keys", None)
    else:
        assert_safe(heist.tester, f"tampered metadata: {role} was signed by 0/1 keys", 2)


def test_fast_forward_with_the_snapshot_and_timestamp_keys_ends_with_new_keys(heist: Heist) -> None:
    """Versions so high that nothing honest is newer: devices are stuck, and new keys free them."""
    thief = heist.steal(*ONLINE)
    thief.forge("snapshot", lambda signed: None, version=2**31)
    thief.forge("timestamp", lambda signed: setattr(signed, "snapshot_meta", MetaFile(2**31)), version=2**31)
    assert heist.public.update().outcome == "current"
    repository = heist.world.repository
    heist.world.server.folder = repository.folder
    repository.promote()
    assert_safe(heist.public, "replayed or mixed metadata", 1)
    repository.rotate(Rotation(("snapshot", "timestamp")))
    assert heist.public.update().version == 2


# staging


def evil(heist: Heist, *keys: str) -> Thief:
    """A thief who publishes a model of his own on staging, as version 3, with the keys of staging."""
    repository = heist.world.repository
    online = heist.world.folder / "stolen"
    for name in keys:
        path = repository.keys.path(name)
        copy = online / "keys" / repository.keys.repository_id / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy2(path, copy)
    for folder in (online / "keys", *(online / "keys").rglob("*")):
        if folder.is_dir():
            folder.chmod(0o700)
    thief = heist.steal(*keys)
    his = Repository.open(thief.folder, config=online)
    his.publish([Form(heist.world.one.model, heist.world.one.golden)], again=True)
    return thief


def test_staging_key_can_give_testers_any_model(heist: Heist) -> None:
    evil(heist, "staging", *ONLINE)
    result = heist.tester.update()
    assert (result.outcome, result.version) == ("updated", 3)


def test_staging_key_cannot_release(heist: Heist) -> None:
    """The evil index, signed for the release channel: no device on release takes it, nor anything else."""
    thief = evil(heist, "staging", *ONLINE)
    assert heist.public.update().version == 1
    staging = thief.read("faces-staging").signed.targets

    def change(signed: Targets) -> None:
        signed.targets = {path.replace("staging", "release"): target for path, target in staging.items()}
        for path in (thief.folder / "targets" / "faces" / "staging").iterdir():
            shutil.copy2(path, thief.folder / "targets" / "faces" / "release" / path.name)

    thief.lead_to(faces_release=thief.forge("faces-release", change, by="staging"))
    for device, version in ((heist.public, 1), (heist.fresh("release"), None)):
        assert_safe(device, "tampered metadata: faces-release was signed by 0/1 keys", version)


def test_staging_key_cannot_delegate_to_release(heist: Heist) -> None:
    """A diamond: his faces-members delegates to a role called faces-release, with his key. The server answers
    with the real file first, and with his, of the same version, once the device looks for members."""
    heist.world.repository.promote()
    thief = heist.steal("staging", *ONLINE)
    key = heist.world.repository.keys.signers("staging")[0].public_key
    members = dict(thief.read("faces-members").signed.targets)

    def delegate(signed: Targets) -> None:
        role = DelegatedRole("faces-release", [key.keyid], 1, True, paths=["*/*/*"])
        signed.targets = {}
        signed.delegations = Delegations({key.keyid: key}, {"faces-release": role})

    def lie(signed: Targets) -> None:
        signed.targets = dict(members)
        thief.document("faces/release/index.json", Index("faces", "release").to_bytes())(signed)

    thief.lead_to(faces_members=thief.forge("faces-members", delegate, by="staging"))
    newest = thief.newest("faces-release")
    real = (thief.folder / "metadata" / f"{newest}.faces-release.json").read_bytes()
    thief.forge("faces-release", lie, by="staging", version=newest)
    answers = iter([real])
    heist.world.server.change = lambda path, data: (
        next(answers, data) if path.endswith(".faces-release.json") else data
    )
    assert heist.public.update().version == 2
    assert_safe(heist.public, "tampered metadata: faces-release was signed by 0/1 keys", 2)


def test_staging_key_cannot_change_a_released_model(heist: Heist) -> None:
    """The release names a manifest by its hash: another file under that name is none of its members."""
    thief = heist.steal("staging", *ONLINE)
    heist.world.repository.promote()
    manifest = heist.world.repository.line("release").current.variants[0].manifest  # type: ignore[union-attr]
    thief = Thief.of(heist.world.repository, heist.world.folder / "later", "staging", *ONLINE)
    heist.world.server.folder = thief.folder
    path = f"faces/members/{manifest}"
    thief.lead_to(faces_members=thief.forge("faces-members", thief.document(path, b"{}"), by="staging"))
    assert_safe(heist.public, f"member {manifest} is not signed by the collection's members role", 1)


def test_staging_key_cannot_halt_or_lift_a_halt(heist: Heist) -> None:
    thief = heist.steal("staging", *ONLINE)
    empty = thief.document("faces/halt/release.json", Halts("faces", "release").to_bytes())
    thief.lead_to(faces_halt=thief.forge("faces-halt", empty, by="staging"))
    heist.world.repository.promote()
    assert_safe(heist.fresh("release"), "tampered metadata: faces-halt was signed by 0/1 keys", None)


# release


def test_release_key_can_release_what_staging_has(heist: Heist) -> None:
    thief = heist.steal("release", *ONLINE)
    entry = heist.world.repository.line("staging").current
    assert entry is not None
    index = offering(entry)
    change = thief.document("faces/release/index.json", index.to_bytes())
    thief.lead_to(faces_release=thief.forge("faces-release", change, by="release"))
    assert heist.public.update().version == 2


def test_release_key_cannot_bring_a_model_of_its_own(heist: Heist) -> None:
    """Files are signed by staging's key: an index that names another is believed, and leads nowhere."""
    thief = heist.steal("release", *ONLINE)
    entry = heist.world.repository.line("staging").current
    assert entry is not None
    variant = replace(entry.variants[0], manifest="e" * 64)
    index = offering(replace(entry, version=3, variants=(variant,)))
    change = thief.document("faces/release/index.json", index.to_bytes())
    thief.lead_to(faces_release=thief.forge("faces-release", change, by="release"))
    assert_safe(heist.public, f"member {'e' * 64} is not signed by the collection's members role", 1)


def test_release_key_cannot_touch_staging(heist: Heist) -> None:
    thief = heist.steal("release", *ONLINE)
    version = thief.forge("faces-staging", lambda signed: None, by="release")
    thief.lead_to(faces_staging=version)
    assert_safe(heist.tester, "tampered metadata: faces-staging was signed by 0/1 keys", 2)


# halt


def test_halt_key_can_stop_a_release_and_no_more(heist: Heist) -> None:
    """Devices stay with what they have; those that have the version keep it."""
    heist.world.repository.promote()
    thief = heist.steal("halt", *ONLINE)
    change = thief.document(
        "faces/halt/release.json", Halts("faces", "release", ((("faces", 2), 1),)).to_bytes()
    )
    thief.lead_to(faces_halt=thief.forge("faces-halt", change, by="halt"))
    result = heist.public.update()
    assert (result.outcome, result.version, result.changed) == ("current", 1, False), result
    assert heist.tester.update().version == 2


@pytest.mark.parametrize("role", ["faces-release", "faces-staging", "faces-members"])
def test_halt_key_cannot_start_or_change_anything(heist: Heist, role: str) -> None:
    thief = heist.steal("halt", *ONLINE)
    thief.lead_to(**{role: thief.forge(role, lambda signed: None, by="halt")})
    for channel in ("staging", "release"):
        if role in ("faces-members", f"faces-{channel}"):
            assert_safe(heist.fresh(channel), f"tampered metadata: {role} was signed by 0/1 keys", None)


# targets and root


def take_over(thief: Thief, key: Key) -> None:
    """`targets` says that `key` speaks for release."""

    def change(signed: Targets) -> None:
        assert signed.delegations is not None
        assert signed.delegations.roles is not None
        signed.delegations.keys[key.keyid] = key
        signed.delegations.roles["faces-release"].keyids = [key.keyid]

    thief.forge("targets", change)


def test_targets_key_alone_changes_nothing(heist: Heist) -> None:
    thief = heist.steal("targets", "staging")
    take_over(thief, heist.world.repository.keys.signers("staging")[0].public_key)
    for device, version in ((heist.public, 1), (heist.tester, 2)):
        assert device.update().outcome == "current"
        assert device.status().active.version == version  # type: ignore[union-attr]


def test_targets_key_with_the_online_keys_can_take_all_until_root_takes_it_away(heist: Heist) -> None:
    thief = evil(heist, "targets", "staging", *ONLINE)
    repository = heist.world.repository
    take_over(thief, repository.keys.signers("staging")[0].public_key)
    entry = Repository.open(thief.folder).line("staging").current
    assert entry is not None
    index = offering(entry)
    change = thief.document("faces/release/index.json", index.to_bytes())
    thief.lead_to(
        targets=thief.newest("targets"), faces_release=thief.forge("faces-release", change, by="staging")
    )
    assert heist.public.update().version == 3
    heist.world.server.folder = repository.folder
    assert_safe(heist.public, "replayed or mixed metadata", 3)
    repository.rotate(Rotation(("targets", "staging", "snapshot", "timestamp")))
    assert heist.public.update().version == 1


def test_targets_key_cannot_change_the_root(heist: Heist) -> None:
    thief = heist.steal("targets", *ONLINE)
    thief.forge("root", lambda signed: None, by="targets")
    assert_safe(heist.public, "tampered metadata: root was signed by 0/1 keys", 1)


def refuses(result: UpdateResult) -> bool:
    return result.outcome == "refused" and "tampered metadata: root was signed by" in result.reason


def test_fewer_root_keys_than_the_threshold_change_nothing(heist: Heist) -> None:
    """One of two: not the root, and nothing that root's keys say of others. With both, everything."""
    repository = heist.world.repository
    repository.rotate(Rotation(("root",), add=True, threshold=2))
    assert heist.public.update().outcome == "current"
    root = repository.folder / "metadata"
    newest = max(int(path.name.split(".")[0]) for path in root.glob("*.root.json"))
    thief = heist.steal("root", *ONLINE)
    both = repository.keys.signers("root")
    assert len(both) == 2

    def change(signed: Root) -> None:
        key = both[0].public_key
        signed.roles["timestamp"].keyids = [key.keyid]
        signed.keys[key.keyid] = key

    thief.forge("root", change)
    file = thief.folder / "metadata" / f"{newest + 1}.root.json"
    forged = thief.read("root")
    good = dict(forged.signatures)
    for keyid in good:
        forged.signatures = {keyid: good[keyid]}
        forged.to_file(str(file))
        assert refuses(heist.public.update())
    forged.signatures = good
    forged.to_file(str(file))
    assert_safe(heist.public, "tampered metadata: timestamp was signed by 0/1 keys", 1)
