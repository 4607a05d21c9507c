"""A report as text for people."""

from __future__ import annotations

from coremlops.lint.finding import CONFIDENCE, LEVELS, Finding
from coremlops.lint.linting import Report
from coremlops.lint.rule import RULES, Rule
from coremlops.lint.target import targets_of


def as_text(report: Report, *, limit: int = 8, everything: bool = False) -> str:
    """The report for people: a paragraph a rule, its places in it."""
    facts = report.facts
    weights = ", ".join(f"{dtype} {_size(size)}" for dtype, size in facts.weights.items())
    lines = [
        f"{report.asset.path}: {report.asset.kind}, specification {facts.specification} "
        f"({targets_of(facts.specification)}), {_size(facts.bytes)}"
        + (f"; weights {weights}" if weights else ""),
    ]
    if facts.ops:
        cut = f"{facts.outside} of {facts.ops} ops with a risk, {facts.segments} piece(s)"
        lines.append(f"Neural Engine: {cut}; an estimate, no promise")
    if facts.activations:
        least = "" if facts.exact else "at least "
        lines.append(f"values that live at once: {least}{_size(facts.activations)}, an estimate")
    lines.append(f"activation ranges: {facts.observed or 'not looked at (--data or --ranges)'}")
    by_rule: dict[tuple[str, str], list[Finding]] = {}
    for entry in report.findings:
        if entry.counts or everything:
            by_rule.setdefault((entry.level, entry.rule), []).append(entry)
    for (level, name), group in by_rule.items():
        lines += ["", *_paragraph(level, RULES[name], group, len(group) if everything else limit)]
    lines += ["", _totals(report)]
    lines += [f"a suppression that matches nothing: {entry.rule} {entry.op}" for entry in report.unused]
    return "\n".join(lines)


def _paragraph(level: str, entry: Rule, group: list[Finding], limit: int) -> list[str]:
    sure = ", ".join(dict.fromkeys(CONFIDENCE[finding.confidence] for finding in group))
    lines = [f"{level}  {entry.id}: {entry.title} ({len(group)})"]
    for finding in group[:limit]:
        origin = ", ".join(part for part in (finding.kind, finding.module, finding.code) if part)
        kind = f" [{origin}]" if origin else ""
        mark = (
            f" (suppressed: {finding.suppressed})"
            if finding.suppressed
            else " (known)"
            if finding.known
            else ""
        )
        lines.append(f"  {finding.place}{kind}: {finding.message}{mark}")
    if len(group) > limit:
        lines.append(f"  ... and {len(group) - limit} more (--all shows them)")
    return [*lines, f"  fix: {entry.fix}", f"  source: {entry.source}; confidence {sure}"]


def _totals(report: Report) -> str:
    counts = report.counts()
    found = ", ".join(
        f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items() if level in LEVELS
    )
    more = [
        f"{counts[key]} {word}" for key, word in (("suppressed", "suppressed"), ("known", "in the baseline"))
    ]
    shown = ", ".join(text for text in more if not text.startswith("0 "))
    return f"{found}" + (f" ({shown})" if shown else "")


def _size(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
