"""Weights & Biases, by its own library: a run for each training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ollamake.sinks.port import FINISHED, Outcome, Point, TrainingRun

PROJECT = "ollamake"
STEP = "step"  # the axis: steps of a training that goes on may come twice, which the library's own counter does not take


class WandbSink:
    """A run of Weights & Biases."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def begin(self, run: TrainingRun) -> str:
        """Begin a run in the project. Nothing is sent but what we say: no environment, no code, no requirements, no output, no use of the machine."""
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            host="",  # or else the name of this machine is sent
            init_timeout=20,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        more = {key: self.options[key] for key in ("entity", "mode") if key in self.options}
        self.run = wandb.init(
            project=self.options.get("project", PROJECT),
            name=run.name,
            id=run.id,
            resume=None if run.id is None else "allow",
            dir=run.folder,
            config={**run.params, **run.tags} if run.id is None else None,
            reinit="create_new",
            settings=settings,
            **more,
        )
        self.run.define_metric("*", step_metric=STEP)
        return str(self.run.id)

    def points(self, points: Sequence[Point]) -> None:
        """As its history, by step."""
        for point in points:
            self.run.log({STEP: point.step, **point.values})

    def note(self, facts: Mapping[str, Any]) -> None:
        """In its summary."""
        self.run.summary.update(dict(facts))

    def end(self, outcome: Outcome | None) -> None:
        """With its state, and why it failed."""
        if outcome is not None:
            self.note({**outcome.facts, **({"reason": outcome.reason} if outcome.reason else {})})
        self.run.finish(exit_code=0 if outcome is None or outcome.state == FINISHED else 1)
