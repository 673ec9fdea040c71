"""Datasets -> the text that the model's trainer reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.errors import BuildError, Fault, FaultyFileError
from ollamake.graph import Step, marker_of
from ollamake.records.rules import DROP, ERROR, TRUNCATE, WARNING
from ollamake.records.templated import TEMPLATED, templated
from ollamake.records.text import rendered
from ollamake.records.verdict import faults_of
from ollamake.say import say
from ollamake.spelling import counted
from ollamake.stages.asked_leaks import asked_leaks
from ollamake.stages.lengths import Lengths, rendering_of
from ollamake.stages.mixture import held, leaks, mixture
from ollamake.stages.reading import Example
from ollamake.stages.validate import read_marker
from ollamake.state.digests import file_digest
from ollamake.state.files import write_whole
from ollamake.state.receipts import READ


def convert(step: Step, model: Model) -> dict[str, Any]:
    """Write the text of all the model's datasets, and say how long its records are. Raises FaultyFileError and BuildError.

    The markers are not asked: they stand for the datasets' being without fault, unless a file was edited since.
    """
    text, *holdout = step.writes
    read: dict[str, str] = {}
    lengths = lengths_of(model)
    for warning in leaks_of(model):
        say(warning)
    write_whole(Path(text), text_of(step, model, lengths, read))
    for path in holdout:  # one at most
        write_whole(Path(path), holdout_of(step, model))
    if lengths.warning is not None:
        say(lengths.warning)
    say(f"   {model.name}: {said(lengths)}")
    return {
        "data": [{"name": dataset.name, **_provenance(read_marker(marker_of(dataset)))} for dataset in model.data],
        "lengths": lengths.facts,
        READ: read,
    }


def _provenance(marker: Mapping[str, Any]) -> dict[str, Any]:
    return {key: marker[key] for key in ("digest", "records") if key in marker}


def lengths_of(model: Model) -> Lengths:
    """What will know the lengths of the model's records. Raises BuildError where the base can't be read."""
    return Lengths(model, rendering_of(model.base.gguf, file_digest(model.base.gguf)))


def leaks_of(model: Model) -> list[Fault]:
    """The warnings of records that the model is trained on though another of its datasets holds them out, or a test asks about them.

    Raises FaultyFileError where it is an error.
    """
    found = [*leaks(model), *asked_leaks(model)]
    errors, warnings = ([breach for breach in found if breach.severity == severity] for severity in (ERROR, WARNING))
    if errors:
        raise FaultyFileError(faults_of(errors, len(errors)))
    return faults_of(warnings, len(warnings))


def text_of(step: Step, model: Model, lengths: Lengths, read: dict[str, str]) -> Iterator[str]:
    """The text, piece by piece. Raises FaultyFileError where records are too long, and BuildError where one can't be said in the trainer's format."""
    for example in lengths.fitted(mixture(model, read)):
        yield line_of(example, step.keys["text format"], lengths)


def holdout_of(step: Step, model: Model) -> Iterator[str]:
    """The text of the records that are held out, as that of the others; those that are too long are left out without a word, for nothing is learnt of them."""
    lengths = lengths_of(model)
    for example in lengths.short(held(model)):
        yield line_of(example, step.keys["text format"], lengths)


def line_of(example: Example, text_format: str, lengths: Lengths) -> str:
    """A record of the text. Raises BuildError at its line where it can't be said in the trainer's format."""
    try:
        if text_format == TEMPLATED:
            return templated(example.record, lengths.rendering, lengths.system)
        return rendered(example.record, text_format, lengths.system)
    except BuildError as error:
        msg = f"{example.mark}: {error}"
        raise BuildError(msg) from error


def said(lengths: Lengths) -> str:
    """`138 records; tokens: median 81, p90 130, p99 202, longest 230 (at most 2048)`, and what was done to those that are too long."""
    counts, quantiles = lengths.counts, lengths.quantiles
    total = counts["records"]
    text = counted(total, "record")
    if quantiles:
        sample = "" if total <= lengths.sampled else f" by {lengths.sampled} of them"
        text += f"; tokens{sample}: {', '.join(f'{name} {value}' for name, value in quantiles.items())} (at most {lengths.limit})"
    else:
        text += f"; tokens not counted: {lengths.refused or 'the base has no chat template or tokenizer that is known here'}"
    if quantiles and counts["unknown"]:
        text += f"; {counts['unknown']} not counted: {lengths.refused}"
    if counts[DROP]:
        text += f"; {counts[DROP]} too long and dropped"
    if counts[TRUNCATE]:
        text += f"; {counts[TRUNCATE]} too long and cut"
    return text
