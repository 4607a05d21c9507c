"""What came in: codes, enrolled devices, reports and counts, in one SQLite file.

It holds no key, no code, no address and no time of arrival. A code and a device are there as hashes. A report
stands under the release's own pseudonym of its device, HMAC-SHA-256(salt of the release, public key): rows of
two releases cannot be told to be one device's by this file, since no key is in it. A release is one version
of one model of a collection. Once it is no longer on offer its salt is forgotten, and not even who holds a
key can find its rows.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import sqlite3
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from coremlops.errors import ReportError
from coremlops.telemetry.count import Count
from coremlops.telemetry.report import Report
from coremlops.telemetry.signing import (
    CODE_ALPHABET,
    CODE_LENGTH,
    ENROL,
    REPORT,
    Signed,
    fingerprint,
    plain_code,
    shown_code,
)

FORMAT = 2
APPLICATION = 0x434D4C52  # "CMLR": which program this SQLite file belongs to
BUSY_S = 5.0
SKEW = timedelta(minutes=10)
MAX_AGE = timedelta(days=30)

# No table has a rowid: the order of rows is that of hashes, and says nothing about who came when.
_SCHEMA = """
CREATE TABLE codes (hash BLOB PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE devices (hash BLOB PRIMARY KEY) WITHOUT ROWID, STRICT;
CREATE TABLE releases (collection TEXT, name TEXT, version INTEGER, salt BLOB,
  PRIMARY KEY (collection, name, version)) WITHOUT ROWID, STRICT;
CREATE TABLE reports (collection TEXT, name TEXT, version INTEGER, pseudonym BLOB, at INTEGER NOT NULL,
  report BLOB NOT NULL, PRIMARY KEY (collection, name, version, pseudonym)) WITHOUT ROWID, STRICT;
CREATE TABLE counts (collection TEXT, name TEXT, version INTEGER, what TEXT, value TEXT, n INTEGER NOT NULL,
  PRIMARY KEY (collection, name, version, what, value)) WITHOUT ROWID, STRICT;
"""

Release = tuple[str, str, int]  # collection, model's name, version


@dataclass(frozen=True, slots=True)
class Sum:
    """An anonymous sum: of one version of the model `name`, how often `what` was `value`."""

    name: str
    version: int
    what: str
    value: str
    n: int


@dataclass(frozen=True, slots=True)
class Store:
    """The file at `path`. Every method is one transaction; several processes may use it at once.

    `most_codes`, `most_devices`, `most_reports` (of a version): beyond them nothing is taken.
    Methods raise `ReportError`.
    """

    path: Path
    most_codes: int = 1_000
    most_devices: int = 10_000
    most_reports: int = 10_000

    def make(self) -> None:
        """Make the file, if there is none."""
        with self._open(create=True):
            pass

    def make_codes(self, count: int, *, now: datetime, lasts: timedelta) -> tuple[str, ...]:
        """New one-time codes, as people read them. The file is made when there is none."""
        codes = ["".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH)) for _ in range(count)]
        with self._open(create=True) as database:
            database.execute("DELETE FROM codes WHERE expires < ?", (_seconds(now),))
            self._limit(database, "codes", self.most_codes - count)
            rows = [(fingerprint(code.encode()), _seconds(now + lasts)) for code in codes]
            database.executemany("INSERT INTO codes VALUES (?, ?)", rows)
        return tuple(shown_code(code) for code in codes)

    def enrol(self, signed: Signed, *, now: datetime) -> str:
        """Spend a code on a device's key: "enrolled", or "present" when this key is enrolled already."""
        code = plain_code(signed.data.decode("ascii"))
        with self._open() as database:
            if self._enrolled(database, signed.key):
                signed.verify(ENROL)
                return "present"
            known = database.execute(
                "SELECT 1 FROM codes WHERE hash = ? AND expires >= ?",
                (fingerprint(code.encode()), _seconds(now)),
            ).fetchone()
            if known is None:
                raise ReportError(
                    "this code is unknown, spent or too old", reason="code", hint="ask for another one"
                )
            signed.verify(ENROL)
            self._limit(database, "devices", self.most_devices - 1)
            database.execute("DELETE FROM codes WHERE hash = ?", (fingerprint(code.encode()),))
            database.execute("INSERT INTO devices VALUES (?)", (fingerprint(signed.key),))
        return "enrolled"

    def report(self, signed: Signed, *, now: datetime) -> str:
        """Keep an enrolled device's report: "kept", or "present" when it was.

        A device has one report a release: a later one takes the place of an earlier one, never the other way;
        within one second no pass takes that of a failure.
        The caller knows that the version is on offer.
        """
        report = Report.from_bytes(signed.data)
        with self._open() as database:
            if not self._enrolled(database, signed.key):
                raise ReportError(
                    "this device is not enrolled", reason="not-enrolled", hint="coremlops device enrol"
                )
            signed.verify(REPORT)
            if not now - MAX_AGE <= report.at <= now + SKEW:
                raise ReportError(
                    f"a report of the last {MAX_AGE.days} days expected, by this clock", reason="clock"
                )
            release, at = (report.collection, report.name, report.version), _seconds(report.at)
            pseudonym = hmac.digest(_salt(database, release), signed.key, "sha256")
            before = database.execute(
                "SELECT at, report FROM reports WHERE (collection, name, version, pseudonym) = (?, ?, ?, ?)",
                (*release, pseudonym),
            ).fetchone()
            if before is None:
                self._limit(database, "reports", self.most_reports - 1, release)
            elif before[1] == signed.data:
                return "present"
            elif before[0] > at or (before[0] == at and report.ok and not Report.from_bytes(before[1]).ok):
                raise ReportError("this device has said something later already", reason="stale")
            database.execute(
                "INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?, ?, ?)",
                (*release, pseudonym, at, signed.data),
            )
        return "kept"

    def count(self, count: Count) -> None:
        """Add a device's count to the sums. The caller knows that the version is on offer."""
        with self._open() as database:
            database.executemany(
                "INSERT INTO counts VALUES (?, ?, ?, ?, ?, 1)"
                " ON CONFLICT DO UPDATE SET n = min(n + 1, 1 << 62)",
                [(count.collection, count.name, count.version, *each) for each in count.sums()],
            )

    def close(self, live: Collection[Release]) -> None:
        """Forget the salts of all releases but these. Their rows stay."""
        with self._open() as database:
            kept = database.execute(
                "SELECT collection, name, version FROM releases WHERE salt IS NOT NULL"
            ).fetchall()
            database.executemany(
                "UPDATE releases SET salt = NULL WHERE (collection, name, version) = (?, ?, ?)",
                [release for release in kept if release not in live],
            )
        with self._connected() as database:  # or the salts would stand in the write-ahead log for a while
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def reports(
        self, collection: str, name: str | None = None, version: int | None = None
    ) -> list[tuple[str, Report]]:
        """(pseudonym, report) of a collection, of one model, of one version; by name, version, pseudonym."""
        rows = self._about("pseudonym, report", "reports", collection, name, version)
        return [(pseudonym.hex(), Report.from_bytes(data)) for pseudonym, data in rows]

    def sums(self, collection: str, name: str | None = None, version: int | None = None) -> list[Sum]:
        """The anonymous sums of a collection, of one model, of one version."""
        rows = self._about("name, version, what, value, n", "counts", collection, name, version)
        return [Sum(*row) for row in rows]

    def devices(self) -> int:
        """How many devices are enrolled."""
        with self._open() as database:
            return _rows(database, "devices")

    def _about(
        self, columns: str, table: str, collection: str, name: str | None, version: int | None
    ) -> list[Any]:
        """Rows of a table; `columns` and `table` are names of ours. None is "of all"."""
        query = (
            # names of ours alone; what devices said is bound
            f"SELECT {columns} FROM {table} WHERE collection = ? AND (name = ? OR ?) AND (version = ? OR ?)"  # noqa: S608
            f" ORDER BY name, version, {'pseudonym' if table == 'reports' else 'what, value'}"
        )
        asked = (collection, name, name is None, version, version is None)
        with self._open() as database:
            return database.execute(query, asked).fetchall()

    def _enrolled(self, database: sqlite3.Connection, key: bytes) -> bool:
        found = database.execute("SELECT 1 FROM devices WHERE hash = ?", (fingerprint(key),))
        return found.fetchone() is not None

    def _limit(
        self, database: sqlite3.Connection, table: str, most: int, release: Release | None = None
    ) -> None:
        """Raise `ReportError` when a table, or a release's part of it, has more rows than `most`."""
        if _rows(database, table, release) > most:
            raise ReportError(f"no room for more {table}", reason="full")

    @contextlib.contextmanager
    def _open(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or none."""
        with self._connected(create=create) as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    @contextlib.contextmanager
    def _connected(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        if not create and not self.path.is_file():
            raise ReportError(
                f"no reports at {self.path}",
                reason="unavailable",
                hint=f"coremlops release enrol --reports {self.path}",
            )
        try:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            database = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            with contextlib.closing(database):
                _prepare(database, self.path)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise ReportError(f"{self.path} cannot be used: {error}", reason="unavailable") from None


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables in an empty file. Raises `ReportError` for a file of something else."""
    database.execute("PRAGMA secure_delete = ON")  # a forgotten salt or code leaves no bytes behind
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found == 0 and not database.execute("SELECT 1 FROM sqlite_schema").fetchone():
        _write_ahead(database)
        database.execute("BEGIN IMMEDIATE")
        try:
            if not database.execute("SELECT 1 FROM sqlite_schema").fetchone():
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {FORMAT}")
            database.execute("COMMIT")
        except BaseException:  # half of the tables would be no file of ours
            with contextlib.suppress(sqlite3.Error):  # what it failed by may have rolled back already
                database.execute("ROLLBACK")
            raise
    # Read again: another process may have made them since.
    found = database.execute("PRAGMA user_version").fetchone()[0]
    ours = database.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
    if not ours or found < 1:
        raise ReportError(f"{path} is no file of reports", reason="unavailable")
    if found != FORMAT:
        older = "an older" if found < FORMAT else "a newer"
        raise ReportError(
            f"{path} is of format {found}, which {older} coremlops wrote; format {FORMAT} expected",
            reason="unavailable",
            hint="keep it, and name another file; testers then enrol their devices again"
            if found < FORMAT
            else "update coremlops, or name another file",
        )


def _write_ahead(database: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; here SQLite itself waits for nobody who makes the same file."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _salt(database: sqlite3.Connection, release: Release) -> bytes:
    """The release's salt, made with its first report. Raises `ReportError` when it was forgotten."""
    database.execute(
        "INSERT INTO releases VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (*release, secrets.token_bytes(32)),
    )
    salt: bytes | None = database.execute(
        "SELECT salt FROM releases WHERE (collection, name, version) = (?, ?, ?)", release
    ).fetchone()[0]
    if salt is None:
        raise ReportError(f"version {release[2]} takes no reports any more", reason="closed")
    return salt


def _rows(database: sqlite3.Connection, table: str, release: Release | None = None) -> int:
    """How many rows; `table` is a name of ours."""
    query = f"SELECT count(*) FROM {table}"  # noqa: S608 - a name of ours; what devices said is bound
    if release is None:
        return int(database.execute(query).fetchone()[0])
    query += " WHERE (collection, name, version) = (?, ?, ?)"
    return int(database.execute(query, release).fetchone()[0])


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
