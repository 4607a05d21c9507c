"""The page: self-contained, escaped, whole for odd reports."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from coremlops.verify.charts import error_bars, layer_strip, scatter
from coremlops.verify.gates import Gates
from coremlops.verify.html import render_html
from coremlops.verify.inner import Layer
from coremlops.verify.report import EMULATED, Against, Answer, Data, Example, Report, Subject
from coremlops.verify.statistics import Difference
from coremlops.verify.views import View

HOSTILE = "<script>alert('x')</script>\"&"


def _example(name: str = "ada/1.png", model: Answer | None = None) -> Example:
    source = Answer("ada", 0.9, 0.9, 2.2)
    return Example(name, "ada", source, model or Answer("ada", 0.88, 0.88, 2.1), 0.02, 0.1)


def _report() -> Report:
    return Report(
        proof=EMULATED,
        subject=Subject("m.mlpackage", "0" * 64, 1000, "iOS 16", ("ada", "bob"), "image", (("run", "r1"),)),
        against=Against("torch.export, model.pt2", "1" * 64, "torch.export", "source", ""),
        precision="typed",
        data=Data("2" * 64, 1, "1 pictures", True),
        outputs=(("classLabel_probs", Difference(0.01, 0.001, 50.0, 60.0)),),
        top1_agreement=1.0,
        accuracy_model=1.0,
        accuracy_source=1.0,
        verdicts=Gates().judge({"snr_db": 50.0, "channel_snr_db": 20.0, "max_abs": 0.01}),
        examples=(_example(),),
        layers=(Layer("conv", 8, 3, 20.0, 40.0),),
        notes=(),
        views={"ada/1.png": View("data:image/jpeg;base64,AA==")},
    )


def test_nothing_is_fetched_and_no_script_runs() -> None:
    page = render_html(_report())
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert "url(" not in page


def test_every_word_from_outside_is_escaped() -> None:
    nasty = replace(
        _report(),
        subject=Subject(HOSTILE, "0" * 64, 1, HOSTILE, (HOSTILE, "b"), HOSTILE, ((HOSTILE, HOSTILE),)),
        against=Against(HOSTILE, "1" * 64, HOSTILE, HOSTILE, HOSTILE),
        data=Data("2" * 64, 1, HOSTILE, False),
        examples=(_example(HOSTILE, Answer(HOSTILE, 0.5, 0.5, 0.0)),),
        layers=(Layer(HOSTILE, 8, 3, 20.0, 40.0),),
        outputs=((HOSTILE, Difference(0.01, 0.001, 50.0, 60.0)),),
        notes=(HOSTILE,),
    )
    page = render_html(nasty)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 8


def test_a_failing_report_says_so_in_its_headline() -> None:
    failing = replace(_report(), verdicts=Gates().judge({"snr_db": 3.0, "max_abs": None}))
    page = render_html(failing)
    assert "<h1>Not proven</h1>" in page
    assert "2 gates said no" in page


def test_values_that_are_not_finite_are_drawn_as_words() -> None:
    lost = Example(
        "ada/1.png", "ada", Answer("ada", 0.9, 0.9, 2.2), Answer("ada", None, None, None), None, None
    )
    report = replace(_report(), examples=(lost,), layers=())
    page = render_html(report)
    assert "not finite" in page
    assert "no finite answers to draw" in page


def test_charts_are_well_formed_for_one_and_for_many() -> None:
    many = [_example(f"ada/{i}.png", Answer("bob", i / 5000, 0.1, i / 100)) for i in range(5000)]
    for examples in ([_example()], many):
        for chart in (scatter(examples), error_bars(examples)):
            ElementTree.fromstring(chart)  # noqa: S314 - our own SVG
    assert scatter(many).count("<circle") <= 2000
    layers = [Layer(f"l{i}", 4, 0, -200.0 if i == 3 else 200.0, 200.0) for i in range(60)]
    strip = ElementTree.fromstring(layer_strip(layers, 10.0))  # noqa: S314
    bad = [item for item in strip.iter() if item.get("class") == "dot bad"]
    assert len(bad) == 1
