"""What this repo has made and needs no more: versions of models on servers, and files of models that are in the catalog no more."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ollamake.catalog.values import MARKERS
from ollamake.errors import BuildError
from ollamake.graph import ADAPTERS, BUILD, CANDIDATE, LATEST, WEIGHTS
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.described import blobs_in
from ollamake.ollama.names import named_lock
from ollamake.stages.jobs import JOB
from ollamake.stages.promotion import BASE, ON_ITS_WAY, is_older, is_ours, previous_tags, tags_on
from ollamake.state.files import LOCAL, RECEIPT, read_object
from ollamake.state.receipts import read_receipt
from ollamake.state.versions import digests_made, report_with, short

GONE = "in the catalog no more"
NOT_OURS = "was not made here, or was replaced by hand"
OWN_TAG = "has a tag of somebody's own"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftVersion:
    """A version of a model on a server."""

    name: str  # with its tag
    digest: str
    why: str  # it may go, or stays
    goes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftFiles:
    """A file, or a folder with all that is in it."""

    path: Path
    why: str
    size: int  # bytes
    costs_training: bool = False


def grouped(known: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What a server lists: name -> tag -> digest."""
    found: dict[str, dict[str, str]] = {}
    for full, digest in known.items():
        name, _, tag = full.rpartition(":")
        found.setdefault(name, {})[tag] = digest
    return found


def versions_left(place: str, name: str, tags: Mapping[str, str], *, keep: int | None) -> Iterator[LeftVersion]:
    """The versions of a model that are needed no more, and those that stay though they may seem so.

    `place`: the server, as a file may be called. `keep`: versions that are kept before the latest; None: the model is in the catalog no more.
    """
    if keep is None:
        ours = digests_made(place, name)
        for tag, digest in tags.items():
            is_made = digest in ours or tag == BASE  # which is looked at once more, when it is removed
            why = OWN_TAG if not is_ours(tag) else GONE if is_made else NOT_OURS
            yield LeftVersion(name=f"{name}:{tag}", digest=digest, why=why, goes=why == GONE)
        return
    kept = {LATEST, *previous_tags(keep)}
    suspects = {tag for tag in tags if tag not in kept and (tag in {CANDIDATE, BASE, ON_ITS_WAY} or is_older(tag))}
    ours = digests_made(place, name) if suspects else set()
    for tag in sorted(suspects):
        digest = tags[tag]
        stays = [there for other, there in tags.items() if other != tag and (tag != ON_ITS_WAY or other in kept)]
        why, goes = _verdict(place, name, tag, digest, stays)
        is_made = digest in ours or tag == BASE
        yield LeftVersion(name=f"{name}:{tag}", digest=digest, why=why if is_made else NOT_OURS, goes=goes and is_made)


def _verdict(place: str, name: str, tag: str, digest: str, others: Collection[str]) -> tuple[str, bool]:
    if tag == BASE:
        return "of a test that was cut off", True
    if tag == ON_ITS_WAY:
        cut_off = digest not in others
        return ("of a roll-back that was cut off: `doit rollback` finishes it" if cut_off else "of a roll-back that was cut off"), not cut_off
    if tag == CANDIDATE:
        report = report_with(place, name, digest)
        is_made_last = read_object(Path(LOCAL, "hosts", place, f"register-{name}.json")).get("outcome", {}).get("digest") == digest
        if report is None and is_made_last and digest not in others:
            return "a candidate that waits for its tests, or that was rolled back from", False
        return ("a candidate that failed its tests" if report and not report.passed else "a candidate of before"), True
    return "an older version than `ollama.keep` keeps", True


def remove_version(server: OllamaServer, place: str, left: LeftVersion) -> bool:
    """Remove it, where it is still what it was. Returns whether it did. Raises BuildError."""
    name, _, tag = left.name.rpartition(":")
    with named_lock(server.address, name):
        if tags_on(server, name).get(tag) != left.digest or (tag == BASE and not _is_the_base(server, place, name)):
            return False
        server.delete(left.name)
    return True


def _is_the_base(server: OllamaServer, place: str, name: str) -> bool:
    """Is `NAME:base` the base that the model was made on, and no more?"""
    base = read_object(Path(LOCAL, "hosts", place, f"register-{name}.json")).get("outcome", {}).get("base", {}).get("digest")
    return blobs_in(server.shown(f"{name}:{BASE}").modelfile) == {base}


def files_left(named: Collection[str], needed: Iterable[str]) -> Iterator[LeftFiles]:
    """The files of models that are not among those that are named. `needed`: paths that steps read, which stay."""
    inside = [Path(path).resolve() for path in needed]
    for top, is_made in ((BUILD, _is_built), (ADAPTERS, _is_trained), (WEIGHTS, _is_trained)):
        for folder in sorted(Path(top).glob("*")):
            if folder.name in named or (top == BUILD and folder.name == MARKERS) or folder.is_symlink() or not folder.is_dir():
                continue
            at = folder.resolve()
            if is_made(folder) and not any(path.is_relative_to(at) for path in inside):
                yield LeftFiles(path=folder, why=f"{folder.name} is {GONE}", size=size_of(folder), costs_training=top != BUILD)
    told = [*((path, path.name) for path in Path(LOCAL, "curves").glob("*")), *((path, path.stem) for path in Path(LOCAL, "pushed").glob("*.json"))]
    for path, name in sorted(told):
        if name not in named:
            yield LeftFiles(path=path, why=f"{name} is {GONE}", size=size_of(path) if path.is_dir() else path.stat().st_size)


def reports_left(place: str, digests: Mapping[str, Collection[str]]) -> Iterator[LeftFiles]:
    """Reports of tests of versions that are nowhere. `digests`: model -> those that the server has; the one that was promoted last comes back."""
    for folder in sorted(Path(LOCAL, "hosts", place, "reports").glob("*")):
        if folder.name not in digests:
            continue
        used = {*digests[folder.name], promoted_last(place, folder.name)}
        stay = {short(digest) for digest in used if digest is not None}
        for path in sorted(path for path in folder.glob("*.json") if path.stem not in stay):
            yield LeftFiles(path=path, why="report of a version that is gone", size=path.stat().st_size)


def promoted_last(place: str, name: str) -> str | None:
    """The digest of the version that was promoted last, or rolled back to, as far as it is remembered."""
    digest = read_object(Path(LOCAL, "hosts", place, f"test-{name}.json")).get("outcome", {}).get("digest")
    return digest if isinstance(digest, str) else None


def _is_built(folder: Path) -> bool:
    return any(folder.glob(f"*-{folder.name}.{RECEIPT}")) or any(folder.glob(f"job-*/{JOB}"))


def _is_trained(folder: Path) -> bool:
    """Was it trained here? One that was accepted was made elsewhere."""
    receipt = read_receipt(folder / RECEIPT)
    return receipt is not None and receipt.record.accepted is None


def size_of(path: Path) -> int:
    """Bytes of a folder's files that are in no other folder."""
    found = [file.lstat() for file in path.rglob("*") if not file.is_dir()]
    return sum(facts.st_size for facts in found if facts.st_nlink == 1)


def remove_files(left: LeftFiles) -> None:
    """Remove them. Raises BuildError."""
    try:
        if left.path.is_dir():
            shutil.rmtree(left.path)
        else:
            left.path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{left.path} can't be removed: {error.strerror}"
        raise BuildError(msg, fix="give yourself the right to write there") from error
