"""Folders of the user's, outside of any repo."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Where ollamake keeps what it can make or fetch again, for all repos of this user."""
    return user_cache_path("ollamake", appauthor=False)


def servers_folder() -> Path:
    """Where it keeps what there is of each server: locks, and the log and process of the embedded one."""
    return cache_folder() / "servers"
