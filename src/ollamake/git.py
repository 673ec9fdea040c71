"""What git knows of the repo: a commit that two branches have in common, and which files are others since. Writes nothing, not even git's index."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ollamake.errors import BuildError
from ollamake.spelling import nearest

EDITED = "edited"  # the id of a file that git has not looked at
SUBMODULE, FILES = "160000", ("100644", "100755")  # modes
FETCH = "fetch it: `git fetch origin`; in GitHub Actions, actions/checkout with `fetch-depth: 0`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A clone of a repo, with its working tree."""

    root: Path
    prefix: str  # of the working directory in it, with a slash behind it; empty at its root
    is_shallow: bool  # is its history cut off?

    def path(self, path: str) -> str:
        """A path as seen from the working directory, as git has it."""
        return os.path.normpath(self.prefix + path).replace(os.sep, "/")

    def common_commit(self, rev: str) -> str:
        """The last commit that this one and HEAD have in common. Raises BuildError."""
        found = _git(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
        if found.returncode:
            known = _git(self.root, "for-each-ref", "--format=%(refname:short)").stdout.decode(errors="replace").split()
            msg = f"no commit {rev!r} in this clone"
            raise BuildError(msg, fix=f"{nearest(rev, known)}, or {FETCH}")
        done = _git(self.root, "merge-base", found.stdout.decode().strip(), "HEAD")
        if done.returncode == 1:
            msg = f"{rev} and HEAD have no commit in common{', as far as this shallow clone goes' if self.is_shallow else ''}"
            fix = "fetch all: `git fetch --unshallow`; in GitHub Actions, actions/checkout with `fetch-depth: 0`"
            raise BuildError(msg, fix=fix if self.is_shallow else "name a commit that this branch comes from")
        return _said(done).decode().strip()

    def files_at(self, commit: str) -> dict[str, str]:
        """The files of a commit, by their paths from the root -> ids of their content. Raises BuildError."""
        files = {}
        for line in _said(_git(self.root, "ls-tree", "-r", "-z", "--full-tree", commit)).split(b"\0")[:-1]:
            facts, _, path = line.partition(b"\t")
            mode, _, id_ = facts.decode().split()
            if mode != SUBMODULE:
                files[os.fsdecode(path)] = id_
        return files

    def files_now(self, commit: str, then: Mapping[str, str]) -> dict[str, str]:
        """The files of the working tree, those that are not tracked and not ignored among them; `then`: those of the commit. Raises BuildError."""
        files = dict(then)
        asked = ("-c", "diff.autoRefreshIndex=false", "diff", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-relative", "--no-ext-diff", commit)
        parts = iter(_said(_git(self.root, *asked)).split(b"\0")[:-1])
        written = []  # that may be as they were: git has not looked at their content
        for facts, raw in zip(parts, parts, strict=True):
            _, mode, _, id_, status = facts.decode().split()
            path = os.fsdecode(raw)
            if status == "D" or mode == SUBMODULE:
                files.pop(path, None)
                continue
            files[path] = id_ if id_.strip("0") else EDITED
            if files[path] == EDITED and mode in FILES and "\n" not in path:
                written.append(path)
        if written:
            paths = b"".join(os.fsencode(path) + b"\n" for path in written)
            ids = _said(_git(self.root, "hash-object", "--stdin-paths", told=paths)).decode().split()
            files.update(zip(written, ids, strict=True))
        new = _said(_git(self.root, "ls-files", "--others", "--exclude-standard", "-z"))
        return {**files, **{os.fsdecode(path): EDITED for path in new.split(b"\0")[:-1]}}

    def contents(self, ids: Iterable[str]) -> dict[str, bytes]:
        """What git has under these ids. Raises BuildError where it has not got them all."""
        wanted = list(dict.fromkeys(ids))
        rest = _said(_git(self.root, "cat-file", "--batch", told="".join(f"{id_}\n" for id_ in wanted).encode()))
        found = {}
        for id_ in wanted:
            header, _, rest = rest.partition(b"\n")
            if header.endswith(b" missing"):
                msg = f"git has not got the file {id_}, and can't fetch it"
                raise BuildError(msg, fix="`git fetch` with a network, or clone without --filter")
            size = int(header.split()[2])
            found[id_], rest = rest[:size], rest[size + 1 :]
        return found


def clone_here() -> Clone:
    """The clone that the working directory is in. Raises BuildError."""
    done = _git(Path(), "rev-parse", "--is-shallow-repository", "--show-toplevel", "--show-prefix")
    if b"not a git repository" in done.stderr:
        msg = "not in a git repo: there is no commit to compare with"
        raise BuildError(msg, fix="run it in a clone of the repo")
    is_shallow, root, prefix = os.fsdecode(_said(done)).split("\n")[:3]
    return Clone(root=Path(root), prefix=prefix, is_shallow=is_shallow == "true")


def _git(folder: Path, *arguments: str, told: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ("git", *arguments)
    try:
        return subprocess.run(command, cwd=folder, env=environment, input=told, capture_output=True, check=False)
    except FileNotFoundError as error:
        msg = "git is not installed"
        raise BuildError(msg, fix="install it: https://git-scm.com") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> bytes:
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it failed"]
        msg = f"git: {lines[0].removeprefix('fatal: ')}"
        raise BuildError(msg, fix="`git status` says more")
    return done.stdout
