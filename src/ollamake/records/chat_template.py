"""A base's own chat template: messages in, the text that the model reads out.

Rendered as transformers renders it (`transformers.utils.chat_template_utils`): an immutable sandbox, `trim_blocks` and
`lstrip_blocks`, loop controls, `raise_exception` and a `tojson` that leaves text as it is. `strftime_now` is left undefined, so that
a template that writes today's date falls back to its fixed one: what is trained must not depend on the day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ollamake.errors import BuildError

Message = Mapping[str, Any]  # {"role": "system" | "user" | "assistant" | "tool", "content": text} and, where there, tool_calls and the like

_PROBE = "\x02probe\x03"  # no template treats these characters in a way of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A compiled chat template, with the tokens that it may name."""

    template: Template
    bos_token: str
    eos_token: str

    def prompt(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> str:
        """The text up to where the assistant begins to answer."""
        return self._render(messages, add_generation_prompt=True, tools=tools)

    def segments(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> list[tuple[str, bool]]:
        """The chat as the model reads it, in pieces; of each, whether the model shall learn to say it.

        It learns every turn of the assistant's, its end-of-turn token included. White space that a template writes behind the last turn is left
        out: the model is never asked for it. Raises BuildError where the template renders a turn that does not go on from what was before it.
        """
        found: list[tuple[str, bool]] = []
        done = ""
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self._render(messages[:number], add_generation_prompt=True, tools=tools)
            whole = self._render(messages[: number + 1], add_generation_prompt=False, tools=tools)
            if not (prompt.startswith(done) and whole.startswith(prompt)):
                if not found:
                    msg = "the base's chat template renders a finished answer that does not begin with its own prompt"
                    raise BuildError(msg, fix="use a base whose template has a plain generation prompt")
                msg = f"the base's chat template renders the turns before turn {number + 1} otherwise than when they were said"
                raise BuildError(msg, fix="use a base whose template keeps earlier turns as they are, or records of one exchange each")
            said = whole[len(prompt) :]
            found += [(prompt[len(done) :], False), (said.rstrip(), True)]
            done = prompt + said.rstrip()
        return found

    def default_system(self) -> str | None:
        """The system prompt that the template writes when the messages have none, or None."""
        user = {"role": "user", "content": "x"}
        try:
            given = self.prompt([{"role": "system", "content": _PROBE}, user])
        except BuildError:  # the template takes no system message at all
            return None
        bare = self.prompt([user])
        before, found, after = given.partition(_PROBE)
        if not found or not (bare.startswith(before) and bare.endswith(after)) or len(bare) <= len(before) + len(after):
            return None
        return bare[len(before) : len(bare) - len(after)]

    def _render(self, messages: Sequence[Message], *, add_generation_prompt: bool, tools: Sequence[Any] = ()) -> str:
        try:
            return self.template.render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
                **({"tools": list(tools)} if tools else {}),
            )
        except TemplateError as error:
            msg = f"the base's chat template refuses these messages: {error}"
            raise BuildError(msg, fix="give the roles that the template knows, or use another base") from error


@cache  # models share bases
def chat_template(source: str, *, bos_token: str = "", eos_token: str = "") -> ChatTemplate:
    """The template of this Jinja source. Raises BuildError where it is not Jinja."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    try:
        return ChatTemplate(template=environment.from_string(source), bos_token=bos_token, eos_token=eos_token)
    except TemplateError as error:
        msg = f"the base's chat template can't be read: {error}"
        raise BuildError(msg) from error


def _to_json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)
