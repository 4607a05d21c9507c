"""The step store: outputs by content, and which step key led to which output.

    .coremlops/store/objects/<tree digest>/      what a step wrote; files are read-only
    .coremlops/store/manifests/<tree digest>.json  its files with their stamps
    .coremlops/store/steps/<key>.json            a record: step, output, ingredients, metrics, ...
    .coremlops/store/trees/<tree digest>.json    what a project's input held when a step read it

A folder enters `objects` by one rename, after its files are on the disk and hashed, so an object is whole
or absent. Nothing here is trusted blindly: an object whose files are not as its manifest says is hashed
again, and removed when it is not what its name says; a damaged record counts as absent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from coremlops.errors import InputError, StepError, StoreError
from coremlops.pipeline.disk import cannot_write, keep_json, read_json, read_table, write_json
from coremlops.pipeline.key import Ingredients
from coremlops.pipeline.tree import FORMAT as TREE_FORMAT
from coremlops.pipeline.tree import Tree, read_stamps, scan, skip_nothing, walk

FORMAT = 1
_HEX = frozenset("0123456789abcdef")


class Record(NamedTuple):
    """What is kept of a step that was done. `because`: why it ran then. `elapsed_s`: its own work."""

    step: str
    output: str
    run_id: str
    finished: str
    elapsed_s: float
    because: tuple[str, ...]
    ingredients: Ingredients


class Output(NamedTuple):
    """What a step left: the folder and its content."""

    path: Path
    tree: Tree


class Store:
    """The store in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> tuple[Record, Output] | None:
        """The record of `key` with its output, when both are there and sound."""
        record = self.record(key)
        if record is None:
            return None
        output = self.output(record.output)
        return None if output is None else (record, output)

    def record(self, key: str) -> Record | None:
        """The record of `key`, whether or not its output is still there."""
        value = read_json(self.folder / "steps" / f"{key}.json")
        try:
            if value["format"] != FORMAT or not _is_digest(value["output"]):
                return None
            return Record(
                step=value["step"],
                output=value["output"],
                run_id=value["run_id"],
                finished=value["finished"],
                elapsed_s=value["elapsed_s"],
                because=tuple(value["because"]),
                ingredients=Ingredients.from_json(value["ingredients"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def write_record(self, key: str, record: Record) -> None:
        """Remember what `key` led to. Raises `StoreError`."""
        value: dict[str, Any] = record._asdict()
        value["ingredients"] = record.ingredients.as_json()
        write_json(self.folder / "steps" / f"{key}.json", {"format": FORMAT, **value})

    def output(self, digest: str) -> Output | None:
        """The object `digest`, checked; a damaged one is removed and counts as absent."""
        path = self.folder / "objects" / digest
        manifest = self.folder / "manifests" / f"{digest}.json"
        try:
            tree, stamps, unchanged = scan(path, read_stamps(manifest))
        except InputError:
            if path.is_symlink() or path.exists():
                self._discard(path)
            return None
        if tree.digest != digest:
            self._discard(path)
            return None
        if not unchanged:
            keep_json(manifest, {"format": TREE_FORMAT, "files": stamps})
        return Output(path, tree)

    def commit(self, work: Path, step: str) -> Output:
        """Move what a step wrote in `work` into the store; `work` is gone after that.

        Raises `StepError` when the output holds what cannot be stored (a link that leaves it, a device),
        `StoreError` when the disk refuses; the store is then as it was.
        """
        try:
            _replace_links(work, step)
            _settle(work)
        except InputError as error:
            raise StepError(f"step {step} left what cannot be stored: {error.message}", step=step) from error
        except OSError as error:
            raise cannot_write(work, error) from error
        tree, stamps, _ = scan(work, {})
        target = self.folder / "objects" / tree.digest
        present = self.output(tree.digest)
        try:
            if present is not None:
                remove(work)
                return present
            target.parent.mkdir(parents=True, exist_ok=True)
            work.rename(target)
        except OSError as error:
            raise cannot_write(target, error) from error
        write_json(
            self.folder / "manifests" / f"{tree.digest}.json", {"format": TREE_FORMAT, "files": stamps}
        )
        return Output(target, tree)

    def remember(self, tree: Tree) -> None:
        """Keep the listing of a folder that is not in the store, for `why` to compare with."""
        path = self.folder / "trees" / f"{tree.digest}.json"
        if not path.exists():
            write_json(path, {"format": FORMAT, "files": dict(tree.files)})

    def listing(self, digest: str) -> Mapping[str, str] | None:
        """The files of a tree that was once an input or output: path to digest; None when forgotten."""
        files = read_table(self.folder / "trees" / f"{digest}.json", FORMAT, "files")
        if not files:
            stamps = read_stamps(self.folder / "manifests" / f"{digest}.json")
            files = {name: stamp[4] for name, stamp in stamps.items()}
        return files or None

    def _discard(self, path: Path) -> None:
        try:
            remove(path)
        except OSError as error:
            raise StoreError(
                f"{path} is damaged and cannot be removed: {error}", hint="remove it, then run again"
            ) from error


def remove(path: Path) -> None:
    """Delete a folder that a step may have made unwritable."""
    import shutil

    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for _ in _opened(path):
        pass
    shutil.rmtree(path)


def _opened(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder of a tree with all its names; one that a step closed, even to us, is opened on the way."""
    os.chmod(top, 0o755)  # noqa: PTH101, S103
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        for name in folders:
            if not (here / name).is_symlink():
                os.chmod(here / name, 0o755)  # noqa: PTH101, S103
        yield here, [*folders, *files]


def _is_digest(value: str) -> bool:
    """Whether it can name an object: anything else in a record could lead out of the store."""
    return len(value) == 64 and _HEX.issuperset(value)


def _replace_links(work: Path, step: str) -> None:
    """Turn links to files inside the output into files; refuse all others, whose content would be lost."""
    top = work.resolve()
    for folder, names in _opened(work):
        for name in names:
            path = folder / name
            if not path.is_symlink():
                continue
            target = path.resolve()
            if not (target.is_file() and target.is_relative_to(top)):
                raise StepError(
                    f"step {step} left a link in its output, {path.relative_to(work)} -> {path.readlink()}",
                    step=step,
                    hint="copy the file instead; only links to files inside the output are kept",
                )
            path.unlink()
            os.link(target, path)


def _settle(work: Path) -> None:
    """Make the files read-only and put them on the disk."""
    for _, path, st in walk(str(work), skip_nothing):
        if st is None:
            continue
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fchmod(fd, 0o555 if st.st_mode & stat.S_IXUSR else 0o444)
            os.fsync(fd)
        finally:
            os.close(fd)
    fd = os.open(work, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
