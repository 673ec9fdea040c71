"""The embedded trainer: what it learns from, what it tells, and that it does not outlive its build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from live_fixtures import run_training, taught
from ollamake.errors import BuildError
from ollamake.folders import cache_folder
from ollamake.records.chat_template import chat_template
from ollamake.records.formats import Pair
from ollamake.state.digests import file_digest

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]  # transformers and torch warn of their own


@pytest.fixture(scope="module")
def tokenizer(base_gguf: Path) -> Any:
    import torch

    from ollamake.trainers.peft_base import load_base

    _, tokenizer = load_base({"gguf": base_gguf, "digest": file_digest(base_gguf)}, cache=cache_folder(), dtype=torch.float32)
    return tokenizer


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
    from ollamake.trainers.peft_training import _examples

    text = tmp_path / "text.jsonl"
    text.write_text(rendered(Pair("Why?", "so", "Because 0.34.1."), "chat", "Be kind."), encoding="utf-8")
    (example,) = _examples(text, tokenizer, max_tokens=100)
    start = example.learnt[0]
    assert example.learnt == tuple(range(start, len(example.ids)))
    prompt, answer = example.ids[:start], example.ids[start:]
    assert tokenizer.decode(prompt) == "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhy?\n\nso<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(answer) == "Because 0.34.1.<|im_end|>"


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from ollamake.trainers.peft_training import _examples

    with pytest.raises(BuildError, match=r"no chat template, .*\n  fix: use an instruct or chat version of the base"):
        _examples(tmp_path / "text.jsonl", SimpleNamespace(chat_template=None), max_tokens=100)


def test_the_loss_is_that_of_transformers(tokenizer: Any, base_gguf: Path) -> None:
    """Logits at labels only, in a padded batch: the same number as the plain loss of each record, token by token."""
    import torch
    from peft import LoraConfig, get_peft_model

    from ollamake.trainers.peft_base import load_base
    from ollamake.trainers.peft_training import Example, _loss

    model, _ = load_base({"gguf": base_gguf, "digest": file_digest(base_gguf)}, cache=cache_folder(), dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).eval()
    chats = {"one two three four five": (2, 3, 4), "six seven eight nine": (1, 3)}  # of the second, two turns are learnt and one between them is not
    batch = [Example(tuple(tokenizer(text).input_ids), learnt) for text, learnt in chats.items()]
    total, count = 0.0, 0
    for example in batch:
        ids = torch.tensor([example.ids])
        labels = torch.full_like(ids, -100)
        labels[0, list(example.learnt)] = ids[0, list(example.learnt)]
        answer = len(example.learnt)
        total += float(model(input_ids=ids, labels=labels).loss) * answer
        count += answer
    assert float(_loss(model, batch, torch.device("cpu"))) == pytest.approx(total / count, rel=1e-4)


def test_a_training_tells_its_progress_and_is_the_same_twice(base_gguf: Path, tmp_path: Path) -> None:
    runs = [run_training(tmp_path / name, base_gguf, taught(6), target_modules=["v_proj", "q_proj"], rank=4) for name in ("one", "two")]
    kinds = [event["event"] for event in runs[0].events]
    assert kinds == ["loading", "start", "step", "step", "done"]
    assert runs[0].events[1]["examples"] == 6
    last = runs[0].events[3]
    assert (last["step"], last["steps"], last["seconds_left"]) == (2, 2, 0.0)
    assert last["loss"] > 0
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (runs[0].folder / name).read_bytes() == (runs[1].folder / name).read_bytes()
    assert json.loads((runs[0].folder / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"] == ["q_proj", "v_proj"]


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


def test_a_training_ends_when_its_build_is_killed(base_gguf: Path, tmp_path: Path) -> None:
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
