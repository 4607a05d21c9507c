"""What running four trivial steps costs beyond the steps' own work, and a rerun with nothing changed.

Four steps copy a small file with a Python script each. Measured as whole processes, interleaved in rounds:

    steps      the four commands alone, one `bash -c` each: the steps' own work
    coremlops  `coremlops run` on a fresh project (tracking beside), then once more with nothing changed
    doit       the same four commands as doit tasks, cold, then once more
    mlflow     `mlflow run STEP --env-manager local` for each of the four steps, into one SQLite store

The sender that carries a run to MLflow works beside and after it; it is given time to end between rounds, so
that it does not slow others, and its own time is printed as `sender_s`.

    .venv/bin/python benchmarks/pipeline/overhead.py --rounds 7 --json > benchmarks/pipeline/overhead.json
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

BIN = Path(sys.executable).parent
STEPS = ("one", "two", "three", "four")
SCRIPT = """\
import sys
from pathlib import Path

source, target = map(Path, sys.argv[1:])
(target / "out.txt").write_text((source / "out.txt").read_text() + "x")
"""
MLPROJECT = """\
name: {name}
entry_points:
  main:
    parameters: {{upstream: path, downstream: path}}
    command: "python step.py {{upstream}} {{downstream}}"
"""
DODO = """\
DOIT_CONFIG = {{"dep_file": ".doit.db", "verbosity": 0}}


def task_steps():
    before = "start"
    for name in {steps!r}:
        yield {{
            "name": name,
            "file_dep": [f"{{before}}/out.txt", f"{{name}}/step.py"],
            "targets": [f"out-{{name}}/out.txt"],
            "actions": [
                f"mkdir -p out-{{name}} && cd {{name}} && python step.py ../{{before}} ../out-{{name}}"
            ],
        }}
        before = f"out-{{name}}"
"""
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "MLFLOW_DISABLE_TELEMETRY": "1",
    "COREMLOPS_SENDER_LINGER_S": "0",  # the next round waits for the sender, so it need not wait for one
}


def make_project(root: Path) -> None:
    """Write one project that all three tools can run."""
    (root / "start").mkdir(parents=True)
    (root / "start" / "out.txt").write_text("x")
    lines = ["project: trivial", "pipelines:", "  main:", "    steps:"]
    before = "./start"
    for name in STEPS:
        (root / name).mkdir()
        (root / name / "step.py").write_text(SCRIPT)
        (root / name / "MLproject").write_text(MLPROJECT.format(name=name))
        lines.append(f"      {name}: {{path: {name}, inputs: {{upstream: {before}}}}}")
        before = name
    (root / "coremlops.yaml").write_text("\n".join(lines) + "\n")
    (root / "dodo.py").write_text(DODO.format(steps=STEPS))


def call(command: list[str], folder: Path, more: Mapping[str, str] | None = None) -> float:
    """Seconds of a whole process; `more` goes into its environment."""
    environment = {**ENVIRONMENT, **(more or {})}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    elapsed_s = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return elapsed_s


def steps_alone(root: Path) -> float:
    total_s, before = 0.0, "start"
    for name in STEPS:
        (root / f"alone-{name}").mkdir()
        command = f"python step.py ../{before} ../alone-{name}"
        total_s += call(["bash", "-c", command], root / name)
        before = f"alone-{name}"
    return total_s


def mlflow_steps(root: Path) -> float:
    total_s, before = 0.0, root / "start"
    uri = f"sqlite:///{root}/mlflow-bench.db"
    for name in STEPS:
        target = root / f"mlflow-{name}"
        target.mkdir()
        command = [str(BIN / "mlflow"), "run", name, "--env-manager", "local"]
        command += ["-P", f"upstream={before}", "-P", f"downstream={target}"]
        total_s += call(command, root, {"MLFLOW_TRACKING_URI": uri})
        before = target
    return total_s


def wait_for_sender(root: Path) -> float:
    """Seconds until the project's sender has ended."""
    began = time.perf_counter()
    with (root / ".coremlops" / "outbox" / "sender.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    return time.perf_counter() - began


def one_round(root: Path, peers: bool) -> dict[str, float]:
    ours, doit = [str(BIN / "coremlops"), "run"], [str(BIN / "doit")]
    found = {"steps": steps_alone(root), "coremlops_cold": call(ours, root)}
    found["sender_s"] = wait_for_sender(root)
    found["coremlops_noop"] = call(ours, root)
    found["doit_cold"] = call(doit, root)
    found["doit_noop"] = call(doit, root)
    if peers:
        found["mlflow_cold"] = mlflow_steps(root)
    return found


def measure(rounds: int, mlflow_rounds: int, tell: Callable[[str], None]) -> dict[str, object]:
    seen: dict[str, list[float]] = {}
    for number in range(rounds):
        root = Path(tempfile.mkdtemp(prefix="overhead-"))
        try:
            make_project(root / "project")
            found = one_round(root / "project", peers=number < mlflow_rounds)
        finally:
            shutil.rmtree(root)
        for name, value in found.items():
            seen.setdefault(name, []).append(value)
        tell(f"round {number + 1}/{rounds}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    medians = {name: round(statistics.median(values), 4) for name, values in seen.items()}
    steps = medians["steps"]
    return {
        "command": "benchmarks/pipeline/overhead.py " + " ".join(sys.argv[1:]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("coremlops", "doit", "mlflow")},
        "rounds": rounds,
        "overhead_s": {
            name: round(medians[f"{name}_cold"] - steps, 4)
            for name in ("coremlops", "doit", "mlflow")
            if f"{name}_cold" in medians
        },
        "noop_s": {name: medians[f"{name}_noop"] for name in ("coremlops", "doit")},
        "median_s": medians,
        "all_s": {name: [round(value, 4) for value in values] for name, values in seen.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mlflow-rounds", type=int, default=3, help="mlflow takes 10 s a round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = measure(args.rounds, args.mlflow_rounds, lambda text: print(text, file=sys.stderr))
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(f"overhead beyond the steps: {result['overhead_s']}")
    print(f"rerun, nothing changed:    {result['noop_s']}")


if __name__ == "__main__":
    main()
