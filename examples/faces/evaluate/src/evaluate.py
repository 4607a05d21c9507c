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


def page(labels: list[str], counts: list[list[int]], accuracy: float) -> str:
    """The confusion matrix as a small, self-contained web page."""
    names = [html.escape(label) for label in labels]
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{count}</td>' for count in row)}</tr>"
        for name, row in zip(names, counts, strict=True)
    )
    style = "body{font:16px system-ui;margin:2em}td,th{padding:.4em 1em;border:1px solid #ccc}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>Evaluation</title><style>{style}</style>'
        f"<h1>{accuracy:.1%} of {sum(map(sum, counts))} photos recognised</h1>"
        f"<p>A row is a person, a column what the model said.</p>"
        f"<table><tr><th></th>{head}</tr>{rows}</table>\n"
    )


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
