"""What trainers have in common that are built on transformers' Trainer, and live in an environment of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ollamake.trainers.adapter_folder import adapter_folder
from ollamake.trainers.environment import Environment
from ollamake.trainers.hf_checkpoints import whole_checkpoint
from ollamake.trainers.packages import install
from ollamake.trainers.port import HF, Capabilities, Trainer


class HfTrainer(Trainer, Protocol):
    """Reads chats, goes on from transformers' checkpoints in the job's `work`, and leaves a PEFT directory in `out`."""

    text_format: str = "chat"
    capabilities: Capabilities = Capabilities(
        reads_base=HF, resumes=True, reports_progress=True, evaluates=True, starts_from_adapter=True, deterministic=True
    )
    needs: Mapping[str, str]  # package -> the oldest version that was tried
    wanted: str  # what pip installs, to have them all

    def missing(self, environment: Environment) -> str | None:
        """`pip install`, where a package is not there, or is too old."""
        return install(environment, self.needs, self.wanted)

    def versions(self, environment: Environment) -> Mapping[str, str]:
        """Those of the trainer and of what it is built on, as installed there."""
        return environment.versions(self.needs)

    def checkpoint(self, folder: Path) -> Path | None:
        """The last whole one that transformers' Trainer has written."""
        return whole_checkpoint(folder / "work")

    def collect(self, folder: Path) -> Path:
        """The PEFT directory."""
        return adapter_folder(folder / "out")
