"""One run of doit over a catalog: whether a step is fresh, and doing it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from ollamake import freshness
from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.graph import VERSIONS, Step
from ollamake.ollama import server as servers
from ollamake.ollama.address import Address, takes_adapters
from ollamake.stages.served import read_served
from ollamake.state import Receipt, Sealed, file_digest, read_receipt, receipt_path, write_receipt

FRESH = {"fresh": True}  # what an action returns to doit that found its step fresh


class Run:
    """What the steps of a run share."""

    def __init__(self, address: Address) -> None:
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

    def is_fresh(self, step: Step) -> bool:
        """For doit's `uptodate`."""
        try:
            return not self.reasons(step)
        except (BuildError, OSError):  # the step itself says it, when it runs
            return False

    def reasons(self, step: Step) -> tuple[str, ...]:
        """Why the step is to be done, a line each; empty where it is fresh. Raises BuildError and OSError."""
        receipt = self.receipt(step)
        if receipt is None:
            return freshness.reasons(None, {}, {}, ())
        files = {name: file_digest(path) for name, path in named_files(step).items() if Path(path).exists()}
        return freshness.reasons((receipt.files, receipt.keys), files, self.keys(step), self.lost(step, receipt))

    def receipt(self, step: Step) -> Receipt | None:
        """The step's last receipt."""
        return read_receipt(receipt_path(step, self.address.file_name))

    def keys(self, step: Step) -> dict[str, Any]:
        """What decides a step beside its files, what has to be asked of the server included."""
        keys = {**step.keys, f"{step.stage} version": VERSIONS[step.stage]}
        if step.stage == "package":
            keys["served weights"] = kind = self.kind(step)
            if kind == "adapter":
                del keys["serve.weights_type"]
        return keys

    def kind(self, step: Step) -> str:
        """The kind of served weights to package: what the server takes; what there is where no server answers."""
        wanted = step.keys["serve.weights"]
        if wanted != "auto":
            return str(wanted)
        if self.expected_version is None:
            receipt = self.receipt(step)
            return "merged" if receipt is None else str(receipt.keys.get("served weights"))
        return "adapter" if takes_adapters(self.expected_version) else "merged"

    def lost(self, step: Step, receipt: Receipt) -> Iterator[str]:
        """What the step has made and is no longer there as it made it."""
        for path, digest in receipt.targets.items():
            if not Path(path).exists():
                yield f"{path} is gone"
            elif file_digest(path) != digest:
                yield f"{path} is not what was made"
        if step.stage == "register":
            known = self.known_digests
            digest_there = (known or {}).get(f"{step.name}:latest")
            if known is None:
                yield f"nothing answers at {self.address}"
            elif digest_there is None:
                yield f"{step.name} is no longer on {self.address}"
            elif digest_there != receipt.outcome.get("digest"):
                yield f"{step.name} on {self.address} was replaced by hand"

    def do(self, step: Step) -> TaskFailed | dict[str, bool] | None:
        """Do the step and leave its receipt; a BuildError becomes doit's failure, without a traceback.

        A training is not repeated because doit forgot it: where the adapter's own receipt says that it is fresh, it is.
        """
        begun = time.monotonic()
        try:
            require_files(step)
            reasons = self.reasons(step)
            if step.stage == "train" and not reasons:
                return FRESH
            print(f".  {step.id}  ({'; '.join(reasons) or 'asked for'})", flush=True)
            files = {name: file_digest(path) for name, path in named_files(step).items()}
            keys = self.keys(step)

            def sealed(targets: Mapping[str, str], outcome: Mapping[str, Any]) -> Receipt:
                seconds = round(time.monotonic() - begun, 3)
                return Receipt(files=files, keys=keys, targets=dict(targets), outcome=dict(outcome), seconds=seconds)

            if step.stage == "train":
                self.train(step, sealed)
            else:
                outcome = self.stage(step)
                receipt = sealed({path: file_digest(path) for path in made_files(step)}, outcome)
                write_receipt(receipt_path(step, self.address.file_name), receipt)
        except BuildError as error:
            return TaskFailed(str(error))
        except OSError as error:  # a full disk, a file that may not be read
            return TaskFailed(f"{error.filename or step.id}: {error.strerror or error}")
        return None

    def train(self, step: Step, sealed: Sealed) -> None:
        """Train; the receipt goes into the adapter's folder before that is put in its place."""
        from ollamake.stages.train import train

        assert isinstance(step.subject, Model)
        train(step, step.subject, sealed)

    def stage(self, step: Step) -> dict[str, Any]:
        """Do what a step other than train is for. Imported here: a run without work imports none of it."""
        if step.stage == "validate":
            from ollamake.stages.validate import validate

            return validate(step)
        model = step.subject
        assert isinstance(model, Model)
        if step.stage == "convert":
            from ollamake.stages.convert import convert

            return convert(step, model)
        if step.stage == "package":
            from ollamake.stages.package import package

            return package(step, model, self.kind(step))
        from ollamake.ollama.client import OllamaServer
        from ollamake.stages.register import register

        if self.use is None:
            self.use = servers.use_server(self.address)
        with OllamaServer(self.address) as server:
            return register(step, model, server)

    def end_server(self) -> None:
        """Let go of the server, if a step had one."""
        if self.use is not None:
            self.use.end()
            self.use = None


def named_files(step: Step) -> dict[str, str]:
    """The paths that the step reads, by the names that its receipt gives them: a base keeps its name wherever its file lies."""
    subject = step.subject
    base = subject.base if isinstance(subject, Model) else None
    return {f"base {base.name}" if base is not None and path == base.gguf else path: path for path in step.reads}


def made_files(step: Step) -> list[str]:
    """The files that the step has made: its targets, and the weights that a served.json names."""
    made = list(step.writes)
    if step.stage == "package":
        served = Path(step.writes[0])
        facts = read_served(served)
        made += [str(served.parent / facts["file"])] if facts else []
    return made


def require_files(step: Step) -> None:
    """Raise BuildError where a file that no step makes is not there."""
    missing = [path for path in step.reads if not Path(path).exists()]
    subject = step.subject
    if not missing:
        return
    if isinstance(subject, Model) and subject.base.gguf in missing:
        raise subject.base.missing()
    msg = f"{subject.mark}: {step.stage} {step.name!r}: no such file: {', '.join(missing)}"
    raise BuildError(msg, fix="put it there, or mend the path in the catalog")
