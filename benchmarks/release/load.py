"""2,000 devices update from `coremlops repo serve` over a bad network; and our server against nginx.

PYTHONPATH=src:. python benchmarks/release/load.py --write     needs nginx-light and wrk, from apt

Each device has version 1 of a tiny model, real signatures and a golden set that it executes; version 2 is
published, and they all come, at most 200 at a time, through a proxy that drops 1 % of all answers with their
connection, cuts 1 % in the middle of the body, and shortens 1 % with a length that agrees. What is active
after each try must be a model that was signed.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coremlops import golden
from coremlops.client import Device
from coremlops.model import model_digest
from coremlops.release import Repository
from coremlops.release.terms import Form
from tests.release.models import write_model, write_pictures
from tests.server.conftest import serve_nginx, serve_ours
from tests.server.load import bad_network, copies, summary, update_all

RESULT = Path(__file__).with_suffix(".json")
SIZES = {"2 KB": 2_000, "5 MB": 5_000_000}


def devices(work: Path, count: int, at_once: int, share: float) -> dict[str, Any]:
    """Update so many devices."""
    models, pictures = {}, write_pictures(work / "pictures")
    for version, gain in ((1, 0.02), (2, 0.03)):
        models[version] = write_model(work / f"{version}.mlpackage", gain=gain, extra_bytes=100_000)
        golden.make(models[version], pictures, work / f"golden-{version}")
    digests = {version: model_digest(model) for version, model in models.items()}
    repository = Repository.init(work / "repository", config=work / "config")
    repository.publish([Form(models[1], work / "golden-1")])
    with (
        serve_ours(repository.folder, work) as url,
        bad_network(url, share=share) as (bad, seen),
    ):
        Device.install(work / "phone", url, "faces", "staging", repository.root_file).update()
        folders = copies(work / "phone", bad, count, work / "phones")
        repository.publish([Form(models[2], work / "golden-2")])
        begun = time.time()
        ended = update_all(folders, digests, at_once=at_once, processes=2)
    return summary(ended, begun) | {"at_once": at_once, "network": asdict(seen)}


def throughput(work: Path, rounds: int) -> dict[str, Any]:
    """Requests a second of both servers for two sizes, interleaved; the ratio of the medians."""
    repository = Repository.init(work / "static", config=work / "static-config")
    paths = {}
    for name, size in SIZES.items():
        sha = f"{size:064x}"
        file = repository.folder / "targets/faces/members" / f"{sha}.{sha}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(size))
        paths[name] = f"/targets/faces/members/{sha}.{sha}"
    paths["timestamp.json"] = "/metadata/timestamp.json"
    (work / "nginx").mkdir()
    found: dict[str, dict[str, list[float]]] = {name: {"ours": [], "nginx": []} for name in paths}
    with (
        serve_ours(repository.folder, work, "--workers", "2") as ours,
        serve_nginx(repository.folder, work / "nginx") as nginx,
    ):
        for _ in range(rounds):
            for name, path in paths.items():
                for who, url in (("ours", ours), ("nginx", nginx)):
                    found[name][who].append(requests_a_second(url + path))
    medians = {name: {who: statistics.median(each) for who, each in by.items()} for name, by in found.items()}
    return {name: by | {"ours/nginx": round(by["ours"] / by["nginx"], 2)} for name, by in medians.items()}


def requests_a_second(url: str) -> float:
    done = subprocess.run(
        ["wrk", "-t1", "-c32", "-d2s", url], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"Requests/sec:\s*([\d.]+)", done)
    if match is None or "Non-2xx" in done:
        sys.exit(done)
    return float(match[1])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=2_000)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument(
        "--share", type=float, default=0.01, help="of answers dropped, as many cut, as many shortened"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result: Mapping[str, Any] = {
            "command": "PYTHONPATH=src:. python benchmarks/release/load.py --write",
            "throughput": throughput(Path(folder), options.rounds),
            "load": devices(Path(folder), options.devices, options.at_once, options.share),
        }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if options.write:
        RESULT.write_text(text)
    return 1 if result["load"]["unverified"] or set(result["load"]["versions"]) != {"2"} else 0


if __name__ == "__main__":
    sys.exit(main())
