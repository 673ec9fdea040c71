"""Text and base -> adapter directory, by a trainer in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.faults import nearest
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.logs import last_lines
from ollamake.lora.architecture import Architecture, read_architecture
from ollamake.lora.peft_adapter import CONFIG, WEIGHTS, read_peft_adapter
from ollamake.ollama.server import cache_folder
from ollamake.progress import TrainingProgress
from ollamake.state import file_digest, write_whole
from ollamake.trainers.port import Command, Event, Job, Trainer, trainer

PATIENCE = 10.0  # seconds that a trainer has to end when it is told to


def train(step: Step, model: Model) -> dict[str, Any]:
    """Train the model's adapter; its folder appears whole or not at all. Raises BuildError."""
    program = trainer(model.train.trainer)
    install = program.missing()
    if install is not None:
        msg = f"{model.mark}: model {model.name!r}: trainer {model.train.trainer!r} is not installed"
        raise BuildError(msg, fix=install)
    architecture = read_architecture(Path(model.base.gguf))
    _check_targets(model, architecture)
    job = _job(step, model)
    steps = _run(program, job, job.folder.parent / "train.log", model)
    read_peft_adapter(job.out, architecture)
    _deliver(job.out, Path(step.writes[0]).parent)
    shutil.rmtree(job.folder)
    return {"trainer": model.train.trainer, "recipe": dict(job.recipe), "steps": steps}


def _check_targets(model: Model, architecture: Architecture) -> None:
    for name in model.train.target_modules:
        if name not in architecture.modules:
            msg = f"{model.mark}: model {model.name!r}: base {model.base.name!r} has no layer {name!r} that takes a LoRA"
            raise BuildError(msg, fix=f"train.target_modules: {nearest(name, architecture.modules)}")


def _job(step: Step, model: Model) -> Job:
    """The job's folder, made anew, with the text and the job in it."""
    text = Path(step.reads[0])
    folder = text.parent.absolute() / "job"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
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
        )
    except OSError as error:
        msg = f"the trainer can't be started: {command.argv[0]}: {error.strerror}"
        raise BuildError(msg, fix="mend train.command in the catalog; paths are relative to the folder of dodo.py") from error


def _end(process: subprocess.Popen[str]) -> None:
    """End the trainer, if it still runs: this build is being ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def _deliver(out: Path, adapter: Path) -> None:
    """Put the adapter's two files into its folder, whole; what was there before is replaced."""
    adapter.parent.mkdir(parents=True, exist_ok=True)
    partial = adapter.with_name(f".{adapter.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.move(out / name, partial / name)
    if adapter.exists():
        shutil.rmtree(adapter)
    os.rename(partial, adapter)


def _below_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
