"""The step `publish`: run as its MLproject says, reconciled by digest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coremlops.client import Device
from coremlops.errors import DataError, RepositoryError
from coremlops.model import model_digest
from coremlops.pipeline.components.publish import reconcile
from coremlops.release import Repository
from coremlops.release.expiry import utc_now
from tests.release.models import write_model, write_pictures


class Bench:
    """A project's folder with what `convert` and `verify` leave, a repository, and the step between them."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.project.mkdir()
        self.repository = Repository.init(self.project / "repository")
        self.golden = write_pictures(self.project / "golden")
        self.convert, self.verify = folder / "convert", folder / "verify"
        self.convert.mkdir()
        self.verify.mkdir()
        self.params = {
            "repository": str(self.repository.folder),
            "collection": "faces",
            "channel": "staging",
            "name": "",
            "tracking_uri": "sqlite:///mlflow.db",
        }

    def make(self, gain: float, *, ok: bool = True) -> str:
        import shutil

        shutil.rmtree(self.convert / "model.mlpackage", ignore_errors=True)
        model = write_model(self.convert / "model.mlpackage", gain=gain, extra_bytes=500)
        digest = model_digest(model)
        (self.convert / "conversion.json").write_text(json.dumps({"digest": digest, "bytes": 1}))
        self.report(digest, ok=ok)
        return digest

    def report(self, digest: str, *, ok: bool = True) -> None:
        said = {"format": 1, "ok": ok, "model": {"digest": digest}, "gates": []}
        (self.verify / "report.json").write_text(json.dumps(said))

    def present(self) -> Any:
        inputs = {"model": self.convert, "report": self.verify, "golden": self.golden}
        return reconcile.present(inputs, self.params, self.project)

    def run(self, out: Path, uri: str = "") -> subprocess.CompletedProcess[str]:
        from coremlops.pipeline.components import COMPONENTS

        out.mkdir(exist_ok=True)
        words = [
            "--model",
            self.convert,
            "--report",
            self.verify,
            "--golden",
            self.golden,
            "--downstream",
            out,
        ]
        words += [
            "--repository",
            self.repository.folder,
            "--collection",
            "faces",
            "--channel",
            "staging",
            "--name=",
        ]
        environment = os.environ | {"COREMLOPS_PROJECT": str(self.project)}
        if uri:
            environment["MLFLOW_TRACKING_URI"] = uri
        return subprocess.run(
            [sys.executable, "-m", "coremlops.pipeline.components.publish", *map(str, words)],
            cwd=COMPONENTS["publish"].folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Bench(tmp_path)


def test_the_step_publishes_and_is_present_from_then_on(bench: Bench, tmp_path: Path) -> None:
    digest = bench.make(0.02)
    assert bench.present() is None
    done = bench.run(tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{digest[:12]} is now version 1 of faces/staging\n"
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert (receipt["action"], receipt["version"], receipt["model"]) == ("done", 1, digest)
    assert bench.present() == receipt | {"action": "present"}
    again = bench.run(tmp_path / "out")
    assert again.stdout == f"{digest[:12]} was already version 1 of faces/staging\n"
    device = Device.install(
        tmp_path / "phone", bench.repository.folder.as_uri(), None, "staging", bench.repository.root_file
    )
    assert device.update().digest == digest


def test_another_model_is_not_present(bench: Bench, tmp_path: Path) -> None:
    bench.make(0.02)
    assert bench.run(tmp_path / "out").returncode == 0
    assert bench.present() is not None
    bench.make(0.03)
    assert bench.present() is None


def test_a_rollback_is_not_undone_by_the_next_run(bench: Bench, tmp_path: Path) -> None:
    for gain in (0.02, 0.03):
        bench.make(gain)
        assert bench.run(tmp_path / "out").returncode == 0
    bench.repository.rollback("staging")
    receipt = bench.present()
    assert (receipt["action"], receipt["version"], receipt["current"]) == ("present", 2, 1)
    assert receipt["rolled_back"]
    assert bench.run(tmp_path / "out").returncode == 0
    current = bench.repository.line("staging").current
    assert current is not None
    assert current.version == 1


def test_what_is_about_to_expire_is_not_present_and_the_step_renews_it(bench: Bench, tmp_path: Path) -> None:
    from coremlops.release.audit import Act
    from coremlops.release.roles import Roles

    bench.make(0.02)
    bench.run(tmp_path / "out")
    repository = bench.repository
    past = Roles(
        repository.folder,
        repository.keys,
        clock=lambda: utc_now() - timedelta(days=5),
        expiry=repository.expiry,
    )
    past.clock_checked = True
    past.commit([], Act("renew"))
    assert bench.present() is None
    assert bench.run(tmp_path / "out").returncode == 0
    assert bench.present() is not None


@pytest.mark.parametrize("what", ["ok", "other model", "conversion"])
def test_what_is_not_proven_is_refused(bench: Bench, tmp_path: Path, what: str) -> None:
    digest = bench.make(0.02)
    if what == "ok":
        bench.report(digest, ok=False)
    elif what == "other model":
        bench.report("b" * 64)
    else:
        (bench.convert / "conversion.json").write_text(json.dumps({"digest": "b" * 64}))
        bench.report("b" * 64)
    assert bench.present() is None
    refused = bench.run(tmp_path / "out")
    assert refused.returncode == (3 if what == "ok" else 1)
    assert refused.stderr.startswith("error: ")
    assert not (tmp_path / "out" / "receipt.json").exists()
    assert bench.repository.line("staging").current is None


def test_no_repository_says_how_to_make_one(bench: Bench, tmp_path: Path) -> None:
    import shutil

    bench.make(0.02)
    shutil.rmtree(bench.repository.folder)
    assert bench.present() is None
    refused = bench.run(tmp_path / "out")
    assert refused.returncode == 1
    assert "no signed repository at" in refused.stderr
    assert "coremlops repo init" in refused.stderr


@pytest.mark.parametrize(
    "damage",
    ["metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/2.faces-staging.json", "index"],
)
def test_a_damaged_repository_is_not_present(bench: Bench, tmp_path: Path, damage: str) -> None:
    bench.make(0.02)
    bench.run(tmp_path / "out")
    folder = bench.repository.folder
    paths = (folder / "targets" / "faces" / "staging").iterdir() if damage == "index" else [folder / damage]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-20])
    assert bench.present() is None


def test_reconciling_imports_nothing_heavy(bench: Bench, tmp_path: Path) -> None:
    bench.make(0.02)
    bench.run(tmp_path / "out")
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from coremlops.pipeline.components.publish import reconcile\n"
        "paths, params, project = json.loads(sys.argv[1])\n"
        "inputs = {k: Path(v) for k, v in paths.items()}\n"
        "assert reconcile.present(inputs, params, Path(project))['action'] == 'present'\n"
        "heavy = {'tuf', 'mlflow', 'numpy', 'onnx', 'PIL', 'yaml', 'urllib3', 'securesystemslib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    paths = {"model": str(bench.convert), "report": str(bench.verify)}
    said = json.dumps([paths, bench.params, str(bench.project)])
    done = subprocess.run([sys.executable, "-c", code, said], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_the_alias_follows_the_channel(bench: Bench, tmp_path: Path) -> None:
    from coremlops.pipeline import releases
    from coremlops.pipeline.shipping import Shipping
    from coremlops.tracking import peek_alias, register
    from coremlops.tracking.store import connect

    uri = f"sqlite:///{bench.project}/mlflow.db"
    client = connect(uri)
    run = client.create_run("0").info.run_id
    digest = bench.make(0.02)
    register(bench.convert / "model.mlpackage", "faces", tracking_uri=uri, run_id=run, digest=digest)
    bench.params["tracking_uri"] = uri
    assert bench.run(tmp_path / "out", uri).returncode == 0
    assert peek_alias(uri, "faces", "staging") == digest
    assert bench.present()["alias"] is True
    assert releases.promote(Shipping(bench.repository.folder, tracking_uri=uri)).alias
    assert peek_alias(uri, "faces", "release") == digest
    client.delete_registered_model_alias("faces", "staging")
    assert bench.present() is None, "the registry has the version, so the step can set the alias"
    assert bench.run(tmp_path / "out", uri).returncode == 0
    assert peek_alias(uri, "faces", "staging") == digest


def test_what_is_missing_for_any_model_is_said_before_one_is_made(bench: Bench) -> None:
    def check() -> None:
        reconcile.check({"golden": bench.golden}, bench.params, bench.project)

    check()
    key = bench.repository.keys.path("staging")
    key.rename(key.with_suffix(".away"))
    with pytest.raises(RepositoryError, match=r"the staging key of repository .* is not here"):
        check()
    key.with_suffix(".away").rename(key)
    for picture in bench.golden.iterdir():
        picture.unlink()
    with pytest.raises(DataError, match=r"at least one picture or \.npz expected, got none"):
        check()
    bench.params["repository"] = str(bench.project / "elsewhere")
    with pytest.raises(RepositoryError, match="elsewhere"):
        check()
