"""Where a trainer's packages are: beside ollamake, in a venv, or behind a command prefix. What `train.env` of the catalog names."""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TypeAlias

Named: TypeAlias = str | tuple[str, ...] | None  # as the catalog says it: the folder of a venv, the words of a prefix, or nothing
PROGRAMS = {"bin", "Scripts"}  # folders of a venv
PATIENCE = 120.0  # seconds: what a prefix names may have to start a container first
# Prints the versions of the packages that it is given, as a JSON object.
_ASK = (
    "import json,sys;from importlib.metadata import version,PackageNotFoundError as E\n"
    "def v(n):\n try: return version(n)\n except E: return None\n"
    "print(json.dumps({n:v(n) for n in sys.argv[1:]}))"
)


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment of Python in which a trainer runs."""

    named: Named = None

    def program(self, name: str, *arguments: str) -> tuple[str, ...]:
        """The argv that runs a program of this environment."""
        if isinstance(self.named, tuple):
            first, *words = self.named
            # Programs run in a job's folder, and the catalog's paths are the repo's. One that is looked for on PATH has no folder.
            return (str(Path(first).absolute()) if Path(first).name != first else first, *words, name, *arguments)
        return (str(self._programs / name), *arguments)

    def python(self, *arguments: str) -> tuple[str, ...]:
        """The argv that runs this environment's Python."""
        return (sys.executable, *arguments) if self.named is None else self.program("python", *arguments)

    def versions(self, packages: Iterable[str]) -> dict[str, str]:
        """The versions of those of these packages that are installed there. Imports none of them.

        Behind a prefix, and in a venv that has other packages beside its own, Python is started once to ask.
        """
        wanted = tuple(packages)
        if isinstance(self.named, tuple) or self._sees_others:
            return dict(_asked(self.python(), wanted))
        return {name: found for name in wanted if (found := self._version(name)) is not None}

    def missing(self, packages: Sequence[str]) -> tuple[str, ...]:
        """Those of these packages that are not there; all of them, where there is no such environment."""
        there = self.versions(packages)
        return tuple(name for name in packages if name not in there)

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if it is seen from outside: `no such folder: envs/trl`."""
        if isinstance(self.named, tuple):
            return None if shutil.which(self.named[0]) else f"no such program: {self.named[0]}"
        if self.named is None or Path(self.named).is_dir():
            return None
        return f"not a folder: {self.named}" if Path(self.named).exists() else f"no such folder: {self.named}"

    def pip(self, *packages: str) -> str:
        """The command to type that installs packages there; or what to write, where `env` can't mean what it says."""
        quoted = " ".join(f"'{package}'" if re.search(r"[\[<>=]", package) else package for package in packages)
        if self.named is None:
            return f"pip install {quoted}"
        if isinstance(self.named, tuple):
            if self.fault is not None:
                return f"install {self.named[0]}, or write `env: FOLDER`, the folder of a venv"
            if Path(self.named[-1]).name.startswith("python"):
                return f"leave out the last word, {self.named[-1]!r}: `python` is put behind the words of `env`"
            return f"{shlex.join(self.named)} python -m pip install {quoted}"
        if (meant := _prefix_in(self.named)) is not None:
            return f"a text is the folder of a venv; the words of a command stand in a list: `env: [{', '.join(meant)}]`"
        path = Path(self.named)
        around = path.parent if path.name in PROGRAMS else path.parent.parent
        if PROGRAMS & {path.name, path.parent.name} and (around / "pyvenv.cfg").is_file():
            return f"write `env: {around}`: it is the folder of a venv that is named"
        if self.fault is not None and path.exists():
            return "write `env: FOLDER`, the folder of a venv"
        has_python = any((self._programs / name).exists() for name in ("python", "python.exe"))
        folder = shlex.quote(self.named)
        made = "" if has_python else f"python3 -m venv {folder} && "
        return f"{made}{folder}/bin/pip install {quoted}"

    @property
    def _sees_others(self) -> bool:
        """Is it a venv in which the packages of the Python that it was made by are found, too?"""
        if not isinstance(self.named, str):
            return False
        try:
            told = Path(self.named, "pyvenv.cfg").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return False
        return re.search(r"^include-system-site-packages\s*=\s*true\s*$", told, re.MULTILINE | re.IGNORECASE) is not None

    @property
    def _programs(self) -> Path:
        if self.named is None:
            return Path(sys.executable).parent
        assert isinstance(self.named, str)
        folder = Path(self.named).absolute()
        return folder / "Scripts" if (folder / "Scripts").is_dir() else folder / "bin"

    def _version(self, package: str) -> str | None:
        found: Iterator[Distribution]
        if self.named is None:
            found = iter(distributions(name=package))
        else:
            places = [*Path(str(self.named)).glob("lib/python3*/site-packages"), *Path(str(self.named)).glob("Lib/site-packages")]
            found = iter(distributions(name=package, path=[str(place) for place in places]))
        return next((distribution.version for distribution in found), None)


def _prefix_in(named: str) -> tuple[str, ...] | None:
    """The words of a command's prefix that stands in one text, where it can't be meant as a folder: `conda run -n trl`."""
    words = named.split()
    if len(words) < 2 or Path(named).exists():
        return None
    first = Path(words[0]).name  # the catalog's folder stands before a path
    return (first, *words[1:]) if shutil.which(first) or any(word.startswith("-") for word in words[1:]) else None


@functools.cache
def _asked(python: tuple[str, ...], packages: tuple[str, ...]) -> Mapping[str, str]:
    try:
        done = subprocess.run(
            [*python, "-c", _ASK, *packages],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
        told = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return {name: str(found) for name, found in told.items() if found is not None} if isinstance(told, dict) else {}
