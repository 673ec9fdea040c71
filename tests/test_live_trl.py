"""TRL trains for Ollama: SmolLM2, on the CPU, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ollamake.ollama.address import Address
from ollamake.trainers.trl import TrlTrainer
from trainer_builds import killed_and_taken_up
from trainer_jobs import TrainsForOllama, environment, make_job

# Not marked `trainers`: CI runs it, as the one of its kind.
pytestmark = [pytest.mark.live, pytest.mark.trainers, pytest.mark.filterwarnings("default")]  # transformers and torch warn of their own
PACKAGES = ("trl[peft]==1.16.0",)


class TestTrl(TrainsForOllama):
    trainer = TrlTrainer()
    packages = PACKAGES
    unknown = ("weight_decai", "options.weight_decai: TRL 1.16.0 has no such option\nwrite 'weight_decay' (known: ")
    wrong = (
        ("lr_scheduler_type", "cosin", "TRL does not take this configuration: cosin is not a valid SchedulerType"),
        ("weight_decay", "much", "options.weight_decay: 'much' is not what TRL 1.16.0 takes: float"),
        ("dtype", "float17", "options.dtype: 'float17' is none that TRL 1.16.0 knows"),
    )


CHATS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": " two \n"},
            {"role": "user", "content": "Größe?"},
            {"role": "assistant", "content": "Drei <|im_end|>"},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "rain", "arguments": {"in": "Bonn"}}}]},
            {"role": "tool", "content": "yes"},
            {"role": "assistant", "content": "It rains."},
        ],
        "tools": [{"type": "function", "function": {"name": "rain", "parameters": {"type": "object", "properties": {"in": {"type": "string"}}}}}],
    },
    {"text": "Once upon a time."},
]


def test_what_is_learnt_of_any_record_is_what_the_embedded_trainer_learns(base_gguf: Path, tmp_path: Path) -> None:
    """By the modules that the job carries, in TRL's own environment."""
    from transformers import AutoTokenizer

    from ollamake.trainers.examples import read_examples

    job = make_job(tmp_path / "job", base_gguf, environment("trl", *PACKAGES), [])
    job.text.write_text("".join(f"{json.dumps(chat)}\n" for chat in CHATS), encoding="utf-8")
    for name, text in TrlTrainer().plan(job).files.items():
        (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (job.folder / name).write_text(text, encoding="utf-8")
    program = """
import json, sys
from pathlib import Path
from transformers import AutoTokenizer
from ollamake.trainers.examples import read_examples
found = read_examples(Path("text.jsonl"), AutoTokenizer.from_pretrained(sys.argv[1]), max_tokens=512)
print(json.dumps([[list(example.ids), example.labels] for example in found]))
"""
    argv = job.environment.python("-c", program, job.base["path"])
    done = subprocess.run(argv, cwd=job.folder, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, check=True)
    tokenizer = AutoTokenizer.from_pretrained(job.base["path"])
    ours = read_examples(job.text, tokenizer, max_tokens=512)
    theirs = json.loads(done.stdout)
    assert [ids for ids, _ in theirs] == [list(example.ids) for example in ours]
    for (ids, labels), example in zip(theirs, ours, strict=True):
        learnt = set(example.learnt)
        assert labels == [token if place in learnt else -100 for place, token in enumerate(ids)]
    said = [tokenizer.decode([label for label in labels if label != -100]) for _, labels in theirs]
    assert said[:2] == ["Hello.<|im_end|>", " two \n<|im_end|>Drei <|im_end|><|im_end|>"]
    assert said[2].endswith("It rains.<|im_end|>")
    assert said[3] == " upon a time.<|im_end|>"  # all but its first token, which nothing comes before


def test_a_build_that_was_killed_goes_on_and_its_model_answers(base_gguf: Path, real_address: Address, tmp_path: Path) -> None:
    killed_and_taken_up(tmp_path, "trl", environment("trl", *PACKAGES), base_gguf, real_address)
