"""What the facts of a report are seen from: the steps of a catalog by model and dataset, and of each a key that is another one where anything of it is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from xxhash import xxh3_128

from ollamake.catalog import Model
from ollamake.catalog.values import MARKERS
from ollamake.graph import BUILD, ON_A_SERVER, Step, index_path, rows_path
from ollamake.sights import Sights
from ollamake.state.digests import JUST_NOW
from ollamake.state.files import LOCAL, RECEIPT

if TYPE_CHECKING:
    from ollamake.foresight import Foresight
    from ollamake.plan import Planned

Signature: TypeAlias = tuple[int, int, int, int] | None  # of a file or folder; None: it is not there


class Looks:
    """Signatures of files, each looked at once."""

    def __init__(self) -> None:
        self.known: dict[str, Signature] = {}
        self.began = time.time_ns()
        self.young: set[str] = set()  # those that were written so shortly before that a later change may not be seen

    def at(self, path: str) -> Signature:
        """The file's, or the folder's: that is another one where a file in it was put in its place whole."""
        try:
            return self.known[path]
        except KeyError:
            pass
        try:
            stat = os.stat(path)
        except (OSError, ValueError):
            found = None
        else:
            found = (stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns)
            if stat.st_ctime_ns > self.began - JUST_NOW:
                self.young.add(path)
        self.known[path] = found
        return found

    def size(self, path: str) -> int | None:
        """Its bytes; None where it is not there."""
        found = self.at(path)
        return None if found is None else found[0]

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

        return Foresight(self.sights, self.steps)

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

    def key_of_model(self, name: str) -> str:
        """What is another where anything is that a model's page shows."""
        if name not in self._keys:
            self._keys[name] = ""  # of models that begin with one another there are none
            paths: dict[str, None] = dict.fromkeys((f"{BUILD}/{name}/events.jsonl", f"{LOCAL}/curves/{name}"))
            for host in self.sights.hosts:
                kept = f"{LOCAL}/hosts/{host.file_name}"
                paths[f"{kept}/history/{name}.jsonl"] = paths[f"{kept}/reports/{name}"] = None
            blocks: list[object] = [None if tags is None else tags.get(name) for tags in self.tags]
            makers = {}
            for step in self.own[name]:
                blocks.append(self._block(step, paths))
                makers.update({made.id: made for path in step.reads if (made := self._makers.get(path)) is not None and made.name != name})
            blocks += [self._key_of(step) for step in makers.values()]
            self._keys[name] = self._key(self.models[name], blocks, paths)
        return self._keys[name]

    def key_of_dataset(self, name: str, *more: object) -> str:
        """What is another where anything is that a dataset's page shows; `more`: that is not in its own files."""
        step = self.datasets[name]
        bases = {model.base.gguf: model.train.max_tokens for model in self.readers.get(name, ())}
        return self._key((bases, more), [self._key_of(step)], bases)

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {}

    def _key_of(self, step: Step) -> str:
        """That of the step of another: of a dataset, or of a model that a training begins with."""
        if step.stage != "validate":
            return self.key_of_model(step.name)
        if step.id not in self._keys:
            paths = dict.fromkeys(path(step.writes[0]) for path in (index_path, rows_path))
            self._keys[step.id] = self._key(step.subject, [self._block(step, paths)], paths)
        return self._keys[step.id]

    def _block(self, step: Step, paths: dict[str, None]) -> object:
        """What is remembered of a step; its files, and those that are remembered of it, are added to the paths."""
        block = self.sights.database.record(step.record_id, self.sights.place(step))
        for path in step.reads:
            paths[path] = None
        for path in step.writes:
            paths[path] = None
        paths[self.receipt(step)] = None
        if block is not None and step.stage not in ON_A_SERVER:
            paths.update(dict.fromkeys(block["targets"]))
        return block

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
    def tags(self) -> list[Mapping[str, Mapping[str, str]] | None]:
        """What each server has of each model: tag -> digest; None where it does not answer. One call a server, all of them at once."""
        if self.steps:
            self.sights.known(self.steps[0])
        found: list[Mapping[str, Mapping[str, str]] | None] = []
        for host in self.sights.hosts:
            models: dict[str, dict[str, str]] | None = None if host.known is None else {}
            for full, digest in (host.known or {}).items():
                name, _, tag = full.rpartition(":")
                assert models is not None  # something is known
                models.setdefault(name, {})[tag] = digest
            found.append(models)
        return found

    def _key(self, facts: object, more: list[object], paths: Iterable[str]) -> str:
        """The digest of these facts, of JSON values, and of how these files look."""
        at = self.looks.at
        digest = xxh3_128(repr(facts).encode(errors="surrogateescape"))
        digest.update(msgspec.msgpack.encode([more, [at(path) for path in paths]]))
        if not self.looks.young.isdisjoint(paths):  # the next report looks again
            digest.update(str(self.looks.began).encode())
        return digest.hexdigest()
