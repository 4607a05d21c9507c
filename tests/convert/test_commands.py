"""`coremlops convert` and the step `convert`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.model import ModelAsset, model_digest
from tests.verify.fixtures import SIDE, Trained, save, tiny_net

pytestmark = pytest.mark.slow


def test_the_command_takes_a_bare_program_and_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tiny_net(), tmp_path / "s", None, script=True)
    out = tmp_path / "m.mlpackage"
    flags = ["--labels", "red, blue", "--width", str(SIDE), "--height", str(SIDE)]
    code = main(
        [
            "convert",
            str(source / "model.pt"),
            "-o",
            str(out),
            *flags,
            "--scale",
            "0.5",
            "--bias=-1,-2,-3",
            "--json",
        ]
    )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert printed.err == ""
    value = json.loads(printed.out)
    assert value["digest"] == model_digest(out)
    about = ModelAsset.open(out).description
    said = json.loads(about.user_defined["com.coremlops.preparation"])
    assert (said["scale"], said["bias"], said["width"]) == (0.5, [-1.0, -2.0, -3.0], SIDE)
    assert about.labels == ("red", "blue")


def test_bad_flags_are_named(tiny: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["convert", str(tiny.source), "-o", str(tmp_path / "m.mlpackage")]
    assert main([*common, "--bias=a,b"]) == 2
    assert "--bias: numbers with commas between" in capsys.readouterr().err
    assert main([*common, "--labels", "a,a"]) == 2
    assert "got twice: a" in capsys.readouterr().err
    assert not (tmp_path / "m.mlpackage").exists()


def _step(
    upstream: Path, downstream: Path, *more: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coremlops.pipeline.components.convert"]
    return subprocess.run(
        [*command, "--upstream", str(upstream), "--downstream", str(downstream), *more],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_step_fills_its_folder_and_records_its_environment(tiny: Trained, tmp_path: Path) -> None:
    environment = {
        "COREMLOPS_RUN_ID": "run-9",
        "COREMLOPS_DATA_DIGEST": "d" * 64,
        "COREMLOPS_CODE_DIGEST": "c" * 64,
    }
    more = ("--target", "iOS16", "--precision", "float16")
    done = _step(tiny.source, tmp_path / "down", *more, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    package = tmp_path / "down" / "model.mlpackage"
    said = json.loads((tmp_path / "down" / "conversion.json").read_text())
    assert {"digest", "bytes", "target", "precision", "source"} <= set(said)
    assert said["digest"] == model_digest(package)
    metadata = ModelAsset.open(package).description.user_defined
    assert metadata["com.coremlops.run"] == "run-9"
    assert metadata["com.coremlops.data"] == "d" * 64
    assert metadata["com.coremlops.code"] == "c" * 64


def test_the_step_says_what_is_wrong(tmp_path: Path) -> None:
    done = _step(tmp_path, tmp_path / "down")
    assert done.returncode == 1
    assert "model.pt2 or model.pt expected, got neither" in done.stderr
    assert "Traceback" not in done.stderr
