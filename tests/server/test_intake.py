"""What the intake takes and what it refuses, each with the status and the word that say so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from coremlops.release import Repository
from coremlops.release.keeping import Keeper
from coremlops.release.terms import Form
from coremlops.server.intake import STATUS, Intake, Offers, Rate, routes
from coremlops.telemetry.count import Count
from coremlops.telemetry.report import Report
from coremlops.telemetry.signing import ENROL, DeviceKey, Signed, plain_code
from coremlops.telemetry.store import Release, Store
from tests.release.models import write_model
from tests.telemetry.reports import NOW, PASS, enrolled, report, signed


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: dict[str, Any]


class Asked:
    """An intake for a repository with version 1 of `faces` on staging, without a network."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        current = repository.line("staging").current
        assert current is not None
        (variant,) = current.variants
        self.store = Store(folder / "reports.sqlite")
        self.store.make()
        self.intake = Intake(self.store, Offers(repository.folder), clock=lambda: NOW)
        self.intake.rate.burst = 10_000
        self.app = Starlette(routes=[Mount("/intake", routes=list(routes(self.intake)))])
        self.true = report(variant=variant.name, model=variant.model, manifest=variant.manifest)

    def send(self, key: DeviceKey, base: Report | None = None, **changes: Any) -> Answer:
        return self.post("report", signed(key, base or self.true, **changes).to_bytes())

    def post(
        self,
        path: str,
        body: bytes,
        address: str = "192.0.2.1",
        kind: bytes = b"application/json",
        length: bytes | None = None,
        *,
        hangs: bool = False,
    ) -> Answer:
        headers = [(b"content-type", kind)] + ([(b"content-length", length)] if length is not None else [])
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/intake/{path}",
            "raw_path": b"",
            "root_path": "",
            "query_string": b"",
            "headers": headers,
            "client": (address, 5),
        }
        pieces = [body[at : at + 5000] for at in range(0, len(body), 5000)] or [b""]
        sent: list[Any] = []

        async def receive() -> Any:
            if hangs:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        return Answer(sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"]))


@pytest.fixture
def asked(repository: Repository, tmp_path: Path) -> Asked:
    return Asked(repository, tmp_path)


def refused(answer: Answer, reason: str) -> str:
    assert (answer.status, answer.body["ok"], answer.body["reason"]) == (STATUS[reason], False, reason)
    return str(answer.body["error"])


def test_a_device_enrols_and_reports(asked: Asked) -> None:
    (code,) = asked.store.make_codes(1, now=NOW, lasts=timedelta(days=1))
    key = DeviceKey.make()
    request = Signed.make(key, ENROL, plain_code(code).encode()).to_bytes()
    assert asked.post("enrol", request).body == {"ok": True, "action": "enrolled"}
    assert [asked.send(key).body["action"] for _ in range(2)] == ["kept", "present"]
    assert [each for _, each in asked.store.reports("faces")] == [asked.true]
    refused(asked.post("enrol", Signed.make(DeviceKey.make(), ENROL, b"0" * 16).to_bytes()), "code")


def test_who_is_not_enrolled_or_did_not_sign_this_is_refused(asked: Asked) -> None:
    key = enrolled(asked.store)
    refused(asked.send(DeviceKey.make()), "not-enrolled")
    good = signed(key, asked.true)
    changed = asked.true.to_bytes().replace(b'"chip":"A17 Pro"', b'"chip":"A18 Pro"')
    refused(asked.post("report", Signed(changed, key.public, good.signature).to_bytes()), "signature")
    enrolment = Signed.make(key, ENROL, asked.true.to_bytes())
    refused(asked.post("report", enrolment.to_bytes()), "signature")
    assert asked.store.reports("faces") == []


def test_a_version_that_is_not_on_offer_here_is_refused(asked: Asked) -> None:
    key = enrolled(asked.store)
    for changes in (
        {"version": 2},
        {"collection": "cats"},
        {"name": "cats"},
        {"manifest": "c" * 64},
        {"model": "c" * 64},
        {"variant": "small"},
    ):
        refused(asked.send(key, **changes), "unknown-version")
    refused(asked.post("count", Count("faces", "faces", 9, True, "iOS").to_bytes()), "unknown-version")
    error = refused(asked.post("count", Count("faces", "cats", 1, True, "iOS").to_bytes()), "unknown-version")
    assert error == "no version 1 of cats is on offer here in faces"
    assert asked.store.reports("faces") == []


def test_clocks_that_are_off_and_words_that_came_too_late(asked: Asked) -> None:
    key = enrolled(asked.store)
    assert "by this clock" in refused(asked.send(key, at=NOW + timedelta(hours=1)), "clock")
    assert asked.send(key).status == 200
    refused(asked.send(key, at=NOW - timedelta(hours=1)), "stale")


def test_a_body_is_json_and_small_before_it_is_read(asked: Asked) -> None:
    key = enrolled(asked.store)
    body = signed(key, asked.true).to_bytes()
    refused(asked.post("report", body, kind=b"text/plain"), "type")
    refused(asked.post("report", b"", kind=b"Application/JSON; charset=utf-8"), "schema")
    refused(asked.post("report", body, length=b"100000000"), "size")
    refused(asked.post("report", body, length=b"-1"), "size")
    refused(asked.post("report", b" " * 40_000), "size")
    refused(asked.post("count", b" " * 2_000), "size")
    asked.intake.body_s = 0.05
    refused(Asked.post(asked, "report", body, hangs=True), "slow")


def test_a_count_is_a_sum_and_needs_no_enrolment(asked: Asked) -> None:
    for _ in range(2):
        assert (
            asked.post("count", Count("faces", "faces", 1, False, "iOS").to_bytes()).body["action"]
            == "counted"
        )
    assert {(each.what, each.value): each.n for each in asked.store.sums("faces")} == {
        ("outcome", "fail"): 2,
        ("os", "iOS"): 2,
    }


def test_an_address_asks_so_often_and_others_go_on(asked: Asked) -> None:
    now = [0.0]
    asked.intake.enrol_rate.clock = lambda: now[0]
    request = Signed.make(DeviceKey.make(), ENROL, b"0" * 16).to_bytes()
    for _ in range(10):
        refused(asked.post("enrol", request), "code")
    answer = asked.post("enrol", request)
    refused(answer, "rate")
    assert answer.headers[b"retry-after"] == b"31"
    refused(asked.post("enrol", request, address="192.0.2.2"), "code")
    now[0] = 31.0
    refused(asked.post("enrol", request), "code")
    # One IPv6 household is one; an IPv4 address in IPv6's clothes is itself.
    for number in range(10):
        refused(asked.post("enrol", request, address=f"2001:db8::{number}"), "code")
    refused(asked.post("enrol", request, address="2001:db8::99"), "rate")
    refused(asked.post("enrol", request, address="::ffff:192.0.2.1"), "rate")


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    rate = Rate(burst=1, every_s=1.0, most=100, clock=lambda: 0.0)
    for number in range(1000):
        assert rate.take(str(number)) == 0
    assert len(rate._free_at) == 100
    assert rate.take("999") == 1.0


def test_no_address_and_no_key_is_in_the_file(asked: Asked) -> None:
    key = enrolled(asked.store)
    asked.post("report", signed(key, asked.true).to_bytes(), address="203.0.113.77")
    asked.post("count", Count("faces", "faces", 1, True, "iOS").to_bytes(), address="203.0.113.77")
    for file in asked.store.path.parent.glob("reports.sqlite*"):
        data = file.read_bytes()
        assert b"203.0.113.77" not in data
        assert key.public not in data
        assert key.public.hex().encode() not in data


def test_what_is_wrong_on_this_machine_is_not_told(asked: Asked) -> None:
    key = enrolled(asked.store)
    asked.store.path.write_bytes(b"broken" * 1000)
    error = refused(asked.send(key), "unavailable")
    assert "sqlite" not in error


def test_a_version_that_left_the_offer_loses_its_salt_and_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    made = Repository.init(tmp_path / "repository")
    for _ in range(2):
        publish(made, tmp_path)
    asked = Asked(made, tmp_path)
    key = enrolled(asked.store)
    assert asked.send(key, version=2).status == 200
    salt = _salt(asked)
    assert salt is not None
    made.rollback("staging")
    refused(asked.send(key, version=2, at=NOW + timedelta(minutes=1)), "unknown-version")
    assert _salt(asked) is None
    assert not any(salt in file.read_bytes() for file in tmp_path.glob("reports.sqlite*"))
    assert len(asked.store.reports("faces", version=2)) == 1


def publish(
    repository: Repository, folder: Path, name: str | None = None, collection: str = "faces"
) -> Report:
    """A new version of a model, and a report of it."""
    chosen = folder / "golden"
    chosen.mkdir(exist_ok=True)
    (chosen / "golden.json").write_text("{}\n")
    size = len(list(folder.glob("*.mlpackage"))) + 1
    model = write_model(folder / f"{size}.mlpackage", extra_bytes=size)
    one = Repository.open(repository.folder, collection, name)
    (variant,) = (entry := one.publish([Form(model, chosen)])).variants
    about: dict[str, Any] = {"collection": collection, "name": one.model_name, "version": entry.version}
    return report(**about, variant=variant.name, model=variant.model, manifest=variant.manifest)


def test_two_models_have_a_version_of_the_same_number_and_neither_counts_for_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    made = Repository.init(tmp_path / "repository")
    eyes, hands = (publish(made, tmp_path, name) for name in ("eyes", "hands"))
    asked = Asked(replace(made, name="eyes"), tmp_path)
    key = enrolled(asked.store)
    assert (eyes.version, hands.version) == (1, 1)
    refused(asked.send(key, eyes, name="hands"), "unknown-version")
    refused(asked.send(key, eyes, name="mouths"), "unknown-version")
    assert [asked.send(key, each).status for each in (eyes, hands)] == [200, 200]
    assert asked.post("count", Count("faces", "hands", 1, True, "iOS").to_bytes()).status == 200
    refused(asked.post("count", Count("faces", "faces", 1, True, "iOS").to_bytes()), "unknown-version")
    assert [each for _, each in asked.store.reports("faces", "eyes")] == [eyes]
    assert len({pseudonym for pseudonym, _ in asked.store.reports("faces")}) == 2
    assert {each.name for each in asked.store.sums("faces")} == {"hands"}


def test_a_collection_that_is_new_is_known_at_once_and_a_stray_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    made = Repository.init(tmp_path / "repository")
    publish(made, tmp_path)
    asked = Asked(made, tmp_path)
    key = enrolled(asked.store)
    (made.folder / "targets/lost+found").mkdir()
    assert asked.send(key).status == 200
    refused(asked.send(key, collection="cats", name="cats"), "unknown-version")
    Keeper.open(made.folder).add("cats")
    cats = publish(made, tmp_path, collection="cats")
    assert asked.send(key, cats).status == 200
    assert [each for _, each in asked.store.reports("cats")] == [cats]
    # What the other collection had is as it was: its salt too.
    assert asked.send(key, at=NOW + timedelta(minutes=1)).status == 200
    assert asked.store.reports("cats")[0][0] != asked.store.reports("faces")[0][0]


def _salt(asked: Asked) -> bytes | None:
    with contextlib.closing(sqlite3.connect(asked.store.path)) as database:
        found: bytes | None = database.execute("SELECT salt FROM releases WHERE version = 2").fetchone()[0]
        return found


def test_a_change_that_could_not_be_followed_is_followed_the_next_time(asked: Asked) -> None:
    def fail(live: set[Release]) -> None:
        raise OSError("busy")

    offers = asked.intake.offers
    with pytest.raises(OSError, match="busy"):
        offers.follow(fail)
    seen: list[set[Release]] = []
    offers.follow(seen.append)
    offers.follow(seen.append)
    assert seen == [{("faces", "faces", 1)}]


@given(
    path=st.sampled_from(["enrol", "report", "count"]),
    body=st.binary(max_size=300)
    | st.dictionaries(
        st.sampled_from(["format", "data", "key", "signature", "collection", "name", "version", "ok", "os"]),
        st.none() | st.integers() | st.text(max_size=20) | st.just(PASS.to_bytes().decode()),
    ).map(lambda value: json.dumps(value).encode()),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_gets_anything_but_a_4xx_and_our_words(asked: Asked, path: str, body: bytes) -> None:
    asked.intake.enrol_rate.burst = 10_000
    answer = asked.post(path, body)
    assert 400 <= answer.status < 500
    assert set(answer.body) == {"ok", "reason", "error", "hint"}
