"""A catalog's file -> its steps, and how they are seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doit.globals import Globals

from ollamake.call import current
from ollamake.catalog import Catalog
from ollamake.catalog.engine import with_engine
from ollamake.catalog.load import load_catalog
from ollamake.catalog.shared import Part
from ollamake.drift import base_warnings
from ollamake.errors import BuildError, Fault
from ollamake.graph import Step, steps_of
from ollamake.ollama.held import with_held_bases
from ollamake.ollama.hosts import Host, hosts_of
from ollamake.recipes import held_against_trainers
from ollamake.sights import Sights
from ollamake.state.backend import LockBackend
from ollamake.state.readings import kept_reading
from ollamake.trainers.installed import TrainerNames
from ollamake.trainers.port import WEIGHTS, trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A catalog that was read."""

    sights: Sights
    steps: tuple[Step, ...]
    warnings: tuple[Fault, ...]


def loaded(path: str, part: Part | None = None, asked: Sequence[Host] = ()) -> Loaded:
    """The catalog as it is now. `part`: what is wanted of it; `asked`: servers that were asked already, by whatever names. Raises BuildError."""
    backend = database()
    with kept_reading(path, may_write=backend.lock.is_held) as kept:
        catalog = load_catalog(Path(path), trainers=TrainerNames(), only_looks=current().only_looks, part=part, kept=kept)
    if catalog.cache is not None:
        from ollamake.cache.opening import refuse_unknown

        refuse_unknown(catalog.cache)
    if catalog.sinks:
        from ollamake.sinks.port import refuse_unknown_sink

        for place in catalog.sinks:
            refuse_unknown_sink(place)
    catalog = with_held_bases(held_against_trainers(with_engine(catalog, current().engine)))
    steps = steps_in(catalog)
    hosts = hosts_of(catalog.hosts)
    for host in hosts:
        host.take(asked)
    sights = Sights(catalog, hosts, backend)
    return Loaded(sights=sights, steps=steps, warnings=(*catalog.warnings, *base_warnings(sights, steps)))


def steps_in(catalog: Catalog) -> tuple[Step, ...]:
    """Every step of a catalog, with what its trainers read. Raises BuildError where one of these can't be loaded."""
    used = {model.train.trainer for model in catalog.models if model.adapter is None}
    programs = {name: trainer(name) for name in used}
    whole = {name for name, program in programs.items() if program.capabilities.makes == WEIGHTS}
    return steps_of(catalog, {name: program.text_format for name, program in programs.items()}, whole)


def database() -> LockBackend:
    """Doit's database of this call. Raises BuildError where it is not ours."""
    backend = Globals.dep_manager.backend if Globals.dep_manager else None
    if not isinstance(backend, LockBackend):
        msg = "doit's database is not models.lock"
        raise BuildError(msg, fix="import DOIT_CONFIG from ollamake in dodo.py, and leave its backend as it is")
    return backend
