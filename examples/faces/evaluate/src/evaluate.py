"""Tests the trained recogniser on the photos that it was not trained on."""

from __future__ import annotations

import argparse
import html
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the project, where `shared` lives

import torch

from coremlops.errors import DataError
from shared import step
from shared.tensors import read_labels, read_tensors


def confusion(truth: torch.Tensor, predicted: torch.Tensor, people: int) -> list[list[int]]:
    """Counts [true person][predicted person]."""
    pairs = truth * people + predicted
    counts: list[list[int]] = torch.bincount(pairs, minlength=people**2).view(people, people).tolist()
    return counts


STYLE = """
:root{--page:#f6f7f9;--sheet:#fff;--ink:#16191d;--quiet:#5b6470;--line:#e3e7ec;--good:10,122,62;--bad:192,38,38}
@media(prefers-color-scheme:dark){:root{--page:#0f1114;--sheet:#181b20;--ink:#eceff3;--quiet:#9aa4b1;
--line:#2a2f37;--good:76,201,131;--bad:255,123,123}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 -apple-system,BlinkMacSystemFont,"Segoe UI",Roboto,"DejaVu Sans",Arial,sans-serif}
main{max-width:860px;margin:0 auto;padding:32px 20px 64px;display:grid;gap:20px}
main>*{min-width:0;background:var(--sheet);border:1px solid var(--line);border-radius:16px;padding:22px 26px}
h1{font-size:34px;line-height:1.15;margin:0;letter-spacing:-.02em}
h2{font-size:15px;margin:0 0 2px}
p{margin:0;color:var(--quiet)}h1+p{margin-top:6px}p+.scroll{margin-top:14px}
.scroll{overflow-x:auto}
table{border-collapse:separate;border-spacing:4px;font-variant-numeric:tabular-nums}
th{font-weight:500;font-size:13px;color:var(--quiet);padding:4px 10px;text-align:left;white-space:nowrap}
thead th,td{text-align:center}
td{min-width:60px;padding:10px;border-radius:8px}
td.good{background:rgba(var(--good),var(--share))}td.bad{background:rgba(var(--bad),var(--share))}
td.none{color:var(--quiet)}
td.number{text-align:right}
"""


def page(labels: list[str], counts: list[list[int]], accuracy: float) -> str:
    """The confusion matrix as a small, self-contained web page."""
    names = [html.escape(label) for label in labels]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(_cell(row, column, true) for column in range(len(row)))}'
        f'<td class="number">{row[true] / sum(row):.0%}</td></tr>'
        for true, (name, row) in enumerate(zip(names, counts, strict=True))
    )
    total, right = sum(map(sum, counts)), sum(row[n] for n, row in enumerate(counts))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Evaluation</title><style>{STYLE}</style></head>"
        f"<body><main><header><h1>{accuracy:.1%} recognised</h1>"
        f"<p>{right} of {total} photos of {len(labels)} people, none of them trained on</p></header>"
        "<section><h2>Who was taken for whom</h2><p>A row is a person, a column what the model said.</p>"
        f'<div class="scroll"><table><thead><tr><td></td>{head}<th scope="col">right</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section></main></body></html>\n"
    )


def _cell(row: list[int], column: int, true: int) -> str:
    """A count, in a colour as strong as its share of the row."""
    if not row[column]:
        return '<td class="none">0</td>'
    kind = "good" if column == true else "bad"
    return f'<td class="{kind}" style="--share:{0.12 + 0.28 * row[column] / sum(row):.2f}">{row[column]}</td>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--downstream", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(2)

    labels: list[str] = json.loads((args.model / "model.json").read_text(encoding="utf-8"))["labels"]
    people = read_labels(args.data / "test")
    if people != labels:
        raise DataError(f"the model knows {', '.join(labels)}; the photos show {', '.join(people)}")
    pictures, truth, names = read_tensors(args.data / "test", labels)

    # Our own train step wrote this file. Loading a program runs what it says: never load a stranger's.
    model = torch.export.load(args.model / "model.pt2").module()
    with torch.no_grad():
        probabilities = torch.cat([model(picture[None]) for picture in pictures])
    predicted = probabilities.argmax(1)

    for name, row, index in zip(names, probabilities, predicted.tolist(), strict=True):
        print(f"{name}: {labels[index]} ({row[index]:.3f})")
    counts = confusion(truth, predicted, len(labels))
    accuracy = (predicted == truth).float().mean().item()
    metrics = {"accuracy": accuracy}
    for index, label in enumerate(labels):
        metrics[f"accuracy.{label}"] = counts[index][index] / sum(counts[index])
    step.write_json(args.downstream / "metrics.json", metrics)
    step.write_json(args.downstream / "confusion.json", {"labels": labels, "counts": counts})
    (args.downstream / "report.html").write_text(page(labels, counts, accuracy), encoding="utf-8")
    print(f"accuracy {accuracy:.3f} on {len(names)} photos")


if __name__ == "__main__":
    step.run(main)
