"""A model's forms as a person names them, made ready to be published: what each needs, and its golden set."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coremlops.collection import EVERYONE, Range, Rule, System
from coremlops.errors import GoldenError, UsageError
from coremlops.model import ModelAsset, ModelDescription, is_carried, model_digest
from coremlops.pipeline.components.proven import read_object
from coremlops.pipeline.publishable import check_publishable
from coremlops.release.terms import Form


@dataclass(frozen=True, slots=True)
class Given:
    """One form of a model, as a person names it.

    `golden`: a golden set (with `golden.json`), or inputs to make one from by executing the model, which are
    published to every device; see `golden.make`. `report`: a `report.json` that must be ok and speak of this
    very model; the release channel takes none without. `requires`: what a device must be, besides what the
    model's own specification version needs.
    """

    model: Path
    golden: Path | None
    report: Path | None = None
    name: str = "default"
    requires: Rule = EVERYONE


def ready(
    forms: Sequence[Given], digests: Sequence[str], scratch: Path, progress: Callable[[str], None]
) -> tuple[list[Form], list[str]]:
    """The forms with golden sets, made below `scratch`; and what a person should know of these.

    `digests`: of the forms. Raises `GoldenError` for a set that the model does not answer, and `UsageError`.
    """
    notes: list[str] = []
    made: list[Form] = []
    folders = {form.name: scratch / f"golden-{place}" for place, form in enumerate(forms)}
    executed = [form.name for form in forms if not is_carried(form.model)]
    for form, digest in zip(forms, digests, strict=True):
        if form.name in executed:
            progress(f"golden set of {form.model.name}")
            notes += [f"golden set: {note}" for note in _golden(form, digest, folders[form.name])]
    for form, digest in zip(forms, digests, strict=True):
        if form.name not in executed:
            notes.append(_carried_golden(form, digest, executed, folders))
        made.append(Form(form.model, folders[form.name], form.name, _needs(form)))
    return made, list(dict.fromkeys(notes))


def report_of(model: Path, reports: Sequence[Path]) -> Path | None:
    """Of several reports the one about this model; the first where none is, so that the error names it."""
    if len(reports) < 2:
        return reports[0] if reports else None
    digest = model_digest(model)
    for path in reports:
        about = read_object(path).get("model")
        if isinstance(about, dict) and about.get("digest") == digest:
            return path
    return reports[0]


def requirements(about: ModelDescription) -> Rule:
    """What a device must be to run a model: the first systems that read its specification version."""
    systems = [System(name, Range(min=version)) for name, version in about.minimum_targets.items()]
    pads = [System("iPadOS", system.versions) for system in systems if system.name == "iOS"]
    return Rule(os=(*systems, *pads, System("Linux"))) if systems else EVERYONE


def decisions(golden: Path) -> dict[str, Any]:
    """What the audit log says of tolerances that somebody widened: the newest decision."""
    from coremlops.golden import read_golden

    made = read_golden(golden).decisions
    if not made:
        return {}
    newest = made[-1]
    words = {"at": newest.at, "by": newest.by, "basis": newest.basis[:200], "reason": newest.reason[:200]}
    return {"widened": {**words, "outputs": [name for name, _, _ in newest.changes[:32]]}}


def _needs(form: Given) -> Rule:
    """What a device must be: what the kind or the specification version needs, and what was said."""
    if not is_carried(form.model):
        return requirements(ModelAsset.open(form.model).description).both(form.requires)
    if form.requires == EVERYONE:
        raise UsageError(
            f"variant {form.name}: nothing here reads what a {form.model.suffix} needs",
            hint=f"say what a device must be to run it: --requires {form.name}=RULE.json",
        )
    return form.requires


def _carried_golden(form: Given, digest: str, executed: Sequence[str], folders: Mapping[str, Path]) -> str:
    """The golden set of a form that nothing here executes: another form's, for this digest; and a note."""
    from coremlops.golden import read_golden

    if not executed:
        raise UsageError(
            f"{form.model.name}: nothing here executes a {form.model.suffix}, so it gets no golden set",
            hint="publish it as a --variant of the .mlpackage that it was compiled from",
        )
    shutil.copytree(folders[executed[-1]], folders[form.name])
    promised = replace(read_golden(folders[executed[-1]]), model=digest)
    (folders[form.name] / "golden.json").write_bytes(promised.to_bytes())
    return (
        f"variant {form.name}: a {form.model.suffix} is not executed here; its golden set is that of "
        f"{executed[-1]}, and devices are the first to check it"
    )


def _golden(form: Given, digest: str, made: Path) -> tuple[str, ...]:
    """Put the form's golden set at `made`, copied or made new, and check it; what a person should know."""
    from coremlops.golden import check as judge
    from coremlops.golden import make

    assert form.golden is not None  # noqa: S101 - `releases.publish` looked
    notes: tuple[str, ...] = ()
    if (form.golden / "golden.json").is_file():
        _copy_named(form.golden, made, digest)
    else:
        check_publishable(form.golden)
        notes = make(form.model, form.golden, made).notes
    judged = judge(form.model, made)  # a set that the model does not answer would make every device refuse it
    if not judged.ok:
        raise GoldenError(judged.reason)
    return notes


def _copy_named(golden: Path, made: Path, digest: str) -> None:
    """Copy a golden set of this model: the files that `golden.json` names, and none that lies beside them.

    All of it goes to every device, so nothing is published that nobody named. Raises `GoldenError`.
    """
    from coremlops.golden import read_golden

    promised = read_golden(golden)
    if promised.model != digest:
        raise GoldenError(
            f"a golden set of model {digest[:12]} expected, got one of {promised.model[:12]} in {golden}",
            hint="give the pictures instead, and the set is made from them",
        )
    made.mkdir()
    for name in ("golden.json", *promised.files):
        if (golden / name).is_symlink() or not (golden / name).is_file():
            raise GoldenError(f"{golden / name}: a file expected, got none", hint="golden.json names it")
        try:
            shutil.copyfile(golden / name, made / name)
        except OSError as error:
            raise GoldenError(f"{golden / name} cannot be read: {error.strerror}") from None
