"""Step -> doit task; BuildError -> doit's own errors."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidDodoFile, TaskFailed

from ollamake import freshness
from ollamake.catalog import Catalog, Model, load_catalog
from ollamake.digest import digest_value
from ollamake.errors import BuildError
from ollamake.graph import VERSIONS, Step, steps_of
from ollamake.ollama import server as servers
from ollamake.ollama.address import Address, address_of, takes_adapters
from ollamake.stages.served import read_served
from ollamake.state import Receipt, file_digest, read_receipt, receipt_path, write_receipt
from ollamake.trainers.port import trainer, trainer_names

PURPOSES = {
    "validate": "check every record of {}",
    "convert": "write the text that {} is trained on",
    "train": "train the adapter of {}",
    "package": "write the weights that {} is served from",
    "register": "make {} in Ollama, and have it answer",
}

DoitTask = dict[str, Any]


def tasks_from(path: str = "models.yaml") -> Iterator[DoitTask]:
    """The doit tasks of every step of a catalog; for a task creator of dodo.py. Raises doit's InvalidDodoFile."""
    try:
        catalog = load_catalog(Path(path), trainers=trainer_names())
        address = address_of(catalog.host)
        used = {model.train.trainer for model in catalog.models}
        steps = steps_of(catalog, {name: trainer(name).text_format for name in used})
    except BuildError as error:
        msg = f"\n{error}"  # on a line of its own: doit writes `ERROR: ` before it
        raise InvalidDodoFile(msg) from error
    for warning in catalog.warnings:
        print(warning, file=sys.stderr)
    run = Run(catalog=catalog, address=address)
    for stage in dict.fromkeys(step.stage for step in steps):
        each = "each dataset" if stage == "validate" else "each model"
        yield {"basename": stage, "name": None, "doc": PURPOSES[stage].format(each)}
    for step in steps:
        yield run.task(step)


class Run:
    """One run of doit over a catalog: what its steps share."""

    def __init__(self, catalog: Catalog, address: Address) -> None:
        self.catalog = catalog
        self.address = address
        self.use: servers.Use | None = None

    @cached_property
    def expected_version(self) -> str | None:
        """The version of the server that this run uses, asked once."""
        return servers.expected_version(self.address)

    @cached_property
    def known_digests(self) -> Mapping[str, str] | None:
        """The models that the server had when it was first asked: one call for the whole catalog."""
        return servers.known_digests(self.address)

    def task(self, step: Step) -> DoitTask:
        """The doit task of a step."""
        task: DoitTask = {
            "basename": step.stage,
            "name": step.name,
            "doc": PURPOSES[step.stage].format(step.name),
            "file_dep": list(step.reads),
            "targets": list(step.writes),
            "actions": [(self.do, [step])],
            "uptodate": [(self.is_fresh, [step])],
            "verbosity": 2,
            "meta": {"ollamake": step},
            "clean": True if step.stage in {"validate", "convert", "package"} else [],  # never an adapter: it cost hours
        }
        if step.stage == "register":
            task["teardown"] = [(self.end_server,)]  # doit does it when all steps are done
        return task

    def keys(self, step: Step) -> dict[str, Any]:
        """What decides a step beside its files, what has to be asked of the server included."""
        keys = {**step.keys, f"{step.stage} version": VERSIONS[step.stage]}
        if step.stage == "package":
            kind = self.kind(step)
            keys["served weights"] = kind
            if kind == "adapter":
                del keys["serve.weights_type"]
        return keys

    def kind(self, step: Step) -> str | None:
        """The kind of served weights to package, None where it can't be told because no server answers."""
        wanted = step.keys["serve.weights"]
        if wanted != "auto":
            return str(wanted)
        version = self.expected_version
        if version is None:
            return None
        return "adapter" if takes_adapters(version) else "merged"

    def is_fresh(self, task: Any, values: Mapping[str, Any], step: Step) -> bool:
        """For doit's `uptodate`: are the step's keys what they were, and does its server still have what it was given?"""
        try:
            if step.stage == "register":
                return not self.reasons(step)
            keys = self.keys(step)
        except BuildError:  # of the server; the step itself says it, when it runs
            return False
        now = digest_value(keys)
        task.value_savers.append(lambda: {"keys": now})
        if any(self.lost(step)):
            return False
        if step.stage == "package" and keys["served weights"] is None:
            return "keys" in values  # no server to ask: what is there stays
        return values.get("keys") == now

    def reasons(self, step: Step) -> tuple[str, ...]:
        """Why the step is to be done, a line each."""
        receipt = read_receipt(receipt_path(step, self.address.file_name))
        before = None if receipt is None else (receipt.files, receipt.keys)
        files = {path: file_digest(path) for path in step.reads if Path(path).exists()}
        return freshness.reasons(before, files, self.keys(step), self.lost(step))

    def lost(self, step: Step) -> Iterator[str]:
        """What the step has made and is no longer there as it made it."""
        for path in step.writes:
            if not Path(path).exists():
                yield f"{path} is gone"
            elif step.stage == "package" and read_served(Path(path)) is None:
                yield f"the weights that {path} names are gone"
        receipt = read_receipt(receipt_path(step, self.address.file_name)) if step.stage == "register" else None
        if receipt is not None:
            known = self.known_digests
            digest = (known or {}).get(f"{step.name}:latest")
            if known is None:
                yield f"nothing answers at {self.address}"
            elif digest is None:
                yield f"{step.name} is no longer on {self.address}"
            elif digest != receipt.outcome.get("digest"):
                yield f"{step.name} on {self.address} was replaced by hand"

    def do(self, step: Step) -> TaskFailed | None:
        """Do the step and leave its receipt; a BuildError becomes doit's failure, without a traceback."""
        begun = time.monotonic()
        try:
            print(f".  {step.id}  ({'; '.join(self.reasons(step)) or 'asked for'})", flush=True)
            require_files(step)
            files = {path: file_digest(path) for path in step.reads}
            keys = self.keys(step)
            outcome = self.stage(step)()
            receipt = Receipt(files=files, keys=keys, outcome=outcome, seconds=round(time.monotonic() - begun, 3))
            write_receipt(receipt_path(step, self.address.file_name), receipt)
        except BuildError as error:
            return TaskFailed(str(error))
        except OSError as error:  # a full disk, a file that may not be read
            return TaskFailed(f"{error.filename or step.id}: {error.strerror or error}")
        return None

    def stage(self, step: Step) -> Callable[[], dict[str, Any]]:
        """What does the step. Imported here: a run without work imports none of it."""
        if step.stage == "validate":
            from ollamake.stages.validate import validate

            return lambda: validate(step)
        model = step.subject
        assert isinstance(model, Model)
        if step.stage == "convert":
            from ollamake.stages.convert import convert

            return lambda: convert(step, model)
        if step.stage == "train":
            from ollamake.stages.train import train

            return lambda: train(step, model)
        if step.stage == "package":
            from ollamake.stages.package import package

            return lambda: package(step, model, self.kind(step) or "merged")
        from ollamake.ollama.client import OllamaServer
        from ollamake.stages.register import register

        def registered() -> dict[str, Any]:
            self.start_server()
            with OllamaServer(self.address) as server:
                return register(step, model, server)

        return registered

    def start_server(self) -> None:
        """Have a server, for this step and those after it. Raises BuildError."""
        if self.use is None:
            self.use = servers.use_server(self.address)

    def end_server(self) -> None:
        """Let go of the server, if a step had one."""
        if self.use is not None:
            self.use.end()
            self.use = None


def require_files(step: Step) -> None:
    """Raise BuildError where a file that no step makes is not there."""
    missing = [path for path in step.reads if not Path(path).exists()]
    subject = step.subject
    if not missing:
        return
    if isinstance(subject, Model) and subject.base.gguf in missing:
        base = subject.base
        msg = f"{base.mark}: base {base.name!r}: no such file: {base.gguf}"
        raise BuildError(msg, fix="put the GGUF there, or mend `gguf`")
    msg = f"{subject.mark}: {step.stage} {step.name!r}: no such file: {', '.join(missing)}"
    raise BuildError(msg, fix="put it there, or mend the path in the catalog")
