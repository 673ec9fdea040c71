"""What the facts of a report are seen from: the steps of a catalog by model and dataset, and what each page is made from."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
from xxhash import xxh3_128_hexdigest

from ollamake.catalog import Model
from ollamake.catalog.values import MARKERS
from ollamake.graph import BUILD, ON_A_SERVER, Step, index_path, rows_path
from ollamake.ollama.hosts import Host, ask_all
from ollamake.sights import Sights
from ollamake.state.backend import LockBackend
from ollamake.state.digests import JUST_NOW
from ollamake.state.files import LOCAL, RECEIPT
from ollamake.survey.kept import Seen

if TYPE_CHECKING:
    from ollamake.foresight import Foresight
    from ollamake.plan import Planned

GONE, UNSURE = 0, -1  # sights of a file that is not there, and of one that was written so shortly before that a later change may not be seen


class Looks:
    """How files look: a number that is another one where the file is. Each is looked at once."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.began = time.time_ns()
        self._sizes: dict[str, int] = {}
        self._young: set[str] = set()

    def at(self, path: str) -> int:
        """Of the file; of a folder it is another one where a file in it was put in its place whole."""
        known = self.known.get(path)
        if known is not None:
            return known
        try:
            stat = os.stat(path)
        except (OSError, ValueError):
            found = GONE
        else:
            found = hash((stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns))  # never -1, and the same in each process
            self._sizes[path] = stat.st_size
            if stat.st_ctime_ns > self.began - JUST_NOW:
                self._young.add(path)
        self.known[path] = found
        return found

    def lasting(self, path: str) -> int:
        """The same, as it is kept for the next report: where it proves nothing, that looks again."""
        found = self.at(path)
        return UNSURE if path in self._young else found

    def memory(self, database: LockBackend) -> dict[str, int]:
        """The files in which is remembered what was done, and of which another one may be known by its times."""
        paths = map(str, (database.path, database.journal.path, *sorted((database.local / "records").glob("*.json"))))
        return {path: self.lasting(path) for path in paths}

    def size(self, path: str) -> int | None:
        """Its bytes; None where it is not there."""
        self.at(path)
        return self._sizes.get(path)

    def sizes(self, paths: Iterable[str]) -> int | None:
        """The bytes of those that are there; None where none is."""
        found = [size for path in paths if (size := self.size(path)) is not None]
        return sum(found) if found else None


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One catalog of a report."""

    sights: Sights
    steps: tuple[Step, ...]
    looks: Looks

    @cached_property
    def foresight(self) -> Foresight:
        """For the plan; made when something changed: what it imports takes longer than all else that is done where nothing did."""
        from ollamake.foresight import Foresight

        return Foresight(self.sights, self.steps, times=False)

    @cached_property
    def own(self) -> Mapping[str, Sequence[Step]]:
        """The steps of each model."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            if step.stage != "validate":
                found.setdefault(step.name, []).append(step)
        return found

    @cached_property
    def models(self) -> Mapping[str, Model]:
        """Each model, by its name, in the catalog's order."""
        by_name = {step.name: step.subject for step in self.steps if isinstance(step.subject, Model)}
        return {model.name: by_name[model.name] for model in self.sights.catalog.models if model.name in by_name}

    @cached_property
    def datasets(self) -> Mapping[str, Step]:
        """The step that checks each dataset."""
        return {step.name: step for step in self.steps if step.stage == "validate"}

    @cached_property
    def readers(self) -> Mapping[str, Sequence[Model]]:
        """The models that are trained on each dataset."""
        found: dict[str, list[Model]] = {name: [] for name in self.datasets}
        for model in self.models.values():
            for dataset in model.data:
                found.setdefault(dataset.name, []).append(model)
        return found

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each step in their order, by its id."""
        return {step.id: place for place, step in enumerate(self.steps)}

    @cached_property
    def _makers(self) -> Mapping[str, Step]:
        return {path: step for step in self.steps for path in (*step.writes, step.id)}

    @cached_property
    def _needs(self) -> dict[str, dict[str, Step]]:
        return {}

    def needed(self, name: str) -> Mapping[str, Step]:
        """A model's steps and those that make what they read, by their ids."""
        if name not in self._needs:
            found: dict[str, Step] = {}
            coming = list(self.own[name])
            while coming:
                step = coming.pop()
                if step.id not in found:
                    found[step.id] = step
                    coming.extend(self._makers[path] for path in (*step.reads, *step.after) if path in self._makers)
            self._needs[name] = found
        return self._needs[name]

    def needed_by(self, names: Iterable[str]) -> tuple[Step, ...]:
        """The steps of these models, with all that they need, in their order."""
        ids = {id_ for name in names for id_ in self.needed(name)}
        return tuple(step for step in self.steps if step.id in ids)

    @cached_property
    def _plans(self) -> dict[str, Planned | None]:
        return {}

    def plans(self, steps: Iterable[Step]) -> dict[str, Planned]:
        """What a run would do of these steps, by their ids, which are all that they need themselves. A dataset is planned once: to do it, it is checked."""
        wanted = tuple(steps)
        if not all(step.id in self._plans for step in wanted):
            from ollamake.plan import planned

            self._plans.update(dict.fromkeys(step.id for step in wanted))
            self._plans.update({plan.step.id: plan for plan in planned(wanted, self.foresight)})
        return {step.id: plan for step in wanted if (plan := self._plans[step.id]) is not None}

    def seen_of_model(self, name: str) -> Seen:
        """What its page is made from, as it is now."""
        curves = f"{LOCAL}/curves"
        paths = dict.fromkeys((f"{BUILD}/{name}/events.jsonl", curves if self.looks.at(curves) == GONE else f"{curves}/{name}"))
        places = [f"{LOCAL}/hosts/{host.file_name}" for host in self.sights.hosts]
        paths.update(dict.fromkeys(f"{place}/reports/{name}" for place in places))
        tags = [None if some is None else some.get(name, {}) for some in self.tags]
        return self._seen(self.own[name], paths, tags, [f"{place}/history/{name}.jsonl" for place in places])

    def seen_of_dataset(self, name: str) -> Seen:
        """The same of a dataset's page."""
        step = self.datasets[name]
        bases = (model.base.gguf for model in self.readers.get(name, ()))
        return self._seen([step], dict.fromkeys(bases), [], (index_path(step.writes[0]), rows_path(step.writes[0])))

    def needs(self, name: str) -> tuple[list[str], list[str]]:
        """The datasets that the model needs, and the models that its training begins with, one after the other."""
        others = [step for step in self.needed(name).values() if step.name != name or step.stage == "validate"]
        return (
            [step.name for step in others if step.stage == "validate"],
            list(dict.fromkeys(step.name for step in others if step.stage != "validate")),
        )

    def _seen(self, steps: Sequence[Step], paths: dict[str, None], tags: list[dict[str, str] | None], left: Iterable[str] = ()) -> Seen:
        known = [(self.sights.place(step), step.record_id) for step in steps]
        for step in steps:
            paths.update(dict.fromkeys((*step.reads, *step.writes)))
            block = self.sights.database.record(step.record_id, self.sights.place(step))
            if block is not None and step.stage not in ON_A_SERVER:
                paths.update(dict.fromkeys(block["targets"]))
        lasting = self.looks.lasting
        return Seen(
            files={path: lasting(path) for path in paths},
            left={path: lasting(path) for path in (*left, *map(self.receipt, steps))},
            steps=known,
            remembered=remembered(self.sights.database, known),
            tags=tags,
        )

    def receipt(self, step: Step) -> str:
        """Where its receipt is, as Sights.receipt_path has it, without the objects that take most of a report's time in which nothing changed."""
        if step.stage in ON_A_SERVER:
            return f"{LOCAL}/hosts/{self._places[step.host]}/{step.stage}-{step.name}.json"
        if step.stage == "train":
            return f"{step.writes[0].rpartition('/')[0]}/{RECEIPT}"
        return f"{BUILD}/{MARKERS if step.stage == 'validate' else step.name}/{step.stage}-{step.name}.{RECEIPT}"

    @cached_property
    def _places(self) -> Mapping[str | None, str]:
        first = self.sights.hosts[0].file_name
        return {None: first, **{host.said: host.file_name for host in self.sights.hosts}}

    @cached_property
    def tags(self) -> list[dict[str, dict[str, str]] | None]:
        """What each server has of each model: tag -> digest; None where it does not answer."""
        return tags_on(self.sights.hosts)


def tags_on(hosts: Sequence[Host]) -> list[dict[str, dict[str, str]] | None]:
    """What each server has of each model: tag -> digest; None where it does not answer. One call a server, all of them at once."""
    ask_all(hosts)
    found: list[dict[str, dict[str, str]] | None] = []
    for host in hosts:
        models: dict[str, dict[str, str]] | None = None if host.known is None else {}
        for full, digest in (host.known or {}).items():
            name, _, tag = full.rpartition(":")
            assert models is not None  # something is known
            models.setdefault(name, {})[tag] = digest
        found.append(models)
    return found


def remembered(database: LockBackend, steps: Iterable[tuple[str | None, str]]) -> str:
    """The digest of what is remembered of these steps, by place and id."""
    return xxh3_128_hexdigest(msgspec.msgpack.encode([database.record(id_, place) for place, id_ in steps]))
