"""`push:` -> doit tasks, behind the tests of each model: what has its name, and passed, goes where the catalog says. Only where that is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from ollamake.call import current
from ollamake.catalog import Model
from ollamake.catalog.expanded import told, written
from ollamake.errors import BuildError, with_fix
from ollamake.graph import LATEST, Step, adapter_files, adapter_folder, given_files
from ollamake.moments import moment
from ollamake.run import Run
from ollamake.say import say
from ollamake.state.digests import digest_if_there
from ollamake.state.files import LOCAL, read_object, remedy, write_whole
from ollamake.state.receipts import read_receipt, receipt_path
from ollamake.state.versions import history, short

STAGE = "push"
OLLAMA, HUB = "ollama", "hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be sent to one target."""

    kind: str  # OLLAMA or HUB
    target: str  # its name there
    digest: str | None  # of what is here; None: there is nothing yet
    reason: str

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"to": self.kind, "target": self.target, "digest": self.digest, "reason": self.reason}


class Pushing:
    """A model, and where it is published."""

    def __init__(self, run: Run, model: Model, steps: tuple[Step, ...]) -> None:
        self.run, self.model = run, model
        self.own = [step for step in steps if step.name == model.name and step.stage != "validate"]
        self.tests = [step for step in self.own if step.stage == "test"]

    @property
    def task(self) -> dict[str, Any]:
        """The doit task."""
        return {
            "basename": STAGE,
            "name": self.model.name,
            "doc": f"publish {self.model.name} where its `push` says",
            "task_dep": [step.id for step in self.tests],
            "actions": [(self.push, [])],
            "uptodate": [(self.is_fresh, [])],
            "verbosity": 2,
        }

    def is_fresh(self) -> bool:
        """Has each target what is here? Nobody is asked but our own server."""
        return not self.due()

    def due(self, *, again: bool = False) -> list[Due]:
        """What is to be sent, and why. `again`: what is there already, too."""
        assert self.model.push is not None  # or else nobody asks
        known = read_object(self.memory)
        found = []
        for kind, target in self.model.push.targets.items():
            digest = self.digest(kind)
            there = before.get("digest") if isinstance(before := known.get(kind), dict) and before.get("target") == target else None
            if there is None:
                found.append(Due(kind=kind, target=target, digest=digest, reason="not pushed there yet"))
            elif there != digest or again:
                reason = f"{short(there)} is there, {short(digest) if digest else 'nothing'} is here"
                found.append(Due(kind=kind, target=target, digest=digest, reason=reason))
        return found

    @property
    def memory(self) -> Path:
        """Where it is kept what each target has."""
        return Path(LOCAL, "pushed", f"{self.model.name}.json")

    def digest(self, kind: str) -> str | None:
        """The digest of what a target of this kind would get: the model that has the name on the first server; the adapter's weights."""
        if kind == OLLAMA:
            return (self.run.sights.known_now(self.tests[0]) or {}).get(f"{self.model.name}:{LATEST}".lower())
        return digest_if_there(self.files[-1])

    @property
    def files(self) -> tuple[str, ...]:
        """Those of the adapter."""
        folder = adapter_folder(self.model)
        return adapter_files(folder) if self.model.adapter is None else given_files(folder)

    def push(self) -> TaskFailed | None:
        """Send what is due; a target that fails keeps no other from it. A BuildError becomes doit's failure, without a traceback."""
        self.run.sights.ask_again()  # this may be a process that was not told what another has done
        wrong = [said for said in map(self.sent, self.due(again=current().always)) if said is not None]
        return TaskFailed("\n".join(wrong)) if wrong else None

    def sent(self, due: Due) -> str | None:
        """Send it, and remember that. Returns what is to be said where that fails."""
        say(f"   {self.model.name}: to {due.kind} {due.target}  ({due.reason})")
        try:
            digest = self.to_ollama(due) if due.kind == OLLAMA else self.to_hub(due)
            known = {**read_object(self.memory), due.kind: {"target": due.target, "digest": digest, "at": moment()}}
            write_whole(self.memory, json.dumps(known, indent=2, sort_keys=True) + "\n")
        except BuildError as error:
            return str(error)
        except OSError as error:
            return with_fix(f"{error.filename or self.model.name}: {error.strerror or error}", f"{remedy(error)}, then push again")
        return None

    def to_ollama(self, due: Due) -> str:
        """Push what has the name. Returns its digest. Raises BuildError."""
        from ollamake.ollama.client import OllamaServer
        from ollamake.ollama.pushing import push_model

        assert self.model.push is not None  # or else nothing is due
        host = self.run.sights.host(self.tests[0])
        if due.digest is None and self.run.sights.known(self.tests[0]) is not None:
            msg = f"{self.model.push.mark}: model {self.model.name!r}: no {self.model.name}:{LATEST} is on {host.name}: none has passed its tests yet"
            raise BuildError(msg, fix=f"`doit push {self.model.name}`")
        use = host.use()
        try:
            with OllamaServer(host.address) as server:
                return push_model(server, f"{self.model.name}:{LATEST}", due.target, insecure=self.model.push.insecure)
        finally:
            use.end()

    def to_hub(self, due: Due) -> str:
        """Push the adapter. Returns the digest of its weights. Raises BuildError and OSError."""
        from ollamake.hub.target import upload

        assert self.model.push is not None  # or else nothing is due
        where = f"{self.model.push.mark}: model {self.model.name!r}: can't push to {due.target}"
        record = self.run.sights.remembered(self.tests[0])
        if record is not None and record.accepted is not None:
            msg = f"{where}: an earlier version of the model is used, and the adapter that is here is not its own"
            raise BuildError(msg, fix=f"roll forward (`doit rollback {self.model.name}`), or remove push.hub")
        if due.digest is None:
            msg = f"{where}: it has no adapter: its weights were trained whole"
            raise BuildError(msg, fix="remove push.hub")
        upload(self.model.push, self.files, self.about(due.digest))
        return due.digest

    def about(self, weights: str) -> Any:
        """What the card says."""
        from ollamake.hub.card import About

        model = self.model
        train = next((step for step in self.own if step.stage == "train"), None)
        receipt = read_receipt(receipt_path(train, "")) if train else None
        used = history(self.run.sights.host(self.tests[0]).file_name, model.name)
        return About(
            name=model.name,
            base=model.base.name,
            base_model=model.base.hf if model.base.hf is not None and model.base.hf_folder is None else None,
            base_digest=receipt.record.inputs.get(f"base {model.base.name}") if receipt else digest_if_there(model.base.gguf),
            weights=weights,
            recipe={f"train.{key}": told(value) for key, value in model.train.recipe.items()} if train else {"adapter": _given(model)},
            is_gguf=len(self.files) == 1,
            is_given=train is None,
            data=receipt.outcome.get("data", []) if receipt else [],
            tests=used[-1].tests if used else "",
            commit=receipt.commit if receipt else None,
            version=version("ollamake"),
        )


def pushings(run: Run, steps: tuple[Step, ...]) -> Iterator[Pushing]:
    """Those of a catalog, in its order."""
    for model in run.sights.catalog.models:
        if model.push is not None:
            yield Pushing(run, model, steps)


def _given(model: Model) -> str:
    return model.hub.said if model.hub else written(model.adapter or "")
