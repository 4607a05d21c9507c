"""What a device says after an update, to whom, and what it does when nobody listens."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from coremlops.client import Device, outbox, reports
from coremlops.client.outbox import MAX_WAITING, Sent
from coremlops.client.reports import Enrolment
from coremlops.client.state import Installed
from coremlops.collection import Profile
from coremlops.errors import ReportError, UpdateError, UsageError
from coremlops.golden import Judgement, OutputError
from coremlops.release.terms import Form
from coremlops.telemetry.count import Count
from coremlops.telemetry.report import Report
from coremlops.telemetry.signing import ENROL, REPORT, DeviceKey, Signed
from tests.client.conftest import QUICK, World

CODE = "0110-ABCD-2345-WXYZ"


class Post:
    """An intake that takes all, or answers as it is told."""

    def __init__(self) -> None:
        self.status, self.answer = 200, b'{"ok": true, "action": "kept"}'
        self.got: list[tuple[str, bytes]] = []
        self.url = ""

    def reports(self) -> list[Report]:
        """What was signed and sent, with the signature verified."""
        found = [Signed.from_bytes(body) for path, body in self.got if path == "/report"]
        for each in found:
            each.verify(REPORT)
        return [Report.from_bytes(each.data) for each in found]


@pytest.fixture
def post() -> Iterator[Post]:
    intake = Post()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            intake.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            assert self.headers["Content-Type"] == "application/json"
            self.send_response(intake.status)
            self.send_header("Content-Length", str(len(intake.answer)))
            self.end_headers()
            self.wfile.write(intake.answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client may hang up on a long answer."""

    httpd = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    intake.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    yield intake
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def enrolled(world: World, post: Post) -> Path:
    assert reports.enrol(world.device.folder, CODE, post.url) == "enrolled"
    post.got.clear()
    return world.device.folder


def test_enrolling_proves_the_key_and_keeps_it_to_the_owner(world: World, post: Post) -> None:
    folder = world.device.folder
    reports.enrol(folder, CODE, post.url)
    ((path, body),) = post.got
    signed = Signed.from_bytes(body)
    signed.verify(ENROL)
    assert (path, signed.data) == ("/enrol", b"0110ABCD2345WXYZ")
    file = folder / "enrolment.json"
    assert file.stat().st_mode & 0o777 == 0o600
    found = Enrolment.load(folder)
    assert found is not None
    assert (found.enrolled, found.key.public) == (True, signed.key)
    assert json.loads(file.read_text())["key"] not in repr(found)


def test_an_answer_that_was_lost_costs_no_code(world: World, post: Post) -> None:
    folder = world.device.folder
    post.status, post.answer = 503, b"<html>"
    with pytest.raises(ReportError, match="status 503"):
        reports.enrol(folder, CODE, post.url)
    found = Enrolment.load(folder)
    assert found is not None
    assert not found.enrolled
    post.status, post.answer = 200, b'{"ok": true, "action": "present"}'
    assert reports.enrol(folder, CODE, post.url) == "present"
    assert len({Signed.from_bytes(body).key for _, body in post.got}) == 1
    with pytest.raises(UpdateError, match="is enrolled at"):
        reports.enrol(folder, CODE, "http://127.0.0.1:9/other")
    with pytest.raises(UsageError, match="an intake's URL is http"):
        reports.enrol(folder, CODE, "file:///tmp")


def test_after_an_update_the_judgement_is_signed_and_sent(world: World, post: Post) -> None:
    state = world.device.folder / "state.json"
    replace(world.device.status(), install_id="5a" * 16).save(state)
    enrolled(world, post)
    world.publish_two()
    result = world.device.update()
    assert result.outcome == "updated"
    (said,) = post.reports()
    current = world.repository.line("staging").current
    assert current is not None
    (variant,) = current.variants
    assert (said.collection, said.name, said.version) == ("faces", "faces", 2)
    assert (said.model, said.manifest) == (variant.model, variant.manifest)
    assert (said.ok, said.failure, said.proof, said.compute_units) == (True, "", "emulated", "cpu")
    assert [each.name for each in said.outputs]
    assert said.latency_s is not None
    assert said.memory_bytes is not None
    assert world.device.status().install_id == "5a" * 16
    assert b"5a" * 16 not in post.got[0][1]
    world.device.update()
    assert len(post.got) == 1  # nothing new, nothing said


def test_a_version_that_answers_wrongly_is_reported_as_a_failure(world: World, post: Post) -> None:
    enrolled(world, post)
    first = json.loads((world.one.golden / "golden.json").read_text())
    broken = world.folder / "broken"
    broken.mkdir()
    for file in world.two.golden.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "golden.json").write_text(json.dumps(first | {"model": world.two.digest}))
    world.repository.publish([Form(world.two.model, broken)])
    assert world.device.update().outcome == "refused"
    (said,) = post.reports()
    assert (said.version, said.ok, said.failure) == (2, False, "outputs")
    world.device.update()
    assert len(post.got) == 1  # refused for good, and said once
    world.assert_old_model_works()


def test_what_cannot_be_sent_waits_and_is_sent_the_next_time(world: World, post: Post) -> None:
    folder = enrolled(world, post)
    post.status, post.answer = 503, b'{"reason": "unavailable"}'
    world.publish_two()
    assert world.device.update().outcome == "updated"
    (waiting,) = (folder / "outbox").glob("*.json")
    assert waiting.stat().st_mode & 0o777 == 0o600
    post.got.clear()
    post.status, post.answer = 200, b'{"ok": true, "action": "kept"}'
    assert world.device.update().outcome == "current"
    assert [each.version for each in post.reports()] == [2]
    assert list((folder / "outbox").iterdir()) == []


def test_an_intake_that_is_gone_or_rude_changes_no_update(world: World, post: Post) -> None:
    folder = enrolled(world, post)
    found = Enrolment.load(folder)
    assert found is not None
    replace(found, url="http://127.0.0.1:9").save(folder)
    world.publish_two()
    assert world.device.update().outcome == "updated"
    assert len(list((folder / "outbox").iterdir())) == 1
    found.save(folder)
    post.status, post.answer = 404, b'{"reason": "\\u001b[31mlong <b>words</b>"}' + b"x" * 100_000
    assert outbox.send(folder, found.url) == Sent(0, (), 1, "status 404")
    post.answer = b'{"ok": false, "reason": "\\u001b[31mlong <b>words</b>"}'
    assert outbox.send(folder, found.url) == Sent(0, ("status 404",), 0)
    (folder / "enrolment.json").write_text("{")
    assert world.device.update().outcome == "current"
    with pytest.raises(UpdateError, match="is damaged"):
        reports.enrol(folder, CODE, post.url)


def test_a_version_that_passed_and_then_did_not_start_no_longer_counts_as_a_pass(
    world: World, post: Post
) -> None:
    folder = enrolled(world, post)
    world.publish_two()
    world.device.update()
    for _ in range(3):
        assert world.device.start().version == 2
    assert len(post.got) == 1
    assert world.device.start().version == 1
    assert len(post.got) == 1  # a start needs no network
    assert len(list((folder / "outbox").iterdir())) == 1
    world.device.update()
    assert [(each.version, each.ok, each.failure) for each in post.reports()] == [
        *((2, True, ""), (2, False, "model")),
    ]
    world.device.start()
    world.device.update()
    assert len(post.got) == 2


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, b"<html>sign in</html>"), (302, b""), (404, b"not found"), (413, b"{}"), (200, b'{"ok": false}')],
)
def test_a_page_of_somebody_else_loses_no_report(
    world: World, post: Post, status: int, answer: bytes
) -> None:
    folder = world.device.folder
    post.status, post.answer = status, answer
    with pytest.raises(ReportError, match="does not take this code"):
        reports.enrol(folder, CODE, post.url)
    found = Enrolment.load(folder)
    assert found is not None
    assert not found.enrolled
    outbox.put(folder, found.key, _said(1))
    sent = outbox.send(folder, found.url)
    assert (sent.sent, sent.refused, sent.waiting) == (0, (), 1)
    post.status, post.answer = 200, b'{"ok": true, "action": "kept"}'
    assert outbox.send(folder, found.url) == Sent(1)


def test_what_is_no_file_in_the_outbox_is_not_sent(world: World, post: Post) -> None:
    folder = enrolled(world, post)
    found = Enrolment.load(folder)
    assert found is not None
    outbox.put(folder, found.key, _said(1))
    (folder / "outbox" / "0.json").symlink_to(folder / "enrolment.json")
    (folder / "outbox" / "1.json").mkdir()
    assert outbox.send(folder, found.url) == Sent(1)
    assert len(post.got) == 1


def test_the_outbox_is_bounded(world: World, post: Post) -> None:
    folder = enrolled(world, post)
    found = Enrolment.load(folder)
    assert found is not None
    for version in range(1, MAX_WAITING + 6):
        outbox.put(folder, found.key, _said(version))
    assert len(list((folder / "outbox").iterdir())) == MAX_WAITING


def test_a_device_that_is_not_enrolled_says_nothing(world: World, post: Post) -> None:
    world.publish_two()
    world.device.update()
    assert post.got == []
    assert not (world.device.folder / "outbox").exists()
    with pytest.raises(UpdateError, match="is not enrolled"):
        reports.report_now(world.device)


def test_who_agreed_to_be_counted_adds_to_sums_until_switched_off(world: World, post: Post) -> None:
    folder = world.device.folder
    reports.count(folder, on=True, url=post.url)
    world.publish_two()
    world.device.update()
    ((path, body),) = post.got
    counted = Count.from_bytes(body)
    assert (path, counted.name, counted.version) == ("/count", "faces", 2)
    assert (counted.ok, counted.os) == (True, "Linux")
    (folder / "profile.json").write_text('{"os": "iOS", "os_version": "18.0"}')
    assert world.device.update().judgement is not None  # that what runs still answers there was counted
    assert len(post.got) == 1
    reports.count(folder, on=False)
    world.repository.rollback("staging")
    world.device.update()
    assert len(post.got) == 1


def test_a_device_reports_its_active_model_when_asked(world: World, post: Post) -> None:
    enrolled(world, post)
    (said,), done = reports.report_now(world.device)
    assert (said.name, said.version, said.ok, done) == ("faces", 1, True, Sent(1))
    assert post.reports() == [said]


@pytest.mark.parametrize(
    ("judgement", "failure"), [(None, "model"), ("bad", "outputs"), ("cached", "")], ids=str
)
def test_what_a_report_says_of_a_judgement(judgement: str | None, failure: str) -> None:
    many = tuple(OutputError(f"out{n}", 0.5 if n == 39 else 0.001, 0.1, n != 39) for n in range(40))
    good = (OutputError("y", 0.00123456, 0.1, True), OutputError("z" * 200, float("inf"), 0.1, True))
    made = None
    if judgement is not None:
        ok = judgement == "cached"
        outputs = good if ok else many
        made = Judgement("a" * 64, ok, outputs, 1.0, 1, 1, 0.123456, 0.123456 if ok else None, 0.1)
    said = reports.report("faces", "eyes", _installed(1), made, Profile(os="Linux"))
    assert said.failure == failure
    if judgement == "bad":
        assert (len(said.outputs), said.outputs[0].name, said.load_s) == (32, "out39", 0.123)
    if judgement == "cached":
        assert (said.load_s, said.load_cached_s) == (None, 0.123)
        assert [(len(each.name), each.error) for each in said.outputs] == [(128, None), (1, 0.00123)]


def _said(version: int, name: str = "faces") -> Report:
    return reports.report("faces", name, _installed(version), None, Profile(os="Linux"))


def _installed(version: int) -> Installed:
    return Installed(version, "default", "a" * 64, f"{version:02x}" * 32)


def test_a_key_is_in_no_message(world: World, post: Post) -> None:
    key = DeviceKey.make().write()
    value: dict[str, Any] = {"format": 0, "url": post.url, "key": key.upper(), "enrolled": True}
    (world.device.folder / "enrolment.json").write_text(json.dumps(value))
    with pytest.raises(UpdateError) as caught:
        Enrolment.load(Device(world.device.folder, limits=QUICK).folder)
    assert key.upper() not in str(caught.value)


@pytest.mark.parametrize("name", ["enrolment.json", "counting.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(world: World, post: Post, name: str) -> None:
    folder = world.device.folder
    os.mkfifo(folder / name)
    world.publish_two()
    assert world.device.update().outcome == "updated"
    assert post.got == []
    if name == "enrolment.json":
        with pytest.raises(UpdateError, match=r"enrolment\.json is damaged: .*no regular file"):
            reports.report_now(world.device)
