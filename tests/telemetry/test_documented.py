"""docs/reports.md says what the code does: documents byte by byte, keys, limits and the intake's answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coremlops.cli import parser_for
from coremlops.client.outbox import MAX_WAITING
from coremlops.server.intake import STATUS
from coremlops.telemetry.count import MAX_COUNT_BYTES, Count
from coremlops.telemetry.report import MAX_OUTPUTS, MAX_REPORT_BYTES, Report
from coremlops.telemetry.signing import ENROL, MAX_ENVELOPE_BYTES, REPORT
from coremlops.telemetry.store import Store
from tests.telemetry.reports import PASS

PAGE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")


def section(start: str, end: str) -> str:
    """The part of the page between two phrases, each of which stands there once."""
    assert (PAGE.count(start), PAGE.count(end)) == (1, 1)
    return PAGE.partition(start)[2].partition(end)[0]


def words(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_documents_of_the_page_are_what_is_written() -> None:
    report, count = re.findall(r"^    (\{.*\})$", PAGE, flags=re.M)
    assert f"{report}\n".encode() == PASS.to_bytes()
    made = Count("faces", "faces", 1, True, "iOS", load=8, latency=4)
    assert f"{count}\n".encode() == made.to_bytes()


def test_the_keys_of_the_page_are_those_that_are_read() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section("**A report**", "As this client writes it"), flags=re.M)
    assert sorted(words(" ".join(rows))) == sorted(["format", *Report.__dataclass_fields__])
    count = section("**A count**", ": n for at most 2^n ms")
    assert sorted(words(count)) == sorted(["format", *Count.__dataclass_fields__])


def test_the_answers_of_the_page_are_the_intakes() -> None:
    found: dict[str, int] = {}
    for statuses, reasons in re.findall(r"^\| ([0-9, ]+) \| (`.*?) \|", PAGE, flags=re.M):
        numbers, names = [int(each) for each in statuses.split(", ")], words(reasons)
        found |= dict(zip(names, numbers if len(numbers) > 1 else numbers * len(names), strict=True))
    assert found == STATUS


def test_the_limits_of_the_page_hold() -> None:
    store = Store(Path("reports.sqlite"))
    for number, phrase in (
        (MAX_REPORT_BYTES, "**A report**, at most {} bytes"),
        (MAX_COUNT_BYTES, "**A count**, at most {} bytes"),
        (MAX_ENVELOPE_BYTES, "10 s; {} bytes (a count"),
        (store.most_devices, "later; {} devices"),
        (store.most_reports, "devices, {} reports a release"),
        (MAX_WAITING, "at most {} (4 for each of 16 models"),
        (MAX_OUTPUTS, "at most {} of `{{"),
    ):
        assert phrase.format(f"{number:,}") in PAGE, phrase
    for purpose in (ENROL, REPORT):
        assert '"' + purpose.decode().replace("\n", "\\n") + '"' in PAGE


@pytest.mark.parametrize("line", re.findall(r"^coremlops (.*?)(?:   .*)?$", PAGE, flags=re.M))
def test_the_commands_of_the_page_are_understood(line: str) -> None:
    command, *rest = line.split()
    assert parser_for(command).parse_args(rest)
