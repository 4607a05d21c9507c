"""`coremlops predict`: run a Core ML model here."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coremlops.cli.describe import terminal_text
from coremlops.errors import InputError, UsageError

MAX_JSON_BYTES = 256 << 20
SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", help="an .mlpackage folder or an .mlmodel file")
    parser.add_argument(
        "--input",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="an input: a picture, or an .npy or .json file with numbers; once for each input",
    )
    parser.add_argument(
        "--image-option",
        choices=("metadata", "centerCrop", "scaleFit", "scaleFill"),
        default="metadata",
        help="how pictures are prepared (default: as the model's metadata says, or scaleFit)",
    )
    parser.add_argument(
        "--precision",
        choices=("typed", "float32", "float16"),
        default="typed",
        help="typed: as the file declares (default); float32: fast; float16: round everything",
    )
    parser.add_argument("--function", metavar="NAME", help="of a model with several functions")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all outputs")
    parser.epilog = "example: coremlops predict faces.mlpackage --input image=photo.jpg"


def run(args: argparse.Namespace) -> int:
    """Predict once and print the outputs."""
    from coremlops.runtime import load

    files = _files(args.input)
    model = load(args.model, precision=args.precision, function_name=args.function)
    values = {name: _value(name, path) for name, path in files.items()}
    outputs = model.predict(values, image_option=args.image_option)
    if args.json:
        print(
            json.dumps(
                {
                    "model": args.model,
                    "digest": model.digest,
                    "precision": args.precision,
                    "outputs": json_of(outputs),
                },
                allow_nan=False,
            )
        )
    else:
        print(text_of(outputs))
    return 0


def inputs_of(given: list[str]) -> dict[str, Any]:
    """What `--input NAME=FILE` names, read. Raises `UsageError`, `InputError`."""
    return {name: _value(name, path) for name, path in _files(given).items()}


def json_of(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """A model's outputs as JSON has them: arrays as nested lists, null for what is no finite number."""
    return {name: _json(_plain(value)) for name, value in outputs.items()}


def text_of(outputs: Mapping[str, Any]) -> str:
    """A model's outputs as a person reads them."""
    return terminal_text(
        "\n".join(line for name, value in outputs.items() for line in _lines(name, _plain(value)))
    )


def _files(given: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for entry in given:
        name, found, path = entry.partition("=")
        if not found or not name or not path:
            raise UsageError(
                f"--input {entry!r}: expected NAME=FILE", hint="example: --input image=photo.jpg"
            )
        if name in files:
            raise UsageError(f"--input names {name!r} twice")
        files[name] = Path(path)
    return files


def _value(name: str, path: Path) -> Any:
    from coremlops.runtime import read_image

    if path.suffix not in (".npy", ".json"):
        return read_image(path)
    try:
        if path.suffix == ".npy":
            import numpy as np

            return np.load(path, allow_pickle=False)
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"input {name!r}: {path} is larger than {MAX_JSON_BYTES} bytes")
        return json.loads(path.read_text())
    except InputError:
        raise
    except Exception as error:  # NumPy's reader raises EOFError, MemoryError and the tokenizer's errors, too
        raise InputError(f"input {name!r}: {path} cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _json(value: Any) -> Any:
    """A plain value as JSON can hold it: what is infinite or no number becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_json(entry) for entry in value]
    return {key: _json(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def _lines(name: str, value: Any) -> list[str]:
    """An output as text: a dictionary as a table of its greatest values, an array in short."""
    if isinstance(value, dict):
        best = sorted(value.items(), key=lambda item: -item[1])[:SHOWN]
        width = max(len(str(label)) for label, _ in best) if best else 0
        rows = [f"  {label!s:<{width}}  {number:.6f}" for label, number in best]
        rest = [f"  ... and {len(value) - SHOWN} more"] if len(value) > SHOWN else []
        return [f"{name}:", *rows, *rest]
    if isinstance(value, list):
        import numpy as np

        array = np.asarray(value)
        shown = np.array2string(array, threshold=20, precision=6, prefix="  ")
        return [f"{name}: {list(array.shape)}", f"  {shown}"]
    return [f"{name}: {value}"]
