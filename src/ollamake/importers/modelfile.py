"""An Ollama Modelfile -> entries of a catalog."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ollamake.errors import Fault, FaultyFileError, Mark
from ollamake.importers.entries import PARAMETERS, Imported, Note, Source, base_in_file, base_in_ollama, fits, not_carried, served_model

FROM = re.compile(r"^[ \t]*from[ \t]+(?!\S+[ \t]+import\b)\S", re.IGNORECASE | re.MULTILINE)
IS_PATH = re.compile(r"[./~]|[A-Za-z]:[\\/]|.*\.gguf$", re.IGNORECASE)
WHY_NOT = {"MESSAGE": "there are no example messages here", "LICENSE": "a catalog has no licences"}
WHOLE, NUMBER = re.compile(r"[-+]?[0-9]{1,18}"), re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of a Modelfile."""

    line: int  # from 1
    word: str  # in lower case
    key: str  # of PARAMETER; the role, of MESSAGE
    value: str  # without its quotes


def is_modelfile(text: str) -> bool:
    """Has the text an instruction FROM?"""
    return FROM.search(text) is not None


def instructions(text: str, path: str) -> Iterator[Instruction]:
    """The instructions, as Ollama reads them: a value goes to the end of its line, or to the end of its quotes. Raises FaultyFileError."""
    lines = text.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        start, line = at, lines[at].strip()
        at += 1
        if not line or line.startswith("#"):
            continue
        word, *more = line.split(None, 1)
        value, key = more[0] if more else "", ""
        if word.lower() in {"parameter", "message"}:
            key, value = [*value.split(None, 1), "", ""][:2]
        while (whole := unquoted(value)) is None:
            if at == len(lines):
                fault = Fault(mark=Mark(path, start + 1), text=f"{word}: its quotes are not closed", fix='close them: """')
                raise FaultyFileError([fault])
            value = f"{value}\n{lines[at]}"
            at += 1
        yield Instruction(line=start + 1, word=word.lower(), key=key, value=whole)


def unquoted(text: str) -> str | None:
    """The value without its quotes; None where they are not closed yet."""
    text = text.strip()
    for quotes in ('"""', '"'):
        if text.startswith(quotes):
            return text[len(quotes) : -len(quotes)] if len(text) >= 2 * len(quotes) and text.endswith(quotes) else None
    return text


def from_modelfile(source: Source) -> Imported:
    """The model that a Modelfile describes. Raises FaultyFileError."""
    notes: list[Note] = []
    parameters: dict[str, Any] = {}
    last: dict[str, Instruction] = {}  # word -> the one that counts, as in Ollama
    left: list[tuple[str, str, int]] = []
    for said in instructions(source.text, source.path):
        if said.word == "parameter":
            notes.extend(_take_parameter(source, said, parameters))
        elif said.word in {"from", "adapter", "system", "template"}:
            if said.word in {"from", "adapter"} and said.word in last:
                notes.append(source.note(said.line, f"{said.word.upper()} {said.value}: a second one; the first is taken"))
            else:
                last[said.word] = said
        else:
            left.append((said.word.upper(), said.key or said.value, said.line))
    if "from" not in last:
        raise FaultyFileError([Fault(mark=Mark(source.path, 1), text="a Modelfile without FROM", fix="write FROM and the base")])
    base, more = _base(source, last["from"])
    notes.extend(more)
    adapter = None
    if "adapter" in last:
        adapter, more = _adapter(source, last["adapter"])
        notes.extend(more)
    model, datasets, more = served_model(
        source,
        last["from"].line,
        name=source.name,
        base=base,
        adapter=adapter,
        system=last["system"].value if "system" in last else None,
        serve={"template": last["template"].value if "template" in last else None, "parameters": parameters},
    )
    notes.extend([*more, *not_carried(source, left, WHY_NOT)])
    return Imported(kind="Modelfile", path=source.path, name=source.name, base=base, datasets=datasets, model=model, notes=_sorted(notes))


def _take_parameter(source: Source, said: Instruction, parameters: dict[str, Any]) -> Iterator[Note]:
    key = said.key.lower()
    if key == "stop":
        value: Any = list(dict.fromkeys([*parameters.get(key, []), said.value]))
    else:
        value = _number(said.value)
    if fits(PARAMETERS, key, value):
        parameters[key] = value
    else:
        yield source.note(said.line, f"PARAMETER {said.key} {said.value}: Ollama has no such parameter, or not with this value")


def _number(text: str) -> int | float | str:
    return int(text) if WHOLE.fullmatch(text) else float(text) if NUMBER.fullmatch(text) else text


def _base(source: Source, said: Instruction) -> tuple[dict[str, dict[str, Any]], list[Note]]:
    if not IS_PATH.match(said.value):
        return base_in_ollama(source, said.line, said.value)
    path = source.beside(said.value)
    if path.endswith(".gguf") or os.path.basename(path).startswith("sha256-"):  # a blob of Ollama's
        return base_in_file(path), []
    base = base_in_file(f"bases/{os.path.basename(path)}.gguf")
    ((_, entry),) = base.items()
    return base, [source.note(said.line, f"FROM {said.value}: no GGUF, which a base is served from: convert it, and put it at {entry['gguf']}")]


def _adapter(source: Source, said: Instruction) -> tuple[str | None, list[Note]]:
    path = source.beside(said.value)
    if path.endswith(".bin"):  # of old, a whole format of its own; else a pickle
        return None, [source.note(said.line, f"ADAPTER {said.value}: only folders of a PEFT adapter and GGUF LoRAs are taken")]
    return (os.path.dirname(path) or "." if path.endswith(".safetensors") else path), []


def _sorted(notes: list[Note]) -> tuple[Note, ...]:
    return tuple(sorted(notes, key=lambda note: note.mark))
