"""Sessions that were made before: the engine's optimised graph on disk, so that a second load is quick.

    $XDG_CACHE_HOME/coremlops/sessions/          (~/.cache without it; 0700)
        <bytes of the model>-<key>/ graph.onnx  weights.bin  entry.json

The key is a digest of the model's digest, the function, the precision, coremlops with the state of its own
files, ONNX Runtime, and the processor, for which the engine arranges weights. An entry is used when its files
have the BLAKE3 that `entry.json` says; anything else is removed. It appears whole or not at all, and the
oldest go when there are more than COREMLOPS_CACHE_BYTES (4 GiB; 0 switches the cache off).

The first load of a model with much weight starts a process of low priority that fills the cache
(`python -m coremlops.runtime.cache`), so that no load waits for it. Models below 16 MiB are not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coremlops.dialects.mil.graph import NamedType, StateType, TensorType
from coremlops.errors import CoremlopsError
from coremlops.files import exclusive_lock
from coremlops.lower import Lowered
from coremlops.lower.context import Classifier
from coremlops.lower.function import StateTensor
from coremlops.model import ModelAsset
from coremlops.runtime import memory

LIMIT_VARIABLE = "COREMLOPS_CACHE_BYTES"
DEFAULT_LIMIT_BYTES = 4 << 30
LEAST_BYTES = 16 << 20
GRAPH, WEIGHTS, ENTRY = "graph.onnx", "weights.bin", "entry.json"
MAX_ENTRY_BYTES = 16 << 20
_FORMAT = 1
_TIMES = 4  # a model's size: weights of fp16 double, and the engine keeps what it was given while it arranges
_log = logging.getLogger(__name__)
_CLASSES: dict[str, Any] = {
    cls.__name__: cls for cls in (TensorType, NamedType, StateType, StateTensor, Classifier)
}
_TABLES = tuple(field.name for field in fields(Lowered) if field.name not in ("model", "weights", "inner"))
_children: list[Any] = []  # so that each is waited for, now and then


class Cached:
    """What a `Lowered` says of its interface, and the engine's graph; the rest is lowered when asked for."""

    def __init__(self, folder: Path, tables: Mapping[str, Any], lower: Callable[[], Lowered]) -> None:
        self._folder = folder
        self.graph_file = folder / GRAPH
        self._lower = lower
        for name in _TABLES:
            setattr(self, name, tables[name])

    @cached_property
    def whole(self) -> Lowered:
        """The model, lowered after all. Raises what `load` raises."""
        return self._lower()

    def discard(self) -> None:
        """Remove the entry, which is of no use after all."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __getattr__(self, name: str) -> Any:
        if name in ("model", "weights", "inner"):
            return getattr(self.whole, name)
        raise AttributeError(name)


def limit_bytes() -> int:
    """How much the cache may hold; 0 when it is off. Raises UsageError."""
    said = memory.bytes_said(LIMIT_VARIABLE)
    return DEFAULT_LIMIT_BYTES if said is None else said


def root_folder() -> Path:
    """Where entries lie. Raises OSError for a user without a home, as containers have them."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise OSError(str(error)) from error
    return base / "coremlops" / "sessions"


def find(asset: ModelAsset, *, precision: str, function: str, lower: Callable[[], Lowered]) -> Cached | None:
    """The entry of a model, checked; None when there is none that is whole. Never raises for a bad cache."""
    if not _worth_it(asset):
        return None
    try:
        root = root_folder()
        start = f"{asset.package.bytes}-"
        # Hashing the model takes longer than a look at the names: most models that are new have a new size.
        if not _ours(root) or not any(entry.name.startswith(start) for entry in root.iterdir()):
            return None
        folder = root / f"{start}{_key(asset.digest, precision, function)}"
        if not folder.is_dir():
            return None
        tables = _checked(folder)
        if tables is None:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder)
    except OSError:
        return None
    return Cached(folder, tables, lower)


def fill_later(asset: ModelAsset, *, precision: str, function: str) -> None:
    """Start a process that makes the entry of a model; nothing waits for it, and nothing fails with it."""
    frozen = getattr(sys, "frozen", False)  # the executable is an app, not Python
    if not _worth_it(asset) or not sys.executable or frozen or not _has_room(asset.package.bytes):
        return
    import subprocess

    command = [
        sys.executable,
        "-P",  # nothing is imported from the folder that one happens to be in
        "-m",
        "coremlops.runtime.cache",
        str(asset.path.resolve()),
        precision,
        function,
    ]
    _children[:] = [child for child in _children if child.poll() is None]
    with contextlib.suppress(OSError):
        _children.append(
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )


def fill(path: str, precision: str, function: str) -> bool:
    """Make the entry of a model now; whether it was made. Another process that is at it is left alone.

    Raises errors of ours when the model cannot be loaded, and OSError.
    """
    import tempfile

    from coremlops.runtime.parts import lower_program

    asset = ModelAsset.open(path)
    root = root_folder()
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = root / f"{asset.package.bytes}-{_key(asset.digest, precision, function)}"
    if not _ours(root) or folder.exists() or not _has_room(asset.package.bytes):
        return False
    with exclusive_lock(root / "lock", wait_s=0):
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=root))
        try:
            lowered = lower_program(asset, precision=precision, function_name=function)
            tables = {name: encode(getattr(lowered, name)) for name in _TABLES}
            _write_graph(asset, lowered, making)
            files = {name: _digest(making / name) for name in (GRAPH, WEIGHTS) if (making / name).exists()}
            entry = {"format": _FORMAT, "files": files, "tables": tables}
            (making / ENTRY).write_text(json.dumps(entry))
            os.rename(making, folder)  # noqa: PTH104  fails when another was quicker
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        _prune(root, keep=folder)
    return True


def encode(value: Any) -> Any:
    """A table of a `Lowered` as JSON. Raises TypeError for what is not known here."""
    if isinstance(value, tuple):
        return [encode(entry) for entry in value]
    if is_dataclass(value) and type(value).__name__ in _CLASSES:
        found = {field.name: encode(getattr(value, field.name)) for field in fields(value)}
        return {"": type(value).__name__, **found}
    if isinstance(value, Mapping):
        return {"": "Mapping", "items": [[encode(part) for part in item] for item in value.items()]}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept")


def decode(value: Any) -> Any:
    """The inverse of `encode`. Raises KeyError, TypeError or ValueError for what it cannot have written."""
    if isinstance(value, list):
        return tuple(decode(entry) for entry in value)
    if isinstance(value, dict) and value[""] == "Mapping":
        return {decode(name): decode(entry) for name, entry in value["items"]}
    if isinstance(value, dict):
        return _CLASSES[value[""]](**{name: decode(entry) for name, entry in value.items() if name})
    return value


def _worth_it(asset: ModelAsset) -> bool:
    return asset.package.bytes >= LEAST_BYTES and limit_bytes() > 0


def _has_room(model_bytes: int) -> bool:
    """Whether memory and disk have room for a second load of the model, and for its entry."""
    needed = _TIMES * model_bytes
    free = memory.available_bytes()
    if free is not None and free < needed:
        _log.debug("no entry for a model of %d bytes: %d bytes of memory are free", model_bytes, free)
        return False
    try:
        root = root_folder()
        place = next(folder for folder in (root, *root.parents) if folder.exists())
        free = shutil.disk_usage(place).free
    except OSError as error:
        _log.debug("no entry: %s", error)
        return False
    if free < needed:
        _log.debug("no entry for a model of %d bytes: %d bytes of disk are free", model_bytes, free)
    return free >= needed


def _ours(folder: Path) -> bool:
    """Whether a folder is there, is this user's, and nobody else can write in it."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _key(digest: str, precision: str, function: str) -> str:
    import onnxruntime

    parts = [
        _FORMAT,
        digest,
        function,
        precision,
        _own_state(),
        onnxruntime.__version__,
        _processor(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _own_state() -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files that decide what a model becomes: a change of one is a new key.

    An installed version has files of its own, so its number says nothing more.
    """
    home = Path(__file__).parents[1]
    found = []
    for room in ("model", "dialects", "lower", "runtime"):
        for folder, _, names in os.walk(home / room):  # ten times as quick as Path.rglob
            for name in names:
                if name.endswith(".py"):
                    status = os.stat(f"{folder}/{name}")  # noqa: PTH116
                    found.append((f"{folder}/{name}", status.st_size, status.st_mtime_ns))
    return sorted(found)


def _processor() -> str:
    """What the engine's arrangement of weights depends on."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(("flags", "Features")):
                return f"{platform.machine()} {line}"
    return f"{platform.machine()} {platform.processor()}"


def _checked(folder: Path) -> dict[str, Any] | None:
    """The tables of an entry whose files are what it says; None for any other."""
    try:
        file = folder / ENTRY
        if file.stat().st_size > MAX_ENTRY_BYTES:
            return None
        entry = json.loads(file.read_bytes())
        if entry["format"] != _FORMAT or GRAPH not in entry["files"]:
            return None
        for name, digest in entry["files"].items():
            if name not in (GRAPH, WEIGHTS) or _digest(folder / name) != digest:
                return None
        return {name: decode(entry["tables"][name]) for name in _TABLES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _digest(path: Path) -> str:
    import blake3

    found: str = blake3.blake3().update_mmap(path).hexdigest()
    return found


def _write_graph(asset: ModelAsset, lowered: Lowered, folder: Path) -> None:
    from coremlops.runtime.session import Session

    Session(lowered, threads=1, locate=asset.locate, optimised=folder / GRAPH)


def _prune(root: Path, *, keep: Path) -> None:
    """Remove the entries that were not used for longest until the rest fits, and what a crash left."""
    entries = []
    for folder in root.iterdir():
        if folder.name.startswith(".making-"):
            shutil.rmtree(folder, ignore_errors=True)  # the lock is held: nobody is at it
        elif folder.is_dir() and folder != keep:
            size = sum(file.stat().st_size for file in folder.iterdir())
            entries.append((folder.stat().st_mtime, size, folder))
    room = limit_bytes() - sum(file.stat().st_size for file in keep.iterdir())
    for _, size, folder in sorted(entries, reverse=True):
        room -= size
        if room < 0:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Fill the cache for one model: path, precision, function."""
    with contextlib.suppress(OSError):
        os.nice(10)
    try:
        return 0 if fill(*sys.argv[1:4]) else 1
    except (CoremlopsError, OSError, TypeError):
        return 1


if __name__ == "__main__":
    sys.exit(main())
