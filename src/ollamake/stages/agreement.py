"""Does Ollama render a record as the trainer did? One is rendered both ways."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ollamake.bases.hf_tokenizer import adds
from ollamake.catalog import Model
from ollamake.catalog.expanded import written
from ollamake.catalog.tests import ALWAYS
from ollamake.errors import BuildError
from ollamake.gate import quoted
from ollamake.gate.agreement import difference_shown
from ollamake.gate.report import TEMPLATE, Result
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.rendering import Prompt, prompt_of
from ollamake.records.chat_template import ChatTemplate, chat_template
from ollamake.records.tokens import Rendering, text_of
from ollamake.stages.lengths import rendering_of
from ollamake.stages.system import system_of
from ollamake.stages.tested_records import text_format_of, training_chats
from ollamake.state.digests import file_digest

NAME = ALWAYS[1]
OWN_TEMPLATE = ("chat", "templated")  # text formats of trainers that train by the base's own chat template
SEAM = 2  # tokens at the end of a prompt that may be others with an answer behind them
SHOWN = 8  # tokens
NEUTRAL = {"messages": [{"role": "user", "content": "Hello, who are you?"}, {"role": "assistant", "content": "I am here."}]}
FIX = "mend `serve.template` or `serve.system`; without them, Ollama finds the template by the base's own, and the system prompt is `train.system`"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """A record, as it was trained and as it is asked."""

    trained: list[Mapping[str, Any]]  # messages before an answer
    asked: list[Mapping[str, Any]]  # those that Ollama is given: it puts its own system prompt before them
    note: str = ""  # of system prompts that differ because the catalog says so


def template_result(model: Model, name: str, server: OllamaServer) -> Result:
    """Of the model of this name. Raises BuildError where the server fails, or the base can't be read."""
    began = time.monotonic()
    result = _result(model, name, server)
    return replace(result, seconds=round(time.monotonic() - began, 3), at=str(model.mark))


def _result(model: Model, name: str, server: OllamaServer) -> Result:
    passed = Result(name=NAME, kind=TEMPLATE, passed=True)
    rendering = rendering_of(model.base.gguf, file_digest(model.base.gguf))
    template = template_of(model, rendering)
    if template is None:
        return replace(passed, warning=True, why="the base has no chat template of its own: nothing says how it is to be asked")
    samples = _samples(model)
    if not samples:
        return replace(passed, why="the records are texts without a prompt: they are learnt as they are")
    notes: list[str] = []
    for sample in samples:
        try:
            trained = template.prompt(sample.trained)
        except BuildError as error:
            return replace(passed, warning=True, why=str(error))
        made = prompt_of(server.address, name, _plain(sample.asked))
        differs = difference(trained, made, rendering, system_of(model))
        question = str(sample.asked[-1]["content"])
        if differs is None:
            return replace(passed, warning=True, question=question, why=_untold(server, _hidden(trained, system_of(model))))
        if differs:
            return _differing(model, passed, question, differs)
        notes += filter(None, (sample.note, _of_tokens(trained, made, rendering)))
    return replace(passed, warning=bool(notes), question=str(samples[0].asked[-1]["content"]), why="; ".join(dict.fromkeys(notes)))


def _differing(model: Model, result: Result, question: str, differs: str) -> Result:
    """A failure; a warning where nobody here knows how the adapter was trained."""
    text = f"Ollama makes another prompt of these messages than the base's chat template\n{differs}"
    if model.adapter is not None:
        text += "\nhow the adapter was trained is not known: all is well if it was with what is served"
        return replace(result, warning=True, question=question, why=text)
    if model.train.trainer == "command" or text_format_of(model) not in OWN_TEMPLATE:
        text += f"\nhow trainer {model.train.trainer!r} writes a chat is its own matter: all is well if it is as served"
        return replace(result, warning=True, question=question, why=text)
    return replace(result, passed=False, question=question, why=text, fix=FIX)


def _untold(server: OllamaServer, trained: str) -> str:
    return f"Ollama {server.version()} does not say which prompt it makes; the model was {difference_shown(trained, '').splitlines()[0]}"


def template_of(model: Model, rendering: Rendering) -> ChatTemplate | None:
    """The chat template that the trainer wrote by: that of the folder that it loads, where there is one, else the GGUF's. Raises BuildError."""
    if model.base.hf_folder is None or not Path(model.base.hf_folder).is_dir():
        return rendering.template
    folder = Path(model.base.hf_folder)
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        beside = folder / "chat_template.jinja"
        source = beside.read_text(encoding="utf-8") if beside.is_file() else config.get("chat_template")
    except (OSError, ValueError, AttributeError):
        return rendering.template
    if not isinstance(source, str):
        return rendering.template
    bos, eos = (_token(config.get(key)) for key in ("bos_token", "eos_token"))
    return chat_template(source, bos_token=bos, eos_token=eos)


def _token(said: Any) -> str:
    return said if isinstance(said, str) else str(said.get("content", "")) if isinstance(said, dict) else ""


def _samples(model: Model) -> list[_Sample]:
    """The shortest prompt among the first records, and the shortest with an answer in it, if there is one."""
    chats = [NEUTRAL] if model.adapter is not None else [chat for chat in training_chats(model) if "messages" in chat and not chat.get("tools")]
    found = []
    for number in (1, 2):  # answers
        cut = [messages for chat in chats if (messages := _before_answer(chat["messages"], number))]
        if cut:
            found.append(_sample(model, min(cut, key=lambda messages: sum(len(message["content"] or "") for message in messages))))
    return found


def _before_answer(messages: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    """The messages before this answer of them; none where there is no such answer, or one that calls tools."""
    places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if len(places) < number or any(set(message) != {"role", "content"} for message in messages[: places[number - 1]]):
        return []
    return list(messages[: places[number - 1]])


def _sample(model: Model, messages: list[Mapping[str, Any]]) -> _Sample:
    said = messages[0]["content"] if messages[0]["role"] == "system" else None
    if model.adapter is not None:
        system = [{"role": "system", "content": model.serve.system}] if model.serve.system else []
        return _Sample(trained=[*system, *messages], asked=messages)
    if said != model.train.system:  # a system prompt of the record's own
        return _Sample(trained=messages, asked=messages)
    served, asked = system_of(model), messages[1:] if said is not None else messages
    is_default = said is None and model.serve.system is None
    if served == said or is_default:
        return _Sample(trained=messages, asked=asked)
    note = f"trained {_with(said)}, served {_with(served)}, as `serve.system` says"
    return _Sample(trained=[*([{"role": "system", "content": served}] if served else []), *asked], asked=asked, note=note)


def _with(system: str | None) -> str:
    return "without a system prompt" if system is None else f"with system prompt {quoted.shown(system)}"


def _plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def difference(trained: str, made: Prompt, rendering: Rendering, system: str | None = None) -> str | None:
    """What differs between the prompt of the training and the one that Ollama has made; "" where they agree, None where it tells too little.

    `system`: one that may have values of the environment in it, which are not to be shown.
    """
    adds_bos = bool(rendering.bos) and adds(rendering.keys, "bos")
    text = made.text
    if made.tokens is not None:
        whole = text_of(rendering.keys, made.tokens)
        text = whole.removesuffix(made.answer) if whole is not None and whole.endswith(made.answer) else None
    if text is not None:
        # A template of Ollama's leaves out the token that begins all texts, where the engine puts it there.
        whole = f"{rendering.bos}{text}" if adds_bos and not text.startswith(rendering.bos) and trained.startswith(rendering.bos) else text
        return "" if whole == trained else difference_shown(_hidden(trained, system), _hidden(whole, system))
    if made.count is None or rendering.tokenizer is None:
        return None
    count = rendering.count(trained)
    if made.count in {count, count + adds_bos}:
        return ""
    head = difference_shown(_hidden(trained, system), "").splitlines()[0]
    return f"{head}\nthat is {count} tokens, and Ollama's prompt has {made.count}"


def _hidden(text: str, system: str | None) -> str:
    """The text with the system prompt as the catalog writes it."""
    return text.replace(system, written(system)) if system else text


def _of_tokens(trained: str, made: Prompt, rendering: Rendering) -> str | None:
    """A note where the same text is other tokens to the server than here; which of the two the trainer has seen is not known."""
    if made.tokens is None or rendering.tokenizer is None:
        return None
    ids = rendering.tokenizer.encode(trained, add_special_tokens=False).ids
    if rendering.bos and trained.startswith(rendering.bos) and list(made.tokens[:1]) != ids[:1]:
        ids = ids[1:]  # the engine has put it there
    elif made.count == len(ids) + 1:
        return f"Ollama puts {rendering.bos!r} before the prompt, and the base's chat template does not"
    place = next((place for place, (one, other) in enumerate(zip(ids, made.tokens, strict=False)) if one != other), len(ids))
    if place >= len(ids) - SEAM:
        return None
    here, there = ids[place : place + SHOWN], list(made.tokens[place : place + SHOWN])
    return f"the prompt is the same text, but other tokens: {there} to Ollama, where {here} are expected, behind {place} that are the same"
