"""The seal of a build: proof that every step of a catalog was fresh, by which the next run sees at a glance that it still is.

It names all that freshness is decided by: the files that were read and made, by their signatures, the lock among them; the lists that patterns came
to; the variables of the environment that the catalog may use; the server and the digests of its models; the trainers. Where any of it differs, the
seal is broken, and each step is looked at.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ollamake.errors import BuildError
from ollamake.origin import Origin, facts_of, form_of, manifests, signatures
from ollamake.state.digests import JUST_NOW, Signature, file_digest
from ollamake.state.files import JOURNAL, LOCAL, file_name, read_object, write_whole

if TYPE_CHECKING:
    from ollamake.graph import Step
    from ollamake.sights import Sights

FORMAT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal(Origin):
    """What a build was fresh by."""

    models: Mapping[str, Mapping[str, str]]  # address of a server -> name in Ollama -> digest
    count: int  # of models
    reused: float  # seconds of training
    stages: Mapping[str, str]  # stage -> what it is for

    def holds(self) -> bool:
        """Is everything as it was? Raises BuildError where no server can be asked."""
        return self.is_same_here(form_of(FORMAT)) and self._same_beyond_files()

    def _same_beyond_files(self) -> bool:
        from ollamake.ollama.hosts import ask_all, hosts_of

        hosts = hosts_of(self.hosts)
        if self.servers or any(self.models.values()):
            ask_all(hosts)
        return self.is_same_beyond(hosts) and all(host.has(self.models[str(host.address)]) for host in hosts)


def sealed(catalog: str) -> Seal | None:
    """The seal of this catalog's last build, where it holds."""
    if _journal().exists():  # a build was killed: what it did is not in the lock yet
        return None
    try:
        seal = Seal(**read_object(seal_path(catalog)))
    except TypeError:  # none there, or of another form
        return None
    try:
        return seal if seal.holds() else None
    except (BuildError, OSError):  # the steps themselves say it
        return None


def write_seal(catalog: str, sights: Sights, steps: Sequence[Step], *, reused: float, stages: Mapping[str, str]) -> None:
    """Seal the catalog, where every step of it is fresh and no file was written so shortly ago that it can't be told from a later one.

    Waits a moment for the youngest file. Without effect where the seal can't be written.
    """
    lock_digest = sights.database.lock_digest
    if lock_digest is None:
        return
    from ollamake.drift import base_warnings
    from ollamake.graph import ON_A_SERVER

    wanted = {**sights.catalog.digests, sights.database.name: lock_digest}
    models: dict[str, dict[str, str]] = {str(host.address): {} for host in sights.hosts}
    for step in steps:
        record = sights.remembered(step)
        try:
            if record is None or sights.reasons(step, record):
                return
        except (BuildError, OSError):  # of a server that answers no more, say
            return
        wanted.update({path: record.inputs[name] for name, path in step.named_reads.items()})
        if sights.on_base_change == "warn":  # the base that is there may be another one than the record has
            wanted.update({path: file_digest(path) for name, path in step.named_reads.items() if name.startswith("base ")})
        if step.stage in ON_A_SERVER:
            models[str(sights.host(step).address)].update(sights.found(step, record))
        else:
            wanted.update(record.targets)
    wanted.update(manifests(sights.catalog))
    places = [f"{LOCAL}/records/{place}.json" for place in {sights.place(step) for step in steps} if place]
    try:
        files = _signatures(wanted, places)
    except OSError:
        return
    if files is None or _journal().exists():
        return
    seal = Seal(
        **facts_of(sights.catalog, sights.hosts),
        form=form_of(FORMAT),
        models=models,
        files=files,
        warnings=[str(warning) for warning in (*sights.catalog.warnings, *base_warnings(sights, steps))],
        count=len(sights.catalog.models),
        reused=reused,
        stages=stages,
    )
    try:
        write_whole(seal_path(catalog), json.dumps(asdict(seal), separators=(",", ":")))
    except OSError:
        return


def seal_path(catalog: str) -> Path:
    """Where the seal of this catalog is kept."""
    return Path(LOCAL, "seals", f"{file_name(catalog)}.json")


def _journal() -> Path:
    return Path(LOCAL, JOURNAL)


def _signatures(wanted: Mapping[str, str], more: Iterable[str]) -> dict[str, Signature] | None:
    """Those of these files, once the youngest is old enough. Raises OSError."""
    young = max(os.stat(path).st_ctime_ns for path in (*wanted, *more)) + JUST_NOW - time.time_ns()
    if young > 0:
        time.sleep(min(young, JUST_NOW) / 1e9)
    return signatures(wanted, more)  # none of a clock that goes wrong
