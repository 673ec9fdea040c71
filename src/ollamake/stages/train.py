"""Text and base -> adapter directory, by a trainer in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.faults import nearest
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.logs import last_lines
from ollamake.lora.architecture import Architecture, read_architecture
from ollamake.lora.peft_adapter import CONFIG, WEIGHTS, read_peft_adapter
from ollamake.ollama.server import cache_folder
from ollamake.progress import TrainingProgress
from ollamake.state import RECEIPT, Sealed, file_digest, write_receipt, write_whole
from ollamake.trainers.port import Command, Event, Job, Trainer, trainer

PATIENCE = 10.0  # seconds that a trainer has to end when it is told to


def train(step: Step, model: Model, sealed: Sealed) -> None:
    """Train the model's adapter; its folder appears whole, with its receipt, or not at all. Raises BuildError."""
    program = trainer(model.train.trainer)
    install = program.missing()
    if install is not None:
        msg = f"{model.mark}: model {model.name!r}: trainer {model.train.trainer!r} is not installed"
        raise BuildError(msg, fix=install)
    architecture = read_architecture(Path(model.base.gguf))
    _check_targets(model, architecture)
    adapter = _place_for(Path(step.writes[0]).parent)
    job = _job(step, model)
    try:
        steps = _run(program, job, job.folder.parent / "train.log", model)
        read_peft_adapter(job.out, architecture)
        targets = {path: digest_file(job.out / Path(path).name) for path in step.writes}
        outcome = {"trainer": model.train.trainer, "recipe": dict(job.recipe), "steps": steps}
        write_receipt(job.out / RECEIPT, sealed(targets, outcome))
        _deliver(job.out, adapter)
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)


def _place_for(adapter: Path) -> Path:
    """The adapter's folder, where it may be a link to another, once it is sure that it can be put there: before hours are spent on it."""
    place = Path(os.path.realpath(adapter))
    if place.exists() and not place.is_dir():
        msg = f"{adapter} is in the way: it is not a folder"
        raise BuildError(msg, fix="move it away, then run `doit` again")
    there = next(folder for folder in place.parents if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        msg = f"{adapter} can't be written: {there} is no folder that you may write to"
        raise BuildError(msg, fix="give yourself the right to, then run `doit` again")
    return place


def _check_targets(model: Model, architecture: Architecture) -> None:
    for name in model.train.target_modules:
        if name not in architecture.layers:
            msg = f"{model.mark}: model {model.name!r}: base {model.base.name!r} has no layer {name!r} that takes a LoRA"
            raise BuildError(msg, fix=f"train.target_modules: {nearest(name, architecture.layers)}")


def _job(step: Step, model: Model) -> Job:
    """The job's folder, made anew, with the text and the job in it."""
    text = Path(step.reads[0])
    for left in text.parent.glob("job-*"):  # by builds that were killed
        if not _is_running(left.name.split("-")[1]):
            shutil.rmtree(left, ignore_errors=True)
    # A folder of its own for each training: a program that outlived its build can't write into the next one's.
    folder = Path(tempfile.mkdtemp(dir=text.parent, prefix=f"job-{os.getpid()}-")).absolute()
    base: dict[str, Any] = {"gguf": str(Path(model.base.gguf).absolute()), "digest": file_digest(model.base.gguf)}
    if model.base.hf is not None:
        base["hf"] = model.base.hf
    shutil.copyfile(text, folder / text.name)
    job = Job(folder=folder, text=folder / text.name, base=base, recipe=model.train.recipe, cache=cache_folder())
    job.out.mkdir()
    write_whole(folder / "job.json", json.dumps(job.as_json(), indent=2) + "\n")
    return job


def _run(program: Trainer, job: Job, log: Path, model: Model) -> int:
    """Run the training, show its progress, and return the number of steps that it told of."""
    command = program.command(job)
    last = Event(kind="loading")
    steps = 0
    with log.open("w", encoding="utf-8") as output, TrainingProgress(model.name) as progress, _started(command, output) as process:
        assert process.stdout is not None  # it is a pipe
        try:
            for line in process.stdout:
                event = program.event(line)
                if event is None:
                    output.write(line)
                    output.flush()
                else:
                    last = event
                    steps = max(steps, event.step)
                    progress.show(event)
            code = process.wait()
        finally:
            _end(process)
    if last.kind == "failed":
        msg = f"{model.mark}: model {model.name!r}: {last.reason}"
        raise BuildError(msg)
    if code:
        ended = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}"
        said = last_lines(log)
        msg = f"{model.mark}: model {model.name!r}: trainer {model.train.trainer!r} {ended}" + (f"; {_below_here(log)} ends:\n{said}" if said else "")
        raise BuildError(msg, fix=f"read {_below_here(log)}; then run `doit` again")
    return steps


def _started(command: Command, log: Any) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command.argv,
            env={**os.environ, **command.environment},
            stdin=subprocess.PIPE if command.ends_with_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # a group that can be ended as one; Ctrl-C is for us
        )
    except OSError as error:
        msg = f"the trainer can't be started: {command.argv[0]}: {error.strerror}"
        raise BuildError(msg, fix="mend train.command in the catalog; paths are relative to the folder of dodo.py") from error


def _end(process: subprocess.Popen[str]) -> None:
    """End the trainer and what it has started, if it still runs: this build is being ended."""
    for deadly in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, deadly)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        return False
    return True


def _deliver(out: Path, adapter: Path) -> None:
    """Put the adapter's files into its folder, whole; what was there before is replaced."""
    adapter.parent.mkdir(parents=True, exist_ok=True)
    partial, before = (adapter.with_name(f".{adapter.name}.{kind}") for kind in ("partial", "before"))
    for left in (partial, before):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    for name in (CONFIG, WEIGHTS, RECEIPT):
        shutil.move(out / name, partial / name)
    if adapter.exists():
        os.rename(adapter, before)
    os.rename(partial, adapter)
    shutil.rmtree(before, ignore_errors=True)


def _below_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
