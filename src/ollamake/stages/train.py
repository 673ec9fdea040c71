"""Text and base -> adapter directory, by a trainer in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.expanded import told
from ollamake.digest import digest_file
from ollamake.engines.this_machine import Slots, training_slots
from ollamake.errors import BuildError
from ollamake.folders import cache_folder
from ollamake.graph import Step
from ollamake.logs import last_lines
from ollamake.lora.architecture import Architecture, read_architecture
from ollamake.lora.peft_adapter import CONFIG, WEIGHTS, read_peft_adapter
from ollamake.progress import TrainingProgress
from ollamake.spelling import nearest
from ollamake.state.digests import file_digest
from ollamake.state.files import RECEIPT, sync_folder, write_whole
from ollamake.state.receipts import READ, Receipt, Sealed, read_receipt, write_receipt
from ollamake.trainers import guard
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import Command, Event, Job, Trainer, trainer

LONGEST = 1 << 16  # characters of a line that are read at once: not all programs write lines


def train(step: Step, model: Model, begin: Callable[[], Sealed], is_current: Callable[[Receipt], bool]) -> Receipt:
    """Train the model's adapter; its folder appears whole, with its receipt, or not at all. Raises BuildError.

    `begin` is called when the machine is ours. A training that a build before this one has finished is taken up where `is_current` says that its
    receipt is that of now.
    """
    program = trainer(model.train.trainer)
    install = program.missing(Environment(model.train.env))
    if install is not None:
        msg = f"{model.mark}: model {model.name!r}: trainer {model.train.trainer!r} is not installed"
        raise BuildError(msg, fix=install)
    architecture = read_architecture(Path(model.base.gguf))
    _check_targets(model, architecture)
    adapter = _place_for(Path(step.writes[0]).parent)
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with training_slots(model.train.gpus, cache, model.name) as slots:
        finished = _finished(step, adapter, is_current)
        clear_jobs(step)
        if finished is not None:
            return finished
        sealed = begin()  # what is read from here on is what is there now, and not what was there before we waited
        job = _job(step, model, slots.gpus)
        try:
            steps = _run(program, job, job.folder.parent / "train.log", model, slots)
            read_peft_adapter(program.collect(job.folder), architecture)
        except BaseException:
            shutil.rmtree(job.folder, ignore_errors=True)
            raise
        # The job stays until its adapter is in its place: where that fails, the next build takes it from there.
        targets = {path: digest_file(job.out / Path(path).name) for path in step.writes}
        outcome = {"trainer": told(model.train.trainer), "recipe": told(model.train.recipe), "steps": steps, "data": _data_of(step)}
        receipt = sealed(targets, {**outcome, READ: {step.reads[0]: digest_file(job.text)}})
        write_receipt(job.out / RECEIPT, receipt, durable=True)
        _deliver(job.out, adapter)
        shutil.rmtree(job.folder, ignore_errors=True)
    return receipt


def _finished(step: Step, adapter: Path, is_current: Callable[[Receipt], bool]) -> Receipt | None:
    """The receipt of what would be trained now and is there: delivered while we waited, or finished in a job of a build that was killed then."""
    for folder in (adapter, *(left / "out" for left in _jobs_left(step))):
        receipt = read_receipt(folder / RECEIPT)
        if receipt is None or not is_current(receipt) or any(_digest_in(folder, path) != digest for path, digest in receipt.record.targets.items()):
            continue
        if folder != adapter:
            _deliver(folder, adapter)
        return receipt
    return None


def _digest_in(folder: Path, path: str) -> str | None:
    try:
        return digest_file(folder / Path(path).name)
    except OSError:
        return None


def _data_of(step: Step) -> list[dict[str, Any]]:
    """The datasets behind the text: name, digest and number of records of each, as its conversion has noted them."""
    text = Path(step.reads[0])
    receipt = read_receipt(text.parent / f"convert-{step.name}.{RECEIPT}")
    known = receipt is not None and receipt.record.targets.get(step.reads[0]) == file_digest(text)
    return list(receipt.outcome.get("data", [])) if receipt and known else []


def clear_jobs(step: Step) -> None:
    """Remove what builds have left that were killed while they trained this."""
    for left in _jobs_left(step):
        shutil.rmtree(left, ignore_errors=True)


def _jobs_left(step: Step) -> list[Path]:
    """The folders of jobs of this training. Their builds are gone: this one has the repo's run lock."""
    return list(Path(step.reads[0]).parent.glob("job-*"))


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


def _job(step: Step, model: Model, gpus: int) -> Job:
    """The job's folder, made anew, with the text and the job in it."""
    text = Path(step.reads[0])
    # A folder of its own for each training: a program that outlived its build can't write into the next one's.
    folder = Path(tempfile.mkdtemp(dir=text.parent, prefix="job-")).absolute()
    base: dict[str, Any] = {"gguf": str(Path(model.base.gguf).absolute()), "digest": file_digest(model.base.gguf)}
    if model.base.source is not None:
        base["hf"] = model.base.source
    shutil.copyfile(text, folder / text.name)
    job = Job(
        name=model.name,
        folder=folder,
        text=folder / text.name,
        records=_lines(text),
        base=base,
        recipe=model.train.recipe,
        cache=cache_folder(),
        env=model.train.env,
        gpus=gpus,
    )
    job.out.mkdir()
    job.work.mkdir()
    write_whole(folder / "job.json", json.dumps(job.as_json(), indent=2) + "\n")
    return job


def _lines(text: Path) -> int:
    with text.open("rb") as lines:
        return sum(1 for _ in lines)


def _run(program: Trainer, job: Job, log: Path, model: Model, slots: Slots) -> int:
    """Run the training, show its progress, and return the number of steps that it told of."""
    command = program.plan(job)
    for name, content in command.files.items():
        write_whole(job.folder / name, content)
    last = Event(kind="loading")
    steps = 0
    with log.open("w", encoding="utf-8") as output, TrainingProgress(model.name) as progress, _started(command, job.folder, output, slots) as process:
        assert process.stdout is not None  # it is a pipe
        read = process.stdout.readline
        try:
            for line in iter(lambda: read(LONGEST), ""):
                event = program.progress(line)
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


def _started(command: Command, folder: Path, log: Any, slots: Slots) -> subprocess.Popen[str]:
    """The trainer, behind a guard that ends it when this process is gone or closes its standard input."""
    program = command.argv[0]
    if shutil.which(program) is None:
        msg = f"the trainer can't be started: {program}: {'Permission denied' if os.path.exists(program) else 'No such file or directory'}"
        raise BuildError(msg, fix="mend train.command in the catalog; paths are relative to the folder of dodo.py")
    inherited = " ".join(map(str, slots.files))
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, *command.argv],
        cwd=folder if command.in_job else None,
        env={**os.environ, **slots.environment, **command.environment, "OLLAMAKE_INHERITED": inherited},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us
        pass_fds=slots.files,
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End the trainer and what it has started, if it still runs: this build is being ended."""
    assert process.stdin is not None  # it is a pipe
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3 * guard.PATIENCE)


def _deliver(out: Path, adapter: Path) -> None:
    """Put the adapter's files into its folder, whole; what was there before is replaced."""
    adapter.parent.mkdir(parents=True, exist_ok=True)
    partial, before = (adapter.with_name(f".{adapter.name}.{kind}") for kind in ("partial", "before"))
    for left in (partial, before):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    for name in (CONFIG, WEIGHTS, RECEIPT):
        shutil.copyfile(out / name, partial / name)
        with (partial / name).open("rb") as file:
            os.fsync(file.fileno())  # hours went into it
    sync_folder(partial)
    if adapter.exists():
        os.rename(adapter, before)
    os.rename(partial, adapter)
    sync_folder(adapter.parent)
    shutil.rmtree(before, ignore_errors=True)


def _below_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
