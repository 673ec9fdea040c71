"""The versions of a model that a server keeps, by what people call them: a tag, or how a digest begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ollamake.errors import BuildError
from ollamake.graph import LATEST, PREVIOUS
from ollamake.ollama.client import OllamaServer
from ollamake.spelling import nearest
from ollamake.stages.promotion import is_ours, tags_on
from ollamake.state.versions import history, short

FEWEST = 4  # digits that are taken for how a digest begins
HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A version that is on a server."""

    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.tag} ({short(self.digest)})"


def kept_on(server: OllamaServer, name: str, place: str, said: str) -> Kept:
    """The version of a model that is meant by this tag, with the model's name before it or not, or by the first digits of a digest; its name alone: the latest.

    `place`: the server, as a file may be called. Raises BuildError.
    """
    tags = tags_on(server, name)
    if not tags:
        msg = f"{name} is not on {server.address} yet"
        raise BuildError(msg, fix=f"build it: `doit build {name}`")
    wanted = LATEST if said.lower() == name.lower() else said.lower().removeprefix(f"{name.lower()}:")
    if wanted in tags:
        return Kept(tag=wanted, digest=tags[wanted])
    digests = _beginning_so(tags, wanted)
    if len(digests) == 1:
        return Kept(tag=best_tag(tags, digests[0]), digest=digests[0])
    if digests:
        msg = f"{said!r} begins {len(digests)} digests of {name} on {server.address}: {', '.join(map(short, digests))}"
        raise BuildError(msg, fix="write more digits")
    gone = [version for version in history(place, name) if _is_digits(wanted) and _begins(version.digest, wanted)]
    if gone:
        msg = f"{name} {short(gone[0].digest)} is no longer on {server.address}"
        raise BuildError(msg, fix=f"still there: {listed(tags)}; `ollama.keep` in the catalog says how many versions stay")
    if wanted == PREVIOUS:
        msg = f"no version of {name} before the latest is on {server.address}"
        raise BuildError(msg, fix=f"there: {listed(tags)}; a version is kept as `previous` when the next one takes its place")
    msg = f"{name} on {server.address} has no version {said!r}"
    raise BuildError(msg, fix=f"{nearest(said, tags)}; or the first digits of a digest, as `doit history {name}` shows them")


def best_tag(tags: Mapping[str, str], digest: str) -> str:
    """The tag of the version with this digest that says most: latest, else one of those before, else any."""
    found = [tag for tag, there in tags.items() if there == digest]
    return min(found, key=lambda tag: (tag != LATEST, not tag.startswith(PREVIOUS), not is_ours(tag), tag))


def listed(tags: Mapping[str, str]) -> str:
    """The versions for people: `latest (0123456789ab), previous (...)`."""
    return ", ".join(str(Kept(tag=tag, digest=digest)) for tag, digest in sorted(tags.items()))


def _beginning_so(tags: Mapping[str, str], wanted: str) -> list[str]:
    return list(dict.fromkeys(digest for digest in tags.values() if _begins(digest, wanted))) if _is_digits(wanted) else []


def _is_digits(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return len(digits) >= FEWEST and HEX.issuperset(digits)


def _begins(digest: str, text: str) -> bool:
    return digest.removeprefix("sha256:").startswith(text.removeprefix("sha256:"))
