import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from coremlops import files
from coremlops.errors import GateError, InputError, ModelFormatError, UsageError
from coremlops.model import model_digest
from coremlops.model.proto import message_class
from coremlops.pipeline.components import COMPONENTS
from coremlops.pipeline.components.bundle import install as installing
from coremlops.pipeline.components.bundle import reconcile, swift
from coremlops.pipeline.components.bundle.install import install

GOLDEN = Path(__file__).with_name("FacesModel.swift")
PREPARATION = {"name": "image", "width": 8, "height": 8, "color": "RGB", "image_option": "centerCrop"}


def write_model(
    folder: Path,
    labels: Sequence[str] = ("ada", "ben"),
    *,
    preparation: dict[str, Any] | None = PREPARATION,
    image: bool = True,
    weights: bytes = b"weights",
) -> str:
    """What `convert` leaves, with a network that has no layers; returns the digest."""
    spec = message_class("Model")(specificationVersion=7)
    about = spec.description
    entry = about.input.add(name="image")
    if image:
        entry.type.imageType.width = entry.type.imageType.height = 8
        entry.type.imageType.colorSpace = 20
    else:
        entry.type.doubleType.SetInParent()
    about.output.add(name="classLabel").type.stringType.SetInParent()
    about.output.add(name="classLabel_probs").type.dictionaryType.stringKeyType.SetInParent()
    about.predictedFeatureName, about.predictedProbabilitiesName = "classLabel", "classLabel_probs"
    about.metadata.userDefined["com.coremlops.run"] = "r1"
    if preparation is not None:
        about.metadata.userDefined["com.coremlops.preparation"] = json.dumps(preparation)
    spec.neuralNetworkClassifier.stringClassLabels.vector.extend(labels)

    data = folder / "model.mlpackage" / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(spec.SerializeToString())
    (data / "weights" / "weight.bin").write_bytes(weights)
    items = {"a": {"path": "com.apple.CoreML/model.mlmodel"}, "b": {"path": "com.apple.CoreML/weights"}}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": "a"}
    (folder / "model.mlpackage" / "Manifest.json").write_text(json.dumps(manifest))
    digest = model_digest(folder / "model.mlpackage")
    conversion = {"digest": digest, "bytes": 1, "target": "iOS16", "precision": "float16", "source": {}}
    (folder / "conversion.json").write_text(json.dumps(conversion))
    return digest


def write_report(folder: Path, digest: str, *, ok: bool = True) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps({"format": 1, "ok": ok, "model": {"digest": digest}}))


class Bench:
    """A proven model, an app's folder, and the component between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model, self.report, self.app = folder / "model", folder / "report", folder / "app" / "Faces"
        self.remake()

    def remake(self, **changes: Any) -> str:
        shutil.rmtree(self.model, ignore_errors=True)
        self.digest = write_model(self.model, **changes)
        write_report(self.report, self.digest)
        return self.digest

    @property
    def place(self) -> reconcile.Place:
        return reconcile.place_of(self.app, "")

    def present(self) -> Any:
        inputs = {"model": self.model, "report": self.report}
        return COMPONENTS["bundle"].present(inputs, {"app": "app/Faces", "name": ""}, self.folder)

    def install(self) -> dict[str, Any]:
        return install(self.model, self.report, self.place)

    def version(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.app / "Faces.version.json").read_text())
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_app_gets_model_version_file_and_accessor(bench: Bench) -> None:
    receipt = bench.install()
    assert (receipt["action"], receipt["digest"]) == ("done", bench.digest)
    assert sorted(p.name for p in bench.app.iterdir()) == [
        "Faces.mlpackage",
        "Faces.version.json",
        "FacesModel.swift",
    ]
    assert model_digest(bench.app / "Faces.mlpackage") == bench.digest
    version = bench.version()
    assert version["digest"] == bench.digest
    assert version["preparation"] == PREPARATION
    assert version["from"] == {"run": "r1"}
    assert (version["target"], version["precision"]) == ("iOS16", "float16")


def test_present_only_when_the_app_has_this_very_model(bench: Bench) -> None:
    assert bench.present() is None
    bench.install()
    assert bench.present() == reconcile.receipt("present", bench.place, bench.digest)
    before = bench.digest
    assert bench.remake(labels=("ada", "ben", "cleo")) != before
    assert bench.present() is None
    bench.install()
    assert bench.present()["digest"] == bench.digest
    assert '"cleo",' in (bench.app / "FacesModel.swift").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        "Faces.mlpackage/Manifest.json",
        "Faces.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
        "FacesModel.swift",
        "Faces.version.json",
    ],
)
@pytest.mark.parametrize("how", ["missing", "changed"])
def test_damage_is_noticed_and_repaired(bench: Bench, damage: str, how: str) -> None:
    bench.install()
    path = bench.app / damage
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[::-1])  # the size stays
    assert bench.present() is None
    if damage == "Faces.version.json":  # without it nothing says that the files are ours
        with pytest.raises(InputError, match="was not made by coremlops"):
            bench.install()
    else:
        bench.install()
        assert bench.present() is not None


def test_a_file_too_many_in_the_package_is_damage(bench: Bench) -> None:
    bench.install()
    (bench.app / "Faces.mlpackage" / "extra.bin").write_bytes(b"x")
    assert bench.present() is None
    bench.install()
    assert not (bench.app / "Faces.mlpackage" / "extra.bin").exists()


def test_an_older_generator_bundles_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.install()
    monkeypatch.setattr(reconcile, "GENERATOR", reconcile.GENERATOR + 1)
    assert bench.present() is None


def test_files_of_the_app_stay(bench: Bench) -> None:
    bench.app.mkdir(parents=True)
    (bench.app / "ContentView.swift").write_text("import SwiftUI")
    bench.install()
    bench.remake(weights=b"others")
    bench.install()
    assert (bench.app / "ContentView.swift").read_text() == "import SwiftUI"
    assert len(list(bench.app.iterdir())) == 4


@pytest.mark.parametrize("name", ["Faces.mlpackage", "FacesModel.swift", "Faces.version.json"])
def test_what_is_not_ours_is_refused(bench: Bench, name: str) -> None:
    bench.app.mkdir(parents=True)
    (bench.app / name).write_text("{}")
    with pytest.raises(InputError, match=f"{name} exists and was not made by coremlops"):
        bench.install()
    assert [(p.name, p.read_text()) for p in bench.app.iterdir()] == [(name, "{}")]


def test_a_link_is_not_followed(bench: Bench) -> None:
    bench.install()
    elsewhere = bench.folder / "elsewhere"
    (bench.app / "Faces.mlpackage").rename(elsewhere)
    (bench.app / "Faces.mlpackage").symlink_to(elsewhere)
    assert bench.present() is None
    with pytest.raises(InputError, match="was not made by coremlops"):
        bench.install()
    assert elsewhere.is_dir()


def test_an_unproven_model_is_refused(bench: Bench) -> None:
    bench.install()
    write_report(bench.report, bench.digest, ok=False)
    assert bench.present() is None
    with pytest.raises(GateError, match="so it is not bundled"):
        bench.install()


def test_a_report_about_another_model_is_refused(bench: Bench) -> None:
    write_report(bench.report, "0" * 64)
    with pytest.raises(InputError, match="the report is about another model"):
        bench.install()


def test_a_model_that_changed_after_the_proof_is_refused(bench: Bench) -> None:
    (bench.model / "model.mlpackage" / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").write_bytes(
        b"evil"
    )
    with pytest.raises(InputError, match="is not the model that was proven"):
        bench.install()
    assert list(bench.app.iterdir()) == []


def test_a_package_with_a_link_is_refused_before_anything_is_copied(bench: Bench) -> None:
    (bench.model / "model.mlpackage" / "link").symlink_to("/etc/hostname")
    with pytest.raises(ModelFormatError, match="link"):
        bench.install()
    assert not bench.app.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": False}, "one image input"),
        ({"labels": ()}, "0 labels"),
        ({"preparation": None}, "com.coremlops.preparation"),
        ({"preparation": {"image_option": "sideways"}}, "sideways"),
    ],
)
def test_a_model_that_is_no_image_classifier_is_refused(
    bench: Bench, changes: dict[str, Any], says: str
) -> None:
    bench.remake(**changes)
    with pytest.raises(InputError, match=says):
        bench.install()


def test_a_killed_run_is_repaired(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the version file, before the package: the next run knows the folder as its own."""

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    bench.install()
    bench.remake(weights=b"others")
    with monkeypatch.context() as patch:
        patch.setattr(installing, "replace_folder", die)
        with pytest.raises(Killed):
            bench.install()
    assert bench.present() is None
    bench.install()
    assert bench.present() is not None


def test_a_failed_move_puts_the_old_model_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old = bench.digest
    bench.install()
    bench.remake(weights=b"others")
    real = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(source).parent.name == ".Faces.bundling" and Path(source).name == "Faces.mlpackage":
            raise OSError("no")
        real(source, target)

    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        bench.install()
    assert model_digest(bench.app / "Faces.mlpackage") == old


def test_a_kill_at_any_moment_leaves_the_app_with_a_whole_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each rename in turn, nothing tidied up: the old package or the new one is in its place."""

    class Killed(BaseException):
        pass

    package = bench.app / "Faces.mlpackage"
    bench.install()
    known = {bench.digest, bench.remake(weights=b"others")}
    calls: list[str] = []
    monkeypatch.setattr(installing, "_remove", lambda path: None)  # what a killed process does not do

    def dying(name: str, at: int, real: Any) -> Any:
        def call(*args: Any) -> Any:
            for moment in ("before", "after"):
                calls.append(f"{moment} {name}")
                if len(calls) == at:
                    raise Killed
                if moment == "before":
                    result = real(*args)
            return result

        return call

    for at in range(1, 40):
        calls.clear()
        shutil.rmtree(bench.app / ".Faces.bundling", ignore_errors=True)
        with monkeypatch.context() as patch:
            for owner, name in ((os, "replace"), (os, "rename"), (Path, "replace"), (Path, "rename")):
                patch.setattr(owner, name, dying(name, at, getattr(owner, name)))
            patch.setattr(files, "_exchange", dying("exchange", at, files._exchange))
            try:
                bench.install()
            except Killed:
                assert model_digest(package) in known, calls
                continue
        break
    assert at > 4
    assert model_digest(package) == bench.digest


def test_the_command_writes_a_receipt(bench: Bench) -> None:
    downstream = bench.folder / "out"
    downstream.mkdir()
    command = [sys.executable, "-m", "coremlops.pipeline.components.bundle"]
    command += ["--model", str(bench.model), "--report", str(bench.report)]
    command += ["--downstream", str(downstream), "--app", str(bench.app), "--name="]
    for action in ("done", "present"):
        subprocess.run(command, check=True, capture_output=True)
        assert json.loads((downstream / "receipt.json").read_text())["action"] == action
    write_report(bench.report, bench.digest, ok=False)
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 3
    assert failed.stderr == (
        "error: the report does not say that the model is proven, so it is not bundled\n"
        "  hint: see report.html beside the report\n"
    )


def test_an_app_folder_that_cannot_be_written_is_one_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coremlops.pipeline.components.bundle.__main__ import main

    bench.app.parent.mkdir()
    bench.app.write_text("a file")
    words = {"model": bench.model, "report": bench.report, "downstream": bench.folder, "app": bench.app}
    monkeypatch.setattr(sys, "argv", ["bundle", *(f"--{name}={path}" for name, path in words.items())])
    assert main() == 1
    assert capsys.readouterr().err == f"error: {bench.app} cannot be written: File exists\n"


def test_presence_is_found_out_without_heavy_imports(bench: Bench) -> None:
    bench.install()
    code = (
        "import sys; from pathlib import Path; from coremlops.pipeline.components import COMPONENTS\n"
        f"inputs = {{'model': Path({str(bench.model)!r}), 'report': Path({str(bench.report)!r})}}\n"
        f"found = COMPONENTS['bundle'].present(inputs, {{'app': {str(bench.app)!r}}}, Path('/'))\n"
        "assert found and found['action'] == 'present', found\n"
        "print([name for name in ('google.protobuf', 'numpy', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("folder", "name", "expected"),
    [("Faces", "", "Faces"), ("my-faces app", "", "MyFacesApp"), ("x", "Cats", "Cats")],
)
def test_the_name_is_the_folder_s_or_the_given_one(folder: str, name: str, expected: str) -> None:
    assert reconcile.place_of(Path("/a") / folder, name).name == expected


@pytest.mark.parametrize("name", ["faces", "3D", "A b", "A/../b", "É", "A" * 65])
def test_a_name_that_is_no_swift_type_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="a model's name is a capital letter"):
        reconcile.place_of(Path("/app"), name)


FACTS = swift.Accessor(
    name="Faces",
    digest="0123456789abcdef" * 4,
    image="image",
    label="classLabel",
    probabilities="classLabel_probs",
    labels=("ada", 'b"e\\(n)\n'),
    image_option="scaleFit",
    targets={"iOS": "16", "macOS": "13", "tvOS": "16", "watchOS": "9"},
)


def test_the_generated_swift_is_the_golden_text() -> None:
    """After a change that is meant, run this with COREMLOPS_UPDATE_GOLDEN=1 and read the difference."""
    text = swift.accessor(FACTS)
    if os.environ.get("COREMLOPS_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("option", ["centerCrop", "scaleFill", "scaleFit"])
@pytest.mark.parametrize("color", ["RGB", "L"])
def test_the_generated_swift_follows_the_record_that_python_follows(option: str, color: str) -> None:
    """The key, the field and each word of the metadata; the colour is the model's own constraint's."""
    import json
    from dataclasses import replace

    from coremlops.runtime.images import IMAGE_OPTIONS
    from coremlops.source import ImageInput, preparation
    from coremlops.source.samples import PREPARATION

    text = swift.accessor(replace(FACTS, image_option=option))
    record = ImageInput("image", 8, 8, color, 1.0, (0.0,) * (1 if color == "L" else 3), option)
    about = type("Description", (), {"user_defined": {PREPARATION: json.dumps(record.to_json())}})
    assert preparation(about) == record  # type: ignore[arg-type]
    [field] = [name for name, value in record.to_json().items() if value == option]
    assert f'metadata?["{PREPARATION}"]' in text
    assert f'["{field}"] as? String' in text
    cases = re.findall(r'case "(\w+)": return \.(\w+)', text)
    assert sorted(cases) == sorted((word, word) for word in IMAGE_OPTIONS)
    assert f"default: return .{option}" in text
    assert text.count("[.cropAndScale: cropAndScale.rawValue]") == 1
    assert "constraint: constraint" in text
    assert not re.search("pixelFormat|colorSpace|kCVPixel", text)


def test_the_generated_swift_closes_what_it_opens() -> None:
    text = swift.accessor(FACTS)
    assert all(text.count(a) == text.count(b) for a, b in ("{}", "[]"))
    assert "{{" not in text


def test_before_ios_16_compiling_is_not_async() -> None:
    from dataclasses import replace

    text = swift.accessor(replace(FACTS, targets={"iOS": "15", "macOS": "12"}))
    assert "@available(iOS 15.0, macOS 12.0, *)" in text
    assert "async" not in text
    assert "await" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada", '"ada"'),
        ('a"b', r'"a\"b"'),
        (r"\(exit(1))", r'"\\(exit(1))"'),
        ("a\nb\r\t", r'"a\nb\r\t"'),
        ("Zoë", '"Zoë"'),
        ("\0\u202e", r'"\u{0}\u{202E}"'),
    ],
)
def test_a_string_stays_a_string(text: str, expected: str) -> None:
    assert swift.literal(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("image", "image"),
        ("in", "`in`"),
        ("my image", "my_image"),
        ("2x", "_2x"),
        ("é", "input"),
        ("", "input"),
    ],
)
def test_an_identifier_is_one_in_swift(name: str, expected: str) -> None:
    assert swift.identifier(name) == expected
