"""`doit prune [--dry-run]`: remove what this repo has made and needs no more; nothing else."""

from __future__ import annotations

import json as to_json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.call import current
from ollamake.commands.look import AS_JSON, Look
from ollamake.commands.one_model import connected
from ollamake.ollama.hosts import Host, ask_all
from ollamake.spelling import counted, sized
from ollamake.stages.left_over import LeftFiles, LeftVersion, files_left, grouped, remove_files, remove_version, reports_left, versions_left
from ollamake.stages.shared import sweep_shards
from ollamake.state.versions import forget_versions, made_at, short

DRY_RUN = {
    "name": "dry_run",
    "short": "n",
    "long": "dry-run",
    "type": bool,
    "default": False,
    "help": "say what would be removed, and remove nothing",
}
WITH_ADAPTERS = {
    "name": "adapters",
    "long": "adapters",
    "type": bool,
    "default": False,
    "help": "also adapters and weights of models that are in the catalog no more",
}


@dataclass
class Found:
    """What there is."""

    versions: list[tuple[Host, LeftVersion]] = field(default_factory=list)  # to remove
    files: list[LeftFiles] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)  # what stays, and why
    gone: list[tuple[Host, str]] = field(default_factory=list)  # models of which nothing is on the server then

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(one.size for one in self.files)


class PruneCommand(Look):
    """Tidy up."""

    name = "prune"
    doc_purpose = "remove models and files that this repo has made and needs no more"
    doc_usage = "[--dry-run] [--adapters]"
    doc_description = (
        "On the servers: candidates that failed, what a build that was killed has left, versions beyond `ollama.keep`, and models that are in the "
        "catalog no more. Here: what was built of such models, and old reports of tests. What somebody else has made, or replaced by hand, stays."
    )
    cmd_options = (DRY_RUN, WITH_ADAPTERS, AS_JSON)

    def _execute(self, *, dry_run: bool, adapters: bool, json: bool, pos_args: Sequence[str]) -> int:
        if pos_args:
            msg = "usage: doit prune [--dry-run] [--adapters]"
            raise InvalidCommand(msg)
        self.catalogs()
        if dry_run:
            self.tell(found(adapters=adapters), dry_run=True, json=json)
            return 0
        database = self.dep_manager.backend
        database.hold()
        try:
            every = found(adapters=adapters)
            remove(every)
        finally:
            database.lock.release()
        self.tell(every, dry_run=False, json=json)
        return 0

    def tell(self, every: Found, *, dry_run: bool, json: bool) -> None:
        """Say what was found."""
        self.outstream.write(_as_json(every, dry_run=dry_run) if json else "".join(f"{line}\n" for line in _as_text(every, dry_run=dry_run)))


def found(*, adapters: bool) -> Found:
    """What may be removed now, and what stays. Raises BuildError."""
    every = Found()
    runs = list(current().catalogs.values())
    named = {step.name for _, steps in runs for step in steps if step.stage != "validate"}
    keeps: dict[Host, dict[str, int]] = {}
    by_address: dict[Any, Host] = {}
    for run, steps in runs:
        for host in run.sights.hosts:
            first = by_address.setdefault(host.address, host)
            own = {step.name: run.sights.catalog.kept_versions for step in steps if step.stage != "validate"}
            keeps.setdefault(first, {}).update(own)
    ask_all(list(keeps))
    for host, own in keeps.items():
        if host.known is None:
            every.left.append((host.name, "does not answer: what it has is not looked at"))
            continue
        _on_host(every, host, own, named)
    needed = {path for _, steps in runs for step in steps for path in (*step.reads, *step.writes)}
    for one in files_left(named, needed):
        if one.costs_training and not adapters:
            every.left.append((str(one.path), f"{one.why}, and was trained: `doit prune --adapters` removes it ({sized(one.size)})"))
        else:
            every.files.append(one)
    return every


def _on_host(every: Found, host: Host, own: dict[str, int], named: set[str]) -> None:
    tags = grouped(host.known or {})
    gone = sorted(made_at(host.file_name) - named)
    for name in (*own, *gone):
        versions = list(versions_left(host.file_name, name, tags.get(name, {}), keep=own.get(name)))
        every.versions.extend((host, one) for one in versions if one.goes)
        every.left.extend((f"{one.name} on {host.name}", one.why) for one in versions if not one.goes)
        if name in gone and all(one.goes for one in versions):
            every.gone.append((host, name))
    goes = {one.name for at, one in every.versions if at is host}
    stay = {name: {digest for tag, digest in tags.get(name, {}).items() if f"{name}:{tag}" not in goes} for name in own}
    every.files.extend(reports_left(host.file_name, stay))


def remove(every: Found) -> None:
    """Remove it. What is another by now stays. Raises BuildError."""
    for host in dict.fromkeys(host for host, _ in every.versions):
        with connected(host) as server:
            for at, one in list(every.versions):
                if at is host and not remove_version(server, host.file_name, one):
                    every.versions.remove((at, one))
                    every.left.append((f"{one.name} on {host.name}", "is another by now, or was not made here"))
    for files in every.files:
        remove_files(files)
    sweep_shards()
    stays = {name for name, _ in every.left}
    for host, name in every.gone:
        if not any(said.startswith(f"{name}:") and said.endswith(f" on {host.name}") for said in stays):
            forget_versions(host.file_name, name)


def _as_json(every: Found, *, dry_run: bool) -> str:
    facts = {
        "dry_run": dry_run,
        "models": [{"host": host.name, "model": one.name, "digest": one.digest, "why": one.why} for host, one in every.versions],
        "files": [{"path": str(one.path), "bytes": one.size, "why": one.why} for one in every.files],
        "bytes": every.size,
        "left": [{"what": what, "why": why} for what, why in every.left],
    }
    return to_json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def _as_text(every: Found, *, dry_run: bool) -> Iterator[str]:
    does = "would remove" if dry_run else "removed"
    for host, one in every.versions:
        yield f"{does} {one.name} ({short(one.digest)}) on {host.name}: {one.why}"
    for file in every.files:
        yield f"{does} {file.path} ({sized(file.size)}): {file.why}"
    for what, why in every.left:
        yield f"left: {what}: {why}"
    if not every.versions and not every.files:
        yield "nothing to remove"
        return
    files = f" and {counted(len(every.files), 'place')} on the disk, {sized(every.size)}" if every.files else ""
    yield f"{does} {counted(len(every.versions), 'version')} of models{files}"
