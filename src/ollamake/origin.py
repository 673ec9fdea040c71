"""What the steps of a catalog come from, beside the files that they read: where it is the same, they are the same as they were, and the catalog need not be read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ollamake.catalog.expanded import digest_of
from ollamake.catalog.files import matching
from ollamake.state.digests import Signature, file_digest, is_young, signature_of

if TYPE_CHECKING:
    from ollamake.catalog import Catalog
    from ollamake.ollama.hosts import Host

WHERE_HELD = "OLLAMA_MODELS"  # names the first folder in which bases that Ollama holds are looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Of one catalog."""

    form: str  # of what is kept, and of ollamake's stages
    hosts: list[str]  # as the catalog has them
    addresses: list[str]  # of these servers
    servers: list[str | None]  # their versions, where these decide what is packaged
    trainers: list[dict[str, Any]]  # name, environment, what it reads and makes, and its versions where they are pinned
    files: Mapping[str, Signature]
    patterns: Mapping[str, list[str]]  # pattern of files -> what it came to
    environment: Mapping[str, str | None]  # variable that the catalog may use -> digest of its value; None: it is not set
    warnings: list[str]

    def is_same_here(self, form: str) -> bool:
        """Are the files as they were?"""
        return self.form == form and _same_files(self.files)

    def is_same_beyond(self, hosts: Sequence[Host]) -> bool:
        """Is it all that is not in the files? `hosts`: the servers that it names. Raises BuildError where no server can be asked."""
        if [str(host.address) for host in hosts] != self.addresses:
            return False
        if any(matching(pattern) != matches for pattern, matches in self.patterns.items()):
            return False
        if any(digest_of(os.environ.get(name)) != digest for name, digest in self.environment.items()):
            return False
        if any(facts_of_trainer(facts["name"], facts["env"], pinned=facts["versions"] is not None) != facts for facts in self.trainers):
            return False
        return not self.servers or [host.expected_version for host in hosts] == self.servers


def facts_of(catalog: Catalog, hosts: Sequence[Host]) -> dict[str, Any]:
    """What an Origin has of a catalog that was read, but for its form, files and warnings."""
    recipes = [model.train for model in catalog.models if model.adapter is None]
    used = sorted({(train.trainer, train.env, train.pins_versions) for train in recipes}, key=repr)
    by_server = any(model.serve.weights == "auto" for model in catalog.models)
    return {
        "hosts": list(catalog.hosts),
        "addresses": [str(host.address) for host in hosts],
        "servers": [host.expected_version for host in hosts] if by_server else [],
        "trainers": [facts_of_trainer(name, env, pinned=pinned) for name, env, pinned in used],
        "patterns": catalog.patterns,  # as the steps were made from, not as they may be by now
        "environment": {**catalog.environment, **({WHERE_HELD: digest_of(os.environ.get(WHERE_HELD))} if manifests(catalog) else {})},
    }


def manifests(catalog: Catalog) -> dict[str, str]:
    """The files by which Ollama names the bases of the catalog that it holds, and their digests."""
    held = [model.base.manifest for model in catalog.models if model.base.ollama is not None]
    return dict(manifest for manifest in held if manifest is not None)


def form_of(number: int) -> str:
    """Names what is kept by this ollamake; `number`: of the form in which it is."""
    from ollamake.graph import VERSIONS

    return f"{number} {version('ollamake')} {json.dumps(VERSIONS, sort_keys=True)}"


def facts_of_trainer(name: str, env: str | Sequence[str] | None, *, pinned: bool) -> dict[str, Any]:
    """What of a trainer decides a step."""
    from ollamake.trainers.environment import Environment
    from ollamake.trainers.port import trainer

    program = trainer(name)
    named = env if env is None or isinstance(env, str) else tuple(env)  # JSON knows no tuples
    versions = dict(program.versions(Environment(named))) if pinned else None
    said = named if named is None or isinstance(named, str) else list(named)
    return {"name": name, "env": said, "reads": program.text_format, "makes": program.capabilities.makes, "versions": versions}


def signatures(wanted: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, Signature] | None:
    """Those of the files of which each has the digest that is wanted of it, and of more; None where it has another, or a file was written just now. Raises OSError."""
    found = {path: signature_of(os.stat(path)) for path in (*wanted, *more)}
    if any(map(is_young, found.values())):
        return None
    # Looked at after the signatures were taken: a file that is edited just now has another content, or another signature later.
    return found if all(file_digest(path) == digest for path, digest in wanted.items()) else None


def _same_files(files: Mapping[str, Signature]) -> bool:
    stat = os.stat
    try:
        for path, (size, modified, inode, changed) in files.items():
            now = stat(path)
            if now.st_mtime_ns != modified or now.st_size != size or now.st_ino != inode or now.st_ctime_ns != changed:
                return False
    except OSError:
        return False
    return True
