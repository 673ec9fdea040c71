"""The embedded trainer: transformers with a LoRA of our own, in a process of its own. Its adapters are PEFT directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.trainers.adapter_folder import adapter_folder
from ollamake.trainers.environment import Environment
from ollamake.trainers.hf_variables import hf_variables
from ollamake.trainers.peft_checkpoints import whole_checkpoint
from ollamake.trainers.peft_options import objections_to
from ollamake.trainers.port import HF, Capabilities, Command, Job, Objection, Trainer
from ollamake.trainers.refused import one_gpu, targets_refused

NEEDS = ("torch", "transformers")


class PeftTrainer(Trainer):
    """Trains a LoRA on what is served, on a GPU where the training has one, else on the CPU."""

    name = "peft"
    text_format = "chat"
    capabilities = Capabilities(
        reads_base=HF,
        resumes=True,
        reports_progress=True,
        evaluates=True,
        starts_from_adapter=True,
        deterministic=True,
    )

    def missing(self, environment: Environment) -> str | None:
        """`pip install`, where torch or transformers is not there; or ollamake itself, in another environment than this."""
        needs = NEEDS if environment.named is None else (*NEEDS, "ollamake")
        return environment.pip("ollamake[peft]") if environment.missing(needs) else None

    def versions(self, environment: Environment) -> Mapping[str, str]:
        """Those of torch and transformers, as installed."""
        return environment.versions(NEEDS)

    def objections(self, recipe: Mapping[str, Any]) -> tuple[Objection, ...]:
        """Layers that can't be served with a LoRA, options that it doesn't have, and values that these can't have."""
        return (*targets_refused(recipe), *objections_to(recipe))

    def gpu_objections(self, recipe: Mapping[str, Any], gpus: int) -> tuple[Objection, ...]:  # noqa: ARG002 - whatever the recipe
        """More than one."""
        return one_gpu(gpus, self.name)

    def checkpoint(self, folder: Path) -> Path | None:
        """The newest one in the job's `work`: they appear whole or not at all."""
        return whole_checkpoint(folder / "work")

    def plan(self, job: Job) -> Command:
        """Python with `peft_training` and the job's folder."""
        argv = job.environment.python("-m", "ollamake.trainers.peft_training", str(job.folder))
        return Command(
            argv=argv,
            environment={
                **hf_variables(offline="hf" not in job.base),  # a base that is there as a GGUF needs nothing fetched
                "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # else cuBLAS may sum in another order each time
            },
        )

    def collect(self, folder: Path) -> Path:
        """The PEFT directory `out`."""
        return adapter_folder(folder / "out")
