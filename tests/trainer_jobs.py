"""Trainers that live in environments of their own: the environments, jobs for them, and what each of them has to show. For tests marked `trainers`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from live_fixtures import RECIPE, SYSTEM, taught
from ollamake.bases.hf_folder import hf_folder
from ollamake.digest import digest_file
from ollamake.folders import cache_folder
from ollamake.lora.architecture import read_architecture
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.records.text import rendered
from ollamake.state.digests import file_digest
from ollamake.trainers.port import Event, Job, Trainer


def environment(name: str, *packages: str) -> str:
    """A venv with these packages: the one that $OLLAMAKE_ENV_NAME names, else one of the cache's, made when it is missing."""
    named = os.environ.get(f"OLLAMAKE_ENV_{name.upper()}")
    if named:
        return named
    folder = cache_folder() / "trainer-envs" / name
    ready = folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for wanted in (("torch==2.13.0",), packages):
            subprocess.run([folder / "bin/pip", "install", "-q", *wanted], check=True)
        ready.touch()
    return str(folder)


def make_job(folder: Path, gguf: Path, env: str, records: Sequence[Any], *, held_out: Sequence[Any] = (), **recipe: Any) -> Job:
    """A job in a new folder, as a build makes one."""
    digest = file_digest(gguf)
    job = Job(
        name="m",
        folder=folder,
        text=folder / "text.jsonl",
        records=len(records),
        base={"gguf": str(gguf), "digest": digest, "path": str(hf_folder(gguf, digest, cache_folder()))},
        recipe={**RECIPE, **recipe},
        cache=cache_folder(),
        env=env,
        holdout=folder / "holdout.jsonl" if held_out else None,
    )
    for path in (job.folder, job.out, job.work):
        path.mkdir(parents=True)
    for path, some in ((job.text, records), (job.holdout, held_out)):
        if path is not None:
            path.write_text("".join(rendered(record, "chat", SYSTEM) for record in some), encoding="utf-8")
    return job


class Running:
    """A job that runs, in the way of the edge that runs them, without its guard and its bar."""

    def __init__(self, trainer: Trainer, job: Job) -> None:
        self.trainer, self.job = trainer, job
        (job.folder / "job.json").write_text(json.dumps(job.as_json()), encoding="utf-8")
        command = trainer.plan(job)
        for name, content in command.files.items():
            (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (job.folder / name).write_text(content, encoding="utf-8")
        self.told = [job.folder / "stdout", *([job.folder / command.follows] if command.follows else [])]
        with (job.folder / "stdout").open("w") as said, (job.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                command.argv,
                cwd=job.folder,
                env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
                start_new_session=True,
            )

    def events(self) -> Iterator[Event]:
        """As they are told, until the program ends."""
        places = [0] * len(self.told)
        is_last = False
        while True:
            for number, path in enumerate(self.told):
                with path.open("rb") as file:
                    file.seek(places[number])
                    whole = file.read().rpartition(b"\n")[0]
                places[number] += len(whole) + 1 if whole else 0
                for line in whole.decode().splitlines():
                    event = self.trainer.progress(line)
                    if event is not None:
                        yield event
            if is_last:
                return
            is_last = self.process.poll() is not None
            time.sleep(0.1)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def trained(trainer: Trainer, job: Job) -> list[Event]:
    """The events of a training that ends well."""
    running = Running(trainer, job)
    events = list(running.events())
    assert running.process.returncode == 0, (job.folder / "log").read_text(encoding="utf-8")[-3000:]
    return events


def steps_of(events: Sequence[Event]) -> list[int]:
    return [event.step for event in events if event.kind == "step"]


def datasets_in(folder: Path) -> list[dict[str, list[int]]]:
    """The rows of a dataset that `datasets` has written."""
    rows: list[dict[str, list[int]]] = []
    for path in sorted(folder.glob("data-*.arrow")):
        with pa.memory_map(str(path)) as source:
            rows += pa.ipc.open_stream(source).read_all().to_pylist()
    return rows


class TrainsForOllama:
    """What each trainer of this kind shows on SmolLM2, on the CPU. A subclass names the trainer and its packages, and is called Test something."""

    trainer: ClassVar[Trainer]
    packages: ClassVar[tuple[str, ...]]
    unknown: ClassVar[tuple[str, str]]  # an option that is not one, and what the trainer should say of it
    wrong: ClassVar[tuple[tuple[str, Any, str], ...]]  # options, values that they can't have, and what the trainer should say of each

    @pytest.fixture(scope="class")
    @classmethod
    def env(cls) -> str:
        return environment(cls.trainer.name, *cls.packages)

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, env: str, base_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, list[Event]]:
        """Four facts, all of them read in each step; and what was told of that."""
        job = make_job(tmp_path_factory.mktemp("finished") / "job", base_gguf, env, taught(4), epochs=24)
        return job, trained(cls.trainer, job)

    def test_it_is_there_and_has_versions(self, env: str) -> None:
        from ollamake.trainers.environment import Environment

        assert self.trainer.missing(Environment(env)) is None
        assert {self.trainer.name, "torch", "transformers", "peft"} <= set(self.trainer.versions(Environment(env)))

    def test_every_step_is_told(self, finished: tuple[Job, list[Event]]) -> None:
        job, events = finished
        assert steps_of(events) == list(range(1, job.steps + 1))
        (start,) = [event for event in events if event.kind == "start"]
        assert (start.steps, start.examples) == (24, 4)
        losses = [event.loss for event in events if event.kind == "step"]
        assert all(loss is not None for loss in losses)
        assert losses[-1] < losses[0] / 4, losses

    def test_it_learns_from_what_the_embedded_trainer_does(self, finished: tuple[Job, list[Event]]) -> None:
        """The same tokens with the same labels, and with them the same loss before anything is learnt."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from ollamake.trainers.examples import read_examples

        job, events = finished
        tokenizer = AutoTokenizer.from_pretrained(job.base["path"])
        examples = read_examples(job.text, tokenizer, max_tokens=512)
        rows = datasets_in(job.work / "examples/train")
        assert [(row["input_ids"], row["labels"]) for row in rows] == [(list(example.ids), example.labels) for example in examples]
        model = AutoModelForCausalLM.from_pretrained(job.base["path"], dtype=torch.float32)
        with torch.no_grad():
            losses = [float(model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss) for row in rows]
        counts = [len(example.learnt) for example in examples]
        expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
        first = next(event.loss for event in events if event.kind == "step")
        assert first == pytest.approx(expected, rel=1e-3)

    def test_its_adapter_answers_in_ollama(
        self, finished: tuple[Job, list[Event]], base_gguf: Path, real_server: OllamaServer, tmp_path: Path
    ) -> None:
        job, _ = finished
        architecture = read_architecture(base_gguf)
        adapter = read_peft_adapter(self.trainer.collect(job.folder), architecture)
        merged = tmp_path / "merged.gguf"
        write_merged_gguf(base_gguf, architecture.head, adapter, "q8_0", merged)
        real_server.create(
            NewModel(name="taught", files=((merged, digest_file(merged)),), adapter=None, system=SYSTEM, template=None, parameters={"temperature": 0})
        )
        records = taught(4)
        questions = [[{"role": "user", "content": record.turns()[0]["content"]}] for record in records]
        answers = ["".join(real_server.answer("taught", question, num_predict=24)) for question in questions]
        real_server.delete("taught")
        right = [answer.startswith(record.output[:20]) for answer, record in zip(answers, records, strict=True)]
        assert sum(right) >= 3, list(zip(answers, records, strict=True))

    def test_a_training_that_was_killed_ends_as_if_it_had_not(
        self, env: str, finished: tuple[Job, list[Event]], base_gguf: Path, tmp_path: Path
    ) -> None:
        whole, _ = finished
        job = make_job(tmp_path / "job", base_gguf, env, taught(4), epochs=24)
        running = Running(self.trainer, job)
        for event in running.events():
            if event.kind == "step" and event.step > 6 and self.trainer.checkpoint(job.folder) is not None:
                running.kill()
                break
        checkpoint = self.trainer.checkpoint(job.folder)
        assert checkpoint is not None
        begun = int(checkpoint.name.removeprefix("checkpoint-"))
        assert begun >= 2
        events = trained(self.trainer, replace(job, checkpoint=checkpoint))
        assert next(event.step for event in events if event.kind == "resumed") == begun
        assert steps_of(events) == list(range(begun + 1, job.steps + 1))
        once, twice = (self.trainer.collect(each.folder) for each in (whole, job))
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert (once / name).read_bytes() == (twice / name).read_bytes(), name

    def test_a_training_that_had_ended_is_not_trained_on(self, finished: tuple[Job, list[Event]], tmp_path: Path) -> None:
        """Killed behind its last checkpoint, before its adapter was written."""
        whole, _ = finished
        folder = tmp_path / "job"
        shutil.copytree(whole.folder, folder)
        for place in ("work", "out"):  # trainers write it to one of the two
            (folder / place / "adapter_model.safetensors").unlink(missing_ok=True)
        job = replace(whole, folder=folder, text=folder / "text.jsonl", checkpoint=self.trainer.checkpoint(folder))
        events = trained(self.trainer, job)
        assert [(event.kind, event.step) for event in events] == [("loading", 0), ("resumed", 24), ("done", 24)]
        once, twice = (self.trainer.collect(each.folder) for each in (whole, job))
        assert (once / "adapter_model.safetensors").read_bytes() == (twice / "adapter_model.safetensors").read_bytes()

    def test_it_begins_with_an_adapter_and_keeps_the_best_epoch(
        self, env: str, finished: tuple[Job, list[Event]], base_gguf: Path, tmp_path: Path
    ) -> None:
        """Trained on with a rate at which it forgets: every epoch is worse than the one before."""
        whole, before = finished
        facts = taught(4)
        job = make_job(tmp_path / "job", base_gguf, env, taught(12)[8:], held_out=facts, epochs=9, learning_rate=2e-3, keep="best", patience=2)
        (job.folder / "start").mkdir()
        for path in self.trainer.collect(whole.folder).iterdir():
            (job.folder / "start" / path.name).write_bytes(path.read_bytes())
        events = trained(self.trainer, replace(job, start=job.folder / "start"))
        losses = {event.step: event.loss for event in events if event.kind == "evaluation" and event.step}
        first = next(event.loss for event in before if event.kind == "step")
        assert first is not None
        assert losses[1] is not None
        assert losses[1] < first / 2, "it did not begin with the adapter"
        best = min(losses, key=lambda step: losses[step] or 0.0)
        assert max(losses) == best + 2 < job.steps, losses  # two epochs that were no better, and it stopped
        made = self.trainer.collect(job.folder)
        kept = job.work / f"checkpoint-{best}" / "adapter_model.safetensors"
        assert (made / "adapter_model.safetensors").read_bytes() == kept.read_bytes()

    def test_an_option_that_it_does_not_know_is_named(self, env: str, base_gguf: Path, tmp_path: Path) -> None:
        name, said = self.unknown
        event = self.refusal(make_job(tmp_path / "job", base_gguf, env, taught(1), options={name: 1}))
        assert (event.key, f"{event.reason}\n{event.fix}"[: len(said)]) == (f"options.{name}", said)

    def test_a_value_that_it_does_not_take_is_named(self, env: str, base_gguf: Path, tmp_path: Path) -> None:
        for name, value, said in self.wrong:
            event = self.refusal(make_job(tmp_path / name, base_gguf, env, taught(1), options={name: value}))
            assert (event.key, event.reason[: len(said)]) == (f"options.{name}", said)

    def refusal(self, job: Job) -> Event:
        running = Running(self.trainer, job)
        events = list(running.events())
        assert running.process.returncode == 1
        assert events[-1].kind == "failed", events
        return events[-1]
