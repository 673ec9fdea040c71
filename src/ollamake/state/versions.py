"""The versions of a model that were used on a server, in their order, and what its tests came to of each: kept with what is remembered of that server."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ollamake.durable import sync_folder
from ollamake.gate.report import Report, report_of
from ollamake.graph import ON_A_SERVER
from ollamake.state.files import LOCAL, read_object

ROLLED_BACK = "rolled back"  # how a version came to be used
SHORT = 12  # hex digits that name a version


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a model came to be the one that is used."""

    digest: str  # of the model in Ollama
    how: str  # promoted, rolled back
    at: str  # when: ISO 8601, in UTC
    replaced: str | None = None  # digest of the one before
    tests: str = ""  # `5 tests passed`
    commit: str | None = None  # of the repo
    provenance: dict[str, Any] = field(default_factory=dict)  # trainer, recipe, data
    origin: str = ""  # digest of what it was packaged from and how it is served; empty: not known
    because: str = ""  # why it was rolled back


def short(digest: str) -> str:
    """A digest as people type it."""
    return digest.removeprefix("sha256:")[:SHORT]


def history(place: str, name: str) -> tuple[Version, ...]:
    """The versions of a model, the oldest first; `place` is the server's name as a file may be called. A line that is torn is left out."""
    try:
        lines = _history_path(place, name).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    return tuple(filter(None, map(_version_in, lines)))


def note_version(place: str, name: str, version: Version) -> None:
    """Add one. Raises OSError."""
    path = _history_path(place, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(version), ensure_ascii=False, sort_keys=True).encode() + b"\n"
    with path.open("ab") as file:
        is_torn = file.tell() > 0 and not path.read_bytes().endswith(b"\n")
        file.write(b"\n" + line if is_torn else line)
    sync_folder(path.parent)


def report_with(place: str, name: str, digest: str | None) -> Report | None:
    """What the tests of the version with this digest came to, as far as that is known."""
    return None if digest is None else report_of(read_object(report_path(place, name, digest)))


def report_path(place: str, name: str, digest: str) -> Path:
    """Where that is kept."""
    return Path(LOCAL, "hosts", place, "reports", name, f"{short(digest)}.json")


def made_at(place: str) -> set[str]:
    """The models that this repo has made on a server, as far as it is remembered; `place` is the server's name as a file may be called."""
    folder = Path(LOCAL, "hosts", place)
    receipts = (path.stem.removeprefix(f"{stage}-") for stage in ON_A_SERVER for path in folder.glob(f"{stage}-*.json"))
    return {*receipts, *(path.stem for path in (folder / "history").glob("*.jsonl"))}


def digests_made(place: str, name: str) -> set[str]:
    """The digests of a model's versions that this repo has made on a server, as far as they are remembered."""
    folder = Path(LOCAL, "hosts", place)
    receipts = (read_object(folder / f"{stage}-{name}.json").get("outcome", {}).get("digest") for stage in ON_A_SERVER)
    reports = (read_object(path).get("digest") for path in (folder / "reports" / name).glob("*.json"))
    return {digest for digest in (*receipts, *reports, *(version.digest for version in history(place, name))) if isinstance(digest, str)}


def forget_versions(place: str, name: str) -> None:
    """Forget a model that this repo has made on a server, and that is gone from there."""
    folder = Path(LOCAL, "hosts", place)
    for path in (*(folder / f"{stage}-{name}.json" for stage in ON_A_SERVER), _history_path(place, name)):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / "reports" / name, ignore_errors=True)


def _version_in(line: str) -> Version | None:
    try:
        return Version(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _history_path(place: str, name: str) -> Path:
    return Path(LOCAL, "hosts", place, "history", f"{name}.jsonl")
