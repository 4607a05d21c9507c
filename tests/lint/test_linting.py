"""A whole lint: every kind of model, levels, fingerprints, suppressions, baselines, hostile files."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coremlops.errors import CoremlopsError, ModelFormatError, UsageError
from coremlops.lint import (
    RULES,
    Finding,
    LintOptions,
    Suppression,
    as_text,
    lint,
    parse_bytes,
    parse_suppressions,
    read_baseline,
    survey,
    write_baseline,
)
from coremlops.model import ModelAsset
from coremlops.source import open_samples
from tests.classic_models import save
from tests.fuzz.mutate import write_case
from tests.fuzz.seeds import CLASSIC, write_handmade
from tests.handmade import add_operation, adder, array_feature, program_spec, tensor_type, write_package
from tests.lint.notation import make
from tests.networks import add_layer, model, write
from tests.runtime.test_pipeline import pipeline, scaler

PLAIN = """
program("iOS16")
x: fp32[1, 8] = input()
h: fp32[1, 8] = relu(x=x)
y: fp32[1, 8] = tanh(x=h)
output(y)
"""


def rules(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.rule for finding in findings}


def test_the_tiny_classifier_has_nothing_that_is_wrong(tiny_classifier: Path) -> None:
    report = survey(tiny_classifier, LintOptions(target="iOS16", devices=("A15",)))
    assert report.counts()["error"] == 0
    assert "meta-preparation" not in rules(report.findings)
    assert "infer-unscaled-picture" not in rules(report.findings)  # it begins with mul and add
    assert report.facts.ops > 8
    assert (report.facts.outside, report.facts.segments) == (2, 2)  # scale and bias, in float32
    assert report.failing("error") == ()


def test_findings_are_ordered_by_level(tmp_path: Path) -> None:
    found = lint(make(PLAIN, tmp_path).path, LintOptions(target="iOS15", max_bytes=10))
    levels = [finding.level for finding in found]
    assert levels == sorted(levels, key=("error", "warning", "note").index)
    assert levels[0] == "error"


def test_a_pipeline_is_linted_member_by_member(tmp_path: Path) -> None:
    spec, net = model(version=5)
    array_feature(spec.description.input.add(), "x", (2,))
    array_feature(spec.description.output.add(), "y", (2,))
    add_layer(net, "custom", ["x"], ["y"], className="Swish")
    path = save(pipeline([scaler("x", "x", 1), spec], {"x": (2,)}, {"y": (2,)}), tmp_path)
    found = [finding for finding in lint(path) if finding.rule == "ane-custom-layer"]
    assert [(finding.op, finding.kind, finding.part) for finding in found] == [
        ("custom to y", "custom", "member 1")
    ]
    assert found[0].place == "custom to y in member 1"


def test_functions_keep_their_findings_apart(tmp_path: Path) -> None:
    spec, block = program_spec(9)
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    spec.mlProgram.functions["other"].CopyFrom(spec.mlProgram.functions["main"])
    for name in ("main", "other"):
        entry = spec.description.functions.add(name=name)
        array_feature(entry.input.add(), "x", (2, 3))
        array_feature(entry.output.add(), "y", (2, 3))
    spec.description.ClearField("input")
    spec.description.ClearField("output")
    spec.description.defaultFunctionName = "main"
    found = [f for f in lint(write_package(tmp_path / "m.mlpackage", spec)) if f.rule == "ane-float32"]
    assert [(finding.op, finding.part) for finding in found] == [("y", ""), ("y", "function other")]
    assert len({finding.fingerprint for finding in found}) == 2


@pytest.mark.parametrize("kind", sorted(CLASSIC))
def test_every_kind_of_model_can_be_linted(kind: str, tmp_path: Path) -> None:
    report = survey(write(tmp_path / "m.mlmodel", CLASSIC[kind]()), LintOptions(target="iOS15"))
    assert report.facts.bytes > 0
    assert as_text(report)
    json.dumps(report.to_json(), allow_nan=False)


def test_a_fingerprint_survives_another_name_precision_and_place(tmp_path: Path) -> None:
    def found(text: str, name: str) -> Finding:
        folder = tmp_path / name
        folder.mkdir()
        return next(f for f in lint(make(text, folder).path) if f.rule == "ane-rare-op")

    first = found('program("iOS16")\nx: fp32[1, 8] = input()\na: fp32[1, 8] = cosh(x=x)\noutput(a)', "a")
    text = """
program("iOS17")
x: fp16[1, 16] = input()
z: fp16[1, 16] = relu(x=x)
a_cast_fp16: fp16[1, 16] = cosh(x=z)
output(a_cast_fp16)
"""
    second = found(text, "b")
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 16


@pytest.mark.slow
def test_a_reconversion_keeps_fingerprints(tiny_classifier: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.mlpackage"
    code = Path(__file__).parents[1] / "make_tiny_classifier.py"
    subprocess.run([sys.executable, str(code), str(again)], check=True, capture_output=True)
    first = {finding.fingerprint for finding in lint(tiny_classifier)}
    assert first == {finding.fingerprint for finding in lint(again)}


def test_findings_that_are_alike_are_numbered(tmp_path: Path) -> None:
    text = """
program("iOS16")
x: fp16[1, 8] = input()
a: fp16[1, 8] = cosh(x=x)
a_cast_fp16: fp16[1, 8] = sinh(x=a)
output(a_cast_fp16)
"""
    found = [finding for finding in lint(make(text, tmp_path).path) if finding.rule == "ane-rare-op"]
    assert [finding.number for finding in found] == [1, 2]
    assert len({finding.fingerprint for finding in found}) == 2


def test_a_suppression_has_a_reason_and_a_pattern(tmp_path: Path) -> None:
    path = make(PLAIN, tmp_path).path
    options = LintOptions(
        suppressions=(
            Suppression("ane-float32", "measured: fast enough", "h*"),
            Suppression("meta-*", "an internal model"),
            Suppression("ane-rank", "was fixed"),
        )
    )
    report = survey(path, options)
    float32 = {finding.op: finding.suppressed for finding in report.findings if finding.rule == "ane-float32"}
    assert float32 == {"h": "measured: fast enough", "y": ""}
    assert [entry.rule for entry in report.unused] == ["ane-rank"]
    assert {f.op for f in report.failing("warning")} == {"y"}
    text = as_text(report)
    assert "a suppression that matches nothing: ane-rank *" in text
    assert "meta-missing" not in text
    assert "(suppressed: an internal model)" in as_text(report, everything=True)


def test_a_suppression_of_an_unknown_rule_names_a_near_one(tmp_path: Path) -> None:
    path = make(PLAIN, tmp_path).path
    with pytest.raises(UsageError, match="'ane-flot32'") as caught:
        lint(path, LintOptions(suppressions=(Suppression("ane-flot32", "why not"),)))
    assert "did you mean 'ane-float32'?" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "a list expected, got dict"),
        (["x"], "where[0]: a mapping"),
        ([{"rule": "a", "reason": 3}], "where[0]: a mapping of rule, op and reason to text expected"),
        ([{"rule": "ane-rank"}], "where[0]: `reason` is missing"),
        ([{"rule": "ane-rank", "reason": "  "}], "where[0]: `reason` is missing"),
        ([{"reason": "so"}], "where[0]: `rule` is missing"),
        ([{"rule": "a", "reason": "so", "ops": "x"}], "where[0]: unknown key 'ops'"),
    ],
)
def test_suppressions_are_read_strictly(value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_suppressions(value, "where")
    assert message in caught.value.message


def test_a_baseline_lets_only_new_findings_fail(tmp_path: Path) -> None:
    path = make(PLAIN, tmp_path).path
    report = survey(path)
    baseline = tmp_path / "deep" / "baseline.json"
    write_baseline(baseline, report.findings)
    assert report.against(read_baseline(baseline)).failing("note") == ()
    other = tmp_path / "other"
    other.mkdir()
    grown = PLAIN.replace("output(y)", "z: fp32[1, 8] = tanh(x=y)\noutput(z)")
    after = survey(make(grown, other).path).against(read_baseline(baseline))
    assert [(finding.rule, finding.op) for finding in after.failing("warning")] == [("ane-float32", "z")]
    assert [entry.name for entry in baseline.parent.iterdir()] == ["baseline.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2, "findings": []}', '{"format": 1, "findings": [3]}']
)
def test_what_is_no_baseline(text: str, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="baseline"):
        read_baseline(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_baseline(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "size"), [("50MB", 50_000_000), ("1.5 GiB", 3 << 29), ("12", 12), ("2kb", 2000), ("0", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text, "x") == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "5 apples", "1e9", "9" * 40])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="such as 50MB"):
        parse_bytes(text, "x")


def test_weights_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 GB of weights that are a hole in a file: nothing is mapped."""
    text = """
program("iOS16")
x: fp16[1, 50000] = input()
y: fp16[1, 20000] = linear(x=x, weight=fp16[20000, 50000])
output(y)
"""
    path = make(text, tmp_path).path

    def refuse(*_: Any) -> Any:
        raise AssertionError("a weight file was opened")

    monkeypatch.setattr("coremlops.model.asset.ModelAsset.blobs", refuse)
    report = survey(path)
    assert report.facts.weights == {"fp16": 2_000_000_000}
    assert "size-gigabyte" in rules(report.findings)
    assert as_text(report)


def test_coremltools_is_not_needed(tmp_path: Path) -> None:
    path = make(PLAIN, tmp_path).path
    code = (
        "import sys; sys.modules['coremltools'] = None; sys.modules['onnxruntime'] = None\n"
        "from coremlops.cli import main; sys.exit(main(['lint', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ane-float32" in done.stdout


def test_ranges_are_those_of_the_data(tmp_path: Path) -> None:
    text = """
program("iOS16")
x: fp16[1, 8] = input()
a: fp16[1, 8] = mul(x=x, y=fp16(1000.0))
y: fp16[1, 8] = mul(x=a, y=fp16(0.001))
output(y)
"""
    path = make(text, tmp_path).path
    inputs = ModelAsset.open(path).description.inputs
    np.savez(tmp_path / "loud.npz", x=np.full((2, 1, 8), 100.0, np.float32))
    np.savez(tmp_path / "soft.npz", x=np.full((2, 1, 8), 1.0, np.float32))
    loud = survey(path, LintOptions(samples=open_samples(tmp_path / "loud.npz", inputs)))
    found = [finding for finding in loud.findings if finding.rule == "range-overflow"]
    assert [(f.op, f.level, f.confidence) for f in found] == [("a", "error", "M")]
    assert "1e+05 is past 65504" in found[0].message
    assert "loud.npz" in found[0].message
    soft = survey(path, LintOptions(samples=open_samples(tmp_path / "soft.npz", inputs)))
    assert not {name for name in rules(soft.findings) if name.startswith("range-")}
    drawn = survey(path, LintOptions(samples=open_samples(None, inputs)))
    assert "random" in drawn.facts.observed
    assert all(f.confidence == "L" for f in drawn.findings if f.rule.startswith("range-"))


def test_a_network_is_executed_too(tmp_path: Path) -> None:
    spec, net = model(version=4)
    array_feature(spec.description.input.add(), "x", (4,))
    array_feature(spec.description.output.add(), "y", (4,))
    add_layer(net, "loadConstantND", [], ["c"], shape=[1], data=np.array([1e6]))
    add_layer(net, "multiplyBroadcastable", ["x", "c"], ["m"])
    add_layer(net, "unary", ["m"], ["y"], type="ABS")
    path = write(tmp_path / "net.mlmodel", spec)
    samples = open_samples(None, ModelAsset.open(path).description.inputs)
    found = [
        finding for finding in lint(path, LintOptions(samples=samples)) if finding.rule == "range-overflow"
    ]
    assert "multiplyBroadcastable to m" in {finding.op for finding in found}


def test_only_the_first_nan_is_named(tmp_path: Path) -> None:
    text = """
program("iOS16")
x: fp32[1, 8] = input()
z: fp32[1, 8] = mul(x=x, y=fp32(0.0))
n: fp32[1, 8] = real_div(x=z, y=z)
y: fp32[1, 8] = relu(x=n)
output(y)
"""
    path = make(text, tmp_path).path
    samples = open_samples(None, ModelAsset.open(path).description.inputs, count=2)
    found = [f for f in lint(path, LintOptions(samples=samples)) if f.rule == "range-not-finite"]
    assert [finding.op for finding in found] == ["n"]
    assert "NaN in float32" in found[0].message


def test_batch_normalisation_in_training_mode_is_found_in_programs(tmp_path: Path) -> None:
    text = """
program("iOS16")
x: fp32[4, 8, 6, 6] = input()
m: fp32[1, 8, 1, 1] = reduce_mean(x=x, axes=[0, 2, 3], keep_dims=True)
d: fp32[4, 8, 6, 6] = sub(x=x, y=m)
q: fp32[4, 8, 6, 6] = mul(x=d, y=d)
v: fp32[1, 8, 1, 1] = reduce_mean(x=q, axes=[0, 2, 3], keep_dims=True)
y: fp32[4, 8, 6, 6] = real_div(x=d, y=v)
output(y)
"""
    found = [
        finding for finding in lint(make(text, tmp_path).path) if finding.rule == "infer-batch-statistics"
    ]
    assert [finding.op for finding in found] == ["m"]


def test_noise_that_is_scaled_is_no_dropout(tmp_path: Path) -> None:
    text = """
program("iOS16")
x: fp32[1, 8] = input()
n: fp32[8] = random_normal(shape=[8], mean=fp32(0.0), stddev=fp32(1.0))
e: fp32[1, 8] = expand_dims(x=n, axes=[0])
y: fp32[1, 8] = mul(x=x, y=e)
output(y)
"""
    assert rules(lint(make(text, tmp_path).path)) >= {"infer-random"}
    assert "infer-dropout" not in rules(lint(make_again(text, tmp_path)))


def make_again(text: str, path: Path) -> Path:
    shutil.rmtree(path / "model.mlpackage")
    return make(text, path).path


def test_a_stored_mask_is_read_when_it_is_small(tmp_path: Path) -> None:
    text = """
program("iOS16")
x: fp16[4, 4] = input()
y: fp16[4, 4] = add(x=x, y=fp16[4, 4])
output(y)
"""
    path = make(text, tmp_path).path
    assert "fp16-infinite-constant" not in rules(lint(path))
    weights = path / "Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(weights.read_bytes())
    data[128:160] = np.full(16, -np.inf, np.float16).tobytes()
    weights.write_bytes(data)
    found = [finding for finding in lint(path) if finding.rule == "fp16-infinite-constant"]
    assert [finding.message for finding in found] == ["y holds -inf in float16"]


def test_devices_without_an_engine_hear_nothing_of_it(tmp_path: Path) -> None:
    found = rules(lint(make(PLAIN, tmp_path).path, LintOptions(devices=("Intel",))))
    assert "ane-none" in found
    assert not found & {"ane-float32", "ane-segments"}
    with pytest.raises(UsageError, match="unknown device"):
        lint(make_again(PLAIN, tmp_path), LintOptions(devices=("A99X",)))


def _truncated(path: Path) -> None:
    file = path / "Data/com.apple.CoreML/model.mlmodel"
    file.write_bytes(file.read_bytes()[:40])


def _other_types(path: Path) -> None:
    """Ops whose inputs are of no type, or lack, or are of the wrong kind."""
    spec, block = program_spec()
    for kind, inputs in (
        ("conv", {}),
        ("softmax", {"axis": "x"}),
        ("matmul", {"x": "nowhere", "transpose_x": "x"}),
        ("reduce_mean", {"x": "x", "axes": "x"}),
        ("layer_norm", {"epsilon": "x"}),
        ("classify", {"probabilities": "nowhere"}),
        ("cast", {"dtype": "x"}),
        ("gather_along_axis", {"indices": "z"}),
        ("upsample_bilinear", {"scale_factor_height": "x"}),
        ("coreml_update_state", {}),
        ("random_bernoulli", {"prob": "z"}),
    ):
        add_operation(block, kind, f"{kind}_out", (2, 3), inputs)
    nothing = block.operations.add(type="relu")
    nothing.inputs["x"].arguments.add().name = "y"
    tensor_type(block.operations.add(type="const").outputs.add(name="y").type, "fp32", (2, 3))
    shutil.rmtree(path)
    write_package(path, spec)


@pytest.mark.parametrize("damage", [_truncated, _other_types])
def test_a_damaged_model_is_an_error_of_ours_or_none(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = adder(tmp_path / "a.mlpackage")
    damage(path)
    with contextlib.suppress(CoremlopsError):
        assert as_text(survey(path))


@pytest.mark.parametrize("number", range(3))
def test_damaged_files_of_every_kind(number: int, tmp_path: Path) -> None:
    """As the fuzz campaign damages them: an error of ours, or a report."""
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    write_handmade(seeds)
    for seed in sorted(seeds.iterdir()):
        with contextlib.suppress(CoremlopsError):
            report = survey(write_case(seed, number, tmp_path), LintOptions(target="iOS16"))
            assert as_text(report, everything=True)


def test_a_circle_in_a_program_ends(tmp_path: Path) -> None:
    """Names that are defined by themselves, and diamonds that double at each step."""
    spec, block = program_spec()
    add_operation(block, "softmax", "y", (2, 3), {"x": "a"})
    add_operation(block, "cast", "a", (2, 3), {"x": "b"})
    add_operation(block, "cast", "b", (2, 3), {"x": "a"})
    last = "x"
    for step in range(60):
        add_operation(block, "pad", f"p{step}", (2, 3), {"x": last, "constant_val": last})
        last = f"p{step}"
    add_operation(block, "random_bernoulli", "coin", (2, 3), {"shape": "coin"})
    add_operation(block, "cast", "coin2", (2, 3), {"x": "coin2"})
    assert as_text(survey(write_package(tmp_path / "m.mlpackage", spec)))


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="no Core ML model"):
        lint(tmp_path / "nothing.mlpackage")


def test_rule_ids_are_stable() -> None:
    """An id that goes breaks people's suppressions and baselines: add to this list, take nothing away."""
    listed = Path(__file__).with_name("rule_ids.txt").read_text().split()
    assert set(listed) <= set(RULES)
    assert sorted(listed) == sorted(RULES)


@pytest.mark.parametrize(
    ("number", "levels"), [("1e-12", ["warning"]), ("6e-8", ["note"]), ("1e-05", []), ("-1.0", [])]
)
def test_an_epsilon_that_is_added_counts(number: str, levels: list[str], tmp_path: Path) -> None:
    text = f"""
program("iOS16")
x: fp16[1, 8] = input()
s: fp16[1, 8] = square(x=x)
e: fp16[1, 8] = add(x=s, y=fp16({number}))
r: fp16[1, 8] = rsqrt(x=e)
y: fp16[1, 8] = mul(x=x, y=r)
output(y)
"""
    assert [f.level for f in lint(make(text, tmp_path).path) if f.rule == "fp16-epsilon"] == levels


@pytest.mark.slow
def test_known_traps_of_conversion_are_found(tmp_path: Path) -> None:
    """Real conversions of nets that are known to go wrong."""
    code = """
import sys, torch, coremltools as ct
from torch import nn

class Train(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
    def forward(self, x):
        return torch.relu(self.b(self.c(x)))

class Mask(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value
    def forward(self, x, m):
        return torch.softmax((x @ x.transpose(1, 2)).masked_fill(m[:, None, :] < 0.5, self.value), -1) @ x

def convert(name, net, *inputs):
    traced = torch.jit.trace(net, inputs, check_trace=False)
    types = [ct.TensorType(name=f"x{i}", shape=x.shape) for i, x in enumerate(inputs)]
    made = ct.convert(traced, inputs=types, minimum_deployment_target=ct.target.iOS16, skip_model_load=True)
    made.save(f"{sys.argv[1]}/{name}.mlpackage")

convert("train", Train().train(), torch.rand(4, 3, 16, 16))
convert("eval", Train().eval(), torch.rand(4, 3, 16, 16))
sample = torch.rand(1, 16, 32), torch.ones(1, 16)
for name, value in (("inf", float("-inf")), ("min", torch.finfo().min), ("1e9", -1e9), ("1e4", -1e4)):
    convert(name, Mask(value).eval(), *sample)
convert("eps", nn.LayerNorm(64, eps=1e-12).eval(), torch.rand(1, 8, 64))
"""
    run = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = {
        "train": {"infer-batch-statistics"},
        "eval": set(),
        "inf": {"fp16-infinite-constant"},
        "min": {"fp16-infinite-constant"},
        "1e9": {"fp16-infinite-constant"},
        "1e4": set(),
        "eps": {"fp16-epsilon"},
    }
    for name, wanted in expected.items():
        found = rules(lint(tmp_path / f"{name}.mlpackage"))
        assert {rule for rule in found if rule.startswith(("infer-", "fp16-"))} == wanted, name


def test_ranges_on_pictures(tiny_classifier: Path, tmp_path: Path) -> None:
    for label, colour in (("ada", (255, 0, 0)), ("bob", (0, 0, 255))):
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.new("RGB", (40, 30), colour).save(tmp_path / "data" / label / "1.png")
    samples = open_samples(tmp_path / "data", ModelAsset.open(tiny_classifier).description.inputs)
    report = survey(tiny_classifier, LintOptions(samples=samples))
    assert not report.facts.observed.startswith("random")
    assert not {f.rule for f in report.findings if f.rule.startswith("range-") and f.level == "error"}
