"""The prompt of the training against the one that Ollama makes: what agrees, what does not, and what nobody can know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Repo, jsonl
from ollamake.catalog.load import load_catalog
from ollamake.gate.report import Result
from ollamake.ollama.address import address_of
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.ollama.rendering import Prompt
from ollamake.records.tokens import Rendering, text_of
from ollamake.stages.agreement import difference, template_result
from ollamake.stages.system import system_of
from ollamake.state.digests import file_digest
from tiny_base import bytes_to_unicode, write_tiny_base

LETTERS = list(bytes_to_unicode().values())


def rendering(*, kind: str = "gpt2", bos: str | None = None, adds: bool = False) -> Rendering:
    tokens = [*LETTERS, "<s>", "<|im_start|>"] if kind == "gpt2" else ["<unk>", "<s>", "<0x0A>", "▁Hi", "▁", "H", "i", "!"]
    keys: dict[str, Any] = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [3 if token in {"<s>", "<|im_start|>"} else 6 if token == "<0x0A>" else 1 for token in tokens],
        "tokenizer.ggml.add_bos_token": adds,
    }
    if bos is not None:
        keys["tokenizer.ggml.bos_token_id"] = tokens.index(bos)
    return Rendering(keys)


def told(text: str, answer: str = "") -> Prompt:
    """As an older server tells it, of a base with a token for each byte."""
    ids = tuple(LETTERS.index(bytes_to_unicode()[byte]) for byte in (text + answer).encode())
    return Prompt(tokens=ids, answer=answer, count=len(ids) - len(answer.encode()))


@pytest.mark.parametrize("answer", ["", "x", "é"])
def test_what_an_older_server_tells_is_read_from_its_tokens(answer: str) -> None:
    assert difference("Grüß\n ", told("Grüß\n ", answer), rendering()) == ""
    assert difference("Grüß\n ", told("Grüß\n", answer), rendering()) == "trained with: 'Grüß\\n '\nserved with:  'Grüß\\n'"


def test_a_newer_server_tells_the_text_itself() -> None:
    assert difference("a" * 200 + "b", Prompt(text="a" * 200 + "c"), rendering()) == (
        f"trained with: ...'{'a' * 40}b'\nserved with:  ...'{'a' * 40}c'"
    )
    assert difference("a", Prompt(text="a"), rendering()) == ""


def test_the_token_that_begins_all_texts_is_the_engines_where_it_adds_it() -> None:
    assert difference("<s>Hi", Prompt(text="Hi"), rendering(bos="<s>", adds=True)) == ""
    assert difference("<s>Hi", Prompt(text="<s>Hi"), rendering(bos="<s>", adds=True)) == ""
    assert difference("<s>Hi", Prompt(text="Hi"), rendering(bos="<s>")) == "trained with: '<s>Hi'\nserved with:  'Hi'"
    # A chat may begin with it, and not only a text: then it is the template's.
    assert difference("<|im_start|>Hi", Prompt(text="Hi"), rendering(bos="<|im_start|>")) != ""


def test_where_only_a_number_of_tokens_is_told_that_is_compared() -> None:
    assert difference("Hi", Prompt(count=2), rendering()) == ""
    assert difference("Hi", Prompt(count=3), rendering(bos="<s>", adds=True)) == ""
    assert difference("Hi", Prompt(count=3), rendering()) == "trained with: 'Hi'\nthat is 2 tokens, and Ollama's prompt has 3"
    assert difference("Hi", Prompt(), rendering()) is None


def test_tokens_of_sentencepiece_are_text_again() -> None:
    keys = rendering(kind="llama").keys
    assert text_of(keys, [3, 2, 4, 5, 6, 7]) == "Hi\n Hi!"
    assert text_of(keys, [1, 3]) == "<s> Hi"
    assert text_of(keys, [99]) is None
    assert text_of({**keys, "tokenizer.ggml.model": "bert"}, [1]) is None


@pytest.fixture
def server(repo: Repo) -> Iterator[OllamaServer]:
    with OllamaServer(address_of(repo.server.host)) as found:
        yield found


def checked(repo: Repo, server: OllamaServer, **trained: Any) -> Result:
    (model,) = (model for model in load_catalog(Path("models.yaml"), trainers=["command", "peft"]).models if model.name == "legal")
    model = replace(model, train=replace(model.train, trainer="peft", command=(), **trained))
    base = Path(model.base.gguf)
    server.create(
        NewModel(
            name="legal:candidate",
            files=((base, file_digest(base)),),
            adapter=None,
            system=system_of(model),
            template=model.serve.template,
            parameters={},
        )
    )
    return _without_place(template_result(model, "legal:candidate", server))


def _without_place(result: Result) -> Result:
    assert result.at == "models.yaml:10"
    return result


def serve(repo: Repo, said: str) -> None:
    repo.replace("  legal:\n", f"  legal:\n    serve: {said}\n")


def test_a_served_system_prompt_that_the_catalog_says_is_a_warning(repo: Repo, server: OllamaServer) -> None:
    assert checked(repo, server).why == ""
    serve(repo, "{system: Be brief.}")
    result = checked(repo, server)
    assert (result.passed, result.warning, result.why) == (
        True,
        True,
        'trained without a system prompt, served with system prompt "Be brief.", as `serve.system` says',
    )


def test_a_system_prompt_of_the_record_is_asked_with_it(repo: Repo, server: OllamaServer) -> None:
    chat = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    repo.records("shared").write_text(jsonl({"messages": chat}), encoding="utf-8")
    serve(repo, "{system: Another.}")
    result = checked(repo, server)
    assert (result.passed, result.warning, result.question) == (True, False, "user")


def test_records_without_a_prompt_agree_with_anything(repo: Repo, server: OllamaServer) -> None:
    repo.records("shared").write_text(jsonl({"text": "Once."}), encoding="utf-8")
    result = checked(repo, server)
    assert (result.passed, result.why) == (True, "the records are texts without a prompt: they are learnt as they are")


def test_a_server_that_tells_nothing_is_a_warning_with_what_was_trained(repo: Repo, server: OllamaServer) -> None:
    repo.server.tells_prompts = False
    result = checked(repo, server)
    assert (result.passed, result.warning) == (True, True)
    assert result.why == (
        "Ollama 0.9.3 does not say which prompt it makes; the model was trained with: "
        "'<|im_start|>user\\nQuestion 0?<|im_end|>\\n<|im_start|>assistant\\n'"
    )


def test_the_template_of_the_folder_that_is_trained_from_counts(repo: Repo, server: OllamaServer) -> None:
    Path("hf").mkdir()
    Path("hf/tokenizer_config.json").write_text('{"chat_template": "{% for m in messages %}[{{ m.content }}]{% endfor %}"}', encoding="utf-8")
    repo.replace("{gguf: base.gguf}", "{gguf: base.gguf, hf: hf}")
    result = checked(repo, server)
    assert not result.passed
    assert "trained with: '[Question 0?]'" in result.why
    assert result.fix is not None


def test_a_base_without_a_template_is_a_warning(repo: Repo, server: OllamaServer) -> None:
    write_tiny_base(repo.path / "base.gguf")
    content = (repo.path / "base.gguf").read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_tempxxxx")
    (repo.path / "base.gguf").write_bytes(content)
    result = checked(repo, server)
    assert (result.passed, result.warning) == (True, True)
    assert result.why == "the base has no chat template of its own: nothing says how it is to be asked"
