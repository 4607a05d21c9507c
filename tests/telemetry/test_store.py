from __future__ import annotations

import contextlib
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from coremlops.errors import ReportError
from coremlops.telemetry.count import Count
from coremlops.telemetry.signing import ENROL, DeviceKey, Signed, plain_code
from coremlops.telemetry.store import Store, Sum
from tests.telemetry.reports import FAIL, NOW, enrolled, signed

DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "reports.sqlite")
    made.make()
    return made


def reason(store: Store, signed: Signed) -> str:
    with pytest.raises(ReportError) as caught:
        store.report(signed, now=NOW)
    return caught.value.reason


def enrol(store: Store, key: DeviceKey, code: str) -> str:
    return store.enrol(Signed.make(key, ENROL, plain_code(code).encode()), now=NOW)


def test_who_makes_the_file_at_once_makes_one(tmp_path: Path) -> None:
    for turn in range(20):
        store = Store(tmp_path / f"{turn}.sqlite")
        failed: list[object] = []

        def make(store: Store = store, failed: list[object] = failed) -> None:
            try:
                store.make()
            except ReportError as error:
                failed.append(error)

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert store.devices() == 0


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE mine (x)")
    before = file.read_bytes()
    with pytest.raises(ReportError, match="is no file of reports"):
        Store(file).make_codes(1, now=NOW, lasts=DAY)
    assert file.read_bytes() == before


def test_a_code_enrols_one_device_and_the_same_again(store: Store) -> None:
    (code,) = store.make_codes(1, now=NOW, lasts=DAY)
    key = DeviceKey.make()
    assert [enrol(store, key, code), enrol(store, key, code)] == ["enrolled", "present"]
    with pytest.raises(ReportError, match="unknown, spent or too old"):
        enrol(store, DeviceKey.make(), code)
    assert store.devices() == 1


def test_a_code_ends(store: Store) -> None:
    (code,) = store.make_codes(1, now=NOW - 2 * DAY, lasts=DAY)
    with pytest.raises(ReportError, match="unknown, spent or too old"):
        enrol(store, DeviceKey.make(), code)


def test_a_code_is_not_spent_by_who_does_not_hold_the_key(store: Store) -> None:
    (code,) = store.make_codes(1, now=NOW, lasts=DAY)
    mine, theirs = DeviceKey.make(), DeviceKey.make()
    data = plain_code(code).encode()
    with pytest.raises(ReportError, match="signature"):
        store.enrol(Signed(data, mine.public, theirs.sign(ENROL, data)), now=NOW)
    assert enrol(store, mine, code) == "enrolled"


def test_one_code_and_ten_devices_at_once(store: Store) -> None:
    (code,) = store.make_codes(1, now=NOW, lasts=DAY)
    done: list[str] = []

    def race() -> None:
        try:
            done.append(enrol(store, DeviceKey.make(), code))
        except ReportError as error:
            done.append(error.reason)

    threads = [threading.Thread(target=race) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["code"] * 9 + ["enrolled"]


def test_only_an_enrolled_devices_own_signature_is_taken(store: Store) -> None:
    key = enrolled(store)
    assert reason(store, signed(DeviceKey.make())) == "not-enrolled"
    assert reason(store, Signed(signed(key).data, key.public, bytes(64))) == "signature"
    assert store.report(signed(key), now=NOW) == "kept"
    assert [each.ok for _, each in store.reports("faces", version=1)] == [True]


def test_a_replay_changes_nothing_and_the_last_word_of_a_device_stands(store: Store) -> None:
    key = enrolled(store)
    first, later = signed(key), signed(key, FAIL, at=NOW + timedelta(minutes=1))
    assert [store.report(each, now=NOW) for each in (first, first, later, later)] == [
        *("kept", "present"),
        *("kept", "present"),
    ]
    assert reason(store, first) == "stale"
    assert [each.ok for _, each in store.reports("faces")] == [False]


def test_within_one_second_the_failure_stands(store: Store) -> None:
    key = enrolled(store)
    said = (signed(key), signed(key, latency_s=0.5), signed(key, FAIL))
    assert [store.report(each, now=NOW) for each in said] == ["kept", "kept", "kept"]
    assert reason(store, signed(key)) == "stale"
    assert [each.ok for _, each in store.reports("faces")] == [False]


@pytest.mark.parametrize("off", [timedelta(minutes=11), -timedelta(days=31)])
def test_a_clock_that_is_off_is_told(store: Store, off: timedelta) -> None:
    assert reason(store, signed(enrolled(store), at=NOW + off)) == "clock"


def test_a_device_has_one_pseudonym_a_release_and_another_for_the_next(store: Store) -> None:
    key = enrolled(store)
    for version in (1, 2):
        store.report(signed(key, version=version), now=NOW)
        store.report(signed(key, version=version, at=NOW + timedelta(minutes=1)), now=NOW)
    names = [name for name, _ in store.reports("faces")]
    assert len(names) == len(set(names)) == 2


def test_two_models_of_a_collection_are_two_releases_whatever_their_numbers(store: Store) -> None:
    key = enrolled(store)
    for name in ("eyes", "hands"):
        assert store.report(signed(key, name=name, version=3), now=NOW) == "kept"
        store.count(Count("faces", name, 3, True, "iOS"))
    found = {each.name: pseudonym for pseudonym, each in store.reports("faces")}
    assert list(found) == ["eyes", "hands"]
    assert found["eyes"] != found["hands"]
    assert [each.name for _, each in store.reports("faces", "hands", 3)] == ["hands"]
    assert [(each.name, each.what) for each in store.sums("faces", "eyes", 3)] == [
        *(("eyes", "os"), ("eyes", "outcome")),
    ]
    assert (store.reports("faces", "hands", 2), store.sums("faces", "mouths")) == ([], [])
    store.close({("faces", "eyes", 3)})
    later = NOW + timedelta(minutes=1)
    assert reason(store, signed(key, name="hands", version=3, at=later)) == "closed"
    assert store.report(signed(key, name="eyes", version=3, at=later), now=later) == "kept"


def test_the_file_holds_no_key_no_code_and_nothing_that_stands_in_two_releases(store: Store) -> None:
    (code,) = store.make_codes(1, now=NOW, lasts=DAY)
    key = enrolled(store)
    store.report(signed(key), now=NOW)
    store.report(signed(key, version=2), now=NOW)
    data = store.path.read_bytes()
    plain = plain_code(code).encode()
    for secret in (key.public, key.public[1:33], key.public.hex().encode(), plain, code.encode()):
        assert secret not in data
    with contextlib.closing(sqlite3.connect(store.path)) as database:
        rows = database.execute("SELECT version, pseudonym FROM reports").fetchall()
        salts = database.execute("SELECT salt FROM releases").fetchall()
        (device,) = database.execute("SELECT hash FROM devices").fetchone()
    assert len({salt for (salt,) in salts}) == 2
    assert device not in {pseudonym for _, pseudonym in rows}


def test_a_version_that_is_off_the_offer_forgets_its_salt_and_keeps_its_rows(store: Store) -> None:
    key = enrolled(store)
    store.report(signed(key), now=NOW)
    with contextlib.closing(sqlite3.connect(store.path)) as database:
        (salt,) = database.execute("SELECT salt FROM releases").fetchone()
    assert salt in store.path.read_bytes()
    store.close({("faces", "faces", 2), ("faces", "cats", 1), ("cats", "faces", 1)})
    assert salt not in store.path.read_bytes()
    assert reason(store, signed(key, at=NOW + timedelta(minutes=1))) == "closed"
    assert len(store.reports("faces", version=1)) == 1


def test_counts_are_sums_and_never_rows_of_a_device(store: Store) -> None:
    for load in (3, 3, 4):
        store.count(Count("faces", "faces", 1, True, "iOS", load=load))
    assert store.sums("faces") == [
        Sum("faces", 1, "load", "16 ms", 1),
        Sum("faces", 1, "load", "8 ms", 2),
        Sum("faces", 1, "os", "iOS", 3),
        Sum("faces", 1, "outcome", "pass", 3),
    ]
    assert store.reports("faces") == []


@pytest.mark.parametrize(
    ("format", "words", "hint"),
    [
        (1, "of format 1, which an older coremlops wrote; format 2 expected", "name another file"),
        (3, "of format 3, which a newer coremlops wrote; format 2 expected", "update coremlops"),
    ],
)
def test_a_file_of_another_format_is_left_as_it_is_and_said_what_to_do_with(
    store: Store, format: int, words: str, hint: str
) -> None:
    with contextlib.closing(sqlite3.connect(store.path)) as database:
        database.execute(f"PRAGMA user_version = {format}")
    before = store.path.read_bytes()
    for use in (store.make, store.devices, lambda: store.make_codes(1, now=NOW, lasts=DAY)):
        with pytest.raises(ReportError) as caught:
            use()
        assert (caught.value.message, caught.value.reason) == (f"{store.path} is {words}", "unavailable")
        assert hint in str(caught.value.hint)
    assert store.path.read_bytes() == before


def test_nothing_grows_without_end(tmp_path: Path) -> None:
    store = Store(tmp_path / "r.sqlite", most_codes=3, most_devices=2, most_reports=1)
    keys = [enrolled(store), enrolled(store)]
    with pytest.raises(ReportError, match="no room for more devices"):
        enrolled(store)
    with pytest.raises(ReportError, match="no room for more codes"):
        store.make_codes(3, now=NOW, lasts=DAY)
    store.report(signed(keys[0]), now=NOW)
    assert reason(store, signed(keys[1])) == "full"
    assert store.report(signed(keys[1], version=2), now=NOW) == "kept"
    assert store.report(signed(keys[1], name="cats"), now=NOW) == "kept"


@pytest.mark.parametrize("data", [b"no database at all, but long enough to be read" * 20, None])
def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "other.sqlite"
    if data is None:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE mine (x)")
    else:
        path.write_bytes(data)
    before = path.read_bytes()
    with pytest.raises(ReportError) as caught:
        Store(path).make()
    assert caught.value.reason == "unavailable"
    with pytest.raises(ReportError, match=r"no reports at"):
        Store(tmp_path / "none.sqlite").reports("faces")
    assert path.read_bytes() == before


def test_the_file_is_its_owners_alone(store: Store) -> None:
    assert store.path.stat().st_mode & 0o777 == 0o600
