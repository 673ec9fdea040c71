"""The embedded trainer: transformers and peft, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping

from ollamake.trainers.environment import Environment
from ollamake.trainers.port import Capabilities, Command, Job, Trainer

NEEDS = ("torch", "transformers", "peft")


class PeftTrainer(Trainer):
    """Trains a LoRA on the GGUF that is served, on a GPU where there is one, else on the CPU."""

    name = "peft"
    text_format = "chat"
    capabilities = Capabilities(reports_progress=True, deterministic=True)

    def missing(self, environment: Environment) -> str | None:
        """`pip install`, where torch, transformers or peft is not there."""
        return environment.pip("ollamake[peft]") if environment.missing(NEEDS) else None

    def versions(self, environment: Environment) -> Mapping[str, str]:
        """Those of torch, transformers and peft, as installed."""
        return environment.versions(NEEDS)

    def plan(self, job: Job) -> Command:
        """Python with `peft_training` and the job's folder."""
        argv = job.environment.python("-m", "ollamake.trainers.peft_training", str(job.folder))
        # Nothing is fetched for a base that is there as a GGUF, and nobody is told of the training.
        offline = {} if "hf" in job.base else {"HF_HUB_OFFLINE": "1"}
        return Command(argv=argv, environment={"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false", **offline})
