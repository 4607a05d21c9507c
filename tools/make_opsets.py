"""Writes `src/coremlops/lint/opsets.json` from the op registry of the installed coremltools.

For each op, each version of it that differs: the first op set that has it, and its inputs with the types
that they take. `T=fp16|fp32`: all inputs marked T have one type; `*`: any type; after a `;` the default, as
JSON, of an input that older versions of the op do not have. `--check` only compares.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent.parent / "src" / "coremlops" / "lint" / "opsets.json"
# coremltools registers ops of neural networks and of the first ML Programs as iOS 13 to 15.
OPSETS = {"iOS13": "CoreML5", "iOS14": "CoreML5", "iOS15": "CoreML5"}
OPSETS |= {"iOS16": "CoreML6", "iOS17": "CoreML7", "iOS18": "CoreML8", "iOS26": "CoreML9"}


def table() -> dict[str, dict[str, dict[str, str]]]:
    """{op: {op set: {input: types}}}, versions that change nothing left out."""
    from coremltools.converters.mil.mil.ops import defs  # noqa: F401 (fills the registry)
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry as Registry

    found: dict[str, dict[str, dict[str, str]]] = {}
    for name, versions in sorted(Registry.core_ops.items()):
        if name.startswith("_"):
            continue
        for target in sorted(versions):
            kind, known = versions[target], found.setdefault(name, {})
            inputs = _inputs(kind)
            oldest = next(iter(known.values()), inputs)
            for new in inputs.keys() - oldest.keys():
                default = _default(kind, new)
                inputs[new] += "" if default is None else f";{json.dumps(default)}"
            if inputs not in known.values():
                known[OPSETS[target.name]] = inputs
    # The one op that a program holds, and that coremltools counts as a dialect of its own: states, so iOS 18.
    found["coreml_update_state"] = {"CoreML8": _inputs(Registry.dialect_ops["coreml_update_state"])}
    return found


def _inputs(kind: Any) -> dict[str, str]:
    return {name: _types(kind, entry) for name, entry in sorted(kind.input_spec.input_types.items())}


def _default(kind: Any, name: str) -> Any:
    """The default of an optional input; None when it has none, or one that depends on other inputs."""
    try:
        return dict(kind.default_inputs(kind.__new__(kind)).items()).get(name)
    except AttributeError:  # it asks the operation, and there is none
        return None


def _types(kind: Any, entry: Any) -> str:
    from coremltools.converters.mil.mil import types

    own = getattr(entry, "_type_domain", None)
    shared = getattr(entry, "_type_domain_id", None)
    domain = kind.type_domains[shared] if shared is not None else own
    if not domain:
        return "*"
    names = [types.builtin_to_string(entry) for entry in (domain if isinstance(domain, tuple) else (domain,))]
    listed = "|".join(sorted({"str": "string"}.get(name, name) for name in names))
    return f"{shared}={listed}" if shared is not None else listed


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is stale")
    check = options.parse_args().check
    rows = [f"  {json.dumps(op)}: {json.dumps(versions)}" for op, versions in sorted(table().items())]
    text = "{\n" + ",\n".join(rows) + "\n}\n"
    if not check:
        FILE.write_text(text)
        return 0
    if not FILE.exists() or FILE.read_text() != text:
        print("opsets.json is not what the installed coremltools says; run `python tools/make_opsets.py`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
