"""Shared models; see tests/verify/fixtures.py."""

from __future__ import annotations

from tests.verify.fixtures import faces, tiny

__all__ = ["faces", "tiny"]
