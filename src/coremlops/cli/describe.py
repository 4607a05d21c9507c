"""`coremlops describe`: what a model is."""

from __future__ import annotations

import argparse
import json
import unicodedata
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", help="an .mlpackage or .aimodel folder or an .mlmodel file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "example: coremlops describe faces.mlpackage"


def run(args: argparse.Namespace) -> int:
    """Print the model's inputs, outputs, labels, targets, size, digest and ops."""
    if args.model.rstrip("/").endswith(".aimodel"):
        return _core_ai(args)
    from coremlops.runtime import describe

    summary = describe(args.model)
    print(json.dumps(summary) if args.json else terminal_text(_text(summary)))
    return 0


def _core_ai(args: argparse.Namespace) -> int:
    """An `.aimodel`, as Apple's own library reads it."""
    from coremlops.runtime.aimodel import AIModel

    summary = AIModel(Path(args.model)).describe()
    rows = [("model", summary["path"]), ("kind", "aimodel (Core AI), iOS 27 or later")]
    for name, signature in summary["functions"].items():
        rows += [(side, f"{name}: {item}") for side in ("inputs", "outputs") for item in signature[side]]
    rows += [("computes", ", ".join(summary["compute_types"]))]
    rows += [(key, summary[key]) for key in ("author", "license", "about") if summary[key]]
    lines = [f"{name:<9} {value}" for name, value in rows] + _ops(summary["ops"], "op")
    print(json.dumps(summary) if args.json else terminal_text("\n".join(lines)))
    return 0


def terminal_text(text: str) -> str:
    """A text from a model's file that may go to a terminal: no escape sequence in it takes effect."""
    return "".join(
        char if char == "\n" or unicodedata.category(char) not in ("Cc", "Cs") else ascii(char)[1:-1]
        for char in text
    )


def _text(summary: dict[str, Any]) -> str:
    targets = ", ".join(f"{system} {version}" for system, version in summary["minimum_targets"].items())
    weights = ", ".join(f"{dtype} {size_text(size)}" for dtype, size in summary["weights"]["dtypes"].items())
    rows = [
        ("model", summary["path"]),
        (
            "kind",
            f"{summary['kind']} ({summary['format']}), specification {summary['specification_version']}",
        ),
        ("target", f"{targets} or later" if targets else "newer than this version of coremlops knows"),
        ("size", size_text(summary["bytes"]) + (f"; weights: {weights}" if weights else "")),
        ("digest", summary["digest"]),
        *(("input", _feature(entry)) for entry in summary["inputs"]),
        *(("output", _feature(entry)) for entry in summary["outputs"]),
        *(("state", _feature(entry)) for entry in summary["states"]),
    ]
    if summary["labels"]:
        rows.append(("labels", _some(summary["labels"])))
    metadata = summary["metadata"]
    rows += [(key, metadata[key]) for key in ("author", "license", "version", "about") if metadata[key]]
    if len(summary["functions"]) > 1:
        rows.append(("functions", ", ".join(summary["functions"])))
    lines = [f"{name:<9} {value}" for name, value in rows]
    if metadata["user_defined"]:
        lines += ["", "metadata", *(f"  {key} = {value}" for key, value in metadata["user_defined"].items())]
    lines += _ops(summary["ops"], "layer" if str(summary["kind"]).startswith("neuralNetwork") else "op")
    return "\n".join([*lines, *_members(summary["members"])])


def _ops(ops: dict[str, int], what: str) -> list[str]:
    """A table of how often each op or layer occurs."""
    width = max((len(op) for op in (*ops, what)), default=0)
    rows = [f"{op:<{width}}  {count:>5}" for op, count in ops.items()]
    return ["", f"{what:<{width}}  count", *rows] if rows else []


def _members(members: list[dict[str, Any]], number: str = "") -> list[str]:
    """The members of a pipeline, a line each; those of a pipeline in it are numbered 1.0, 1.1, ..."""
    lines = ["", "member"] if members and not number else []
    for index, entry in enumerate(members):
        own = f"{number}{index}"
        given, found = (", ".join(part["name"] for part in entry[side]) for side in ("inputs", "outputs"))
        inside = ", ".join(f"{op} {count}" for op, count in entry["ops"].items())
        size = entry["weights"]["bytes"]
        more = [inside] * bool(inside) + [f"weights {size_text(size)}"] * bool(size)
        lines.append(
            f"  {own:<6} {entry['kind']}: {given} -> {found}" + "".join(f"; {part}" for part in more)
        )
        lines += _members(entry["members"], f"{own}.")
    return lines


def _feature(entry: dict[str, Any]) -> str:
    kind = entry["type"]
    if kind == "image":
        detail = f"image {entry['width']} x {entry['height']} {entry['color']}"
    elif kind == "array":
        detail = f"{entry['dtype']} {entry['shape']}"
    elif kind == "dictionary":
        detail = f"numbers by {entry['key']}"
    else:
        detail = entry.get("dtype", kind)
    return f"{entry['name']}: {detail}" + (", optional" if entry.get("optional") else "")


def _some(labels: list[Any]) -> str:
    shown = ", ".join(map(str, labels[:8]))
    return f"{len(labels)}: {shown}" + (", ..." if len(labels) > 8 else "")


def size_text(size: int) -> str:
    """Bytes as people say them, in powers of 1000."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
