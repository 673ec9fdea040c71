"""The commit that a repo is at."""

from __future__ import annotations

import subprocess


def commit_here() -> str | None:
    """The repo's commit, with `+` behind it where tracked files differ from it; None where there is none."""
    git = ("git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*")
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
