"""The step's command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coremlops.errors import CoremlopsError
from coremlops.pipeline import forms, releases
from coremlops.pipeline.components.ending import said
from coremlops.pipeline.components.proven import read_proven
from coremlops.pipeline.shipping import Shipping, shipping


def main(argv: Sequence[str] | None = None) -> int:
    """Publish the model unless the channel has it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="publish", allow_abbrev=False)
    for name in ("model", "report", "golden", "downstream", "repository"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--channel", default="staging")
    parser.add_argument("--model-name", default="")
    parser.add_argument("--name", default="")
    args = parser.parse_args(argv)
    try:
        proven = read_proven(args.model, args.report, done="published")
        proven.check_package()  # what the pipeline compares is what is published
        report = args.report / "report.json"
        form = forms.Given(proven.model, args.golden, report)
        receipt = releases.publish([form], _place(args), channel=args.channel)
    except CoremlopsError as error:
        return said(error)
    if receipt.warning:
        print(f"warning: {receipt.warning}", file=sys.stderr)
    for note in receipt.notes:
        print(f"note: {note}", file=sys.stderr)
    args.downstream.mkdir(parents=True, exist_ok=True)
    (args.downstream / "receipt.json").write_text(json.dumps(receipt.to_json(), indent=2) + "\n", "utf-8")
    verb = "is now" if receipt.action == "done" else "was already"
    print(f"{receipt.model[:12]} {verb} version {receipt.version} of {receipt.place}")
    return 0


def _place(args: argparse.Namespace) -> Shipping:
    """The step's own parameters, over what the project says."""
    project = Path(os.environ.get("COREMLOPS_PROJECT") or ".").absolute()
    found = shipping(project)
    own = {(args.collection, args.model_name): args.name} if args.name else {}
    return replace(
        found,
        repository=project / args.repository,
        collection=args.collection,
        model=args.model_name or None,
        names={**found.names, **own},
    )


if __name__ == "__main__":
    sys.exit(main())
