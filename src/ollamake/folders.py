"""Folders of the user's, outside of any repo."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Where ollamake keeps what it can make or fetch again, for all repos of this user."""
    return user_cache_path("ollamake", appauthor=False)
