"""What git knows of the repo: a commit that two branches have in common, and which files are others since. Writes nothing, not even git's index."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath

from ollamake.errors import BuildError
from ollamake.spelling import nearest

EDITED = "edited"  # the id of a file that git has not looked at
LINK, SUBMODULE, FILES = "120000", "160000", ("100644", "100755")  # modes
LINKS = 40  # that a path may lead through, as of Linux
FETCH = "fetch it: `git fetch origin`; in GitHub Actions, actions/checkout with `fetch-depth: 0`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A clone of a repo, with its working tree."""

    root: Path
    prefix: str  # of the working directory in it, with a slash behind it; empty at its root
    is_shallow: bool  # is its history cut off?

    def path(self, path: str) -> str:
        """A path as seen from the working directory, as git has it: from the clone's root; absolute where it leads out of the clone."""
        below = os.path.normpath(os.path.join(self.prefix, path)).replace(os.sep, "/")
        return self.entered(os.path.join(self.root, below))[1] if os.path.isabs(below) or below.split("/")[0] == ".." else below

    def entered(self, path: str) -> tuple[str, str]:
        """Of an absolute path: what of it leads into the clone, by whatever links, and the path from the clone's root; nothing and itself, if it does not."""
        path = os.path.normpath(path)
        root, parts = os.path.realpath(self.root), PurePath(path).parts
        for size in range(1, len(parts) + 1):
            door = os.path.join(*parts[:size])
            place = os.path.realpath(door)
            if os.path.commonpath((root, place)) == root:
                below = os.path.normpath(os.path.join(os.path.relpath(place, root), *parts[size:]))
                return door, below.replace(os.sep, "/")
        return "", path.replace(os.sep, "/")

    def said(self, *arguments: str, told: bytes = b"") -> bytes:
        """What git says to these arguments. Raises BuildError."""
        return _said(_git(self.root, *arguments, told=told))

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

    def tree_at(self, commit: str) -> Tree:
        """The files of a commit. Raises BuildError."""
        tree = Tree(clone=self)
        links: dict[str, str] = {}
        for line in _said(_git(self.root, "ls-tree", "-r", "-z", "--full-tree", commit)).split(b"\0")[:-1]:
            facts, _, raw = line.partition(b"\t")
            mode, _, id_ = facts.decode().split()
            {LINK: links, SUBMODULE: tree.submodules}.get(mode, tree.files)[os.fsdecode(raw)] = id_
        if links:
            texts = self.contents(links.values())
            tree.links.update({path: os.fsdecode(texts[id_]) for path, id_ in links.items()})
        for path, other in list(tree.submodules.items()):
            tree.open(path, partial(Clone.tree_at, commit=other))
        return tree

    def tree_now(self, commit: str, then: Tree) -> Tree:
        """The files of the working tree, those that are not tracked and not ignored among them; `then`: those of the commit. Raises BuildError."""
        tree = then.without_submodules()
        edited = self._take_edits(commit, tree)
        if edited:
            told = b"".join(_as_line(path) for path in edited)
            ids = _said(_git(self.root, "hash-object", "--stdin-paths", told=told)).decode().split()
            tree.files.update(zip(edited, ids, strict=True))
        for raw in _said(_git(self.root, "ls-files", "--others", "--exclude-standard", "-z")).split(b"\0")[:-1]:
            path = os.fsdecode(raw)
            if os.path.islink(self.root / path):
                tree.links[path] = os.readlink(self.root / path)
            else:
                tree.files[path] = EDITED
        for path in list(tree.submodules):
            tree.open(path, lambda below: below.tree_now("HEAD", below.tree_at("HEAD")))
        return tree

    def _take_edits(self, commit: str, tree: Tree) -> list[str]:
        """Have the tree as git's index and the working tree are. Returns the files that may be as they were: git has not looked at their content."""
        asked = ("diff", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-relative", "--no-ext-diff", "--ignore-submodules=dirty", commit)
        parts = iter(_said(_git(self.root, "-c", "diff.autoRefreshIndex=false", *asked)).split(b"\0")[:-1])
        edited = []
        for facts, raw in zip(parts, parts, strict=True):
            _, mode, _, id_, status = facts.decode().split()
            path = os.fsdecode(raw)
            for kind in (tree.files, tree.links, tree.submodules):
                kind.pop(path, None)
            if status == "D":
                continue
            known = id_ if id_.strip("0") else EDITED
            if mode == LINK:
                tree.links[path] = os.readlink(self.root / path)
            elif mode == SUBMODULE:
                tree.submodules[path] = known
            else:
                tree.files[path] = known
                if known == EDITED and mode in FILES:
                    edited.append(path)
        return edited

    def at_tips(self, path: str) -> list[bytes]:
        """What a file holds, by its path from the root, at the tips of branches, of those of remotes, and of tags: each content once. Raises BuildError."""
        tips = dict.fromkeys(_said(_git(self.root, "for-each-ref", "--format=%(objectname)")).decode().split())
        asked = "".join(f"{tip}:{path}\n" for tip in (*tips, "HEAD"))
        said = _said(_git(self.root, "cat-file", "--batch-check=%(objecttype) %(objectname)", told=asked.encode())).decode(errors="replace")
        ids = dict.fromkeys(line.removeprefix("blob ") for line in said.splitlines() if line.startswith("blob "))
        return list(self.contents(ids).values())

    def known(self, commits: Iterable[str]) -> set[str]:
        """Those of these commits that are in this clone. Raises BuildError."""
        asked = "".join(f"{commit}\n" for commit in dict.fromkeys(commits))
        said = _said(_git(self.root, "cat-file", "--batch-check=%(objecttype) %(objectname)", told=asked.encode())).decode(errors="replace")
        return {line.removeprefix("commit ") for line in said.splitlines() if line.startswith("commit ")}

    def contents(self, ids: Iterable[str]) -> dict[str, bytes]:
        """What git has under these ids. Raises BuildError where it has not got them all."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of a clone at one time, by their paths from its root."""

    clone: Clone
    files: dict[str, str] = field(default_factory=dict)  # -> git's id of their content; those of submodules that can be looked into among them
    links: dict[str, str] = field(default_factory=dict)  # -> where they lead, as it is written in them
    submodules: dict[str, str] = field(default_factory=dict)  # -> their commits
    opened: set[str] = field(default_factory=set)  # submodules that can be looked into

    def open(self, path: str, looked_into: Callable[[Clone], Tree]) -> None:
        """Take in the files of a submodule, if it is checked out and has the commit."""
        if not os.path.lexists(self.clone.root / path / ".git"):
            return
        try:
            below = looked_into(Clone(root=self.clone.root / path, prefix="", is_shallow=False))
        except BuildError:
            return
        self.opened.update((path, *(f"{path}/{name}" for name in below.opened)))
        for own, others in ((self.files, below.files), (self.links, below.links), (self.submodules, below.submodules)):
            own.update({f"{path}/{name}": value for name, value in others.items()})

    def without_submodules(self) -> Tree:
        """The same, with no file of a submodule."""
        inner = tuple(f"{path}/" for path in self.submodules)
        kinds = (self.files, self.links, self.submodules)
        files, links, submodules = ({path: value for path, value in kind.items() if not path.startswith(inner)} for kind in kinds)
        return Tree(clone=self.clone, files=files, links=links, submodules=submodules)

    def place(self, path: str) -> str:
        """Where a path from the root leads by the links of that time: absolute where it leads out of the clone."""
        if not self.links or os.path.isabs(path):
            return path
        found: list[str] = []
        to_come, followed = path.split("/")[::-1], 0
        while to_come:
            found += [part for part in (to_come.pop(),) if part != "."]
            target = self.links.get("/".join(found))
            if target is None:
                continue
            followed += 1
            if followed > LINKS:
                return path
            whole = self.clone.entered(os.path.join(self.clone.root, *found[:-1], target))[1]
            if os.path.isabs(whole):
                return os.path.join(whole, *reversed(to_come))
            found = []
            to_come += whole.split("/")[::-1]
        return "/".join(found)

    def submodule(self, path: str) -> str:
        """The submodule that holds the file; empty where the clone itself does."""
        return max((name for name in self.submodules if path.startswith(f"{name}/")), key=len, default="")

    def holder(self, path: str) -> Clone:
        """The clone that has the file's content: this one, or a submodule."""
        submodule = self.submodule(path)
        return Clone(root=self.clone.root / submodule, prefix="", is_shallow=False) if submodule else self.clone


def clone_here() -> Clone:
    """The clone that the working directory is in. Raises BuildError."""
    done = _git(Path(), "rev-parse", "--is-shallow-repository", "--show-toplevel", "--show-prefix")
    if b"not a git repository" in done.stderr:
        msg = "not in a git repo: there is no commit to compare with"
        raise BuildError(msg, fix="run it in a clone of the repo")
    is_shallow, root, prefix = os.fsdecode(_said(done)).split("\n")[:3]
    return Clone(root=Path(root), prefix=prefix, is_shallow=is_shallow == "true")


def _as_line(path: str) -> bytes:
    """A path for `git hash-object --stdin-paths`, which takes what begins with a quote for quoted."""
    raw = os.fsencode(path)
    if raw.startswith(b'"') or b"\n" in raw or b"\r" in raw:
        raw = b'"' + b"".join(b"\\%03o" % byte for byte in raw) + b'"'
    return raw + b"\n"


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
