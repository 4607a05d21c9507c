"""The step's command; see this folder's MLproject."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from coremlops.errors import CoremlopsError
from coremlops.pipeline.components.bundle import reconcile
from coremlops.pipeline.components.ending import said


def main() -> int:
    """Bundle the model unless the app has it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bundle", description=__doc__)
    for name in ("model", "report", "downstream", "app"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--name", default="")
    args = parser.parse_args()
    inputs = {"model": args.model, "report": args.report}
    params = {"app": str(args.app.absolute()), "name": args.name}
    try:
        place = reconcile.place_of(args.app.absolute(), args.name)
        receipt = reconcile.present(inputs, params, Path.cwd())
        if receipt is None:
            from coremlops.pipeline.components.bundle.install import install

            receipt = install(args.model, args.report, place)
    except CoremlopsError as error:
        return said(error)
    except OSError as error:
        print(f"error: {args.app} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    (args.downstream / "receipt.json").write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
    print(f"{receipt['action']}: {receipt['model']} is {receipt['digest'][:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
