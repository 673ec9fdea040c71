"""Pointers of git-lfs: short texts that a clone has in the place of files that were not fetched."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ollamake.digest import LONGEST_POINTER, pointed_to
from ollamake.errors import BuildError
from ollamake.freshness import Reason
from ollamake.graph import Step


def not_fetched(step: Step, reasons: Collection[Reason]) -> BuildError | None:
    """Why a training is not repeated: all that it has made is as it was, but for files that git-lfs has and that were not fetched."""
    if step.stage != "train" or not reasons or not all(reason.kind == "target changed" and _behind(reason.what) == reason.old for reason in reasons):
        return None
    files = ", ".join(reason.what for reason in reasons)
    return BuildError(
        f"{files}: a pointer of git-lfs: what was trained is not here", fix=f"`git lfs pull`; or `doit retrain {step.name}` trains it anew"
    )


def _behind(path: str) -> str | None:
    with Path(path).open("rb") as file:
        return pointed_to(file.read(LONGEST_POINTER))
