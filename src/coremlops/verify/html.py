"""A report as one HTML file: no script, nothing fetched, every word from outside escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

from coremlops.source import open_picture
from coremlops.verify.charts import error_bars, layer_strip, scatter
from coremlops.verify.gates import Verdict
from coremlops.verify.locate.chart import section
from coremlops.verify.locate.location import Location
from coremlops.verify.report import Answer, Example, Report
from coremlops.verify.sides import Preparation, model_side

THUMBNAIL = 192

_MEANING = {
    "snr_db": "Signal-to-noise ratio, the worst output",
    "channel_snr_db": "The same for the worst channel inside the net",
    "top1_agreement": "Pictures for which both name the same label",
    "accuracy_drop": "Accuracy lost against the source",
    "max_abs": "Largest difference of a probability",
}


def render_html(report: Report, model: Path, data: Path, location: Location | None = None) -> str:
    """The report as a page. `model` and `data` are those that were verified; pictures come from `data`.

    `location`: where it parts, when that was asked for.
    """
    prepare = Preparation.of_model(model_side(model))
    pictures = {example.name: _data_uri(data / example.name, prepare) for example in report.worst}
    return render_page(report, pictures, location)


def render_page(report: Report, pictures: Mapping[str, str], location: Location | None = None) -> str:
    """The page with the pictures of the worst examples, `data:` URIs by name."""
    css = files("coremlops.verify").joinpath("report.css").read_text("utf-8")
    verdict = "Proven" if report.ok else "Not proven"
    body = "".join(
        (
            _headline(report, verdict),
            _tiles(report),
            _notes(report),
            _gates(report),
            section(location) if location else "",
            _plots(report),
            _inside(report),
            _worst(report, pictures),
            _outputs(report),
            _facts(report),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{verdict}: {escape(report.subject.name)}</title><style>{css}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _headline(report: Report, verdict: str) -> str:
    count = len(report.examples)
    pictures = f"{count} labelled picture{'s' if count != 1 else ''}"
    if report.ok:
        said = f"On {pictures}, the Core ML model says what its PyTorch source says."
    else:
        number = len(report.failed)
        said = f"On {pictures}, {number} gate{'s' if number != 1 else ''} said no."
    chips = [
        report.proof,
        f"{report.precision} precision",
        report.subject.target,
        f"{report.subject.bytes / 1e6:.1f} MB",
        f"{len(report.subject.labels)} labels",
    ]
    shown = "".join(f'<span class="chip">{escape(chip)}</span>' for chip in chips if chip)
    kind, sign = ("good", "✓") if report.ok else ("bad", "✕")
    return (
        f'<header class="{kind}"><div class="seal" aria-hidden="true">{sign}</div><div>'
        f'<p class="eyebrow">{escape(report.subject.name)}</p><h1>{verdict}</h1>'
        f'<p class="lead">{escape(said)}</p><p>{shown}</p></div></header>'
    )


def _tiles(report: Report) -> str:
    largest = report.outputs[0][1].max_abs
    rows = (
        ("Signal to noise", _db(report.snr_db), "worst output"),
        ("Same top label", f"{report.top1_agreement:.1%}", f"of {len(report.examples)} pictures"),
        ("Accuracy", f"{report.accuracy_model:.1%}", f"source {report.accuracy_source:.1%}"),
        ("Largest difference", _small(largest), "of a probability"),
    )
    tiles = "".join(
        f'<div class="tile"><span class="name">{name}</span><span class="value">{value}</span>'
        f'<span class="quiet">{note}</span></div>'
        for name, value, note in rows
    )
    return f'<section class="tiles">{tiles}</section>'


def _notes(report: Report) -> str:
    rests = (
        "The Core ML file was executed by coremlops on this machine, with the numbers that the file declares "
        "rounded as it says. No Apple hardware took part: a device's own arithmetic can differ a little."
        if report.precision == "typed"
        else f"The Core ML file was executed by coremlops on this machine in {report.precision} mode. "
        "No Apple hardware took part."
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes)
    return f'<section><h2>What this rests on</h2><p class="prose">{escape(rests)}</p>{notes}</section>'


def _gates(report: Report) -> str:
    rows = "".join(_gate(verdict) for verdict in report.verdicts)
    return (
        '<section><h2>Gates</h2><div class="scroll"><table><thead><tr><th></th><th>Gate</th>'
        '<th class="number">Limit</th><th class="number">Measured</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _gate(verdict: Verdict) -> str:
    kind, sign = ("good", "passed") if verdict.ok else ("bad", "failed")
    word = "≥" if verdict.at_least else "≤"
    value = "not finite" if verdict.value is None else _value(verdict.name, verdict.value)
    return (
        f'<tr><td><span class="mark {kind}">{sign}</span></td>'
        f"<td>{_MEANING[verdict.name]} <code>{verdict.name}</code></td>"
        f'<td class="number">{word} {_value(verdict.name, verdict.limit)}</td>'
        f'<td class="number strong">{value}</td></tr>'
    )


def _plots(report: Report) -> str:
    return (
        '<section class="plots"><figure><h2>Source against Core ML</h2>'
        f"{scatter(report.examples)}<figcaption>Log-odds of the true label, one dot a picture. On the "
        "diagonal both say the same.</figcaption></figure>"
        f"<figure><h2>Where they differ most</h2>{error_bars(report.examples)}"
        "<figcaption>Log-odds show an error in the net at its full size, where a confident probability would "
        "hide it.</figcaption></figure></section>"
    )


def _inside(report: Report) -> str:
    limit = next((item.limit for item in report.verdicts if item.name == "channel_snr_db"), None)
    if limit is None or not report.layers:
        return ""
    channels = sum(layer.channels for layer in report.layers)
    rows = "".join(
        f"<tr><td><code>{escape(layer.name)}</code></td>"
        f'<td class="number">{layer.worst_channel} of {layer.channels}</td>'
        f'<td class="number">{_db(layer.worst_db)}</td><td class="number">{_db(layer.median_db)}</td></tr>'
        for layer in report.worst_layers[:4]
    )
    return (
        f"<section><h2>Inside the net</h2>"
        f'<div class="scroll strip">{layer_strip(report.layers, limit)}</div>'
        f'<p class="quiet">{len(report.layers)} layers and {channels} channels, compared with the source '
        "on a few pictures. A dot is a layer's worst channel, the line above it leads to the median. A dead "
        "channel stands at 0 dB, even where the outputs hide it.</p>"
        '<div class="scroll"><table><thead><tr><th>Worst layers</th><th class="number">Channel</th>'
        '<th class="number">SNR</th><th class="number">Median of the layer</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _worst(report: Report, pictures: Mapping[str, str]) -> str:
    cards = "".join(_card(example, pictures[example.name]) for example in report.worst)
    return (
        "<section><h2>The worst examples</h2>"
        f'<p class="quiet">As the model sees them, largest difference first.</p>'
        f'<div class="cards">{cards}</div></section>'
    )


def _card(example: Example, picture: str) -> str:
    return (
        f'<article class="card"><img src="{picture}" alt="{escape(example.name)}" loading="lazy">'
        f'<div class="inside"><p class="strong">{escape(example.truth)}</p>'
        f'<p class="quiet file">{escape(example.name)}</p>'
        f"{_said('source', example.source, example.truth)}{_said('Core ML', example.model, example.truth)}"
        f'<p class="quiet">Δ probability {_small(example.max_abs)}<br>'
        f"Δ log-odds {_small(example.log_odds_max_abs)}</p></div></article>"
    )


def _said(who: str, answer: Answer, truth: str) -> str:
    kind = "good" if answer.label == truth else "bad"
    share = 0.0 if answer.probability is None else min(max(answer.probability, 0.0), 1.0)
    shown = "not finite" if answer.probability is None else f"{answer.probability:.2%}"
    return (
        f'<div class="said"><span class="quiet">{who}</span>'
        f'<span class="{kind}">{escape(answer.label)}</span>'
        f'<span class="number">{shown}</span></div>'
        f'<div class="meter"><div class="{kind}" style="width:{share * 100:.1f}%"></div></div>'
    )


def _outputs(report: Report) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td class='number'>{_small(item.max_abs)}</td>"
        f"<td class='number'>{_small(item.mean_abs)}</td><td class='number'>{_db(item.snr_db)}</td>"
        f"<td class='number'>{_db(item.psnr_db)}</td></tr>"
        for name, item in report.outputs
    )
    return (
        '<section><h2>Every compared output</h2><div class="scroll"><table><thead><tr><th>Output</th>'
        '<th class="number">Max |Δ|</th><th class="number">Mean |Δ|</th><th class="number">SNR</th>'
        f'<th class="number">PSNR</th></tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _facts(report: Report) -> str:
    subject = report.subject
    labels = ", ".join(subject.labels[:20]) + (", …" if len(subject.labels) > 20 else "")
    rows = [
        ("Model digest", subject.digest),
        ("Source", report.source_name),
        ("Source digest", report.source_digest),
        ("Data digest", report.data_digest),
        ("Input", subject.input),
        ("Labels", labels),
        *((f"Made by: {key}", value) for key, value in subject.made_by),
    ]
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td></tr>" for name, value in rows
    )
    return (
        f'<section><h2>Facts</h2><div class="scroll"><table class="facts">'
        f"<tbody>{cells}</tbody></table></div></section>"
    )


def _data_uri(path: Path, prepare: Preparation) -> str:
    picture = prepare(open_picture(path))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _db(value: float) -> str:
    if abs(value) >= 200:
        return "equal" if value > 0 else "none"
    return f"{value:.1f} dB"


def _small(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g}"


def _value(name: str, value: float) -> str:
    if name.endswith("snr_db"):
        return _db(value)
    return f"{value:.4g}"
