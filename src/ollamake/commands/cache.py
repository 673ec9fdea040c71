"""`doit cache status|verify|push|prune`: what is in the cache that adapters are shared in, whether it is whole, what goes there, and what of it may go."""

from __future__ import annotations

import json as to_json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.cache.key import is_shared, key_now
from ollamake.cache.opening import StoreError
from ollamake.cache.references import referred_to
from ollamake.cache.shared import SharedCache
from ollamake.cache.tidy import Asked, Left, age_of, damaged, left_by_writers, listed, may_go
from ollamake.call import current
from ollamake.catalog import Model
from ollamake.commands.cache_push import as_text as pushed_as_text
from ollamake.commands.cache_push import pushed
from ollamake.commands.look import AS_JSON, Look
from ollamake.commands.prune import DRY_RUN
from ollamake.errors import BuildError, as_printed
from ollamake.git import clone_here
from ollamake.graph import Step
from ollamake.said import cleaned
from ollamake.sights import Sights
from ollamake.spelling import counted, nearest, sized

WORDS = ("status", "verify", "push", "prune")
USAGE = "usage: doit cache status | verify | push [--dry-run] | prune [--older-than 30d] [--unreferenced] [--dry-run]"
THERE, NOT_THERE, UNKNOWN, NOT_SHARED = "in the cache", "not in the cache", "not known: its text is not made yet", "not shared: start_from: previous"
OLDER = {"name": "older", "long": "older-than", "type": str, "default": "", "help": "prune: what was written longer ago than that (12h, 30d, 8w)"}
UNREFERENCED = {
    "name": "unreferenced",
    "long": "unreferenced",
    "type": bool,
    "default": False,
    "help": "prune: what no models.lock of any branch or tag of this clone refers to",
}

Facts = dict[str, Any]


class CacheCommand(Look):
    """Look after the cache."""

    name = "cache"
    doc_purpose = "say what is in the shared cache, verify it, fill it, or prune it"
    doc_usage = "status | verify | push | prune"
    doc_description = (
        "status: whether it answers, what it holds, and which models of the catalog are in it. verify: reads every object; exit code 1 where one is "
        "damaged. push: puts there what is here, and it has not got. prune: removes what all of its options mean, and what writers have left that were ended."
    )
    cmd_options = (OLDER, UNREFERENCED, DRY_RUN, AS_JSON)

    def _execute(self, *, older: str, unreferenced: bool, dry_run: bool, json: bool, pos_args: Sequence[str]) -> int:
        if len(pos_args) > 1:
            raise InvalidCommand(USAGE)
        word = pos_args[0] if pos_args else "status"
        if word not in WORDS:
            raise InvalidCommand(as_printed(BuildError(f"doit cache: unknown word {word!r}", fix=nearest(word, WORDS))))
        if (word != "prune" and (older or unreferenced)) or (dry_run and word not in {"push", "prune"}):
            raise InvalidCommand(USAGE)
        self.catalogs()
        caches = distinct()
        if word == "status":
            facts = [status(cache) for cache in caches]
        elif word == "verify":
            facts = [verified(cache) for cache in caches]
        elif word == "push":
            facts = [_pushed(cache, dry_run=dry_run) for cache in caches]
        else:
            facts = [pruned(cache, _asked(older, unreferenced=unreferenced), dry_run=dry_run) for cache in caches]
        tell = {"status": _status_as_text, "verify": _verified_as_text, "push": pushed_as_text, "prune": _pruned_as_text}[word]
        text = to_json.dumps(facts, indent=2, ensure_ascii=False) + "\n" if json else "".join(f"{line}\n" for one in facts for line in tell(one))
        self.outstream.write(text)
        return int(any(not one.get("answers", True) or one.get("damaged") for one in facts))


def distinct() -> list[SharedCache]:
    """The caches of the catalogs, each once. Raises BuildError where there is none."""
    found = {str(run.cache.facts.url): run.cache for run, _ in current().catalogs.values() if run.cache is not None}
    if not found:
        msg = "no catalog of this dodo.py has a cache"
        raise BuildError(msg, fix="write `cache: {url: ...}` into it: a folder, s3://BUCKET/FOLDER or the like (docs/cache.md of ollamake)")
    return list(found.values())


def status(cache: SharedCache) -> Facts:
    """Of one cache: does it answer, what is in it?"""
    facts: Facts = {"url": cleaned(str(cache.facts.url)), "at": str(cache.facts.mark), "reads": cache.facts.read, "writes": cache.facts.write}
    try:
        there = listed(cache.store)
    except StoreError as error:
        return {**facts, "answers": False, "why": str(error)}
    paths = {one.path for one in there}
    kinds = {
        kind: {
            "objects": sum(one.path.startswith(f"{kind}/") for one in there),
            "bytes": sum(one.size for one in there if one.path.startswith(f"{kind}/")),
        }
        for kind in ("adapters", "packed")
    }
    models = {step.name: _where(sights, step, paths) for sights, step in trainings(cache)}
    return {**facts, "answers": True, **kinds, "models": models}


def trainings(cache: SharedCache) -> Iterator[tuple[Sights, Step]]:
    """The steps that train, of the catalogs that have this cache."""
    for run, steps in current().catalogs.values():
        if run.cache is not None and run.cache.facts.url == cache.facts.url:
            yield from ((run.sights, step) for step in steps if step.stage == "train")


def _where(sights: Sights, step: Step, paths: set[str]) -> str:
    assert isinstance(step.subject, Model)
    if not is_shared(step.subject):
        return NOT_SHARED
    key = key_now(sights.remembered(step), sights.sight(step, None), step.subject)
    return UNKNOWN if key is None else THERE if key.path in paths else NOT_THERE


def verified(cache: SharedCache) -> Facts:
    """Of one cache: which objects are damaged? Raises BuildError where it can't be read."""
    try:
        there = listed(cache.store)
        wrong = [_as_json(one) for one in damaged(cache.store, there)]
    except StoreError as error:
        raise _as_error(cache, error) from error
    return {"url": cleaned(str(cache.facts.url)), "objects": len(there), "bytes": sum(one.size for one in there), "damaged": wrong}


def _pushed(cache: SharedCache, *, dry_run: bool) -> Facts:
    try:
        return pushed(cache, trainings(cache), dry_run=dry_run)
    except StoreError as error:
        raise _as_error(cache, error) from error


def pruned(cache: SharedCache, asked: Asked, *, dry_run: bool) -> Facts:
    """Of one cache: what was, or would be, removed? Raises BuildError."""
    now = time.time()
    try:
        goes, stays = may_go(cache.store, listed(cache.store), asked, now)
        goes = [*left_by_writers(cache.store, now), *goes]
        for one in goes if not dry_run else ():
            cache.store.remove(one.path)
    except StoreError as error:
        raise _as_error(cache, error) from error
    told = {"removed": [_as_json(one) for one in goes], "stays": [_as_json(one) for one in stays], "bytes": sum(one.size for one in goes)}
    return {"url": cleaned(str(cache.facts.url)), "dry_run": dry_run, "asked": not asked.is_nothing, **told}


def _asked(older: str, *, unreferenced: bool) -> Asked:
    seconds = age_of(older) if older else None
    if older and seconds is None:
        msg = f"doit cache prune: --older-than {older!r} is no age"
        raise BuildError(msg, fix="write 12h, 30d or 8w")
    if not unreferenced:
        return Asked(older=seconds)
    clone = clone_here()
    locks = {run.sights.database.name for run, _ in current().catalogs.values()}
    return Asked(older=seconds, referred=referred_to(sorted(locks)), known=clone.known)


def _as_error(cache: SharedCache, error: StoreError) -> BuildError:
    return BuildError(f"{cache.facts.mark}: the cache at {cleaned(str(cache.facts.url))} {error.what}: {error.why}", fix=error.fix)


def _as_json(one: Left) -> Facts:
    return {"path": one.path, "bytes": one.size, "why": one.why}


def _status_as_text(facts: Mapping[str, Any]) -> Iterator[str]:
    off = [word for word in ("read", "write") if not facts[f"{word}s"]]
    yield f"{facts['url']} ({facts['at']}{''.join(f', {word}: false' for word in off)})"
    if not facts["answers"]:
        yield from (f"    {line}" for line in facts["why"].splitlines())
        return
    for kind in ("adapters", "packed"):
        if kind == "adapters" or facts[kind]["objects"]:
            yield f"    {kind:<9} {counted(facts[kind]['objects'], 'object')}, {sized(facts[kind]['bytes'])}"
    width = max(map(len, facts["models"]), default=0)
    yield from (f"    {name:<{width}}  {where}" for name, where in facts["models"].items())


def _verified_as_text(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"damaged: {one['path']}: {one['why']}" for one in facts["damaged"])
    wrong = f"{len(facts['damaged'])} of them damaged" if facts["damaged"] else "all as they were written"
    yield f"{facts['url']}: {counted(facts['objects'], 'object')}, {sized(facts['bytes'])}: {wrong}"
    if facts["damaged"]:
        yield "    a build that needs one refuses it, trains, and puts a whole one in its place"


def _pruned_as_text(facts: Mapping[str, Any]) -> Iterator[str]:
    does = "would remove" if facts["dry_run"] else "removed"
    yield from (f"{does} {one['path']} ({sized(one['bytes'])}): {one['why']}" for one in facts["removed"])
    yield from (f"left: {one['path']}: {one['why']}" for one in facts["stays"])
    if facts["removed"]:
        yield f"{does} {counted(len(facts['removed']), 'object')}, {sized(facts['bytes'])}"
    else:
        yield "nothing to remove"
    if not facts["asked"]:
        yield "    --older-than 30d and --unreferenced say which objects may go; with both, those that are both"
