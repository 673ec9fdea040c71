r"""The prompt that Ollama makes of messages, by the template that it serves a model with.

`/api/chat` with `_debug_render_only` says its text, since 0.11.5. An older one answers instead, and says how many tokens the prompt has; its `/api/generate`
gives the tokens of prompt and answer as `context`. What these two make of the same messages is the same, if the prompts are of the same length: then
`context` is the prompt. Read in Ollama's source (server/routes.go), and seen on 0.9.3.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ollamake.errors import BuildError
from ollamake.ollama.address import Address

PATIENCE = 600.0  # seconds: the model is loaded first


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a server tells of a prompt."""

    text: str | None = None
    tokens: tuple[int, ...] | None = None  # of the prompt and of `answer`; without the token that the engine may put before all
    answer: str = ""
    count: int | None = None  # tokens of the prompt, with that one


def prompt_of(address: Address, name: str, messages: Sequence[Mapping[str, str]]) -> Prompt:
    """The prompt that the model of this name is given for these messages. The model is loaded for it. Raises BuildError."""
    plain = {"model": name, "stream": False, "options": {"num_predict": 1, "temperature": 0}}
    chat = _post(address, "/api/chat", {**plain, "messages": list(messages), "_debug_render_only": True})
    told = chat.get("_debug_info")
    if isinstance(told, dict) and isinstance(told.get("rendered_template"), str):
        return Prompt(text=told["rendered_template"])
    count = chat.get("prompt_eval_count")
    if not isinstance(count, int):
        return Prompt()
    if [message["role"] for message in messages] not in (["user"], ["system", "user"]):
        return Prompt(count=count)
    system = {"system": messages[0]["content"]} if len(messages) > 1 else {}
    made = _post(address, "/api/generate", {**plain, **system, "prompt": messages[-1]["content"]})
    tokens, answer = made.get("context"), made.get("response")
    if made.get("prompt_eval_count") != count or not isinstance(tokens, list) or not isinstance(answer, str):
        return Prompt(count=count)
    return Prompt(tokens=tuple(tokens), answer=answer, count=count)


def _post(address: Address, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    key = os.environ.get("OLLAMA_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    verify = address.scheme == "https"  # reading certificates takes 17 ms
    try:
        response = httpx.post(f"{address}{path}", json=body, timeout=PATIENCE, verify=verify, headers=headers)
        value = response.json()
    except (httpx.HTTPError, OSError, ValueError) as error:
        msg = f"{address} does not say how it renders a prompt: {error or type(error).__name__}"
        raise BuildError(msg, fix="look whether the server still runs, and into its log; then run `doit` again") from error
    if response.is_error or not isinstance(value, dict):
        said = value.get("error", value) if isinstance(value, dict) else value
        msg = f"{address} does not say how it renders a prompt: {said}"
        raise BuildError(msg, fix="look into the server's log, then run `doit` again")
    return value
