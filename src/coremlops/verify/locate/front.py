"""Both questions, put one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.errors import InputError, UnsupportedOpsError
from coremlops.model import ModelAsset
from coremlops.runtime import load
from coremlops.source.reference import Reference, open_reference
from coremlops.source.samples import Samples, feed, open_samples
from coremlops.verify.locate import conversion, numeric
from coremlops.verify.locate.causes import error_words
from coremlops.verify.locate.inside import Inner, constants_of, inputs_of, inside
from coremlops.verify.locate.location import CONVERSION, Finding, Location, Step
from coremlops.verify.locate.origins import Origins
from coremlops.verify.locate.program import Program, Values, package_of
from coremlops.verify.sides import ModelSide, ReferenceSide, as_the_model_says, described, prepared
from coremlops.verify.statistics import CEILING_DB

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTSIDE = 16  # samples of a model that is looked at from outside


@dataclass(frozen=True, slots=True)
class LocateOptions:
    """`precision`: "typed" or "float16", what is held against float32. `limit_db`: the signal to noise that
    every output should keep. `samples`: how many of the data are looked at inside; the source is looked at
    with one. `weights`: of a source `module:factory`. `function`: of a model that has several.
    `progress` is called with (done, of)."""

    precision: str = "typed"
    limit_db: float = 40.0
    samples: int = 2
    weights: Path | None = None
    function: str | None = None
    progress: Callable[[int, int], None] | None = None


def locate(
    model: Path,
    against: str | Path | Reference | None = None,
    data: str | Path | Samples | None = None,
    options: LocateOptions | None = None,
) -> Location:
    """Find the first op of an ML Program that loses precision, and the first that computes something else.

    `against`: a source, see `open_reference`, fed as `verify` feeds it; None leaves the second question out.
    `data`: see `open_samples`; None: seeded random values. Memory: the values of one slice of the program
    (128 MB), and with a source all of the values of one sample, twice.

    Of a model that is no ML Program only the outputs are compared, with a source.

    Raises UnsupportedOpsError for one without a source, ModelError, InputError, DataError.
    """
    options, model = options or LocateOptions(), package_of(model)
    reference = against if isinstance(against, Reference) else None
    if isinstance(against, str | Path):
        package = package_of(Path(against))  # of a folder that a step left
        text = package if package != Path(against) else str(against)
        reference = open_reference(text, weights=options.weights)
    asset = ModelAsset.open(model)
    program = Program(model, options.function) if asset.kind == "mlProgram" else None
    side = described(asset, program.description if program is not None else asset.description)
    other = None
    if reference is not None:
        other, _ = as_the_model_says(reference, side)
        reference = other.reference
    samples = data if isinstance(data, Samples) else open_samples(data, side.description.inputs)
    if other is not None:
        samples = _as_pictures(samples, side, other)
    if program is None:
        return _outside(asset, reference, samples, options)
    chosen = list(islice(samples, max(1, options.samples)))
    if not chosen:
        raise InputError(f"{model}: at least one sample expected, got none")
    feeds = [program.feeds(feed(sample, program.description)) for sample in chosen]
    growth = numeric.grow(program, feeds, options.precision, options.progress)
    findings = list(numeric.judge(program, feeds, growth, options.limit_db))
    origins = Origins.beside(model, program.function)
    notes = [] if growth.rows else ["The program computes no float: there is nothing to lose."]
    if data is None:
        notes.append(f"Asked with {samples.about}: values of real data may overflow where these do not.")
    known: dict[str, conversion.Pair] = {}
    total = None
    if reference is not None:
        found, known, total, said = _against(
            program, reference, feeds[0], feed(chosen[0], reference), options
        )
        findings += found
        notes += said
        origins = origins.with_pairs(known)
    return Location(
        precision=options.precision,
        limit_db=options.limit_db,
        numeric_db=growth.total_db,
        conversion_db=total,
        findings=tuple(origins.placed(item) for item in findings),
        steps=tuple(_step(row, known.get(row.name)) for row in growth.rows),
        notes=tuple(notes),
        samples=len(chosen),
        matched=len(known),
    )


def _as_pictures(samples: Samples, side: ModelSide, other: ReferenceSide) -> Samples:
    """Pixels become pictures, which each side prepares as it does."""
    return replace(samples, start=lambda: (prepared(sample, side, other) for sample in samples))


def _step(row: numeric.Row, pair: conversion.Pair | None) -> Step:
    return Step(
        numeric.plain(row.operation.name),
        row.operation.type,
        row.total_db,
        row.own_db,
        row.peak,
        None if pair is None else min(pair.own_db, CEILING_DB),
    )


def _against(
    program: Program, reference: Reference, feeds: Values, asked: dict[str, Any], options: LocateOptions
) -> tuple[list[Finding], dict[str, conversion.Pair], float, list[str]]:
    values = conversion.in_float32(program, feeds)
    results = numeric.result_names(program.function)
    got = {out: values[name] for name, out in results.items() if name in values}
    expected = _outputs(reference(asked), got)
    probabilities = {out for name, out in results.items() if out != name}
    total = numeric.quality(expected, got, probabilities) if expected else CEILING_DB
    source = inputs_of(asked) | inside(reference, asked)
    pairs = conversion.pair_up(program, values, source)
    apart = conversion.compare(program, feeds, pairs, options.limit_db)
    weights = constants_of(reference) if apart else {}
    findings = list(
        conversion.judge(program, feeds, pairs, apart, weights, total, options.limit_db) if apart else ()
    )
    notes = []
    if len(source) <= len(asked):
        notes.append(f"{reference.name} cannot be looked inside: only the outputs were compared.")
    if not expected:
        notes.append("No output of the source has the size of one of the model's.")
    if total < options.limit_db and not findings:
        held = _Held(program, feeds, results, expected, got, pairs, source)
        findings = _from_outputs(held, constants_of(reference), options.limit_db)
    return findings, pairs, total, notes


def _outputs(answers: dict[str, Any], got: Values) -> Values:
    """The source's outputs under the model's names: by name, else in order, where the sizes fit."""
    arrays = {name: np.asarray(value) for name, value in answers.items() if not isinstance(value, dict)}
    arrays = {name: value for name, value in arrays.items() if value.dtype.kind in "fiub"}
    found: Values = {}
    rest = [name for name in arrays if name not in got]
    for name, value in got.items():
        if name in arrays and arrays[name].size == value.size:
            found[name] = arrays[name].reshape(value.shape)
        else:
            other = next((item for item in rest if arrays[item].size == value.size), None)
            if other is not None:
                rest.remove(other)
                found[name] = arrays[other].reshape(value.shape)
    return found


@dataclass(frozen=True)
class _Held:
    """A program's answers to one sample beside the source's: `results` names each output's value."""

    program: Program
    feeds: Values
    results: dict[str, str]
    expected: Values
    got: Values
    pairs: dict[str, conversion.Pair]
    source: dict[str, Inner]

    def quality(self, name: str) -> float:
        out = self.results[name]
        return numeric.decibel(*numeric.powers(self.expected[out], self.got[out]))


def _from_outputs(held: _Held, weights: Values, limit_db: float) -> list[Finding]:
    """The worst output differs, and no pair does: the op after the last pair before it."""
    program = held.program
    made = {entry.name: item for item in program.function.block.operations for entry in item.outputs}
    known = [name for name, out in held.results.items() if out in held.expected and name in made]
    if not known:
        return []
    worst = min(known, key=held.quality)
    value = held.expected[held.results[worst]]
    fed = held.feeds | {name: pair.fed for name, pair in held.pairs.items() if pair.can_be_fed}
    between = conversion.segment(program, [worst], fed)
    first = between[0] if between else made[worst]
    if between and conversion.agrees(program, between, worst, fed, value, limit_db):
        kind, words, blamed = "rounding", _add_up(len(held.pairs)), first
    else:
        guess = conversion.guess_first(program, fed, first, held.source, held.pairs, weights, held.feeds)
        kind, words, blamed = guess or (*error_words(value, held.got[held.results[worst]]), first)
        if guess is None and len(between) > 1:
            words += f" (seen {len(between) - 1} ops later, at {numeric.plain(made[worst].name)})"
    name = numeric.plain(blamed.name)
    return [Finding(CONVERSION, kind, name, blamed.type, words, held.quality(worst))]


def _add_up(count: int) -> str:
    return f"no op is wrong: {count} values agree one by one, and small errors of weights add up"


def _outside(
    asset: ModelAsset, reference: Reference | None, samples: Samples, options: LocateOptions
) -> Location:
    """A model that is no program: only its outputs can be compared, over all samples."""
    if reference is None:
        raise UnsupportedOpsError(
            f"{asset.path}: an ML Program expected, got a {asset.kind} model",
            (asset.kind,),
            hint="name the source with --against: then the outputs can be compared",
        )
    loaded = load(asset.path, precision="float32")
    expected: dict[str, list[NDArray[Any]]] = {}
    got: dict[str, list[NDArray[Any]]] = {}
    chosen = list(islice(samples, OUTSIDE))
    for sample in chosen:
        answer = loaded.predict(feed(sample, loaded.description))
        numbers = {
            name: np.atleast_1d(value)
            for name, value in answer.items()
            if isinstance(value, float | np.ndarray)
        }
        for name, value in _outputs(reference(feed(sample, reference)), numbers).items():
            expected.setdefault(name, []).append(value)
            got.setdefault(name, []).append(numbers[name])
    findings = []
    total = CEILING_DB
    for name, values in expected.items():
        first, second = np.concatenate(values, axis=None), np.concatenate(got[name], axis=None)
        quality = numeric.decibel(*numeric.powers(first, second))
        total = min(total, quality)
        if quality < options.limit_db:
            kind, words = error_words(first, second)
            findings.append(Finding(CONVERSION, kind, name, asset.kind, words, quality))
    note = "The model is no ML Program: no type to doubt, and only its outputs were compared."
    return Location(
        options.precision, options.limit_db, CEILING_DB, total, tuple(findings), (), (note,), len(chosen)
    )
