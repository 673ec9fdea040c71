"""The steps of one training: where it stands, how it goes on, what it keeps."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from ollamake.trainers.examples import Example
from ollamake.trainers.packing import batches, pack
from ollamake.trainers.peft_checkpoints import TENSORS, read_state, write_checkpoint
from ollamake.trainers.peft_lora import Weights
from ollamake.trainers.peft_loss import learn, measured
from ollamake.trainers.peft_options import Options
from ollamake.trainers.peft_refusal import RefusedError

SECONDS = 60.0  # between two checkpoints; OLLAMAKE_CHECKPOINT_SECONDS says otherwise
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW remembers of each weight

Tell = Callable[..., None]


@dataclass(slots=True)
class Standing:
    """Where a training stands; with the weights and AdamW's moments, all of it."""

    step: int = 0  # that are done
    evaluations: list[tuple[int, float]] = field(default_factory=list)  # epoch, loss of the holdout
    stopped: bool = False  # early, for want of better losses

    @property
    def best(self) -> tuple[int, float] | None:
        """The epoch with the least loss of the holdout, the first of them, and that loss."""
        return min(self.evaluations, key=lambda evaluation: evaluation[1], default=None)


class Training:
    """A model with its LoRA, what it learns, and where it stands."""

    def __init__(
        self,
        model: Any,
        weights: Weights,
        examples: Sequence[Example],
        holdout: Sequence[Example],
        *,
        recipe: Mapping[str, Any],
        options: Options,
        tell: Tell,
    ) -> None:
        self.model, self.weights, self.examples, self.holdout = model, weights, examples, holdout
        self.recipe, self.options, self.tell = recipe, options, tell
        self.an_epoch = -(-len(examples) // recipe["batch_size"])  # steps
        self.steps = self.an_epoch * recipe["epochs"]
        self.tokens = sum(len(example.ids) for example in examples) * recipe["epochs"]
        self.at = Standing()
        self.best: torch.Tensor | None = None  # the weights of the best epoch, where they are to be kept
        self.optimizer = torch.optim.AdamW([weights.vector], lr=recipe["learning_rate"], weight_decay=options.weight_decay)

    def run(self, work: Path) -> None:
        """Train to the end, with checkpoints in `work`; the weights are then those to be kept."""
        begun, seen = time.monotonic(), 0
        kept, patience = begun, float(os.environ.get("OLLAMAKE_CHECKPOINT_SECONDS", SECONDS))
        first = self.at.step
        for batch in self._to_come():
            loss, rate = self._step(batch)
            seen += sum(len(example.ids) for example in batch)
            self._tell_step(loss, rate, seen, time.monotonic() - begun, self.at.step - first)
            if self.at.step % self.an_epoch == 0:
                self._end_epoch(self.at.step // self.an_epoch)
            if self.at.step < self.steps and time.monotonic() - kept >= patience:
                self._keep(work)
                kept = time.monotonic()
        if self.best is not None and self.at.best is not None:
            self.weights.put(self.best)
            epoch, loss = self.at.best
            self.tell("note", step=self.at.step, reason=f"kept the adapter of epoch {epoch}: holdout loss {loss:.4f}")

    def _to_come(self) -> Iterator[list[Example]]:
        """The batches from here to the end, in their order."""
        epoch, done = divmod(self.at.step, self.an_epoch)
        for coming in range(epoch, self.recipe["epochs"]):
            for batch in batches(self.examples, size=self.recipe["batch_size"], seed=self.recipe["seed"], epoch=coming)[done:]:
                if self.at.stopped:
                    return
                yield batch
            done = 0

    def _step(self, batch: Sequence[Example]) -> tuple[float, float]:
        """Learn a batch; its loss, and the learning rate at which it was learnt."""
        rate = self.recipe["learning_rate"] * share(self.at.step, self.steps, self.options)
        self.optimizer.param_groups[0]["lr"] = rate
        self.weights.gradient.zero_()
        loss = learn(self.model, pack(batch))
        length = float(self.weights.gradient.norm())
        if not math.isfinite(length):
            msg = f"the loss is no longer a number, at step {self.at.step + 1}"
            raise RefusedError(msg, fix="lower the learning_rate", key="learning_rate")
        if length > self.options.max_grad_norm:
            self.weights.gradient.mul_(self.options.max_grad_norm / length)
        self.optimizer.step()
        self.at.step += 1
        return loss, rate

    def _tell_step(self, loss: float, rate: float, seen: int, seconds: float, done: int) -> None:
        left = seconds / done * (self.steps - self.at.step)
        self.tell(
            "step",
            step=self.at.step,
            steps=self.steps,
            epoch=round(self.at.step / self.an_epoch, 3),
            loss=round(loss, 5),
            learning_rate=rate,
            tokens_per_second=round(seen / seconds, 1),
            seconds_left=round(left, 1),
        )

    def _end_epoch(self, epoch: int) -> None:
        """Measure the holdout, and decide by it what is kept, and whether there is a point in going on."""
        if not self.holdout:
            return
        self.model.eval()
        sums = [measured(self.model, pack(batch)) for batch in batches(self.holdout, size=self.recipe["batch_size"], seed=0, epoch=0)]
        self.model.train()
        loss = sum(total for total, _ in sums) / max(1, sum(count for _, count in sums))
        self.at.evaluations.append((epoch, loss))
        self.tell("evaluation", step=self.at.step, steps=self.steps, epoch=epoch, loss=loss)
        assert self.at.best is not None
        if self.recipe.get("keep") == "best" and self.at.best[0] == epoch:
            self.best = self.weights.copy()
        patience = self.recipe.get("patience")
        if patience and epoch - self.at.best[0] >= patience and epoch < self.recipe["epochs"]:
            self.at.stopped = True
            said = f"stopped after epoch {epoch} of {self.recipe['epochs']}: no better holdout loss than that of epoch {self.at.best[0]}"
            self.tell("note", step=self.at.step, reason=f"{said}, {self.at.best[1]:.4f}")

    def _keep(self, work: Path) -> None:
        moments = self.optimizer.state[self.weights.vector]
        tensors = {"weights": self.weights.copy(), **{name: moments[name] for name in MOMENTS}, "chance": torch.get_rng_state()}
        if self.model.device.type == "cuda":
            tensors["chance_gpu"] = torch.cuda.get_rng_state()
        if self.best is not None:
            tensors["best"] = self.best
        try:
            write_checkpoint(work, self.at.step, {**asdict(self.at), "of": self._identity()}, save(tensors))
        except OSError as error:  # a full disk ends no training
            self.tell("note", step=self.at.step, reason=f"no checkpoint was written: {error.strerror}")
            return
        self.tell("checkpoint", step=self.at.step, steps=self.steps)

    def resume(self, checkpoint: Path) -> bool:
        """Go on from this checkpoint; False, and nothing done, where it is not one of this training."""
        state = read_state(checkpoint)
        if state is None or state["of"] != self._identity():
            return False
        tensors = load_file(checkpoint / TENSORS)
        self.at = Standing(state["step"], [(epoch, loss) for epoch, loss in state["evaluations"]], state["stopped"])
        self.weights.put(tensors["weights"])
        like = self.weights.vector
        moments = {name: tensors[name].to(like.device) for name in MOMENTS}
        self.optimizer.state[like] = {"step": torch.tensor(float(self.at.step)), **moments}
        self.best = tensors["best"].to(like.device) if "best" in tensors else None
        torch.set_rng_state(tensors["chance"])
        if "chance_gpu" in tensors and like.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["chance_gpu"])
        return True

    def _identity(self) -> dict[str, Any]:
        """What has to be the same, for a checkpoint to be of this training."""
        return {"recipe": dict(self.recipe), "steps": self.steps, "tokens": self.tokens, "device": self.model.device.type}


def share(step: int, steps: int, options: Options) -> float:
    """That of the learning rate which the step behind this many has: it rises in a straight line, then falls as the schedule says."""
    warmup = max(1, round(steps * options.warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    left = (steps - step) / max(1, steps - warmup)
    if options.lr_schedule == "constant":
        return 1.0
    return left if options.lr_schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
