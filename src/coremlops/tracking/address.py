"""Where MLflow keeps things: a tracking URI made absolute, and the file behind a SQLite one."""

from __future__ import annotations

from pathlib import Path

DEFAULT_URI = "sqlite:///mlflow.db"
_SQLITE = "sqlite:///"


def absolute_uri(uri: str, project: Path) -> str:
    """The tracking URI with a relative SQLite path resolved against the project; others as they are."""
    if not uri.startswith(_SQLITE) or uri.startswith(_SQLITE + "/") or uri == _SQLITE + ":memory:":
        return uri
    return f"{_SQLITE}{project.absolute() / uri.removeprefix(_SQLITE)}"


def shown(text: str) -> str:
    """`text` without the passwords of the addresses in it, for messages and logs."""
    import re  # not on the way of a run with nothing to do

    return re.sub(r"(://)[^/\s@]*@", r"\1***@", text)


def sqlite_file(uri: str) -> Path | None:
    """The file of a `sqlite:///` URI; None for any other URI and for a store in memory."""
    path = uri.removeprefix(_SQLITE).partition("?")[0]
    if not uri.startswith(_SQLITE) or path in ("", ":memory:"):
        return None
    return Path(path)
