"""The files of a catalog: the one that is named, and those that `include` takes, each read once."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ollamake.catalog.advice import Advice
from ollamake.catalog.caching import placed
from ollamake.catalog.environment import Environment, listed
from ollamake.catalog.expanded import folder_of, joined, normal, written
from ollamake.catalog.files import Files
from ollamake.catalog.kept import Kept
from ollamake.catalog.testing import with_paths
from ollamake.catalog.values import KeyPath, Layer, mark_of
from ollamake.digest import digest_bytes
from ollamake.errors import BuildError, Fault, FaultyFileError, Mark

ONE_FOR_ALL = {
    "ollama": "server",
    "policy": "policy",
    "cache": "cache",
    "sinks": "list of sinks",
    "engine": "engine",
}  # keys of the first catalog alone -> what they say


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file."""

    path: str  # as seen from the working directory, with slashes
    parent: Source | None  # that includes it
    prefix: str  # of the whole names of what stands in it
    variables: Mapping[str, str | None]  # of the environment, that it may use -> their defaults
    value: Mapping[str, Any]  # what it says, with the environment's values in their places
    lines: Mapping[KeyPath, int]

    def mark(self, at: KeyPath) -> Mark:
        """Where this key stands, or the nearest one around it that stands in the file."""
        return mark_of(at, self.lines, written(self.path))

    def below(self, path: str) -> str:
        """A path that this file says, as seen from the working directory."""
        whole = joined(folder_of(self.path), path)
        # One file has one path, whichever catalog says it; the first catalog's paths are as they are written.
        return whole if self.parent is None else normal(whole)

    def said(self, path: str) -> str:
        """How this file says a path below its folder."""
        return posixpath.relpath(path, posixpath.dirname(self.path) or ".")

    def layer(self, at: KeyPath, value: Mapping[str, Any], moved: Mapping[KeyPath, KeyPath] | None = None) -> Layer:
        """What this file says at that place of models. Paths in it are this file's, whichever file says a model of it."""
        train = value.get("train", {})
        if isinstance(train.get("env"), str):
            value = {**value, "train": {**train, "env": self.below(train["env"])}}
        if train.get("launch") and "/" in train["launch"][0]:  # else it is looked for on PATH
            program, *words = train["launch"]
            below = self.below(program)
            value = {**value, "train": {**value["train"], "launch": [below if "/" in below else f"./{below}", *words]}}
        if "engine" in value:
            value = {**value, "engine": self._engine(value["engine"])}
        if "tests" in value:
            value = {**value, "tests": with_paths(value["tests"], self.below)}
        serve = value.get("serve", {})
        if "imatrix" in serve:
            value = {**value, "serve": {**serve, "imatrix": self.below(serve["imatrix"])}}
        return Layer(path=written(self.path), at=at, lines=self.lines, value=value, moved=moved or {})

    def layer_of_base(self, name: str, entry: Mapping[str, Any]) -> Layer:
        """What a base says of the models on it."""
        moved: dict[KeyPath, KeyPath] = {**{(part,): ("defaults", part) for part in ("train", "serve", "tests")}, ("base", "hf"): ("hf",)}
        return self.layer(("bases", name), entry.get("defaults", {}), moved)

    def _engine(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        """What this file says of an engine, its paths as seen from the working directory."""
        environment = said.get("runtime_env", {})
        found = dict(said)
        if "checkpoints" in said:
            found["checkpoints"] = placed(said["checkpoints"], self.below)
        if "://" not in environment.get("working_dir", "://"):
            found["runtime_env"] = {**environment, "working_dir": self.below(environment["working_dir"])}
        return found

    def around(self) -> Iterator[Source]:
        """The file, the one that includes it, and so on."""
        source: Source | None = self
        while source is not None:
            yield source
            source = source.parent


class Sources:
    """All files of a catalog, in the order in which they are named, and what is wrong with them."""

    def __init__(self, environ: Mapping[str, str], kept: Kept, files: Files) -> None:
        self.environ = environ
        self.files = files
        self.kept = kept
        self.found: list[Source] = []
        self.faults: list[Fault] = []
        self.advice = Advice(files)
        self.digests: dict[str, str] = {}  # path of each file that was read -> digest
        self.patterns: dict[str, list[str]] = {}  # of `include` -> what they come to
        self._named: dict[str, Mark] = {}  # real path -> where it was named first

    def read(self, path: str) -> None:
        """Read the first file, and all that are included. Raises BuildError where it can't be read."""
        try:
            content = self.files.read(path)
        except OSError as error:
            msg = f"{path}: can't be read: {error.strerror}"
            raise BuildError(msg, fix="write a catalog there, or name another in dodo.py: tasks_from(...)") from error
        self._named[self.files.real(path)] = Mark(path, 1)
        self._take(path, content, None, "")

    def _fault(self, source: Source, at: KeyPath, text: str, fix: str | None) -> None:
        self.faults.append(Fault(mark=source.mark(at), text=text, fix=fix))

    def _take(self, path: str, content: bytes, parent: Source | None, prefix: str) -> None:
        self.digests[path] = digest = digest_bytes(content)
        read = self.kept.read(digest)
        if read is None:
            from ollamake.catalog.checked import checked  # with YAML and JSON Schema, which take their time to be imported

            try:
                read, faults = checked(content, written(path))
            except FaultyFileError as error:
                self.faults.extend(error.faults)
                return
            if faults:
                self.faults.extend(faults)
            else:
                self.kept.keep(digest, read)
        value, lines = read
        if parent is None and ("include",) not in lines:
            missing = (key for key in ("bases", "models") if (key,) not in lines)
            self.faults.extend(Fault(mark=Mark(written(path), 1), text=f"missing key {key!r}", fix=f"add {key!r}") for key in missing)
        source = self._source(path, value, lines, parent, prefix)
        for key, what in ONE_FOR_ALL.items() if parent is not None else ():
            if key in value:
                self._fault(source, (key,), f"the {what} is one for all catalogs", f"move it to {written([*source.around()][-1].path)}")
        self.found.append(source)
        for index, entry in enumerate(source.value.get("include", [])):
            self._include(source, ("include", index), {"files": entry} if isinstance(entry, str) else entry)

    def _source(self, path: str, value: dict[str, Any], lines: dict[KeyPath, int], parent: Source | None, prefix: str) -> Source:
        variables = {**(parent.variables if parent else {}), **listed(value.get("env", []))}
        source = Source(path=path, parent=parent, prefix=f"{parent.prefix if parent else ''}{prefix}", variables=variables, value=value, lines=lines)
        if any(("env",) in one.lines and "env" not in one.value for one in source.around()):
            return source  # whose `env` has faults: what is listed is not known
        expanded = Environment(variables, self.environ).expanded(value, partial(self._fault, source))
        return replace(source, value=expanded)

    def _include(self, source: Source, at: KeyPath, entry: Mapping[str, str]) -> None:
        """Take the files of one entry of `include`."""
        pattern = source.below(entry["files"])
        matches = self.files.matching(pattern)
        if matches != [pattern]:
            self.patterns[pattern] = matches
            above = {self.files.real(one.path) for one in source.around()}  # a pattern means no file that it stands in
            matches = [path for path in matches if self.files.real(path) not in above]
        if not matches:
            fix = self.advice.file(source, pattern, "**/*.y*ml")
            self._fault(source, at, f"include: no file matches {entry['files']!r}", fix)
        for match in matches:
            self._include_one(source, at, normal(match), entry.get("prefix", ""))

    def _include_one(self, source: Source, at: KeyPath, path: str, prefix: str) -> None:
        shown, real = written(path), self.files.real(path)
        if real in self._named:
            if any(self.files.real(one.path) == real for one in source.around()):
                self._fault(source, at, f"include: {shown} would include itself", "remove it")
            else:
                self._fault(source, at, f"include: {shown} is included twice; the first time at {self._named[real]}", "keep one of the two")
            return
        self._named[real] = source.mark(at)
        try:
            content = self.files.read(path)
        except OSError as error:
            self._fault(source, at, f"include: {shown}: can't be read: {error.strerror}", "give yourself the right to read it, or leave it out")
            return
        self._take(path, content, source, prefix)
