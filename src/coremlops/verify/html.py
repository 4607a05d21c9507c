"""A report as one HTML file: no script, nothing fetched, every word from outside escaped."""

from __future__ import annotations

from html import escape
from importlib.resources import files

from coremlops.verify.charts import bars, diagonal, error_bars, layer_strip, scatter
from coremlops.verify.gates import Verdict
from coremlops.verify.locate.chart import section
from coremlops.verify.locate.location import Location
from coremlops.verify.report import RESTS_ON, Answer, Example, Report
from coremlops.verify.views import View

LISTED_SLICES = 40

_MEANING = {
    "snr_db": "Signal-to-noise ratio, the worst output",
    "channel_snr_db": "The same for the worst channel inside the net",
    "top1_agreement": "Pictures for which both name the same label",
    "accuracy_drop": "Accuracy lost against the source",
    "max_abs": "Largest difference of a probability",
}


def render_html(report: Report, location: Location | None = None) -> str:
    """The report as a page. `location`: where it parts, when that was asked for."""
    verdict = "Proven" if report.ok else "Not proven"
    body = (
        _headline(report, verdict),
        _tiles(report),
        _notes(report),
        _gates(report),
        section(location) if location else "",
        _measures(report),
        _slices(report),
        _plots(report),
        _inside(report),
        _worst(report),
        _outputs(report),
        _facts(report),
    )
    return page(f"{verdict}: {report.subject.name}", "".join(body))


def page(title: str, body: str) -> str:
    """A whole document around `body`, which is HTML; `title` is text."""
    css = files("coremlops.verify").joinpath("report.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{escape(title)}</title><style>{css}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _headline(report: Report, verdict: str) -> str:
    count, source = len(report.examples), _other(report)
    what = "picture" if report.data.pictures else "example"
    pictures = f"{count} {what}{'s' if count != 1 else ''}"
    if report.ok:
        said = f"On {pictures}, the Core ML model says what {source} says."
    else:
        number = len(report.failed)
        said = f"On {pictures}, {number} gate{'s' if number != 1 else ''} said no."
    chips = [
        report.proof,
        f"{report.precision} precision",
        report.subject.target,
        f"{report.subject.bytes / 1e6:.1f} MB",
        f"{len(report.subject.labels)} labels" if report.subject.labels else "",
    ]
    shown = "".join(f'<span class="chip">{escape(chip)}</span>' for chip in chips if chip)
    kind, sign = ("good", "✓") if report.ok else ("bad", "✕")
    return (
        f'<header class="{kind}"><div class="seal" aria-hidden="true">{sign}</div><div>'
        f'<p class="eyebrow">{escape(report.subject.name)}</p><h1>{verdict}</h1>'
        f'<p class="lead">{escape(said)}</p><p>{shown}</p></div></header>'
    )


def _tiles(report: Report) -> str:
    rows = [("Signal to noise", _db(report.snr_db), "worst output")]
    if report.top1_agreement is not None:
        rows.append(("Same top label", f"{report.top1_agreement:.1%}", f"of {len(report.examples)}"))
    if report.accuracy_model is not None:
        rows.append(("Accuracy", f"{report.accuracy_model:.1%}", f"source {report.accuracy_source:.1%}"))
    for item in report.measures[: max(0, 3 - len(rows))]:
        rows.append((escape(item.name), f"{item.model:.4g}", f"source {item.source:.4g}"))
    of_what = "of a probability" if report.top1_agreement is not None else escape(report.outputs[0][0])
    rows.append(("Largest difference", _small(report.outputs[0][1].max_abs), of_what))
    if len(rows) < 4:
        rows.insert(1, ("Examples", f"{len(report.examples)}", escape(report.data.about)))
    tiles = "".join(
        f'<div class="tile"><span class="name">{name}</span><span class="value">{value}</span>'
        f'<span class="quiet">{note}</span></div>'
        for name, value, note in rows
    )
    return f'<section class="tiles">{tiles}</section>'


def _notes(report: Report) -> str:
    rests = RESTS_ON.get(report.proof, report.proof)
    if report.proof == "emulated":
        rests += (
            ", with the numbers that the file declares rounded as it says. No Apple hardware took part: a "
            "device's own arithmetic can differ a little."
            if report.precision == "typed"
            else f" in {report.precision} mode. No Apple hardware took part."
        )
    else:
        rests += "."
    other = report.against
    if other.rests_on != "source":
        rests += f" It is held against a Core ML model, {other.rests_on}, {other.precision} precision."
    rests += f" The data: {report.data.about}."
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
    if verdict.interval is not None:
        value += f'<br><span class="quiet">{verdict.interval[0]:.4g} to {verdict.interval[1]:.4g}</span>'
    return (
        f'<tr><td><span class="mark {kind}">{sign}</span></td>'
        f"<td>{_meaning(verdict)} <code>{escape(verdict.name)}</code></td>"
        f'<td class="number">{word} {_value(verdict.name, verdict.limit)}</td>'
        f'<td class="number strong">{value}</td></tr>'
    )


def _meaning(verdict: Verdict) -> str:
    if verdict.name in _MEANING:
        return _MEANING[verdict.name]
    where = f"Worst slice, {escape(verdict.slice)}" if verdict.slice else "All examples"
    return where + (", judged at the end of its interval" if verdict.interval else "")


def _other(report: Report) -> str:
    if report.against.kind == "coreml":
        return f"{report.against.name} ({report.against.precision})"
    return "its source"


def _measures(report: Report) -> str:
    if not report.measures:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(item.name)}</code></td>{_interval_cell(item.model, item.model_interval)}"
        f"{_interval_cell(item.source, item.source_interval)}"
        f"{_interval_cell(item.drop, item.drop_interval)}</tr>"
        for item in report.measures
    )
    return (
        '<section><h2>What it is for</h2><div class="scroll"><table><thead><tr><th>Metric</th>'
        '<th class="number">Core ML</th><th class="number">Source</th><th class="number">Lost, paired</th>'
        f'</tr></thead><tbody>{rows}</tbody></table></div><p class="quiet">Below each value its '
        f"{report.confidence:.0%} interval: where it may lie for other examples of this kind.</p></section>"
    )


def _interval_cell(value: float, interval: tuple[float, float] | None) -> str:
    said = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "too few examples"
    return f'<td class="number strong">{value:.4g}<br><span class="quiet">{said}</span></td>'


def _slices(report: Report) -> str:
    if not report.slices:
        return ""
    heads_of = {"top1_agreement": "Same label", "accuracy_model": "Accuracy", "accuracy_source": "Source"}
    shares = {
        name: head
        for name, head in heads_of.items()
        if any(getattr(item, name) is not None for item in report.slices)
    }
    rows = "".join(
        f"<tr><td>{escape(item.name)}</td><td class='number'>{item.examples}</td>"
        f"<td class='number'>{_db(item.snr_db)}</td>"
        + "".join(f"<td class='number'>{_share(getattr(item, name))}</td>" for name in shares)
        + "".join(_interval_cell(found.model, found.model_interval) for found in item.measures)
        + "</tr>"
        for item in report.slices[:LISTED_SLICES]
    )
    names = [*shares.values(), *(item.name for item in report.measures)]
    heads = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    return (
        "<section><h2>Slices, the worst first</h2>"
        '<div class="scroll"><table><thead><tr><th>Slice</th><th class="number">Examples</th>'
        f'<th class="number">SNR</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _plots(report: Report) -> str:
    if report.top1_agreement is None:
        rows = [
            (item.name, 10 ** (-item.snr_db / 20), f"{item.snr_db:.1f} dB", item.max_abs is not None)
            for item in report.examples
        ]
        points = [(x, y, title, True) for x, y, title in report.points]
        return (
            '<section class="plots"><figure><h2>Expected against got</h2>'
            f"{diagonal(points, 'the other side', 'Core ML', 'Numbers of the outputs')}"
            "<figcaption>Numbers picked at random from all outputs. On the diagonal both are the same."
            "</figcaption></figure><figure><h2>Where they differ most</h2>"
            f"{bars(rows, 'size of the error, of the signal')}"
            "<figcaption>Root mean square of the error over that of the signal, worst output.</figcaption>"
            "</figure></section>"
        )
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


def _worst(report: Report) -> str:
    cards = "".join(_card(example, report.views.get(example.name, View())) for example in report.worst)
    return (
        "<section><h2>The worst examples</h2>"
        f'<p class="quiet">As the model sees them, largest difference first.</p>'
        f'<div class="cards">{cards}</div></section>'
    )


def _card(example: Example, view: View) -> str:
    picture = ""
    if view.picture:
        picture = f'<img src="{view.picture}" alt="{escape(example.name)}" loading="lazy">'
    head = f'<article class="card">{picture}<div class="inside">'
    if example.source is None or example.model is None:
        plot = f'<p class="quiet"><code>{escape(view.output)}</code></p>{view.plot}' if view.plot else ""
        return (
            f'{head}<p class="strong file">{escape(example.name)}</p>{plot}'
            f'<p class="quiet">SNR {_db(example.snr_db)}<br>max |Δ| {_small(example.max_abs)}</p>'
            "</div></article>"
        )
    truth = example.truth if example.truth is not None else example.source.label
    return (
        f'{head}<p class="strong">{escape(truth)}</p>'
        f'<p class="quiet file">{escape(example.name)}</p>'
        f"{_said('source', example.source, truth)}{_said('Core ML', example.model, truth)}"
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
        ("Source", report.against.name),
        ("Source digest", report.against.digest),
        ("Data digest", report.data.digest),
        ("Input", subject.input),
        *([("Labels", labels)] if labels else []),
        *((f"Made by: {key}", value) for key, value in subject.made_by),
    ]
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td></tr>" for name, value in rows
    )
    return (
        f'<section><h2>Facts</h2><div class="scroll"><table class="facts">'
        f"<tbody>{cells}</tbody></table></div></section>"
    )


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


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
