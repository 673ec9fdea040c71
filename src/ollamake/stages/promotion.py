"""Which version of a model has its name on a server: the tags that ollamake gives, and how they change hands.

Each change leaves every version reachable under some tag until the next one is in its place, whenever it is cut off.
"""

from __future__ import annotations

from ollamake.errors import BuildError
from ollamake.graph import CANDIDATE, LATEST, PREVIOUS
from ollamake.ollama.address import digests_at, versions_of
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.names import named_lock

BASE = "base"  # of a model of the base alone, served as the model is, while that is tested
ON_ITS_WAY = "rolling-back"  # of the version that a roll-back leaves, until that has its place; it may be nowhere else where one is cut off


def previous_tags(count: int) -> tuple[str, ...]:
    """The tags of so many versions before the latest, the youngest first: previous, previous-2, ..."""
    return tuple(PREVIOUS if number == 1 else f"{PREVIOUS}-{number}" for number in range(1, count + 1))


def is_older(tag: str) -> bool:
    """Is this the tag of a version before the latest? `2` and `20240501` are people's own."""
    return tag == PREVIOUS or (tag.startswith(f"{PREVIOUS}-") and tag.removeprefix(f"{PREVIOUS}-").isdecimal())


def is_ours(tag: str) -> bool:
    """Is this a tag that ollamake gives to models of a catalog?"""
    return tag in {CANDIDATE, LATEST, BASE, ON_ITS_WAY} or is_older(tag)


def tags_on(server: OllamaServer, name: str) -> dict[str, str]:
    """The digest of each version of a model that the server has, by its tag. Raises BuildError where it does not answer."""
    known = digests_at(server.address)
    if known is None:
        msg = f"nothing answers at {server.address}"
        raise BuildError(msg, fix="look whether the server still runs; then run `doit` again")
    return {full.rpartition(":")[2]: digest for full, digest in versions_of(known, name).items()}


def tag_of(tags: dict[str, str], digest: str) -> str | None:
    """A tag of the version with this digest, or None where there is none; the candidate's where it has it."""
    found = [tag for tag, there in tags.items() if there == digest]
    return CANDIDATE if CANDIDATE in found else next(iter(found), None)


def promote(server: OllamaServer, name: str, digest: str, *, keep: int) -> str | None:
    """Give the name to the version with this digest, and keep so many of those before. Returns the digest that had it before. Raises BuildError."""
    with named_lock(server.address, name):
        tags = tags_on(server, name)
        _finish(server, name, tags)
        source, latest = tag_of(tags, digest), tags.get(LATEST)
        if source is None:
            msg = f"{name} on {server.address} was replaced while it was tested"
            raise BuildError(msg, fix="run `doit` again")
        if latest != digest:
            if source != CANDIDATE and is_ours(source):  # a version that was rolled back from: its tag is about to be another's
                server.copy(f"{name}:{source}", f"{name}:{CANDIDATE}")
                source, tags[CANDIDATE] = CANDIDATE, digest
            if latest is not None:
                _keep(server, name, tags, keep)
            server.copy(f"{name}:{source}", f"{name}:{LATEST}")
        kept = {LATEST, *previous_tags(keep)}
        for tag in tags:
            if is_ours(tag) and tag not in kept and (tag != CANDIDATE or tags[tag] == digest):
                server.delete(f"{name}:{tag}")
        return latest


def _keep(server: OllamaServer, name: str, tags: dict[str, str], keep: int) -> None:
    """Have the latest kept as the previous version, and each before it one place further back, as far as the first place that is free; else the last one goes.

    A place that has what the next younger one has is as good as free: it was filled by a build that was cut off.
    """
    places = (LATEST, *previous_tags(keep))
    free = next((at for at in range(1, len(places)) if tags.get(places[at]) in {None, tags[places[at - 1]]}), keep)
    for at in range(free, 0, -1):
        if tags.get(places[at]) != tags[places[at - 1]]:
            server.copy(f"{name}:{places[at - 1]}", f"{name}:{places[at]}")


def exchange(server: OllamaServer, name: str, tag: str) -> str:
    """Let the latest version and the one with this tag change places. Returns the tag that the former latest has then. Raises BuildError."""
    with named_lock(server.address, name):
        tags = tags_on(server, name)
        digest = tags[tag]
        _finish(server, name, tags)
        if tags[LATEST] == digest:
            return tag
        if tag == ON_ITS_WAY:
            tag = next(older for older, there in tags.items() if is_older(older) and there == digest)
        server.copy(f"{name}:{LATEST}", f"{name}:{ON_ITS_WAY}")
        server.copy(f"{name}:{tag}", f"{name}:{LATEST}")
        server.copy(f"{name}:{ON_ITS_WAY}", f"{name}:{tag}")
        server.delete(f"{name}:{ON_ITS_WAY}")
        return tag


def _finish(server: OllamaServer, name: str, tags: dict[str, str]) -> None:
    """Finish a roll-back that was cut off: the version that was left gets the place of the one that has the name since, if it has none."""
    if ON_ITS_WAY not in tags:
        return
    left = tags[ON_ITS_WAY]
    if not any(there == left and (tag == LATEST or is_older(tag)) for tag, there in tags.items()):
        doubled = (tag for tag, there in tags.items() if is_older(tag) and there == tags.get(LATEST))
        free = (tag for tag in previous_tags(len(tags)) if tag not in tags)  # somebody has changed something since
        place = next(doubled, None) or next(free)
        server.copy(f"{name}:{ON_ITS_WAY}", f"{name}:{place}")
        tags[place] = left
    server.delete(f"{name}:{ON_ITS_WAY}")
    del tags[ON_ITS_WAY]
