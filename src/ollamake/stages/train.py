"""Text and base -> adapter directory, or whole weights, by a trainer in a process of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ollamake.catalog import Model
from ollamake.catalog.expanded import told
from ollamake.catalog.launching import launched_by
from ollamake.catalog.outside import SinkPlace
from ollamake.digest import digest_file
from ollamake.engines.chosen import engine_of
from ollamake.engines.launched import NO_MEMORY, SIGNALS, said_alone
from ollamake.engines.port import Ended, Place
from ollamake.errors import BuildError, EngineError, WithdrawnError
from ollamake.folders import cache_folder
from ollamake.graph import Step, holdout_path, holds_out
from ollamake.logs import last_lines
from ollamake.lora.architecture import Architecture, read_architecture
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.lora.whole_weights import WholeWeights
from ollamake.stages.base_forms import base_as_read
from ollamake.stages.curves import keep_curve
from ollamake.stages.delivery import below_here, data_of, deliver, finished, place_for
from ollamake.stages.jobs import Held, clear_jobs, held_job
from ollamake.stages.preflight import MarkOf, check_program, check_recipe, check_request, check_room, check_source
from ollamake.stages.starts import PRINTS, beginning, prints_of
from ollamake.stages.telling import telling
from ollamake.state.files import RECEIPT
from ollamake.state.receipts import BEFORE, READ, Receipt, Sealed, write_receipt
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import ADAPTER, GGUF, Job, Trainer, trainer

WHERE = "where"  # in the outcome of a training that was done on another machine: engine and address. Decides nothing
LOG, EVENTS = "train.log", "events.jsonl"  # beside the text


def train(
    step: Step, model: Model, begin: Callable[[], Sealed], is_current: Callable[[Receipt], bool], mark_of: MarkOf, *, sinks: Sequence[SinkPlace] = ()
) -> Receipt:
    """Train the model; the folder of what it makes appears whole, with its receipt, or not at all. Raises BuildError.

    `begin` is called when the place to train in is ours. A training that a build before this one has finished is taken up where `is_current` says that its
    receipt is that of now; one that was killed goes on from its last checkpoint. `sinks` are told of what is trained here.
    """
    program = trainer(model.train.trainer)
    engine = engine_of(model.engine, launched_by(model))
    if engine.is_here:
        check_program(model, program, mark_of)
    else:
        check_request(model, program, mark_of)
    architecture = read_architecture(Path(model.base.gguf))
    if program.capabilities.makes == ADAPTER:
        check_recipe(model, architecture, mark_of)
    check_source(model, architecture)
    place = place_for(Path(step.writes[0]).parent)
    text, cache = Path(step.reads[0]), cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with engine.place(model.name, model.train.gpus, cache) as where:
        done = finished(step, place, is_current)
        if done is not None:
            clear_jobs(step)
            return done
        if engine.is_here:
            check_room(model, program, architecture, text.parent)
        sealed = begin()  # what is read from here on is what is there now, and not what was there before we waited
        base = base_as_read(model.base, program.capabilities.reads_base if engine.is_here else GGUF, cache)
        start = beginning(step, model, place, base["digest"], architecture)
        holdout = _holdout(step, model, mark_of) if holds_out(model) and program.capabilities.evaluates else None
        versions = dict(program.versions(Environment(model.train.env)))
        keep_curve(step.name, text.parent / EVENTS)  # of the training before: its events are written anew
        with (
            held_job(step, model, program, base, gpus=where.gpus, versions=versions, start=start.folder, holdout=holdout) as held,
            telling(sinks, step, model, sealed, held.job.folder.parent / EVENTS, goes_on=held.job.checkpoint is not None) as ended_well,
        ):
            job = held.job
            ended = _run(program, held, where, model, mark_of)
            try:
                result = _result(program, job, ended, step, architecture)
            except BuildError as error:  # whose path is gone in a moment
                _forget(job, where)
                said = str(error).replace(f"{job.folder}/", "").replace("the training's log", str(below_here(job.folder.parent / LOG)))
                msg = f"{mark_of('train.trainer')}: model {model.name!r}: trainer {model.train.trainer!r}: {said}"
                raise BuildError(msg) from error
            except BaseException:  # another try from its checkpoint would end like this one
                _forget(job, where)
                raise
            # The job stays until its result is in its place: where that fails, the next build takes it from there.
            if program.capabilities.starts_from_adapter:
                prints_of(job.text).tofile(result / PRINTS)
            targets = {path: digest_file(result / Path(path).name) for path in step.writes}
            outcome = {
                "trainer": told(model.train.trainer),
                "recipe": told(model.train.recipe),
                "steps": ended.steps,
                "start": start.facts(),
                "data": data_of(step),
                **({WHERE: ended.where} if ended.where else {}),
            }
            receipt = sealed(targets, {**outcome, READ: {step.reads[0]: digest_file(job.text)}, BEFORE: ended.seconds_before})
            write_receipt(result / RECEIPT, receipt, durable=True)
            deliver(result, place, step)
            keep_curve(step.name, text.parent / EVENTS, targets[step.writes[-1]])
            _forget(job, where)
            ended_well(receipt)
    return receipt


def _forget(job: Job, where: Place) -> None:
    """Nobody goes on with the job."""
    shutil.rmtree(job.folder, ignore_errors=True)
    where.forget()


def _holdout(step: Step, model: Model, mark_of: MarkOf) -> Path | None:
    """The text of the records that are held out; None where no record is. Raises BuildError where they shall decide the adapter."""
    path = Path(holdout_path(step.reads[0]))
    if path.stat().st_size:
        return path
    if not model.train.is_held_to_the_holdout:
        return None
    key = "keep" if model.train.keep == "best" else "patience"
    msg = f"{mark_of(f'train.{key}')}: model {model.name!r}: {key} is decided by records that are held out, and of so few none is"
    raise BuildError(msg, fix=f"write a larger `holdout` into a dataset of the model, or remove `{key}`")


def _run(program: Trainer, held: Held, where: Place, model: Model, mark_of: MarkOf) -> Ended:
    """Run the job. Where it fails, or is ended, it is left for the next build if that can go on with it."""
    job = held.job
    log, events = (job.folder.parent / name for name in (LOG, EVENTS))
    try:
        try:
            ended = where.run(program, job, held=held.lock, log=log, events=events)
        except WithdrawnError:
            raise
        except BuildError as error:
            key = "train.env" if model.train.env is not None else "train.command" if model.train.command else "train.trainer"
            key = f"engine.{error.key}" if isinstance(error, EngineError) else key
            msg = f"{mark_of(key)}: model {model.name!r}: {error}"
            raise BuildError(msg) from error
        _check_end(ended, log, model, mark_of)
    except BaseException:
        if not (program.capabilities.resumes and program.checkpoint(job.folder)):
            shutil.rmtree(job.folder, ignore_errors=True)
        raise
    return ended


def _check_end(ended: Ended, log: Path, model: Model, mark_of: MarkOf) -> None:
    """Raise BuildError where the program says that it failed, or ended as if it had."""
    if ended.failure is not None:
        mark = mark_of(f"train.{ended.failure.key}") if ended.failure.key else model.mark
        msg = f"{mark}: model {model.name!r}: {ended.failure.reason}"
        raise BuildError(msg, fix=ended.failure.fix or None)
    if ended.code:
        launch = model.train.launch
        code = 128 - ended.code if launch and ended.code in SIGNALS else ended.code
        how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}"
        how += " (out of memory)" if launch and code == NO_MEMORY else ""
        said = last_lines(log)
        if launch and not said and not ended.is_heard:
            msg = f"{mark_of('train.launch')}: model {model.name!r}: {launch[0]!r} {how}, and neither it nor the trainer has said anything"
            raise BuildError(msg, fix="mend train.launch in the catalog, or see by hand what it does; then run `doit` again")
        if not ended.is_heard and said_alone(launch, said):
            msg = f"{mark_of('train.launch')}: model {model.name!r}: {launch[0]!r} {how}, and the trainer has said nothing; {below_here(log)} ends:\n{said}"
            raise BuildError(msg, fix="mend train.launch in the catalog, or what it speaks of; then run `doit` again")
        msg = f"{model.mark}: model {model.name!r}: trainer {model.train.trainer!r} {how}" + (f"; {below_here(log)} ends:\n{said}" if said else "")
        raise BuildError(msg, fix=f"read {below_here(log)}; then run `doit` again")


def _result(program: Trainer, job: Job, ended: Ended, step: Step, architecture: Architecture) -> Path:
    """The folder `out` of the job, with all that the step makes in it, checked. Raises BuildError."""
    if isinstance(ended.found, BuildError):
        raise ended.found
    found = ended.found or program.collect(job.folder)
    if program.capabilities.makes == ADAPTER:
        read_peft_adapter(found, architecture)
    else:
        WholeWeights(found, architecture.head)
    folder = found if found.is_dir() else found.parent
    for path in step.writes if folder != job.out else ():
        os.replace(folder / Path(path).name, job.out / Path(path).name)
    return job.out
