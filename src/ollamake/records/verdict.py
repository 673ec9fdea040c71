"""All that was found in a dataset: its faults in the order of its files and lines, and what its marker says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ollamake.errors import Fault, Mark
from ollamake.records.rules import ERROR, SHOWN, WARNING, Findings

QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A rule that is broken in a line of a file."""

    mark: Mark
    rule: str
    severity: str
    text: str
    fix: str | None = None

    @property
    def fault(self) -> Fault:
        """The breach as it is printed."""
        return Fault(mark=self.mark, text=f"{'warning: ' if self.severity == WARNING else ''}{self.text} [{self.rule}]", fix=self.fix)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"path": self.mark.path, "line": self.mark.line, "rule": self.rule, "severity": self.severity, "message": self.text, "fix": self.fix}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known of a dataset."""

    name: str
    format: str
    findings: Mapping[str, Findings]  # file -> what breaks a rule in it
    severities: Mapping[str, str]  # rule -> what a breach of it is
    digest: str  # of the records' fingerprints, in their order
    records: int
    held_out: int
    left_out: int  # lines that are no record, where the rules let them be
    characters: Mapping[str, int]  # quantiles of the records' lengths

    @property
    def faults(self) -> list[Fault]:
        """The breaches that are errors."""
        return [breach.fault for breach in self.breaches(ERROR)]

    @property
    def warnings(self) -> list[Fault]:
        """The breaches that are warnings."""
        return [breach.fault for breach in self.breaches(WARNING)]

    def counts(self, severity: str) -> dict[str, int]:
        """How many breaches of each rule with this severity there are."""
        counts: dict[str, int] = {}
        for findings in self.findings.values():
            for rule, count in findings.counts.items():
                if self.severities[rule] == severity:
                    counts[rule] = counts.get(rule, 0) + count
        return counts

    @property
    def marker(self) -> str:
        """The marker's text: that of a dataset without a fault."""
        facts = {
            "characters": dict(self.characters),
            "digest": self.digest,
            "duplicates": sum(findings.counts.get("duplicates", 0) for findings in self.findings.values()),
            "format": self.format,
            "held_out": self.held_out,
            "left_out": self.left_out,
            "records": self.records,
            "warnings": self.counts(WARNING),
        }
        return json.dumps(facts, indent=2, sort_keys=True) + "\n"

    def breaches(self, severity: str) -> Iterator[Breach]:
        """The first breaches of each rule in the order of files and lines, then how many more there are."""
        shown: dict[str, int] = {}
        last: dict[str, Breach] = {}
        for path, findings in self.findings.items():
            for found in sorted(findings.first, key=lambda one: one.line):
                rule = found.rule
                if self.severities[rule] == severity and shown.get(rule, 0) < SHOWN:
                    shown[rule] = shown.get(rule, 0) + 1
                    last[rule] = Breach(mark=Mark(path, found.line), rule=rule, severity=severity, text=found.text, fix=found.fix)
                    yield last[rule]
        for rule, count in self.counts(severity).items():
            yield from _rest(last[rule], count - shown[rule])


def faults_of(breaches: Sequence[Breach], count: int) -> list[Fault]:
    """The first of these breaches of one rule as they are printed, then how many more of all `count` there are."""
    first = breaches[:SHOWN]
    return [breach.fault for breach in (*first, *_rest(first[-1], count - len(first)))] if first else []


def _rest(last: Breach, count: int) -> Iterator[Breach]:
    if count:
        yield replace(last, text=f"and {count} more behind this", fix=None)


def quantiles(counts: NDArray[np.int64]) -> dict[str, int]:
    """Quantiles of lengths, by how many records have each length: the smallest that this share of the records does not go beyond."""
    reached = np.cumsum(counts)
    if not len(counts) or not reached[-1]:
        return {}
    found = {name: int(np.searchsorted(reached, np.ceil(share * reached[-1]))) for name, share in QUANTILES.items()}
    return {**found, "longest": int(np.flatnonzero(counts)[-1])}
