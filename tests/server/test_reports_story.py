"""From a code to a promotion: a real server process, three devices, and what they signed."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coremlops.cli import main
from coremlops.client.web import Limits, Web
from coremlops.release import Repository
from coremlops.server.intake import utc_now
from coremlops.telemetry.count import Count
from coremlops.telemetry.store import Store
from tests.release.models import write_model, write_pictures
from tests.server.conftest import serve_ours
from tests.telemetry.reports import enrolled, signed

QUICK = Limits(connect_s=5, read_s=15, retries=0)
REQUIRE = "golden:devices=3,classes=2,proof=emulated"


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        got = main([*words, "--json"])
        out, err = capsys.readouterr()
        assert got == code, (out, err)
        found: dict[str, Any] = json.loads(out) if out else {"error": err}
        return found

    return run


def test_three_devices_of_two_classes_let_a_version_be_promoted(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write_model(tmp_path / "one.mlpackage", gain=0.02)
    write_pictures(tmp_path / "golden")
    run("repo", "init")
    run("release", "publish", "one.mlpackage", "--golden", "golden")
    codes = run("release", "enrol", "--reports", "reports.sqlite", "--count", "3")["codes"]
    promote = ("release", "promote", "--reports", "reports.sqlite", "--require")
    with serve_ours(tmp_path / "repository", tmp_path, "--intake", "reports.sqlite") as url:
        first = ("--url", url, "--root", "repository/metadata/1.root.json", "--channel", "staging")
        for number, code in enumerate(codes):
            device = ("--device", f"phone{number}")
            (tmp_path / f"phone{number}").mkdir()
            chip = {"os": "Linux", "os_version": "6.1", "device_class": "other", "chip": f"M{number % 2}"}
            (tmp_path / f"phone{number}/profile.json").write_text(json.dumps(chip))
            run("device", "update", *device, *first)
            assert run("device", "enrol", "--code", code, *device) == {
                "action": "enrolled",
                "url": f"{url}/intake",
            }
            assert "3 devices that passed expected" in run(*promote, REQUIRE, code=3)["error"]
            said = run("device", "report", *device)
            assert (said["ok"], said["sent"], said["proof"]) == (True, 1, "emulated")
        stranger = ("--device", "stranger")
        run("device", "update", *stranger, *first)
        assert "code" in run("device", "enrol", "--code", codes[0], *stranger, code=1)["error"]
        run("device", "count", "on", *stranger)
        listed = run("release", "reports", "--reports", "reports.sqlite")
        assert [each["version"] for each in listed["reports"]] == [1, 1, 1]
        # An emulator's word is no device's.
        assert "proof below device" in run(*promote, "golden:devices=3,classes=2", code=3)["error"]
        assert run(*promote, REQUIRE)["version"] == 1

        write_model(tmp_path / "two.mlpackage", gain=0.03)
        run("release", "publish", "two.mlpackage", "--golden", "golden")
        run("device", "update", *stranger)
        run("device", "update", "--device", "phone0")
        listed = run("release", "reports", "--reports", "reports.sqlite", "--version", "2")
        assert [each["ok"] for each in listed["reports"]] == [True]
        assert {(each["what"], each["value"]): each["n"] for each in listed["anonymous"]}[
            ("outcome", "pass")
        ] == 1
        assert "3 devices that passed expected, got 1" in run(*promote, REQUIRE, code=3)["error"]
    assert "127.0.0.1" not in (tmp_path / "log").read_text().replace(url, "")
    with closing(sqlite3.connect(tmp_path / "reports.sqlite")) as database:
        names = [name for (name,) in database.execute("SELECT pseudonym FROM reports")]
    assert len(set(names)) == 4  # phone0 has another pseudonym in the second release
    keys = [json.loads((tmp_path / f"phone{n}/enrolment.json").read_text())["key"] for n in range(3)]
    data = b"".join(file.read_bytes() for file in tmp_path.glob("reports.sqlite*"))
    assert not any(key.encode() in data or bytes.fromhex(key) in data for key in keys)


def test_each_model_of_a_collection_is_promoted_by_what_was_said_of_it(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    write_pictures(tmp_path / "golden")
    run("repo", "init")
    for name, gain in (("eyes", 0.02), ("hands", 0.025)):
        write_model(tmp_path / f"{name}.mlpackage", gain=gain)
        run("release", "publish", f"{name}.mlpackage", "--golden", "golden", "--model", name)
    reports = ("--reports", "reports.sqlite")
    (code,) = run("release", "enrol", *reports)["codes"]
    require = (*reports, "--require", "golden:devices=1,proof=emulated")
    with serve_ours(tmp_path / "repository", tmp_path, "--intake", "reports.sqlite") as url:
        first = ("--url", url, "--root", "repository/metadata/1.root.json", "--channel", "staging")
        run("device", "update", "--device", "phone", *first)
        run("device", "enrol", "--code", code, "--device", "phone")
        assert run("device", "report", "--device", "phone", "--model", "hands")["sent"] == 1
        run("release", "promote", "--model", "eyes", *require, code=3)
        assert run("release", "promote", "--model", "hands", *require)["version"] == 1
        # One update of both is a report of each.
        write_model(tmp_path / "two.mlpackage", gain=0.03)
        for name in ("eyes", "hands"):
            run("release", "publish", "two.mlpackage", "--golden", "golden", "--model", name)
        run("device", "update", "--device", "phone")
        listed = run("release", "reports", *reports)["reports"]
        run("release", "promote", "--version", "1", "--model", "eyes", *require, code=3)
        assert run("release", "promote", "--model", "eyes", *require)["version"] == 2
    assert [(each["name"], each["version"]) for each in listed] == [("eyes", 2), ("hands", 1), ("hands", 2)]
    assert len({each["pseudonym"] for each in listed}) == 3


def test_two_workers_and_many_devices_at_once_lose_and_double_nothing(
    repository: Repository, tmp_path: Path
) -> None:
    current = repository.line("staging").current
    assert current is not None
    (variant,) = current.variants
    store, now = Store(tmp_path / "reports.sqlite"), utc_now()
    keys = [enrolled(store, now) for _ in range(12)]
    named: dict[str, Any] = {
        "variant": variant.name,
        "model": variant.model,
        "manifest": variant.manifest,
        "at": now,
    }
    said = [signed(key, **named).to_bytes() for key in keys]
    counted = Count("faces", "faces", 1, True, "iOS").to_bytes()
    more = ("--intake", str(store.path), "--workers", "2")
    with serve_ours(repository.folder, tmp_path, *more) as url:

        def post(work: tuple[str, bytes]) -> int:
            return Web(QUICK).post(f"{url}/intake/{work[0]}", work[1])[0]

        work = [("report", each) for each in said] * 2 + [("count", counted)] * 30
        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(post, work)) == {200}
    assert len(store.reports("faces", version=1)) == 12
    assert {(each.what, each.value): each.n for each in store.sums("faces")} == {
        ("outcome", "pass"): 30,
        ("os", "iOS"): 30,
    }


def test_a_body_without_an_end_is_cut_off(repository: Repository, tmp_path: Path) -> None:
    with serve_ours(repository.folder, tmp_path, "--intake", str(tmp_path / "reports.sqlite")) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as wire:
            head = "POST /intake/report HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            wire.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            sent = 0
            with contextlib.suppress(OSError):
                while sent < 100 << 20 and not select.select([wire], [], [], 0)[0]:
                    wire.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                    sent += 0x10000
            assert sent < 50 << 20
            with contextlib.suppress(ConnectionResetError):
                assert b" 413 " in wire.recv(4096).splitlines()[0]
        assert Web(QUICK).post(f"{url}/intake/report", b"{}")[0] == 400
