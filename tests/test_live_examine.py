"""What is asked of every model, before the real Ollama: a template that is not the trainer's is found, an adapter has its effect, a loss is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import jsonl
from live_fixtures import SYSTEM, make_job, run_job, taught
from ollamake.catalog import Model
from ollamake.catalog.load import load_catalog
from ollamake.gate.report import Result
from ollamake.lora.architecture import read_architecture
from ollamake.lora.gguf_lora import write_gguf_lora
from ollamake.lora.read import read_adapter
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.stages.agreement import template_result
from ollamake.stages.asking import base_on
from ollamake.stages.examine import examine
from ollamake.stages.system import system_of
from ollamake.state.digests import file_digest

pytestmark = pytest.mark.live

CHATML = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"


def model_of(base: Path, *, serve: str = "{}", train: str = f"{{system: {SYSTEM}}}", more: str = "") -> Model:
    Path("models.yaml").write_text(
        f"version: 1\nbases: {{b: {{gguf: {base}}}}}\ndatasets: {{facts: {{files: [facts.jsonl]}}, asked: {{files: [asked.jsonl]}}}}\n"
        f"models:\n  bot:\n    base: b\n    data: [facts]\n    train: {train}\n    serve: {serve}\n{more}",
        encoding="utf-8",
    )
    (model,) = load_catalog(Path("models.yaml"), trainers=["peft", "command"]).models
    return model


@contextmanager
def served(server: OllamaServer, model: Model, adapter: Path | None = None) -> Iterator[str]:
    base = Path(model.base.gguf)
    server.create(
        NewModel(
            name="bot:candidate",
            files=((base, file_digest(base)),),
            adapter=None if adapter is None else (adapter, file_digest(adapter)),
            system=system_of(model),
            template=model.serve.template,
            parameters={**model.serve.parameters, "num_thread": 1},
        )
    )
    yield "bot:candidate"
    server.delete("bot:candidate")


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chat = [
        {"role": role, "content": text} for role, text in (("user", "Hi,\n you there?"), ("assistant", "Yes."), ("user", "So?"), ("assistant", "So."))
    ]
    Path("asked.jsonl").touch()
    Path("facts.jsonl").write_text(jsonl({"messages": chat[:2]}, {"messages": chat}), encoding="utf-8")


@pytest.mark.usefixtures("_here")
def test_a_template_that_is_not_the_trainers_is_found(base_gguf: Path, real_server: OllamaServer) -> None:
    def checked(**keys: str) -> Result:
        model = model_of(base_gguf, **keys)
        with served(real_server, model) as name:
            return template_result(model, name, real_server)

    def with_template(template: str) -> Result:
        return checked(serve=f"{{template: {json.dumps(template)}}}")

    for right in (checked(), with_template(CHATML), checked(train="{}")):  # the last has the system prompt that the base's template writes
        assert (right.passed, right.warning, right.why) == (True, False, ""), right
    wrong = {
        "no system prompt": CHATML.replace("{{- range .Messages }}", '{{- range .Messages }}{{ if ne .Role "system" }}').replace(
            "{{ end }}", "{{ end }}{{ end }}"
        ),
        "no line end": CHATML.replace("assistant\n", "assistant"),
        "other tokens": "{{- range .Messages }}[{{ .Role }}] {{ .Content }}\n{{ end }}[assistant] ",
        "a space": CHATML.replace("{{ .Content }}", " {{ .Content }}"),
        "no beginning": CHATML.replace("{{- range .Messages }}<|im_start|>", "{{- range $n, $_ := .Messages }}{{ if $n }}<|im_start|>{{ end }}"),
        "the turn before, without its end": CHATML.replace("<|im_end|>", '{{ if ne .Role "assistant" }}<|im_end|>{{ end }}'),
    }
    found = {what: with_template(template) for what, template in wrong.items()}
    assert {what: result.passed for what, result in found.items()} == dict.fromkeys(wrong, False), found
    assert found["no system prompt"].why == (
        "Ollama makes another prompt of these messages than the base's chat template\n"
        f"trained with: '<|im_start|>system\\n{SYSTEM}<|im_end|>\\n<|im_start|>user\\nHi,\\n you there?<|im_end|>\\n<|im_'...\n"
        "served with:  '<|im_start|>user\\nHi,\\n you there?<|im_end|>\\n<|im_start|>assistant\\n'"
    )
    said = checked(serve="{system: Be brief.}")
    assert (said.passed, said.warning) == (True, True)
    assert said.why == f'trained with system prompt "{SYSTEM}", served with system prompt "Be brief.", as `serve.system` says'
    own = checked(train="{trainer: command, command: [x]}", serve=f"{{template: {json.dumps(wrong['a space'])}}}")
    assert (own.passed, own.warning) == (True, True)
    assert own.why.endswith("how trainer 'command' writes a chat is its own matter: all is well if it is as served")


@pytest.mark.usefixtures("_here")
def test_an_adapter_is_examined_as_it_is_served(base_gguf: Path, real_server: OllamaServer, tmp_path: Path) -> None:
    records = taught(2)
    job = make_job(tmp_path / "job", base_gguf, records, epochs=16)
    assert run_job(job)[-1]["event"] == "done"
    question, answer = records[0].turns()[0]["content"], records[0].output
    Path("facts.jsonl").write_text(jsonl(*({"instruction": r.instruction, "input": r.input, "output": r.output} for r in records)), encoding="utf-8")
    Path("asked.jsonl").write_text(Path("facts.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    tests = [
        f"{{ask: {json.dumps(question)}, expect: {{equals: {json.dumps(answer)}}}}}",
        "{dataset: asked, metric: loss, max: 1, no_worse_than: base}",
        "{dataset: asked, metric: token_f1, limit: 1, min: 0.9, no_worse_than: base}",
    ]
    model = model_of(base_gguf, serve="{parameters: {num_predict: 24}}", more=f"    tests: [{', '.join(tests)}]\n")
    lora, architecture = tmp_path / "lora.gguf", read_architecture(base_gguf)
    write_gguf_lora(read_adapter(job.out, architecture), architecture, lora)
    (tmp_path / "adapters").mkdir()
    job.out.rename(tmp_path / "adapters/bot")
    with served(real_server, model, lora) as name, base_on(real_server, model) as base:
        report = examine(model, name, real_server, base)
    assert report.passed, report.failures
    loss = report.results[1]
    assert loss.score is not None
    assert loss.score < 0.2
    assert "; base: " in loss.why
    assert not any(result.warning for result in report.results)
    with served(real_server, model) as name, base_on(real_server, model) as base:  # the plain base under the model's name
        (effect,) = (result for result in examine(replace(model, tests=()), name, real_server, base).results if not result.passed)
    assert effect.name == "the adapter has an effect"
