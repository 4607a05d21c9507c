"""Lint a model: open it, ask every rule, and leave out what is accepted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from coremlops.errors import UsageError
from coremlops.lint.activations import Observed, observe
from coremlops.lint.context import Context, LintOptions
from coremlops.lint.finding import LEVELS, Finding, at_least
from coremlops.lint.graph import peak_activations
from coremlops.lint.origins import read_origins, with_origins
from coremlops.lint.rule import FAMILIES, RULES, Hit, Rule
from coremlops.lint.rules import segments
from coremlops.lint.subject import Op, Part, parts_of, weight_bytes
from coremlops.lint.suppression import Suppression, check_rules, mark_known, suppress, unused
from coremlops.lint.target import NO_NEURAL_ENGINE, parse_device, parse_target
from coremlops.model import ModelAsset

FORMAT = 1
_MAX_FINDINGS = 100_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What was counted beside the findings.

    `activations`: bytes that live at once, an estimate; `exact` is False where a size is open. `ops`,
    `outside`, `segments`: of the Neural Engine's estimate, over the default function and all members.
    `observed`: on what data the model was executed; empty when it was not.
    """

    specification: int
    bytes: int
    weights: dict[str, int]
    activations: int
    exact: bool
    ops: int
    outside: int
    segments: int
    observed: str


@dataclass(frozen=True, slots=True)
class Report:
    """Findings, the worst first, and facts about one model."""

    asset: ModelAsset
    options: LintOptions
    findings: tuple[Finding, ...]
    facts: Facts
    unused: tuple[Suppression, ...]

    def against(self, baseline: frozenset[str]) -> Report:
        """The same with the findings marked that the baseline knows."""
        return replace(self, findings=mark_known(self.findings, baseline))

    def failing(self, fail_on: str) -> tuple[Finding, ...]:
        """The findings that count and are at least as bad; none for `never`."""
        if fail_on == "never":
            return ()
        return tuple(entry for entry in self.findings if entry.counts and at_least(entry.level, fail_on))

    def counts(self) -> dict[str, int]:
        """How many count, by level; and how many are suppressed or known."""
        counted = Counter(entry.level for entry in self.findings if entry.counts)
        return {
            **{level: counted[level] for level in LEVELS},
            "suppressed": sum(bool(entry.suppressed) for entry in self.findings),
            "known": sum(entry.known and not entry.suppressed for entry in self.findings),
        }

    def to_json(self) -> dict[str, Any]:
        """One JSON object; the digest is computed for it, which reads the whole model."""
        facts = self.facts
        return {
            "format": FORMAT,
            "model": {"digest": self.asset.digest, "bytes": facts.bytes, "path": str(self.asset.path)},
            "kind": self.asset.kind,
            "specification": facts.specification,
            "target": self.options.target,
            "devices": list(self.options.devices),
            "proof": "emulated" if facts.observed else "static",
            "observed": facts.observed,
            "weights": facts.weights,
            "activations": {"bytes": facts.activations, "exact": facts.exact},
            "neural_engine": {"ops": facts.ops, "at_risk": facts.outside, "segments": facts.segments},
            "counts": self.counts(),
            "findings": [entry.to_json() for entry in self.findings],
            "unused_suppressions": [entry.to_json() for entry in self.unused],
        }


def lint(path: str | os.PathLike[str], options: LintOptions | None = None) -> tuple[Finding, ...]:
    """The findings about a model, the worst first; see `survey`."""
    return survey(path, options).findings


def survey(path: str | os.PathLike[str], options: LintOptions | None = None) -> Report:
    """Lint an `.mlpackage` or `.mlmodel` of any kind.

    Nothing is executed, and no weights are read beyond small masks, unless `options.samples` asks for
    activation ranges. Raises UsageError for an unknown target or device, ModelFormatError, and what
    executing the model raises.
    """
    options = options or LintOptions()
    target = parse_target(options.target) if options.target else None
    devices = tuple(parse_device(name) for name in options.devices)
    check_rules(options.suppressions, RULES)
    asset = ModelAsset.open(path)
    parts = parts_of(asset)
    observed = _observe(parts[0], options)
    context = Context(options, parts, target, devices, observed)
    first = list(_ask((entry for entry in RULES.values() if not entry.after), context))
    context = replace(context, found=tuple(first))
    second = list(_ask((entry for entry in RULES.values() if entry.after), context))
    findings = suppress(
        with_origins(_ordered([*first, *second]), read_origins(asset.path)), options.suppressions
    )
    return Report(asset, options, findings, _facts(context), unused(findings, options.suppressions))


def _observe(part: Part, options: LintOptions) -> Observed | None:
    return None if options.samples is None else observe(part, options.samples, options.progress)


def _ask(rules: Iterable[Rule], context: Context) -> Iterator[Finding]:
    """Every finding of these rules, numbered where several are alike."""
    devices = context.devices
    without = bool(devices) and all(device.chip in NO_NEURAL_ENGINE for device in devices)
    for entry in rules:
        if without and entry.family == "ane" and entry.id != "ane-none":
            continue
        seen: Counter[str] = Counter()
        for part in context.parts:
            for hit in entry.check(part, context):
                finding = _finding(entry, hit, part)
                seen[finding.fingerprint] += 1
                if sum(seen.values()) > _MAX_FINDINGS:
                    raise UsageError(f"more than {_MAX_FINDINGS} findings of {entry.id}")
                yield replace(finding, number=seen[finding.fingerprint])


def _finding(entry: Rule, hit: Hit, part: Part) -> Finding:
    at = hit.at
    if isinstance(at, Op):
        op, kind, where = at.name, at.type, at.scope.part
    elif isinstance(at, str):
        op, kind, where = at, "", part.label()
    else:
        op, kind, where = at.name, at.kind, part.label()
    return Finding(
        rule=entry.id,
        level=hit.level or entry.level,
        message=hit.message,
        op=op,
        kind=kind,
        part=where,
        confidence=hit.confidence or entry.confidence,
        source=entry.source,
        fix=entry.fix,
    )


def _ordered(findings: list[Finding]) -> list[Finding]:
    """By level, then by family and rule; in a rule as the model goes."""
    families = tuple(FAMILIES)
    return sorted(
        findings,
        key=lambda entry: (LEVELS.index(entry.level), families.index(RULES[entry.rule].family), entry.rule),
    )


def _facts(context: Context) -> Facts:
    root = context.parts[0]
    peaks = [peak_activations(body) for part in context.parts for body in part.bodies]
    cuts = [cut for part in context.parts for _, cut in segments.estimates(part, context)]
    weights: Counter[str] = Counter()
    for part in context.parts:
        weights += weight_bytes(part)
    observed = context.observed
    return Facts(
        specification=root.asset.spec.specificationVersion,
        bytes=root.asset.package.bytes,
        weights=dict(sorted(weights.items())),
        activations=max((peak.bytes for peak in peaks), default=0),
        exact=all(peak.exact for peak in peaks),
        ops=sum(cut.ops for cut in cuts),
        outside=sum(cut.outside for cut in cuts),
        segments=sum(cut.segments for cut in cuts),
        observed="" if observed is None else observed.about,
    )
