"""What the files of a catalog have in common while they are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ollamake.catalog.advice import Advice
from ollamake.catalog.files import Files
from ollamake.catalog.kept import Kept
from ollamake.catalog.values import Dataset, Layer
from ollamake.errors import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Of a catalog: these models and datasets, by their whole names."""

    models: Collection[str]
    datasets: Collection[str]


@dataclass(kw_only=True)
class Shared:
    """What is found out in all files."""

    trainers: Collection[str]
    only_looks: bool
    part: Part | None  # that is wanted; None: all
    files: Files
    kept: Kept
    faults: list[Fault]
    patterns: dict[str, list[str]]  # that are more than the name of a file -> what they come to
    advice: Advice
    layers: dict[str, Layer] = field(default_factory=dict)  # base -> what it says of its models
    scopes: dict[str, Mapping[str, Dataset]] = field(default_factory=dict)  # file -> the datasets by the names that it has for them
