"""`coremlops why`."""

from __future__ import annotations

import argparse
import json

from coremlops.cli.run import overrides, project_folder, project_options


def configure(parser: argparse.ArgumentParser) -> None:
    project_options(parser)
    parser.add_argument("step", metavar="STEP")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "example: coremlops why train"


def run(args: argparse.Namespace) -> int:
    from coremlops.pipeline.explanation import why

    answer = why(project_folder(args), args.step, pipeline=args.pipeline, overrides=overrides(args))
    if args.json:
        print(json.dumps(answer.as_json()))
        return 0
    print(f"{answer.step}: {answer.status}")
    for reason in answer.reasons:
        print(f"  {reason}")
    if answer.last_run:
        print(f"  last ran {answer.last_run}: {answer.last_reasons[0] if answer.last_reasons else ''}")
        for reason in answer.last_reasons[1:]:
            print(f"    {reason}")
    return 0
