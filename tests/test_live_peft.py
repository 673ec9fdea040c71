"""The embedded trainer: what it learns from, what it tells, and that it does not outlive its build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from live_fixtures import ALL_LINEAR, make_job, run_job, run_training, started, taught
from ollamake.bases.hf_folder import hf_folder
from ollamake.errors import BuildError
from ollamake.folders import cache_folder
from ollamake.records.chat_template import chat_template
from ollamake.records.formats import Pair
from ollamake.state.digests import file_digest
from ollamake.trainers.peft import PeftTrainer

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]  # transformers and torch warn of their own


@pytest.fixture(scope="module")
def base_folder(base_gguf: Path) -> Path:
    return hf_folder(base_gguf, file_digest(base_gguf), cache_folder())


@pytest.fixture(scope="module")
def tokenizer(base_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_folder)


CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be {brief}."}, {"role": "user", "content": "Größe? <|im_end|>"}],
    [{"role": "user", "content": "One"}, {"role": "assistant", "content": " two \n"}, {"role": "user", "content": "Three"}],
]


@pytest.mark.parametrize("chat", CHATS)
def test_a_prompt_is_what_transformers_renders(tokenizer: Any, chat: list[dict[str, str]]) -> None:
    ours = chat_template(tokenizer.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)
    assert ours.prompt(chat) == tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def test_the_default_system_prompt_is_found(tokenizer: Any) -> None:
    ours = chat_template(tokenizer.chat_template)
    assert ours.default_system() == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def test_loss_is_on_the_answer_and_its_end_alone(tokenizer: Any, tmp_path: Path) -> None:
    from ollamake.records.text import rendered
    from ollamake.trainers.examples import read_examples

    text = tmp_path / "text.jsonl"
    text.write_text(rendered(Pair("Why?", "so", "Because 0.34.1."), "chat", "Be kind."), encoding="utf-8")
    (example,) = read_examples(text, tokenizer, max_tokens=100)
    start = example.learnt[0]
    assert example.learnt == tuple(range(start, len(example.ids)))
    prompt, answer = example.ids[:start], example.ids[start:]
    assert tokenizer.decode(prompt) == "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhy?\n\nso<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(answer) == "Because 0.34.1.<|im_end|>"


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from ollamake.trainers.examples import read_examples

    with pytest.raises(BuildError, match=r"no chat template, .*\n  fix: use an instruct or chat version of the base"):
        read_examples(tmp_path / "text.jsonl", SimpleNamespace(chat_template=None), max_tokens=100)


SHARED = "<|im_start|>system\nYou are the help desk of ollamake. Be brief, name files and commands as they are written.<|im_end|>\n<|im_start|>user\n"
CHATS_TO_LEARN = (
    ("How?", "By typing doit."),
    ("Where do my records go?", "Into the folder datasets/, as JSONL files, one JSON object a line."),
    (
        "Which file is the catalog?<|im_end|>\n<|im_start|>assistant\nIt is models.yaml.<|im_end|>\n<|im_start|>user\nAnd the lock?",
        "It is models.lock.",
    ),
)


def examples_of(tokenizer: Any, beginning: str) -> list[Any]:
    """Chats with this beginning; of the last one, a turn in its middle is learnt as well."""
    from ollamake.trainers.examples import Example

    found = []
    for question, answer in CHATS_TO_LEARN:
        prompt = tokenizer(f"{beginning}{question}<|im_end|>\n<|im_start|>assistant\n").input_ids
        ids = prompt + tokenizer(f"{answer}<|im_end|>").input_ids
        found.append(Example(tuple(ids), tuple(range(len(prompt), len(ids)))))
    last = found[-1]
    return [*found[:-1], Example(last.ids, (*range(last.learnt[0] - 20, last.learnt[0] - 14), *last.learnt))]


@pytest.fixture(scope="module")
def ours_and_peft(base_folder: Path, base_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """Our model with a LoRA that changes much, its weights, and the same adapter on the same base as peft reads it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from ollamake.trainers import peft_attention
    from ollamake.trainers.peft_base import load_base
    from ollamake.trainers.peft_folder import save_adapter
    from ollamake.trainers.peft_lora import Weights, add_lora

    torch.manual_seed(1)
    model, _ = load_base({"path": base_folder}, dtype=torch.float32)
    weights = Weights(add_lora(model, targets=ALL_LINEAR, rank=4, alpha=8, dropout=0.0), torch.device("cpu"))
    for layer in weights.layers.values():
        torch.nn.init.normal_(layer.b.data, std=0.05)
    model.set_attn_implementation(peft_attention.NAME)
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(weights, folder, recipe={"alpha": 8, "rank": 4, "target_modules": ALL_LINEAR}, base={"gguf": base_gguf}, dropout=0.0)
    plain = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    return model, weights, PeftModel.from_pretrained(plain, folder, is_trainable=True)


@pytest.mark.parametrize(
    ("beginning", "longest", "rows", "spares_memory"),
    [(SHARED, 8192, 1, False), ("<|im_start|>user\n", 8192, 1, False), (SHARED, 90, 2, True)],
    ids=["shared prompt", "no shared prompt", "two rows, gradient checkpointing"],
)
def test_a_packed_batch_learns_what_its_examples_do_one_by_one(  # noqa: PLR0917 - fixtures and cases
    tokenizer: Any, ours_and_peft: tuple[Any, Any, Any], beginning: str, longest: int, rows: int, spares_memory: bool
) -> None:
    """Loss and gradients, against peft and transformers, example by example."""
    import torch

    from ollamake.trainers.packing import pack
    from ollamake.trainers.peft_loss import learn, measured

    model, weights, peft_model = ours_and_peft
    batch = examples_of(tokenizer, beginning)
    packed = pack(batch, longest=longest)
    assert len(packed) == rows
    assert (packed[0].shared > 20) == (beginning == SHARED)
    model.train()
    if spares_memory:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
    weights.gradient.zero_()
    loss = learn(model, packed)
    total, count = measured(model, packed)
    assert total / count == pytest.approx(loss, rel=1e-5)

    peft_model.zero_grad()
    expected = 0.0
    for example in batch:
        ids = torch.tensor([example.ids])
        labels = torch.full_like(ids, -100)
        labels[0, list(example.learnt)] = ids[0, list(example.learnt)]
        one = peft_model(input_ids=ids, labels=labels).loss * (len(example.learnt) / count)
        one.backward()
        expected += one.item()
    assert loss == pytest.approx(expected, rel=1e-5)
    theirs = {name.replace(".default.weight", ".weight"): matrix.grad for name, matrix in peft_model.named_parameters() if matrix.requires_grad}
    gradients = {
        f"base_model.model.{name}.lora_{side}.weight": matrix.grad
        for name, layer in weights.layers.items()
        for side, matrix in (("A", layer.a), ("B", layer.b))
    }
    assert sorted(gradients) == sorted(theirs)
    whole = torch.cat([theirs[name].flatten() for name in gradients])
    apart = torch.cat([(gradients[name] - theirs[name]).flatten() for name in gradients])
    assert float(apart.norm() / whole.norm()) < 1e-3
    assert float(whole.norm()) > 0


def test_a_training_tells_its_progress_and_is_the_same_twice(base_gguf: Path, tmp_path: Path) -> None:
    runs = [run_training(tmp_path / name, base_gguf, taught(6), target_modules=["v_proj", "q_proj"], rank=4) for name in ("one", "two")]
    kinds = [event["event"] for event in runs[0].events]
    assert kinds == ["loading", "start", "step", "step", "done"]
    assert runs[0].events[1]["examples"] == 6
    last = runs[0].events[3]
    assert (last["step"], last["steps"], last["seconds_left"], last["epoch"]) == (2, 2, 0.0, 1.0)
    assert min(last["loss"], last["learning_rate"], last["tokens_per_second"]) > 0
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (runs[0].folder / name).read_bytes() == (runs[1].folder / name).read_bytes()
    assert json.loads((runs[0].folder / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"] == ["q_proj", "v_proj"]


def test_a_training_that_was_killed_goes_on_to_the_same_bytes(base_gguf: Path, tmp_path: Path) -> None:
    """With all that a checkpoint has to hold: AdamW's moments, chance (dropout), the best weights so far, the losses of the holdout."""
    records = taught(10)
    recipe = {
        "epochs": 3,
        "keep": "best",
        "options": {"lora_dropout": 0.1},
        "target_modules": ["q_proj", "v_proj"],
        "rank": 4,
        "held_out": records[8:],
    }
    whole = make_job(tmp_path / "whole", base_gguf, records[:8], **recipe)
    expected = run_job(whole)
    job = make_job(tmp_path / "killed", base_gguf, records[:8], **recipe)
    with started(job, OLLAMAKE_CHECKPOINT_SECONDS="0") as training:
        assert training.stdout is not None
        for line in training.stdout:
            event = json.loads(line)
            if event["event"] == "checkpoint" and event["step"] == 3:
                training.kill()
                break
    checkpoint = PeftTrainer().checkpoint(job.folder)
    assert checkpoint is not None
    assert [path.name for path in job.work.glob("check*")] == [checkpoint.name]
    resumed = run_job(replace(job, checkpoint=checkpoint))
    behind = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 3 <= behind < 6
    assert [event["step"] for event in resumed if event["event"] == "resumed"] == [behind]
    assert told(resumed, "step", "step", "loss", "learning_rate") == told(expected, "step", "step", "loss", "learning_rate")[behind:]
    assert resumed[-1]["step"] == 6
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (job.out / name).read_bytes() == (whole.out / name).read_bytes()


def told(events: Sequence[dict[str, Any]], kind: str, *facts: str) -> list[tuple[Any, ...]]:
    return [tuple(event[fact] for fact in facts) for event in events if event["event"] == kind]


def test_the_best_epoch_is_kept_and_a_training_that_gets_no_better_stops(base_gguf: Path, tmp_path: Path) -> None:
    records = taught(10)
    recipe = {"options": {"lr_schedule": "constant", "warmup_share": 0}, "target_modules": ["q_proj", "v_proj"], "learning_rate": 8e-3, "rank": 4}
    job = make_job(tmp_path / "best", base_gguf, records[:6], held_out=records[6:], epochs=30, keep="best", patience=2, **recipe)
    events = run_job(job)
    losses = dict(told(events, "evaluation", "epoch", "loss"))
    best = min(losses, key=lambda epoch: losses[epoch])
    assert list(losses) == list(range(1, best + 3))
    assert events[-1]["step"] == 2 * (best + 2) < events[-1]["steps"] == 60
    assert [reason for (reason,) in told(events, "note", "reason")] == [
        f"stopped after epoch {best + 2} of 30: no better holdout loss than that of epoch {best}, {losses[best]:.4f}",
        f"kept the adapter of epoch {best}: holdout loss {losses[best]:.4f}",
    ]
    short = run_training(tmp_path / "short", base_gguf, records[:6], epochs=best, **recipe)  # ends where the best one was
    assert (job.out / "adapter_model.safetensors").read_bytes() == (short.folder / "adapter_model.safetensors").read_bytes()


def test_a_training_begins_with_the_adapter_that_it_is_given(base_gguf: Path, tmp_path: Path) -> None:
    recipe = {"target_modules": ["q_proj", "v_proj"], "rank": 4}
    first = run_training(tmp_path / "first", base_gguf, taught(4), epochs=8, **recipe)
    losses = [loss for (loss,) in told(first.events, "step", "loss")]
    job = make_job(
        tmp_path / "second", base_gguf, taught(4), start=first.folder, **{**recipe, "alpha": 64}
    )  # its scale is another, its effect the same
    (loss,) = next(iter(told(run_job(job), "step", "loss")))
    assert loss < losses[-1] * 1.05 < losses[0] / 2
    job = make_job(tmp_path / "third", base_gguf, taught(4), start=first.folder, **{**recipe, "rank": 8})
    failed = run_job(job)[-1]
    assert (failed["event"], failed["key"]) == ("failed", "start_from")
    assert failed["reason"] == "the adapter to start from has rank 4, and this training 8"
    job = make_job(tmp_path / "fourth", base_gguf, taught(4), start=first.folder, **{**recipe, "target_modules": ["q_proj"]})
    assert "v_proj.lora_A.weight is in it, and not trained here (and 59 more differences)" in run_job(job)[-1]["reason"]


CATALOG = """\
version: 1
bases: {small: {gguf: %s}}
datasets: {one: {files: [one.jsonl]}}
models: {m: {base: small, data: [one], train: {max_tokens: %d, epochs: 50}}}
"""


def write_repo(folder: Path, base: Path, *, max_tokens: int) -> None:
    (folder / "models.yaml").write_text(CATALOG % (base, max_tokens), encoding="utf-8")
    (folder / "dodo.py").write_text('from ollamake import DOIT_CONFIG, tasks_from\ndef task_models():\n    yield from tasks_from("models.yaml")\n')
    records = [{"instruction": f"Say {number}", "output": "word " * number} for number in range(1, 41)]
    (folder / "one.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


def test_a_record_that_is_too_long_is_an_error_and_never_cut(base_gguf: Path, tmp_path: Path) -> None:
    write_repo(tmp_path, base_gguf, max_tokens=60)
    done = subprocess.run([sys.executable, "-m", "doit", "train:m"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "\nconvert:m failed:\none.jsonl:" in done.stdout
    assert " tokens, more than max_tokens 60 [too-long]\n  fix: shorten it, or write `max_tokens: 6" in done.stdout
    assert not (tmp_path / "adapters").exists()


def test_a_training_ends_when_its_build_is_killed(base_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # a build waits for trainings of the machine's other builds
    write_repo(tmp_path, base_gguf, max_tokens=512)
    doit = subprocess.Popen([sys.executable, "-m", "doit", "train:m"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert doit.stdout is not None
    while "step 1/" not in (line := doit.stdout.readline()):
        assert line, "the training did not begin"
    (trainer,) = children(doit.pid)
    doit.kill()
    doit.communicate()
    until = time.monotonic() + 10
    while Path(f"/proc/{trainer}").exists() and b"peft_training" in Path(f"/proc/{trainer}/cmdline").read_bytes():
        assert time.monotonic() < until, "the trainer outlived its build"
        time.sleep(0.05)
    assert not (tmp_path / "adapters").exists()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split() if os.path.exists(f"/proc/{child}")]
