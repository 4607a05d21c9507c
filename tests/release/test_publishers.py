"""Two publishers at once, in processes of their own: each waits for the other, and both versions come out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coremlops.release import Repository

PUBLISH = """
import sys
from pathlib import Path
from coremlops.release import Repository
from coremlops.release.terms import Form

folder, golden, *models = map(Path, sys.argv[1:])
print("ready", flush=True)
sys.stdin.readline()
for model in models:
    print(Repository.open(folder).publish([Form(model, golden)]).version, flush=True)
"""


def test_two_publishers_at_once(
    repository: Repository, config: Path, models: tuple[Path, Path, Path], golden: Path
) -> None:
    command = [sys.executable, "-c", PUBLISH, str(repository.folder), str(golden)]
    both = [
        subprocess.Popen(
            [*command, *map(str, given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for given in ((models[0], models[2]), (models[1],))
    ]
    for each in both:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[0].split() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert sorted(version for each in said for version in each) == ["1", "2", "3"]
    found = repository.line("staging")
    assert [entry.version for entry in found.offers] == [3, 2, 1]
    assert repository.audit() == 3
