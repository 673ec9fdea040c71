"""Entries -> YAML, by itself or in a catalog that is there, whose text stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from ollamake.catalog.faults import schema_faults
from ollamake.catalog.marked_yaml import RESOLVERS, parse
from ollamake.catalog.values import KeyPath
from ollamake.errors import BuildError, FaultyFileError, Mark
from ollamake.importers.entries import Imported

SECTIONS = ("bases", "datasets", "models")
LONGEST = 100  # characters of a mapping or list in one line
PASTE = "or paste what `doit import` prints without --write"
NO_PLAIN_LETTER = re.compile("[\r\x85\u2028\u2029\ufeff]")


class _Dumper(yaml.SafeDumper):
    """YAML as this repo's catalogs have it: what is short in one line, texts of several lines as they are."""

    yaml_implicit_resolvers = RESOLVERS

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:  # noqa: ARG002, FBT001 - PyYAML's
        node = super().represent_mapping(tag, mapping, flow_style=False)
        node.flow_style = _is_short([part for pair in node.value for part in pair])
        return node

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:  # noqa: ARG002, FBT001 - PyYAML's
        node = super().represent_sequence(tag, sequence, flow_style=False)
        node.flow_style = _is_short(node.value)
        return node

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's
        return True


def _style(text: str) -> str | None:
    """How a text is written: in double quotes, with escapes, where a reader would take one of its characters for an end of line, or leave it out."""
    return '"' if NO_PLAIN_LETTER.search(text) else "|" if "\n" in text else None


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text)))


def _is_short(nodes: Sequence[yaml.Node]) -> bool:
    scalars = [node.value for node in nodes if isinstance(node, yaml.ScalarNode)]
    return len(scalars) == len(nodes) and not any("\n" in text for text in scalars) and sum(map(len, scalars)) <= LONGEST


def catalog_text(found: Iterable[Imported]) -> str:
    """A catalog of these models alone. Raises BuildError where two of them have one name, or two bases or datasets that are not the same."""
    return added_to("version: 1\n", "the catalog", found)


def added_to(text: str, path: str, found: Iterable[Imported], *, paste: str = PASTE) -> str:
    """The catalog's text with the entries in it. `paste`: what a person may do instead.

    Raises FaultyFileError where the catalog has faults, and BuildError where something else has such a name, or where there is no place for them.
    """
    value, lines = parse(text, path)
    value = {} if value is None else value
    if isinstance(value, dict):  # a section with nothing in it is where the first entry goes
        value = {key: below for key, below in value.items() if key not in SECTIONS or below not in (None, {})}
    faults, _ = schema_faults(value, lines, path)
    if faults:
        raise FaultyFileError(sorted(faults, key=lambda fault: fault.mark))
    marks = {at: Mark(path, line) for at, line in lines.items()}
    wanted, new = _merged(value, marks, found, paste)
    for section in SECTIONS:
        if new[section] and (section,) in marks:
            _check_lines(text, section, marks[(section,)], paste)
    try:
        for section in SECTIONS:
            if new[section]:
                text = _inserted(text, path, section, new[section])
        result, lines = parse(text, path)
    except FaultyFileError:
        result = None
    if result != wanted:
        msg = f"{path}: there is no place in it where entries could be written"
        raise BuildError(msg, fix=paste.removeprefix("or "))
    faults, _ = schema_faults(result, lines, path)
    if faults:
        raise FaultyFileError(faults)
    return text


def _merged(
    value: Mapping[str, Any], marks: Mapping[KeyPath, Mark], found: Iterable[Imported], paste: str
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The catalog with the entries in it; and those of them that are new, as lines of each section. Raises BuildError."""
    wanted = dict(value)
    new: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for one in found:
        for section, entries in zip(SECTIONS, (one.base, one.datasets, {one.name: one.model}), strict=True):
            there = dict(wanted.get(section) or {})
            for name, entry in entries.items():
                if name not in there:
                    new[section] += [*(_comments(one) if section == "models" and one.kind else []), *_lines({name: entry})]
                elif section == "models" or there[name] != entry:
                    raise _taken(section, name, marks.get((section, name)), one, paste)
            if entries:
                wanted[section] = {**there, **entries}
    return wanted, new


def _taken(section: str, name: str, mark: Mark | None, one: Imported, paste: str) -> BuildError:
    """A name that another one has; `mark`: where, in the catalog; None where that one is imported too."""
    at = "" if mark is None else f"{mark}: "
    if mark is None:
        fix = "import each file by itself, this one with --name" if section == "models" else "import each file by itself, and rename one of the two"
    else:
        fix = f"name the model otherwise, with --name; {paste}" if section == "models" else f"rename that one; {paste}"
    return BuildError(f"{at}there is another {section[:-1]} {name!r} already, and {one.path} has one", fix=fix)


def _check_lines(text: str, section: str, mark: Mark, paste: str) -> None:
    """Raise BuildError where the entries of a section begin in the line of its key: there is no line to write others before or behind."""
    if text.split("\n")[mark.line - 1].partition(":")[2].partition("#")[0].strip():
        msg = f"{mark}: {section} are written in one line"
        raise BuildError(msg, fix=f"give each of them a line of its own; {paste}")


def _inserted(text: str, path: str, section: str, entries: Sequence[str]) -> str:
    """The text with these lines at the end of the section, which is made before those that come after it."""
    value, at = parse(text, path)
    lines, end_of_line = text.removesuffix("\n").split("\n"), "\r" if "\r\n" in text else ""
    if value and section in value:
        start = at[(section,)]  # counted from 1: the index of the line behind it
        first = lines[at[(section, next(iter(value[section])))] - 1] if value[section] else "  -"
        head, indent = [], first[: len(first) - len(first.lstrip())]
        end = min((at[(key,)] - 1 for key in value if at[(key,)] > start), default=len(lines))
        while not lines[end - 1].strip() or lines[end - 1].startswith("#"):  # what stands before the next section is of that
            end -= 1
    else:
        head, indent = [f"{section}:"], "  "
        later = SECTIONS[SECTIONS.index(section) :]
        end = min((at[(key,)] - 1 for key in later if value and key in value), default=len(lines))
        while 0 < end < len(lines) and lines[end - 1].startswith("#"):
            end -= 1
    new = [*head, *(f"{indent}{line}" if line else "" for line in entries)]
    return "\n".join([*lines[:end], *(f"{line}{end_of_line}" for line in new), *lines[end:]]) + "\n"


def _lines(entry: Mapping[str, Any]) -> list[str]:
    whole = yaml.dump(entry, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return whole.removesuffix("\n").split("\n")


def _comments(one: Imported) -> Iterator[str]:
    """What the entry of the model does not say."""
    yield f"# From {one.path}, {'an' if one.kind[0] in 'Ao' else 'a'} {one.kind}.{' Not carried over, or to be done:' if one.notes else ''}"
    for note in one.notes:
        said = " ".join(note.text.split())
        yield f"#   line {note.mark.line}: {''.join(letter if letter.isprintable() else '?' for letter in said)}"
