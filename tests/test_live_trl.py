"""TRL trains for Ollama: SmolLM2, on the CPU, in an environment of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from live_fixtures import taught
from ollamake.lora.architecture import read_architecture
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.ollama.address import Address
from ollamake.trainers.port import Command, Event, Job
from ollamake.trainers.trl import TrlTrainer
from trainer_builds import killed_and_taken_up
from trainer_jobs import Running, TrainsForOllama, environment, make_job, trained

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


class OnTwoProcessors(TrlTrainer):
    """Two processes, started by torchrun as for two GPUs, that compute on the CPU and talk by gloo."""

    def plan(self, job: Job) -> Command:
        command = super().plan(job)
        native = json.loads(command.files["train.json"])
        native["arguments"]["use_cpu"] = True
        return replace(command, files={**command.files, "train.json": json.dumps(native)})


def losses_of(events: list[Event]) -> list[float | None]:
    return [event.loss for event in events if event.kind == "step"]


def test_two_processes_learn_what_one_does_and_tell_it_once(base_gguf: Path, tmp_path: Path) -> None:
    env = environment("trl", *PACKAGES)
    alone, shared = (make_job(tmp_path / name, base_gguf, env, taught(4), epochs=2) for name in ("alone", "shared"))
    once = trained(TrlTrainer(), alone)
    twice = trained(OnTwoProcessors(), replace(shared, gpus=2))
    assert [(event.kind, event.step) for event in twice] == [(event.kind, event.step) for event in once]
    assert losses_of(twice) == pytest.approx(losses_of(once), rel=1e-3)
    read_peft_adapter(TrlTrainer().collect(shared.folder), read_architecture(base_gguf))  # raises what is wrong with it


@pytest.mark.thorough
def test_two_processes_end_together_and_go_on_together(base_gguf: Path, tmp_path: Path) -> None:
    """Five records in batches of four: the second step of an epoch has one left, and fills it up."""
    job = replace(make_job(tmp_path / "job", base_gguf, environment("trl", *PACKAGES), taught(5), epochs=3), gpus=2)
    running = Running(OnTwoProcessors(), job)
    for event in running.events():
        if event.kind == "checkpoint" and event.step == 3:
            assert len(processes_in(job.folder)) >= 3
            os.killpg(running.process.pid, signal.SIGTERM)
            break
    running.process.wait(60)
    assert processes_in(job.folder) == []
    checkpoint = TrlTrainer().checkpoint(job.folder)
    assert checkpoint is not None
    begun = int(checkpoint.name.removeprefix("checkpoint-"))
    events = trained(OnTwoProcessors(), replace(job, checkpoint=checkpoint))
    assert [event.step for event in events if event.kind == "resumed"] == [begun]
    assert [event.step for event in events if event.kind == "step"] == list(range(begun + 1, job.steps + 1))


def test_gpus_that_are_not_there_end_a_training_before_it_begins(base_gguf: Path, tmp_path: Path) -> None:
    job = replace(make_job(tmp_path / "job", base_gguf, environment("trl", *PACKAGES), taught(4), epochs=1), gpus=2)
    running = Running(TrlTrainer(), job)
    (failed,) = [event for event in running.events() if event.kind != "loading"]
    assert running.process.returncode == 1
    assert (failed.kind, failed.key) == ("failed", "resources.gpu")
    assert failed.reason == "it has 2 GPUs by train.resources, and where it runs there are 0"
    assert failed.fix == "have train.launch ask for 2, or write `resources: {gpu: 0}`"


def processes_in(folder: Path) -> list[str]:
    """Those that run in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.joinpath("cwd").resolve() == folder.resolve():
                found.append(process.name)
    return found
