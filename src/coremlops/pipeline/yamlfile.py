"""YAML files as plain data, strictly: no duplicate keys, no aliases, limited in size and depth.

PyYAML costs 40 ms to import, so what was parsed is kept as JSON beside the digest of the bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blake3 import blake3

from coremlops.errors import ConfigError
from coremlops.pipeline.disk import keep_json, read_table

FORMAT = 1
MAX_BYTES = 1 << 20
MAX_DEPTH = 20
_MAX_BITS = 64


def parse_yaml(data: bytes, where: str) -> dict[str, Any]:
    """Parse one YAML document whose top level is a mapping; `where` names the file in messages.

    Only text, numbers, booleans, null, lists and mappings with text keys come out. Raises `ConfigError`.
    """
    import yaml

    depth = 0

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            nonlocal depth
            event = self.peek_event()  # type: ignore[no-untyped-call]
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{where}:{line}: aliases (*name) are not accepted here")
            if event.tag is not None:
                raise ConfigError(f"{where}:{line}: tags (!name) are not accepted here")
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"{where} is nested deeper than {MAX_DEPTH} levels")
            node = super().compose_node(parent, index)
            depth -= 1
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key_node, _ in node.value:
                line = key_node.start_mark.line + 1
                if key_node.tag != "tag:yaml.org,2002:str":
                    raise ConfigError(
                        f"{where}:{line}: a key must be text, got {getattr(key_node, 'value', '?')!s}",
                        hint="put it in quotes",
                    )
                if key_node.value in seen:
                    raise ConfigError(f"{where}:{line}: the key {key_node.value!r} stands there twice")
                seen.add(key_node.value)
            return super().construct_mapping(node, deep)

    # Dates stay text: nothing here means a date, and JSON has none.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":timestamp", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        value = yaml.load(data, Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {_one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} cannot be read: {error}") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected `key: value` lines, got {type(value).__name__}")
    _plain(value, where)
    return value


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)


def _plain(value: Any, where: str) -> None:
    """Refuse what JSON, a command line or a file name cannot carry."""
    if isinstance(value, dict):
        for name, item in value.items():
            _plain(name, where)
            _plain(item, where)
    elif isinstance(value, list):
        for item in value:
            _plain(item, where)
    elif isinstance(value, str):
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise ConfigError(f"{where}: {value[:60]!r} holds a character that no command line can carry")
    elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise ConfigError(f"{where}: a number of more than {_MAX_BITS} bits is not accepted")


class YamlCache:
    """Reads YAML files, keeping what was parsed in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = read_table(path, FORMAT, "files")
        self._changed = False

    def read(self, path: Path, where: str) -> dict[str, Any]:
        """The document in `path`. Raises `ConfigError` when it is missing, too large or not valid."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"cannot read {where}: {error.strerror}") from error
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{where} is larger than {MAX_BYTES} bytes")
        digest = blake3(data).hexdigest()
        entry = self._entries.get(str(path))
        if isinstance(entry, dict) and entry.get("digest") == digest and isinstance(entry.get("value"), dict):
            known: dict[str, Any] = entry["value"]
            return known
        value = parse_yaml(data, where)
        self._entries[str(path)] = {"digest": digest, "value": value}
        self._changed = True
        return value

    def save(self) -> None:
        """Keep what was parsed for the next process."""
        if self._changed:
            keep_json(self._path, {"format": FORMAT, "files": self._entries})
            self._changed = False
