"""The embedded trainer: transformers and peft, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec

from ollamake.trainers.port import Command, Event, Job, json_event

NEEDS = ("torch", "transformers", "peft")


class PeftTrainer:
    """Trains a LoRA on the GGUF that is served, on a GPU where there is one, else on the CPU."""

    text_format = "chat"

    def missing(self) -> str | None:
        """`pip install`, where torch, transformers or peft is not there."""
        return None if all(find_spec(name) for name in NEEDS) else "pip install 'ollamake[peft]'"

    def versions(self) -> Mapping[str, str]:
        """Those of torch, transformers and peft, as installed."""
        return {name: version(name) for name in NEEDS if find_spec(name)}

    def command(self, job: Job) -> Command:
        """Python, the same that runs here, with `peft_training` and the job's folder."""
        argv = (sys.executable, "-m", "ollamake.trainers.peft_training", str(job.folder))
        # Nothing is fetched for a base that is there as a GGUF, and nobody is told of the training.
        offline = {} if "hf" in job.base else {"HF_HUB_OFFLINE": "1"}
        environment = {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false", **offline}
        return Command(argv=argv, environment=environment)

    def event(self, line: str) -> Event | None:
        """The training tells in Event's own words."""
        return json_event(line)
