"""The steps of a catalog as they are now: what their files hold, what the server has, what was remembered. Looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ollamake import freshness
from ollamake.catalog import Catalog, Model
from ollamake.freshness import Reason, Record, Sight
from ollamake.graph import LATEST, ON_A_SERVER, VERSIONS, Step
from ollamake.ollama.hosts import Host, ask_all
from ollamake.stages.served import read_served
from ollamake.state.backend import LockBackend
from ollamake.state.digests import digest_if_there
from ollamake.state.memory import record_of
from ollamake.state.receipts import Receipt, read_receipt, receipt_path
from ollamake.trainers.environment import Environment, Named
from ollamake.trainers.port import trainer

HERE = "this-machine"  # what is remembered of a step for this machine, whichever server it talks to


class Sights:
    """How a catalog's steps look; what a server says is asked once."""

    def __init__(self, catalog: Catalog, hosts: Sequence[Host], database: LockBackend) -> None:
        self.catalog = catalog
        self.hosts = tuple(hosts)
        self.database = database
        self._versions: dict[tuple[str, Named], Mapping[str, str]] = {}  # trainer and its environment -> those of its packages
        self._noted = 0  # what had happened in this run when `known_now` last asked

    def host(self, step: Step) -> Host:
        """The server that the step talks to."""
        return next((host for host in self.hosts if host.said == step.host), self.hosts[0])

    def known(self, step: Step) -> Mapping[str, str] | None:
        """The models that the step's server had when it was first asked: one call for the whole catalog, of all servers at once."""
        ask_all(self.hosts)
        return self.host(step).known

    def known_now(self, step: Step) -> Mapping[str, str] | None:
        """The models that the step's server has now: it is asked again where this run has done something since."""
        if self._noted != len(self.database.noted):
            self._noted = len(self.database.noted)
            self.ask_again()
        return self.known(step)

    def ask_again(self) -> None:
        """Forget which models the servers have: they have got others since."""
        for host in self.hosts:
            host.forget()

    def place(self, step: Step) -> str | None:
        """The place, as a file may be called, that the step is remembered for; None where it is in the lock: the same everywhere."""
        return self.host(step).file_name if step.stage in ON_A_SERVER else HERE if step.stage == "package" else None

    def receipt_path(self, step: Step) -> Path:
        """Where the step's receipt is kept."""
        return receipt_path(step, self.host(step).file_name)

    def remembered(self, step: Step) -> Record | None:
        """What doit's database has of the step."""
        block = self.database.record(step.record_id, self.place(step))
        return None if block is None else Record.of(block)

    def reasons(self, step: Step, record: Record | None) -> tuple[Reason, ...]:
        """Why the step is to be done; empty where it is fresh. Raises BuildError and OSError."""
        return freshness.reasons(record, self.sight(step, record), lambda: self.keys_before(step))

    def keys_before(self, step: Step) -> Mapping[str, Any]:
        """What the catalog said when the step's receipt was written."""
        receipt = read_receipt(self.receipt_path(step))
        return receipt.keys if receipt else {}

    def brought(self, step: Step) -> Receipt | None:
        """The receipt that a training's adapter has brought with it, where it says that the adapter is what would be trained now.

        So it is where the build was killed before the lock knew, or the lock is of another branch or gone.
        """
        receipt = read_receipt(self.receipt_path(step))
        return receipt if receipt and not self.reasons(step, receipt.record) else None

    def sight(self, step: Step, record: Record | None) -> Sight:
        """The step as it is now. Raises BuildError and OSError."""
        inputs = {**{name: digest_if_there(path) for name, path in step.named_reads.items()}, **self.made_before(step)}
        return Sight(
            inputs=self.with_its_base(step, inputs, record),
            keys=self.keys(step),
            targets=self.targets(step, record),
            pinned=self.pinned(step),
            lost=tuple(self.lost(step, record)) if record and step.stage in ON_A_SERVER else (),
        )

    @property
    def on_base_change(self) -> str:
        """What is done where a base is another one than models were trained on: rebuild, warn or fail."""
        return self.catalog.policy.get("on_base_change", "rebuild")

    def with_its_base(self, step: Step, inputs: Mapping[str, str | None], record: Record | None) -> Mapping[str, str | None]:
        """The inputs, where a base that is there counts for the one of the record, whichever it is, if the policy is only to warn."""
        if self.on_base_change != "warn" or record is None or not isinstance(step.subject, Model):
            return inputs
        name = f"base {step.subject.base.name}"
        return {**inputs, name: record.inputs[name]} if name in record.inputs and inputs.get(name) is not None else inputs

    def made_before(self, step: Step, *, now: bool = False) -> dict[str, str]:
        """The digests of the models that the steps have made which this one comes after, as far as they are remembered.

        `now`: by what those have left behind just now, perhaps in another process of this run.
        """
        found: dict[str, str] = {}
        for id_, name in step.named_after.items():
            block = self.database.record(record_of(id_), self.place(step))
            record = Record.of(block) if block else None
            if now:
                receipt = read_receipt(receipt_path(replace(step, stage=id_.partition(":")[0]), self.host(step).file_name))
                record = receipt.record if receipt else record
            if record is not None:
                found.update({target: digest for target, digest in record.targets.items() if target == name})
        return found

    def targets(self, step: Step, record: Record | None) -> dict[str, str | None]:
        """The digests of the files that the step makes, and of those that the record names. Raises OSError."""
        if record is None or step.stage in ON_A_SERVER:
            return {}
        return {path: digest_if_there(path) for path in dict.fromkeys((*record.targets, *made_files(step)))}

    def seen_beside(self, now: Sight, step: Step, record: Record) -> Sight:
        """The same sight, as it is seen beside another record: with the targets that it names. Raises OSError."""
        return replace(now, targets=self.targets(step, record), inputs=self.with_its_base(step, now.inputs, record))

    def keys(self, step: Step) -> dict[str, Any]:
        """What decides a step beside its files, what has to be asked of the server included."""
        keys = {**step.keys, f"{step.stage} version": VERSIONS[step.stage]}
        if step.stage == "package":
            keys["served weights"] = kind = self.kind(step)
            if kind == "adapter" == step.keys["serve.weights"]:  # by `auto`, some architectures are served merged all the same
                del keys["serve.weights_type"]
                keys.pop("serve.imatrix", None)
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
        ask_all(self.hosts)
        take = [host.takes_adapters(step.base) for host in self.hosts]
        if False in take:
            return "merged"
        if None in take:  # as it was decided when all answered
            served = read_served(Path(step.writes[0]))
            decided = self.keys_before(step).get("served weights") or (served.kind if served else None)
            return str(decided or ("adapter" if True in take else "merged"))
        return "adapter"

    def found(self, step: Step, record: Record) -> dict[str, str]:
        """The model that the step has made on a server, under a name that it has there; of a candidate that is the first one. Empty where there is none."""
        if step.stage == "test":
            return dict(record.targets)
        names = [name for digest in record.targets.values() for name in self.host(step).tags_of(step.name, digest)]
        return {name: digest for name in names[:1] for digest in record.targets.values()}

    def lost(self, step: Step, record: Record) -> Iterator[Reason]:
        """What the step has made on a server that is no longer there as it made it."""
        host, known = self.host(step), self.known(step)
        ((name, digest),) = record.targets.items()
        if known is None:
            yield Reason(kind="no server", what=step.name, new=host.name)
        elif known.get(name) == digest or (step.stage == "register" and host.tags_of(step.name, digest)):
            return  # a candidate that was good has got another tag since
        elif known.get(f"{step.name}:{LATEST}") is None:
            yield Reason(kind="not registered", what=step.name, new=host.name)
        else:
            yield Reason(kind="replaced", what=step.name, new=host.name)


def made_files(step: Step) -> list[str]:
    """The files that the step has made: its targets, and the weights that a served.json names."""
    made = list(step.writes)
    if step.stage == "package":
        served = read_served(Path(step.writes[0]))
        made += [file.as_posix() for file, _ in served.files] if served else []
    return made
