"""Release operations: the repository decides, MLflow's alias follows or a warning says why not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from coremlops import golden
from coremlops.errors import CoremlopsError, GateError, GoldenError, InputError, RepositoryError
from coremlops.model import model_digest
from coremlops.pipeline import forms, releases, standing
from coremlops.pipeline.mirror import mirror
from coremlops.pipeline.shipping import Shipping, shipping
from coremlops.release import Repository
from tests.release.models import write_model, write_pictures

PROJECT = """
project: my_faces
tracking: {uri: "sqlite:///store/mlflow.db"}
pipelines:
  main:
    steps:
      convert:  {uses: convert, inputs: {upstream: ./trained}}
      verify:   {uses: verify, inputs: {model: convert, source: ./trained, data: ./data}}
      register: {uses: register, inputs: {model: convert, report: verify}, params: {name: my_faces}}
      publish:  {uses: publish, inputs: {model: convert, report: verify, golden: ./golden},
                 params: {repository: shipped, collection: my-faces}}
"""


def publish(
    model: Path, golden: Path | None, where: Shipping, *, report: Path | None = None, again: bool = False
) -> releases.Receipt:
    return releases.publish([forms.Given(model, golden, report)], where, again=again)


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shipping:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    Repository.init(tmp_path / "repository")
    return Shipping(tmp_path / "repository")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def report(folder: Path, digest: str, *, ok: bool = True) -> Path:
    path = folder / "report.json"
    gates = [{"name": "top1", "limit": 0.95, "value": 0.5, "ok": ok}]
    path.write_text(json.dumps({"format": 1, "ok": ok, "model": {"digest": digest}, "gates": gates}))
    return path


def test_publish_makes_the_golden_set_by_executing_the_model(
    where: Shipping, pictures: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "one.mlpackage")
    receipt = publish(model, pictures, where, report=report(tmp_path, model_digest(model)))
    assert (receipt.action, receipt.version, receipt.current, receipt.rolled_back) == ("done", 1, 1, False)
    assert (receipt.collection, receipt.channel, receipt.model) == ("faces", "staging", model_digest(model))
    assert (receipt.alias, receipt.warning) == (False, "")
    repository = Repository.open(where.repository)
    entry = repository.line("staging").current
    assert entry is not None
    members = {member.path: member.sha256 for member in repository.manifest(entry).members}
    assert "golden/golden.json" in members
    assert not any("red" in path for path in members), "a picture's own name is not published"
    assert publish(model, pictures, where).action == "present"


def test_what_a_person_should_know_of_the_set_is_in_the_receipt(
    where: Shipping, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "one.mlpackage")
    assert publish(model, pictures, where).notes == ()
    monkeypatch.setattr(
        "coremlops.golden.making.make.__kwdefaults__", {"max_bytes": 1, "max_examples": 8, "function": None}
    )
    found = publish(write_model(tmp_path / "two.mlpackage", gain=0.03), pictures, where)
    assert found.to_json()["notes"] == ("golden set: 1 of 3 inputs fit into 1 bytes",)


def test_publish_takes_a_golden_set_as_it_is(where: Shipping, pictures: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "one.mlpackage")
    golden.make(model, pictures, tmp_path / "golden")
    assert publish(model, tmp_path / "golden", where).action == "done"
    stored = [path for path in (where.repository / "targets").rglob("*") if path.is_file()]
    wanted = (tmp_path / "golden" / "golden.json").read_bytes()
    assert wanted in [path.read_bytes() for path in stored]


def test_nothing_that_lies_beside_a_golden_set_is_published(
    where: Shipping, pictures: Path, tmp_path: Path
) -> None:
    """All of a golden set goes to every device: a photo that nobody named stays here."""
    model = write_model(tmp_path / "one.mlpackage")
    made = tmp_path / "golden"
    golden.make(model, pictures, made)
    (made / "private.jpg").write_bytes(b"a photo of somebody")
    (made / ".DS_Store").write_bytes(b"names of files")
    publish(model, made, where)
    repository = Repository.open(where.repository)
    entry = repository.line("staging").current
    assert entry is not None
    paths = {member.path for member in repository.manifest(entry).members if "golden/" in member.path}
    assert paths == {"golden/golden.json", "golden/0001.png", "golden/0002.png", "golden/0003.png"}
    stored = [path.read_bytes() for path in (where.repository / "targets").rglob("*") if path.is_file()]
    assert b"a photo of somebody" not in stored


def test_a_golden_set_that_the_model_does_not_answer_is_not_published(
    where: Shipping, pictures: Path, tmp_path: Path
) -> None:
    """Every device would refuse the version: the publisher executes the set first, as they do."""
    model = write_model(tmp_path / "one.mlpackage")
    golden.make(model, pictures, tmp_path / "golden")
    file = tmp_path / "golden" / "golden.json"
    document = json.loads(file.read_text())
    for item in document["examples"]:
        item["calls"][0]["outputs"]["classLabel_probs"]["values"] = [0.5, 0.5, 0.0]
    file.write_text(json.dumps(document))
    with pytest.raises(GoldenError, match="example 1: classLabel_probs: a relative error of at most"):
        publish(model, tmp_path / "golden", where)
    assert Repository.open(where.repository).line("staging").current is None


def test_a_golden_set_that_no_device_could_read_is_not_published(
    where: Shipping, pictures: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "one.mlpackage", labels=("r" * 201, "green", "blue"))
    with pytest.raises(GoldenError, match="expected strings or whole numbers"):
        publish(model, pictures, where)
    assert Repository.open(where.repository).line("staging").current is None


@pytest.mark.parametrize("fault", ["another model", "missing", "link"])
def test_a_golden_set_that_no_device_would_take_is_not_published(
    where: Shipping, pictures: Path, tmp_path: Path, fault: str
) -> None:
    model = write_model(tmp_path / "one.mlpackage", gain=0.02)
    made = tmp_path / "golden"
    golden.make(model, pictures, made)
    if fault == "another model":
        model = write_model(tmp_path / "two.mlpackage", gain=0.03)
    else:
        (made / "0002.png").unlink()
    if fault == "link":
        (made / "0002.png").symlink_to(made / "0001.png")
    words = "a golden set of model" if fault == "another model" else "0002.png: a file expected"
    with pytest.raises(GoldenError, match=words):
        publish(model, made, where)
    assert Repository.open(where.repository).line("staging").current is None


def test_a_report_that_says_no_or_is_about_another_model_publishes_nothing(
    where: Shipping, pictures: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "one.mlpackage")
    digest = model_digest(model)
    with pytest.raises(GateError, match="not published") as said_no:
        publish(model, pictures, where, report=report(tmp_path, digest, ok=False))
    assert said_no.value.failed == ("top1: 0.5 (limit 0.95)",)
    with pytest.raises(InputError, match=f"about another model: expected {digest}, got {'a' * 64}"):
        publish(model, pictures, where, report=report(tmp_path, "a" * 64))
    (tmp_path / "report.json").write_text("[" * 9999)
    with pytest.raises(InputError, match="is no JSON"):
        publish(model, pictures, where, report=tmp_path / "report.json")
    with pytest.raises(InputError, match=r"cannot read .*none\.json"):
        publish(model, pictures, where, report=tmp_path / "none.json")
    assert standing.listing(where) == {}


def test_promote_and_rollback_say_what_devices_get(where: Shipping, pictures: Path, tmp_path: Path) -> None:
    for name, gain in (("one", 0.02), ("two", 0.03)):
        publish(write_model(tmp_path / f"{name}.mlpackage", gain=gain), pictures, where)
        promoted = releases.promote(where)
    assert (promoted.action, promoted.channel, promoted.version) == ("done", "release", 2)
    assert releases.promote(where).action == "present"
    back = releases.rollback(where)
    assert (back.action, back.channel, back.version, back.current, back.rolled_back) == (
        "done",
        "release",
        1,
        1,
        True,
    )
    releases.rollback(where, "staging", 1)
    again = publish(tmp_path / "two.mlpackage", pictures, where)
    assert (again.action, again.version, again.current, again.rolled_back) == ("present", 2, 1, True)
    returned = publish(tmp_path / "two.mlpackage", pictures, where, again=True)
    assert (returned.action, returned.current) == ("done", returned.version)


@pytest.mark.parametrize("uri", ["sqlite:////nonexistent/mlflow.db", "http://127.0.0.1:9"])
def test_an_mlflow_that_is_not_there_is_a_warning(
    where: Shipping, pictures: Path, tmp_path: Path, uri: str
) -> None:
    model = write_model(tmp_path / "one.mlpackage")
    with_uri = Shipping(where.repository, tracking_uri=uri)
    receipt = publish(model, pictures, with_uri)
    assert (receipt.action, receipt.alias) == ("done", False)
    assert "MLflow's alias faces@staging is not set" in receipt.warning


def test_a_warning_names_the_server_without_its_password(tmp_path: Path) -> None:
    _, warning = mirror("http://ada:s3cret@127.0.0.1:9", "faces", "staging", "a" * 64)
    assert "nothing answers at http://***@127.0.0.1:9" in warning


def test_a_server_that_speaks_no_http_is_a_warning(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"220 mail.example ESMTP\r\n\r\n")

        threading.Thread(target=babble, daemon=True).start()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert "nothing answers" in mirror(uri, "faces", "staging", "a" * 64)[1]


def test_whatever_mlflow_raises_is_a_warning(
    where: Shipping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "mlflow.db"
    store.write_bytes(b"no database")
    uri = f"sqlite:///{store}"
    for error in (CoremlopsError("it refused"), RuntimeError("it refused")):

        def refuse(*args: object, error: Exception = error) -> bool:
            raise error

        monkeypatch.setattr("coremlops.tracking.mirror_alias", refuse, raising=False)
        alias, warning = mirror(uri, "faces", "staging", "a" * 64)
        assert not alias
        assert "it refused" in warning
    monkeypatch.setattr("coremlops.tracking.mirror_alias", lambda *args: False, raising=False)
    assert "no version of faces holds the model aaaaaaaaaaaa" in mirror(uri, "faces", "x", "a" * 64)[1]


def test_no_repository_names_the_command(tmp_path: Path, pictures: Path) -> None:
    nowhere = Shipping(tmp_path / "repository")
    acts: tuple[Callable[[], object], ...] = (
        lambda: publish(tmp_path / "m.mlpackage", pictures, nowhere),
        lambda: releases.promote(nowhere),
        lambda: releases.rollback(nowhere),
        lambda: standing.listing(nowhere),
    )
    for act in acts:
        with pytest.raises(RepositoryError, match="no signed repository") as caught:
            act()
        assert caught.value.hint.startswith("coremlops repo init")


def test_where_a_project_ships_to(tmp_path: Path) -> None:
    (tmp_path / "coremlops.yaml").write_text(PROJECT)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    found = shipping(tmp_path / "deep" / "er", {})
    assert found == Shipping(
        tmp_path.resolve() / "shipped"
        if found.repository.is_relative_to(tmp_path.resolve())
        else tmp_path / "shipped",
        "my-faces",
        None,
        {("my-faces", ""): "my_faces"},
        f"sqlite:///{tmp_path}/store/mlflow.db",
    )
    assert found.registered("my-faces", "my-faces") == "my_faces"
    assert shipping(tmp_path, {"MLFLOW_TRACKING_URI": "http://x"}).tracking_uri == "http://x"


def test_without_a_project_there_is_a_repository_beside_and_no_mlflow(tmp_path: Path) -> None:
    found = shipping(tmp_path, {})
    assert found == Shipping(tmp_path / "repository")
    assert found.registered("faces", "faces") == "faces"
