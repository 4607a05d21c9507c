"""The distributions that are installed: which one provides an import name, and what each requires.

Read straight from the `*.dist-info` folders (PyPA, "Recording installed projects"), because
importlib.metadata takes 0.1 s to import and a second to map names, and kept as JSON while the listing of
those folders stays what it is.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from coremlops.pipeline.disk import keep_json, read_json

FORMAT = 1
_REQUIREMENT = r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?[^;]*(?:;(.*))?"
_EXTRA = r"""extra\s*==\s*['"]([^'"]+)['"]"""


class Distribution(NamedTuple):
    """One installed distribution.

    `requires`: (name, extras asked for, extra under which it is required or ""). `sources`: the folders or
    files of its code when it is installed in editable mode, otherwise empty.
    """

    name: str
    version: str
    requires: tuple[tuple[str, tuple[str, ...], str], ...]
    sources: tuple[str, ...]


class Installed:
    """Everything installed on one `sys.path`.

    `names`: top-level import name to the distributions that provide it.
    """

    def __init__(self, names: Mapping[str, Sequence[str]], distributions: Mapping[str, Distribution]) -> None:
        self.names = names
        self.distributions = distributions

    def closure(self, roots: Iterable[str]) -> list[Distribution]:
        """These distributions and all that they require, sorted by name.

        A requirement under an extra counts when something asks for that extra; environment markers are not
        judged: what is required for another platform is seldom installed.
        """
        seen: set[tuple[str, str]] = set()
        pending = [(root, "") for root in roots]
        while pending:
            name, extra = pending.pop()
            distribution = self.distributions.get(name)
            if distribution is None or (name, extra) in seen:
                continue
            seen.add((name, extra))
            for required, extras, under in distribution.requires:
                if under == extra:
                    pending.append((required, ""))
                    pending.extend((required, wanted) for wanted in extras)
        return [self.distributions[name] for name in sorted({name for name, _ in seen})]


def installed(cache: Path, paths: Sequence[str] | None = None) -> Installed:
    """What is installed on `paths` (default: this Python's), from the JSON in `cache` if that is current."""
    places = _places(sys.path if paths is None else paths)
    listing = blake3(json.dumps(places).encode()).hexdigest()
    saved = read_json(cache)
    sound = isinstance(saved, dict) and {"names", "distributions"} <= saved.keys()
    if not (sound and saved.get("format") == FORMAT and saved.get("listing") == listing):
        saved = {"format": FORMAT, "listing": listing, **_read_all(places)}
        keep_json(cache, saved)
    distributions = {
        name: Distribution(
            name, value["version"], tuple((r[0], tuple(r[1]), r[2]) for r in value["requires"]),
            tuple(value["sources"]),
        )
        for name, value in saved["distributions"].items()
    }  # fmt: skip
    return Installed(saved["names"], distributions)


def _places(paths: Sequence[str]) -> list[Any]:
    """Each folder on the path that holds installed distributions, with their metadata folders."""
    places: list[Any] = []
    for path in dict.fromkeys(paths):
        try:
            with os.scandir(path or ".") as entries:
                found = sorted(
                    (entry.name, entry.stat().st_mtime_ns)
                    for entry in entries
                    if entry.name.endswith((".dist-info", ".egg-info"))
                )
        except OSError:
            continue
        if found:
            places.append([path, found])
    return places


def _read_all(places: list[Any]) -> dict[str, Any]:
    names: dict[str, list[str]] = {}
    distributions: dict[str, Any] = {}
    for path, found in places:
        for folder, _ in found:
            read = _read(Path(path), folder)
            if read is None or read[0] in distributions:  # the first on the path wins, as in Python
                continue
            name, value, tops = read
            distributions[name] = value
            for top in tops:
                names.setdefault(top, []).append(name)
    return {"names": names, "distributions": distributions}


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(site: Path, folder: str) -> tuple[str, dict[str, Any], set[str]] | None:
    info = site / folder
    metadata = _text(info / "METADATA") or _text(info / "PKG-INFO") or (_text(info) if info.is_file() else "")
    name = version = ""
    requires = []
    for line in metadata.splitlines():
        if not line:
            break  # the description follows
        key, _, value = line.partition(": ")
        if key == "Name":
            name = normalise(value.strip())
        elif key == "Version":
            version = value.strip()
        elif key == "Requires-Dist" and (match := re.match(_REQUIREMENT, value)):
            under = re.search(_EXTRA, match[3] or "")
            extras = [extra.strip() for extra in (match[2] or "").split(",") if extra.strip()]
            requires.append([normalise(match[1]), extras, under[1] if under else ""])
    if not name:
        return None
    sources = _editable_sources(site, info)
    tops = {Path(source).stem for source in sources} if sources else _tops(info)
    return name, {"version": version, "requires": requires, "sources": sources}, tops


def _tops(info: Path) -> set[str]:
    tops = set(_text(info / "top_level.txt").split())
    for line in _text(info / "RECORD").splitlines():
        head, slash, _ = line.lstrip('"').partition("/")
        head = head.partition(",")[0]
        if slash and not head.endswith((".dist-info", ".data", ".egg-info")) and head not in ("..", "."):
            tops.add(head)
        elif not slash and head.endswith((".py", ".so", ".pyd")):
            tops.add(head.partition(".")[0])
    return tops - {"__pycache__", ""}


def _editable_sources(site: Path, info: Path) -> list[str]:
    """The packages and modules of an editable distribution, [] for an ordinary one."""
    try:
        direct = json.loads(_text(info / "direct_url.json") or "{}")
        if not direct.get("dir_info", {}).get("editable"):
            return []
        from urllib.parse import unquote, urlsplit

        root = Path(unquote(urlsplit(direct["url"]).path))
    except (ValueError, KeyError, AttributeError, TypeError):
        return []
    folders: list[Path] = []
    for line in _text(info / "RECORD").splitlines():
        name = line.partition(",")[0]
        if "/" in name:
            continue
        if name.endswith(".pth"):  # hatchling, flit and setuptools' plain mode: a line is a folder
            lines = [text.strip() for text in _text(site / name).splitlines()]
            folders += [Path(text) for text in lines if text and not text.startswith(("import ", "#"))]
        elif name.endswith("_finder.py"):  # setuptools' mode with a finder: MAPPING = {name: path}
            mapped = _finder_mapping(_text(site / name))
            if mapped:
                return mapped
    if not folders:
        folders = [root / "src" if (root / "src").is_dir() else root]
    return [str(path) for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())
            if (path / "__init__.py").is_file() or path.suffix == ".py"]  # fmt: skip


def _finder_mapping(source: str) -> list[str]:
    import ast

    try:
        for node in ast.parse(source).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                continue
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id == "MAPPING":
                value = ast.literal_eval(node.value)
                return [path if Path(path).is_dir() else f"{path}.py" for path in value.values()]
    except (SyntaxError, ValueError, AttributeError):
        pass
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
