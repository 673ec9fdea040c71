"""Runs llama-finetune and tells what it does, as events: `python -m ollamake.trainers.llama_cpp_training FOLDER PROGRAM...`.

A program of its own, for llama-finetune knows neither records nor chats, writes its progress to standard error, ends its lines with carriage returns,
and counts anew in each epoch, whose number it does not say.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError
from ollamake.trainers.llama_cpp_text import Windows, windows_of

TEXT, RESULT = "work/windows.txt", "model.gguf"
# train: [███▌    ] data=0000011/0000042 loss=1.72197±0.05785 acc=57.21±0.83% t=00:02:25 ETA=00:06:48
STEP = re.compile(r"train: \[.*\] data=(?P<step>\d+)/(?P<steps>\d+) loss=(?P<loss>\S+?)±")
LOSS_OF_EACH = 1000  # steps of an epoch: its mean loss, of five decimals, tells that of a step no better further on
# What it says when it ends at once, and what that is in the catalog.
UNKNOWN = re.compile(r"error: invalid argument: --(?P<key>\S+)")
REFUSED = re.compile(r'error while handling argument "--(?P<key>[^"]+)": (?P<why>.*)')
NO_MEMORY = re.compile(r"failed to allocate|unable to allocate|bad_alloc|out of memory", re.IGNORECASE)
NOISE = re.compile(r"epoch \S+ lr=")  # said at each step


class Told(Exception):  # noqa: N818 - what ends a training is told as an event
    """The training can't go on, for a reason that the user can mend."""

    def __init__(self, reason: str, *, fix: str, key: str = "") -> None:
        super().__init__(reason)
        self.event = {"event": "failed", "reason": reason, "fix": fix, "key": key}


class Telling:
    """Lines of llama-finetune -> events."""

    def __init__(self, *, epochs: int, tokens: int) -> None:
        self.epochs, self.tokens = epochs, tokens
        self.epoch = 0  # that are done
        self.last = 0  # step of this epoch
        self.mean = 0.0  # loss of this epoch so far
        self.begun: float | None = None

    def event(self, line: str, now: float) -> dict[str, Any] | None:
        """What a line tells; `now` in seconds, of any clock. Raises Told where it tells of the end."""
        found = STEP.search(line)
        if found is None:
            return None
        step, windows, mean = int(found["step"]), int(found["steps"]), float(found["loss"])
        if not math.isfinite(mean):
            fix = "write a smaller `learning_rate` into the model's `train:`"
            msg = f"the loss is no number any more ({found['loss']}), at step {step} of epoch {self.epoch + 1}"
            raise Told(msg, fix=fix, key="learning_rate")
        if step <= self.last:
            self.epoch, self.last, self.mean = self.epoch + 1, 0, 0.0
        loss = mean * step - self.mean * self.last if step == self.last + 1 and step <= LOSS_OF_EACH else mean
        self.last, self.mean = step, mean
        done, steps = self.epoch * windows + step, self.epochs * windows
        facts: dict[str, Any] = {"event": "step", "step": done, "steps": steps, "epoch": done / windows, "loss": round(loss, 5)}
        if self.begun is None:  # the first line comes when its step is done
            self.begun = now
        elif now > self.begun:
            seconds = (now - self.begun) / (done - 1)
            facts |= {"seconds_left": round(seconds * (steps - done), 1), "tokens_per_second": round(self.tokens / seconds, 1)}
        return facts


def fault(line: str) -> Told | None:
    """What is wrong by what a line says, where that is something of the catalog's."""
    if (found := UNKNOWN.search(line)) is not None:
        return Told(f"options: llama-finetune knows no --{found['key']}", fix="see `llama-finetune --help`", key=f"options.{found['key']}")
    if (found := REFUSED.search(line)) is not None:
        reason = f"options: llama-finetune does not take this value of --{found['key']}: {found['why']}"
        return Told(reason, fix="see `llama-finetune --help`", key=f"options.{found['key']}")
    if NO_MEMORY.search(line):
        reason = f"there is not memory enough to train all of the base's weights in float32: {line.strip()}"
        return Told(reason, fix="write a smaller `max_tokens`, use a smaller base, or train a LoRA: `trainer: peft`")
    return None


def arguments(job: Mapping[str, Any], windows: Windows) -> list[str]:
    """Those of llama-finetune, run in the job's folder, for what job.json says."""
    recipe, size = job["recipe"], str(windows.size)
    return [
        *("--model", str(job["base"]["path"]), "--file", TEXT, "--output", f"{job['out']}/{RESULT}"),
        *("--ctx-size", size, "--batch-size", size, "--ubatch-size", size),
        *("--epochs", str(recipe["epochs"]), "--learning-rate", f"{recipe['learning_rate']:g}", "--val-split", "0"),
        *("--n-gpu-layers", "999" if job["gpus"] else "0"),
        *_flags(recipe.get("options", {})),
    ]


def main(argv: Sequence[str]) -> int:
    """Run the program in the job's folder; return its exit code, or 1 where it has told of a failure."""
    folder, *program = argv
    os.chdir(folder)
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    _tell({"event": "loading"})
    try:
        windows = windows_of(Path(job["text"]), Path(job["base"]["gguf"]), int(job["recipe"]["max_tokens"]))
        Path(TEXT).parent.mkdir(exist_ok=True)
        Path(TEXT).write_bytes(windows.text.encode())
        code = _run([*program, *arguments(job, windows)], job, windows)
    except Told as told:
        _tell(told.event)
        return 1
    except BuildError as error:
        reason, _, fix = str(error).partition("\n  fix: ")
        _tell({"event": "failed", "reason": reason, "fix": fix})
        return 1
    if code == 0:
        _tell({"event": "done"})
    return code


def _run(argv: Sequence[str], job: Mapping[str, Any], windows: Windows) -> int:
    epochs = int(job["recipe"]["epochs"])
    telling = Telling(epochs=epochs, tokens=windows.size)
    # What the user's environment says for llama.cpp's other programs is not part of the recipe.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")}
    wrong: Told | None = None
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
    ) as process:
        steps = epochs * windows.count
        _tell({"event": "start", "steps": steps, "examples": job["records"], "tokens": steps * windows.size})
        try:
            for line in _lines(process):
                event = telling.event(line, time.monotonic())
                if event is not None:
                    _tell(event)
                elif line.strip() and not NOISE.search(line):
                    sys.stdout.write(line)  # for the log
                    sys.stdout.flush()
                    wrong = fault(line) or wrong
        except Told:
            process.kill()
            raise
    if process.returncode and wrong is not None:
        raise wrong
    return process.returncode if process.returncode >= 0 else 128 - process.returncode  # a signal, as a shell has it


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None  # it is a pipe
    yield from process.stdout


def _flags(options: Mapping[str, Any]) -> list[str]:
    """Native options: `true` is one without a value, `false` is one that is not given."""
    flags: list[str] = []
    for key, value in options.items():
        if value is not False:
            flags += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return flags


def _tell(event: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
