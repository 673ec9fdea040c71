"""What every trainer keeps, as tests that the author of one inherits.

    class TestMine(TrainerContract):
        trainer = MyTrainer()

Run by pytest. None of them needs the trainer's program.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ollamake.errors import BuildError
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import ADAPTER, FLOAT_GGUF, GGUF, HF, PARTS, WEIGHTS, Capabilities, Command, Event, Job, Objection, Trainer

TEXT_FORMATS = ("chat", "alpaca", "templated", "text")
RECIPE = {
    "alpha": 32.0,
    "batch_size": 4,
    "epochs": 3,
    "learning_rate": 2e-4,
    "max_tokens": 2048,
    "rank": 16,
    "seed": 42,
    "target_modules": ["k_proj", "q_proj"],
}
LINES = (
    "",
    "\n",
    "{}",
    "[]",
    "null",
    "no JSON at all\n",
    '{"event": "unheard of"}',
    '{"event": "step", "step": "three"}',
    "{'loss': 'nan'}",
    "\x00\ufffd",
    "train: [",
)


class TrainerContract:
    """The tests. `trainer` is what they are of; `recipe` what it takes, beside what every recipe has."""

    trainer: Trainer
    recipe: dict[str, object] = {}  # noqa: RUF012 - read alone

    def job(self, folder: Path) -> Job:
        """A job of a small model, in this folder; its base is named, and is not there."""
        (folder / "text.jsonl").write_text(
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n', encoding="utf-8"
        )
        base = {"gguf": str(folder / "base.gguf"), "digest": f"sha256:{'0' * 64}", "path": str(folder / "base")}
        return Job(
            name="m",
            folder=folder,
            text=folder / "text.jsonl",
            records=1,
            base=base,
            recipe={**RECIPE, **self.recipe},
            cache=folder / "cache",
        )

    def test_it_has_all_parts(self) -> None:
        """A name, what it reads, what it can do, and the methods."""
        assert [part for part in PARTS if not hasattr(self.trainer, part)] == []
        assert self.trainer.name
        assert self.trainer.text_format in TEXT_FORMATS
        can = self.trainer.capabilities
        assert isinstance(can, Capabilities)
        assert can.makes in {ADAPTER, WEIGHTS}
        assert can.reads_base in {GGUF, FLOAT_GGUF, HF}

    def test_its_plan_is_pure(self, tmp_path: Path) -> None:
        """The same job has the same plan, on a CPU and on a GPU, and nothing is written for it."""
        for job in (self.job(tmp_path), replace(self.job(tmp_path), gpus=2)):
            before = sorted(tmp_path.rglob("*"))
            plan = self.trainer.plan(job)
            assert isinstance(plan, Command)
            assert plan == self.trainer.plan(job)
            assert sorted(tmp_path.rglob("*")) == before
            assert plan.argv
            assert all(isinstance(word, str) for word in plan.argv)
            assert all(isinstance(value, str) for value in plan.environment.values())

    def test_its_files_stay_in_the_job(self, tmp_path: Path) -> None:
        """What it wants written, and what it follows, lies in the job's folder, beside job.json and the text."""
        job = self.job(tmp_path)
        plan = self.trainer.plan(job)
        for name in (*plan.files, *([plan.follows] if plan.follows else [])):
            assert (tmp_path / name).resolve().is_relative_to(tmp_path.resolve())
            assert name not in {"job.json", job.text.name}

    def test_a_checkpoint_decides_the_plan_of_one_that_resumes(self, tmp_path: Path) -> None:
        """The plan, or job.json, tells of the checkpoint; a folder without one has none, and a part of one is none."""
        job = self.job(tmp_path)
        assert self.trainer.checkpoint(tmp_path) is None
        (job.work / "checkpoint-3").mkdir(parents=True)
        (job.work / "checkpoint-3" / "half").write_bytes(b"{")
        assert self.trainer.checkpoint(tmp_path) is None

    def test_any_line_is_an_event_or_none(self) -> None:
        """A line that it does not know is for the log."""
        for line in LINES:
            event = self.trainer.progress(line)
            assert event is None or isinstance(event, Event)

    def test_it_takes_a_plain_recipe(self) -> None:
        """What every recipe has is no reason against it, and what is one says its key."""
        found = self.trainer.objections({**RECIPE, **self.recipe})
        assert all(isinstance(objection, Objection) for objection in found)
        assert [objection for objection in found if objection.policy is None] == []
        assert self.trainer.gpu_objections({**RECIPE, **self.recipe}, 1) == ()
        assert all(isinstance(objection, Objection) for objection in self.trainer.gpu_objections({**RECIPE, **self.recipe}, 3))

    def test_it_says_what_is_missing_and_which_versions_are_there(self, tmp_path: Path) -> None:
        """Here, and in an environment that is not there."""
        for environment in (Environment(), Environment(str(tmp_path / "no venv"))):
            missing = self.trainer.missing(environment)
            assert missing is None or missing.strip()
            json.dumps(dict(self.trainer.versions(environment)))

    def test_a_job_without_a_result_has_none(self, tmp_path: Path) -> None:
        """Where nothing was made, it says so, or names a place in the job where nothing is."""
        job = self.job(tmp_path)
        job.out.mkdir()
        try:
            found = self.trainer.collect(tmp_path)
        except BuildError:
            return
        assert found.resolve().is_relative_to(tmp_path.resolve())
        assert not found.is_file()
