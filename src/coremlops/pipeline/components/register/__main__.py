"""The step's command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coremlops.errors import CoremlopsError
from coremlops.pipeline.components.ending import said
from coremlops.pipeline.components.proven import Proven, read_object, read_proven
from coremlops.tracking.address import DEFAULT_URI, absolute_uri
from coremlops.tracking.outbox import Outbox


def main(argv: Sequence[str] | None = None) -> int:
    """Register and return the exit code."""
    parser = argparse.ArgumentParser(prog="register", allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--metrics", type=Path)
    parser.add_argument("--downstream", type=Path, required=True)
    parser.add_argument("--name", required=True)
    args = parser.parse_args(argv)
    try:
        proven = read_proven(args.model, args.report, done="registered")
        receipt = register_proven(proven, args.name, _metrics(proven.report, args.metrics))
    except CoremlopsError as error:
        return said(error)
    args.downstream.mkdir(parents=True, exist_ok=True)
    (args.downstream / "receipt.json").write_text(json.dumps(receipt, indent=2) + "\n", "utf-8")
    verb = "is now" if receipt["action"] == "done" else "was already"
    print(f"{proven.digest[:12]} {verb} version {receipt['version']} of {args.name}")
    return 0


def register_proven(proven: Proven, name: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Register the model as a version of `name`; returns the receipt. Raises `TrackingError`."""
    proven.check_package()
    conversion, report = proven.conversion, proven.report
    about = report.get("data")
    tested = str(about.get("digest") or "") if isinstance(about, dict) else ""
    data = os.environ.get("COREMLOPS_DATA_DIGEST") or tested
    tags = {
        "coremlops.data_digest": data,
        "coremlops.code_digest": os.environ.get("COREMLOPS_CODE_DIGEST", ""),
        "coremlops.run_id": os.environ.get("COREMLOPS_RUN_ID", ""),
        "coremlops.proof": str(report.get("proof", "")),
        "coremlops.target": str(conversion.get("target", "")),
        "coremlops.precision": str(conversion.get("precision", "")),
    }
    order: dict[str, Any] = {
        "model": str(proven.model.absolute()),
        "name": name,
        "digest": proven.digest,
        "params": {
            k: str(conversion[k]) for k in ("precision", "target", "bytes", "source") if k in conversion
        },
        "tags": {key: value for key, value in tags.items() if value},
        "metrics": dict(metrics),
        "dataset": {"name": "held-out data", "digest": tested} if tested else None,
        "metadata": {"conversion": dict(conversion), "data_digest": data},
    }
    project = Path(os.environ.get("COREMLOPS_PROJECT") or ".").absolute()
    uri = absolute_uri(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI, project)
    ours = os.environ.get("COREMLOPS_RUN_ID", "")
    if ours and Outbox(project).started(ours) is not None:
        from coremlops.tracking.errand import ask

        # The sender has MLflow imported already: 0.3 s instead of 4 s.
        receipt: dict[str, Any] = ask(
            project, "register", {**order, "tracking_uri": uri, "project": str(project), "our_run_id": ours}
        )
        return receipt
    from coremlops.tracking.registry import register

    return asdict(register(**order, tracking_uri=uri, run_id=_own_run(uri)))


def _own_run(uri: str) -> str:
    """MLflow's id of the run that the model belongs to when no pipeline runs: the step is developed alone."""
    theirs = os.environ.get(
        "MLFLOW_RUN_ID"
    )  # `mlflow run ./register` has begun a run, a bare command has not
    if theirs:
        return theirs
    from coremlops.tracking.store import connect, experiment_id, trouble

    client = connect(uri)
    with trouble("cannot begin a run"):
        experiment = experiment_id(client, uri, os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default")
        run_id = str(client.create_run(experiment, run_name="register").info.run_id)
        client.set_terminated(run_id)
    return run_id


def _metrics(report: Mapping[str, Any], folder: Path | None) -> dict[str, float]:
    """The report's numbers as `proof.*`, and those of `metrics.json` under their own names."""
    accuracy = report.get("accuracy")
    found: dict[str, Any] = {f"proof.{key}": report.get(key) for key in ("top1_agreement", "snr_db")}
    if isinstance(accuracy, dict):
        found["proof.accuracy"] = accuracy.get("model")
    # `metrics` left out is the project's root or the step's own folder, see MLproject.
    home = (Path(os.environ.get("COREMLOPS_PROJECT") or ".").resolve(), Path.cwd().resolve())
    if folder is not None and folder.resolve() not in home and (folder / "metrics.json").is_file():
        found.update(read_object(folder / "metrics.json"))
    return {
        key: float(value)
        for key, value in found.items()
        if isinstance(value, (int, float)) and abs(value) < float("inf")
    }


if __name__ == "__main__":
    sys.exit(main())
