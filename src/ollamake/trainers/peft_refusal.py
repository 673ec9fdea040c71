"""What a training refuses to do, and what in the catalog it is about."""

from __future__ import annotations

from ollamake.errors import BuildError


class RefusedError(BuildError):
    """A training can't be done; told as the event "failed"."""

    def __init__(self, reason: str, *, fix: str = "", key: str = "") -> None:
        super().__init__(reason, fix=fix or None)
        self.reason, self.fix = reason, fix
        self.key = key  # below `train` in the catalog


def as_event(error: BuildError) -> dict[str, str]:
    """What the event "failed" says of an error."""
    if isinstance(error, RefusedError):
        return {"reason": error.reason, "fix": error.fix, "key": error.key}
    reason, _, fix = str(error).partition("\n  fix: ")
    return {"reason": reason, "fix": fix, "key": ""}
