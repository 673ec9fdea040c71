"""Trainings on this machine: one at a time on each GPU, and one on the CPU, whatever repos and builds they are of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from ollamake.errors import BuildError
from ollamake.locks import try_lock
from ollamake.say import say

CPU, ELSEWHERE = "cpu", "elsewhere"
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
AGAIN = 0.5  # seconds between two looks whether a GPU is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """What a training has for itself."""

    files: tuple[int, ...]  # descriptors of its locks: who inherits them holds them too
    environment: Mapping[str, str]  # shows it those GPUs and no other
    gpus: int  # how many; 0: it has the CPU


@cache
def gpus() -> tuple[str, ...]:
    """The GPUs that a training may use, as its environment names them: those that the user shows us, else all that the driver's tool lists."""
    name = variable()
    if name in os.environ:
        return tuple(part.strip() for part in os.environ[name].split(",") if part.strip() not in {"", "-1"})
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    done = subprocess.run([tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return tuple(done.stdout.split()) if done.returncode == 0 else ()


def variable() -> str:
    """What tells a program which GPUs are its own: the one that we were told by, else CUDA's."""
    return next((name for name in VISIBLE if name in os.environ), VISIBLE[0])


def slots_of(wanted: int, *, launched: bool = False) -> tuple[str, int]:
    """What a training that wants so many GPUs takes: of the kind "gpu", CPU or ELSEWHERE, and how many."""
    if launched:
        return (ELSEWHERE, 1)
    return ("gpu", wanted) if wanted and gpus() else (CPU, 1)


def most_at_once() -> dict[str, int]:
    """How many slots of each kind there are; elsewhere, as many as a run has processes."""
    return {"gpu": len(gpus()), CPU: 1, ELSEWHERE: sys.maxsize}


@contextmanager
def training_slots(wanted: int, folder: Path, name: str) -> Iterator[Slots]:
    """Hold so many GPUs, or the CPU, for the training of this model; wait for those that other builds have. Raises BuildError where there are not so many.

    The locks lie in `folder`, and go with the last process that has inherited them: a trainer that outlives its build still keeps others away.
    """
    kind, count = slots_of(wanted)
    choice = gpus() if kind == "gpu" else (CPU,)
    if count > len(choice):
        msg = f"model {name!r}: train.resources asks for {count} GPUs, and this machine has {len(choice)}"
        raise BuildError(msg, fix=f"write `resources: {{gpu: {len(choice)}}}`")
    with ExitStack() as stack:
        held = _held(choice, count, folder, name, stack)
        # A machine without a GPU is left as it is: what a trainer finds there is its own affair.
        shown = {variable(): ",".join(held if kind == "gpu" else ())} if gpus() else {}
        yield Slots(files=tuple(file.fileno() for file in held.values()), environment=shown, gpus=len(held) if kind == "gpu" else 0)


def _held(choice: tuple[str, ...], count: int, folder: Path, name: str, stack: ExitStack) -> dict[str, IO[Any]]:
    told = False
    while True:
        with ExitStack() as attempt:
            held: dict[str, IO[Any]] = {}
            for slot in choice:
                file: IO[Any] = attempt.enter_context(_lock_path(folder, slot).open("a+", encoding="utf-8"))
                if len(held) < count and try_lock(file):
                    held[slot] = file
            if len(held) == count:
                for file in held.values():
                    file.truncate(0)
                    file.write(f"{name}, process {os.getpid()}")
                    file.flush()
                stack.push(attempt.pop_all())
                return held
        if not told:
            say(f"   {name}: waiting for the {_kind(choice)}: {_holders(choice, folder)}")
            told = True
        time.sleep(AGAIN)


def _lock_path(folder: Path, slot: str) -> Path:
    return folder / f"training-{slot.replace('/', '_')}.lock"


def _kind(choice: tuple[str, ...]) -> str:
    return "CPU" if choice == (CPU,) else "GPU" if len(choice) == 1 else "GPUs"


def _holders(choice: tuple[str, ...], folder: Path) -> str:
    found = (_lock_path(folder, slot).read_text(encoding="utf-8") for slot in choice)
    return f"the training of {'; '.join(filter(None, found)) or 'another model'} has it"
