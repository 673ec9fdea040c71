"""What is found of an adapter: what of it is carried, what is carried with a warning, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ollamake.errors import BuildError

LARGEST, SMALLEST = 3.4028234e38, 1.1754944e-38  # of float32's numbers other than 0
CARRIED, WARNING, REFUSED = "carried", "warning", "refused"
_NAMES = re.compile(r"'[^']*'|\[[^\]]*\]|\S*\d\S*")  # what differs from tensor to tensor: names, and sizes
KINDS = (CARRIED, WARNING, REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One thing about an adapter."""

    kind: str  # one of KINDS
    what: str  # the tensor, or the key of the config, or the file, by its name
    text: str  # names it too
    file: str  # path of what it is in
    fix: str | None = None  # what to do

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"

    def as_json(self) -> dict[str, str | None]:
        """Its fields, for `--json`."""
        return {"verdict": self.kind, "what": self.what, "text": self.text, "file": self.file, "fix": self.fix}


def is_factor(value: float) -> bool:
    """Is this a number other than 0 that a float32 can hold?"""
    return SMALLEST <= abs(value) <= LARGEST


def of_kind(kind: str, verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Those of this kind."""
    return tuple(verdict for verdict in verdicts if verdict.kind == kind)


def in_short(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The first of those that say the same of one tensor after another, with how many there are more; all others as they are."""
    alike: dict[object, list[Verdict]] = {}
    for verdict in verdicts:
        said = _NAMES.sub("", verdict.text) if verdict.text.startswith("tensor") else verdict
        alike.setdefault((verdict.kind, verdict.file, verdict.fix, said), []).append(verdict)
    return tuple(first if not more else replace(first, text=f"{first.text}, and {_tensors(len(more))}") for first, *more in alike.values())


def _tensors(count: int) -> str:
    return f"{count} more tensor{'' if count == 1 else 's'}"


def raise_refused(verdicts: Iterable[Verdict]) -> None:
    """Raise BuildError where something is refused: one, that names all of it, and all that can be done."""
    refused = of_kind(REFUSED, verdicts)
    if refused:
        fixes = dict.fromkeys(verdict.fix for verdict in refused if verdict.fix is not None)
        raise BuildError("\n".join(map(str, in_short(refused))), fix="; ".join(fixes) or None)


def as_verdict(error: BuildError, *files: str) -> Verdict:
    """That one of these files can't be read, which is what the error says."""
    text, _, fix = str(error).partition("\n  fix: ")
    file = next((file for file in files if text.startswith(f"{file}: ")), files[0])
    return Verdict(kind=REFUSED, what=file, text=text.removeprefix(f"{file}: "), file=file, fix=fix or None)
