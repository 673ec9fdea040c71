"""Why a training is not done, though its step has reasons to run, and the cache has not got what it would make."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ollamake.call import current
from ollamake.digest import LONGEST_POINTER, pointed_to
from ollamake.errors import BuildError
from ollamake.freshness import Reason
from ollamake.graph import Step


def not_trained(step: Step, reasons: Collection[Reason]) -> BuildError | None:
    """What keeps the step from being trained here; None where nothing does."""
    if not current().trains:
        msg = f"{step.subject.mark}: model {step.name!r}: the cache has no adapter of just this, and --max-train-minutes 0 allows no training"
        return BuildError(msg, fix=f"have it trained by a machine that writes into the cache: `doit train:{step.name}`")
    return not_fetched(step, reasons)


def not_fetched(step: Step, reasons: Collection[Reason]) -> BuildError | None:
    """Why a training is not repeated: all that it has made is as it was, but for files that git-lfs has and that were not fetched."""
    if (
        step.stage != "train"
        or not reasons
        or not all(reason.kind == "target changed" and digest_behind(reason.what) == reason.old for reason in reasons)
    ):
        return None
    files = ", ".join(reason.what for reason in reasons)
    msg = f"{files}: a pointer of git-lfs: what was trained is not here"
    return BuildError(msg, fix=f"`git lfs pull`; or `doit retrain {step.name}` trains it anew")


def digest_behind(path: str) -> str | None:
    """The digest of the file that git-lfs has in the place of this one; None where it is no pointer. Raises OSError."""
    with Path(path).open("rb") as file:
        return pointed_to(file.read(LONGEST_POINTER))
