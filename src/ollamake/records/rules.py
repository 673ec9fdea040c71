"""The rules that records are held to: name, what a breach is when the dataset says nothing, and the faults that are found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ERROR, WARNING, OFF = "error", "warning", "off"
SEVERITIES = (ERROR, WARNING, OFF)
DROP, TRUNCATE = "drop", "truncate"
SHOWN = 20  # faults of a rule that are shown one by one; the rest is counted

# Name -> what a breach of it is unless the dataset's `rules` say otherwise. docs/rules.md has a heading for each.
RULES: Mapping[str, str] = {
    "not-utf8": ERROR,
    "bom": WARNING,
    "not-json": ERROR,
    "duplicate-key": ERROR,
    "not-an-object": ERROR,
    "mixed-formats": ERROR,
    "missing-key": ERROR,
    "unknown-key": ERROR,
    "wrong-type": ERROR,
    "not-unicode": ERROR,
    "blank-prompt": ERROR,
    "blank-answer": ERROR,
    "empty-file": ERROR,
    "unreadable-file": ERROR,
    "role-order": ERROR,
    "no-answer": ERROR,
    "schema": ERROR,
    "duplicates": WARNING,
    "conflicts": WARNING,
    "leaks": ERROR,
    "near-duplicates": OFF,
    "template-tokens": WARNING,
    "control-characters": WARNING,
    "secrets": ERROR,
    "too-long": ERROR,
}
# A record that breaks one of these can't be read as a record: where that is no error, it is left out, and counted.
UNREADABLE = frozenset(
    {
        "not-utf8",
        "not-json",
        "not-an-object",
        "mixed-formats",
        "missing-key",
        "wrong-type",
        "not-unicode",
        "blank-prompt",
        "blank-answer",
        "role-order",
        "no-answer",
    }
)


@dataclass(frozen=True, slots=True)
class Found:
    """A breach of a rule, in a line of a file that is known where it is found."""

    rule: str
    line: int
    text: str
    fix: str | None = None


@dataclass(slots=True)
class Findings:
    """The breaches of a file: the first of each rule, and how many there are."""

    counts: dict[str, int] = field(default_factory=dict)
    first: list[Found] = field(default_factory=list)  # at most SHOWN of each rule, as they were added

    def add(self, found: Found) -> None:
        """Count the breach; keep it, where it is among the first of its rule."""
        self.counts[found.rule] = count = self.counts.get(found.rule, 0) + 1
        if count <= SHOWN:
            self.first.append(found)

    def extend(self, found: Iterable[Found]) -> None:
        """Add each."""
        for one in found:
            self.add(one)

    def merge(self, later: Findings, *, lines_before: int = 0) -> None:
        """Add the breaches of what stands behind this, whose lines count from `lines_before`."""
        kept = dict(self.counts)
        for found in later.first:
            kept[found.rule] = count = kept.get(found.rule, 0) + 1
            if count <= SHOWN:
                self.first.append(Found(found.rule, found.line + lines_before, found.text, found.fix) if lines_before else found)
        for rule, count in later.counts.items():
            self.counts[rule] = self.counts.get(rule, 0) + count


def severities(own: Mapping[str, str]) -> dict[str, str]:
    """What a breach of each rule is in a dataset with these `rules`."""
    return {**RULES, **own}
