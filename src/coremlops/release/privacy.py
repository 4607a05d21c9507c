"""Where a private key may lie: out of every Git work tree, and readable by its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from coremlops.errors import RepositoryError


def refuse_work_tree(folder: Path) -> None:
    """Raise `RepositoryError` when a folder lies inside a Git work tree: keys there get committed one day.

    Links are followed first: what counts is where the bytes are.
    """
    resolved = folder.resolve()
    for above in (resolved, *resolved.parents):
        if (above / ".git").exists():
            raise RepositoryError(
                f"keys would lie inside the Git work tree {above}: {folder}",
                hint="set COREMLOPS_CONFIG to a folder outside any work tree",
            )


def refuse_shared(path: Path, mode: int) -> None:
    """Raise `RepositoryError` when others can read a file or folder, `mode` being what it should have."""
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise RepositoryError(
            f"others may read {path}: mode {stat.S_IMODE(status.st_mode):04o}, expected {mode:04o}",
            hint=f"chmod {mode:o} {path}",
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise RepositoryError(f"{path} belongs to another user (uid {status.st_uid})")
