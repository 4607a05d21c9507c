"""The repository's files over HTTP: what a device may ask for, with what a cache must know, and nothing
else.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Receive, Scope, Send

IMMUTABLE = "public, max-age=31536000, immutable"
MUTABLE = "no-cache"
NEXT_ROOT = "public, max-age=60"

TIMESTAMP = "metadata/timestamp.json"
_ROOT = re.compile(r"metadata/\d+\.root\.json")
# Names that carry their version or their hash. What is not so named is not served: keys, the audit log,
# pending signatures, what a crash left, names that begin with a dot.
_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_LASTING = re.compile(
    rf"metadata/\d{{1,10}}\.[A-Za-z0-9_-]+\.json|targets/(?:{_SEGMENT}/)*[0-9a-f]{{64}}\.{_SEGMENT}(?<!\.gz)"
)
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?:1|0\.0*[1-9])[\d.]*\s*)?(?:,|$)", re.IGNORECASE)


class Files:
    """An ASGI application: GET and HEAD of the metadata and targets in one folder.

    Each request looks at the disk, so a publish is seen at once. No symbolic link below `folder` is followed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.absolute())
        self._conditions = StaticFiles(directory=folder, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("method not allowed\n", 405, {"Allow": "GET, HEAD"})
        name, asked = scope["path"].removeprefix("/"), Headers(scope=scope)
        if name == TIMESTAMP:
            response = self._timestamp()
        else:
            response = self._lasting(name, asked) if _LASTING.fullmatch(name) else None
        if response is None:
            caching = NEXT_ROOT if _ROOT.fullmatch(name) else MUTABLE
            return PlainTextResponse("not found\n", 404, {"Cache-Control": caching})
        if self._conditions.is_not_modified(response.headers, asked):
            return NotModifiedResponse(response.headers)
        return response

    def _timestamp(self) -> Response | None:
        """The one file that is replaced. It is read whole, so that what is said of it is true of its body."""
        if self._regular(TIMESTAMP) is None:
            return None
        try:
            data = Path(self._folder, TIMESTAMP).read_bytes()
        except OSError:
            return None
        etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers = {"Cache-Control": MUTABLE, "ETag": etag, "X-Content-Type-Options": "nosniff"}
        return Response(data, 200, headers, "application/json")

    def _lasting(self, name: str, asked: Headers) -> Response | None:
        """A file that never changes: itself, or the `.gz` beside it for who takes that and no range."""
        found = self._regular(name)
        if found is None:
            return None
        headers = {"Cache-Control": IMMUTABLE, "X-Content-Type-Options": "nosniff"}
        packed = self._regular(f"{name}.gz") if name.endswith(".json") else None
        if packed is not None:
            headers["Vary"] = "Accept-Encoding"
            if "range" not in asked and _GZIP.search(asked.get("accept-encoding", "")):
                headers["Content-Encoding"] = "gzip"
                name, found = f"{name}.gz", packed
        kind = "application/json" if ".json" in name else "application/octet-stream"
        return FileResponse(f"{self._folder}/{name}", headers=headers, media_type=kind, stat_result=found)

    def _regular(self, name: str) -> os.stat_result | None:
        """What the disk says of a regular file, with no symbolic link on the way to it."""
        path = self._folder
        found = None
        for part in name.split("/"):
            path = f"{path}/{part}"
            try:
                found = os.lstat(path)
            except OSError:
                return None
            if stat.S_ISLNK(found.st_mode):
                return None
        return found if found is not None and stat.S_ISREG(found.st_mode) else None
