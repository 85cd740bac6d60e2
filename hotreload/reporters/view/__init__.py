"""The dashboard's picture of a session, pure: no terminal, no clock."""

from __future__ import annotations

from hotreload.reporters.view.frame import render

__all__ = ["render"]
