"""MLflow's alias as the mirror of a channel, which the signed repository alone decides about."""

from __future__ import annotations

from coremlops.errors import CoremlopsError
from coremlops.tracking.address import shown, sqlite_file

_ANSWER_S = 3.0


def mirror(uri: str, name: str, channel: str, digest: str) -> tuple[bool, str]:
    """Point MLflow's alias `channel` of a registered model at the version with this digest.

    Returns whether it is there now, and a warning if not: whatever is wrong with MLflow is never an error.
    `uri`: empty when there is no MLflow.
    """
    if not uri:
        return False, ""
    from coremlops.tracking import mirror_alias, peek_alias

    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return False, f"MLflow's alias {name}@{channel} is not set: there is no {file}"
    if peek_alias(uri, name, channel) == digest:
        return True, ""
    if not _answers(uri):
        return False, f"MLflow's alias {name}@{channel} is not set: nothing answers at {shown(uri)}"
    try:
        if mirror_alias(uri, name, channel, digest):
            return True, ""
        why = f"no version of {name} holds the model {digest[:12]}"
    except CoremlopsError as error:
        why = error.message
    except Exception as error:  # MLflow and its transports raise anything; none of it concerns the release.
        why = f"{type(error).__name__}: {error}"
    return False, shown(f"MLflow's alias {name}@{channel} is not set: {why}")


def _answers(uri: str) -> bool:
    """Whether a server answers at all: MLflow itself would go on trying for minutes."""
    if not uri.startswith(("http://", "https://")):
        return True
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=_ANSWER_S):  # noqa: S310 - http or https, see above
            return True
    except HTTPError:
        return True
    except (OSError, ValueError, HTTPException):
        return False
