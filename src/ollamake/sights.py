"""The steps of a catalog as they are now: what their files hold, what the server has, what was remembered. Looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ollamake import freshness
from ollamake.catalog import Catalog, Model
from ollamake.catalog.expanded import Expanded
from ollamake.freshness import Reason, Record, Sight
from ollamake.graph import VERSIONS, Step
from ollamake.ollama import server as servers
from ollamake.ollama.address import Address, takes_adapters
from ollamake.stages.served import read_served
from ollamake.state.backend import LockBackend
from ollamake.state.digests import digest_if_there
from ollamake.state.receipts import Receipt, read_receipt, receipt_path
from ollamake.trainers.environment import Environment, Named
from ollamake.trainers.port import trainer

HERE = "this-machine"  # what is remembered of a step for this machine, whichever server it talks to


class Sights:
    """How a catalog's steps look; what a server says is asked once."""

    def __init__(self, catalog: Catalog, address: Address, database: LockBackend) -> None:
        self.catalog = catalog
        self.address = address
        self.database = database
        # The server's name in what is kept: one that comes from the environment is told as the catalog writes it.
        self.host_name = catalog.host.written if isinstance(catalog.host, Expanded) else str(address)
        self._versions: dict[tuple[str, Named], Mapping[str, str]] = {}  # trainer and its environment -> those of its packages

    @cached_property
    def expected_version(self) -> str | None:
        """The version of the server that this run uses, asked once."""
        return servers.expected_version(self.address)

    @cached_property
    def known_digests(self) -> Mapping[str, str] | None:
        """The models that the server had when it was first asked: one call for the whole catalog."""
        return servers.known_digests(self.address)

    def ask_again(self) -> None:
        """Forget what the server has said: it has got other models since."""
        self.__dict__.pop("known_digests", None)

    def place(self, step: Step) -> str | None:
        """The place, as a file may be called, that the step is remembered for; None where it is in the lock: the same everywhere."""
        return {"package": HERE, "register": self.address.file_name}.get(step.stage)

    def remembered(self, step: Step) -> Record | None:
        """What doit's database has of the step."""
        block = self.database.record(step.id, self.place(step))
        return None if block is None else Record.of(block)

    def reasons(self, step: Step, record: Record | None) -> tuple[Reason, ...]:
        """Why the step is to be done; empty where it is fresh. Raises BuildError and OSError."""
        return freshness.reasons(record, self.sight(step, record), lambda: self.keys_before(step))

    def keys_before(self, step: Step) -> Mapping[str, Any]:
        """What the catalog said when the step's receipt was written."""
        receipt = read_receipt(receipt_path(step, self.address.file_name))
        return receipt.keys if receipt else {}

    def brought(self, step: Step) -> Receipt | None:
        """The receipt that a training's adapter has brought with it, where it says that the adapter is what would be trained now.

        So it is where the build was killed before the lock knew, or the lock is of another branch or gone.
        """
        receipt = read_receipt(receipt_path(step, self.address.file_name))
        return receipt if receipt and not self.reasons(step, receipt.record) else None

    def sight(self, step: Step, record: Record | None) -> Sight:
        """The step as it is now. Raises BuildError and OSError."""
        return Sight(
            inputs={name: digest_if_there(path) for name, path in step.named_reads.items()},
            keys=self.keys(step),
            targets=self.targets(step, record),
            pinned=self.pinned(step),
            lost=tuple(self.lost(step, record)) if record and step.stage == "register" else (),
        )

    def targets(self, step: Step, record: Record | None) -> dict[str, str | None]:
        """The digests of the files that the step makes, and of those that the record names. Raises OSError."""
        if record is None or step.stage == "register":
            return {}
        return {path: digest_if_there(path) for path in dict.fromkeys((*record.targets, *made_files(step)))}

    def seen_beside(self, now: Sight, step: Step, record: Record) -> Sight:
        """The same sight, with the targets that another record names. Raises OSError."""
        return replace(now, targets=self.targets(step, record))

    def keys(self, step: Step) -> dict[str, Any]:
        """What decides a step beside its files, what has to be asked of the server included."""
        keys = {**step.keys, f"{step.stage} version": VERSIONS[step.stage]}
        if step.stage == "package":
            keys["served weights"] = kind = self.kind(step)
            if kind == "adapter":
                del keys["serve.weights_type"]
        return keys

    def pinned(self, step: Step) -> dict[str, Any]:
        """The versions of which another trains again."""
        is_pinned = step.stage == "train" and isinstance(step.subject, Model) and step.subject.train.pins_versions
        return self.versions(step) if is_pinned else {}

    def versions(self, step: Step) -> dict[str, Any]:
        """Those of the stage's own form and, of a training, of the packages that train."""
        own: dict[str, Any] = {step.stage: VERSIONS[step.stage]}
        if step.stage == "train":
            assert isinstance(step.subject, Model)
            own.update(self._versions_of(step.subject.train.trainer, step.subject.train.env))
        return own

    def _versions_of(self, name: str, env: Named) -> Mapping[str, str]:
        if (name, env) not in self._versions:
            self._versions[name, env] = trainer(name).versions(Environment(env))
        return self._versions[name, env]

    def kind(self, step: Step) -> str:
        """The kind of served weights to package: what the server takes; what there is where no server answers."""
        wanted = step.keys["serve.weights"]
        if wanted != "auto":
            return str(wanted)
        if self.expected_version is None:
            served = read_served(Path(step.writes[0]))
            return "merged" if served is None else served.kind
        return "adapter" if takes_adapters(self.expected_version) else "merged"

    def lost(self, step: Step, record: Record) -> Iterator[Reason]:
        """What a registration has made and is no longer on the server as it made it."""
        at, name = self.host_name, f"{step.name}:latest"
        there = None if self.known_digests is None else self.known_digests.get(name)
        if self.known_digests is None:
            yield Reason(kind="no server", what=step.name, new=at)
        elif there is None:
            yield Reason(kind="not registered", what=step.name, new=at)
        elif there != record.targets.get(name):
            yield Reason(kind="replaced", what=step.name, new=at)


def made_files(step: Step) -> list[str]:
    """The files that the step has made: its targets, and the weights that a served.json names."""
    made = list(step.writes)
    if step.stage == "package":
        served = read_served(Path(step.writes[0]))
        made += [file.as_posix() for file, _ in served.files] if served else []
    return made
