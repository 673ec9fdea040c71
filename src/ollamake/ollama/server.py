"""The server of a build: the one that answers, else the embedded one, started for as long as somebody uses it.

Each user of the embedded server holds a shared lock on one file; who lets go last ends the server. A user that was killed
has let go: the next one to come finds the server running, and ends it in the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.folders import cache_folder, servers_folder
from ollamake.locks import try_lock
from ollamake.logs import last_lines
from ollamake.ollama import embedded
from ollamake.ollama.address import Address, digests_at, listens, version_at

PATIENCE = 60.0  # seconds that a server may take to start, or to end
GET_OLLAMA = "get Ollama from https://ollama.com/download, start it with `ollama serve`, and run this again"


@dataclass
class Use:
    """The use of a server; `end()` it."""

    address: Address
    version: str
    lease: IO[str] | None = field(default=None, repr=False)  # None: the server is not ours

    def is_running(self) -> bool:
        """Does the server still run? The embedded one is looked at as a process: a busy server may be slow to answer."""
        return version_at(self.address) is not None if self.lease is None else _server_pid(self.address) is not None

    def end(self) -> None:
        """Let go of the server; the embedded one ends where nobody else uses it."""
        if self.lease is None:
            return
        with embedded.locked(_state("start.lock", self.address)):
            self.lease.close()
            _end_if_unused(self.address)


def end_unused(address: Address) -> None:
    """End the embedded server at this address, where it runs and nobody uses it: its users were killed."""
    if _server_pid(address) is not None:
        with embedded.locked(_state("start.lock", address)):
            _end_if_unused(address)


def use_server(address: Address, *, may_start: bool = True) -> Use:
    """A server that answers at this address, the embedded one started where there is none and it may be. Raises BuildError."""
    version = version_at(address)
    if version is not None and _server_pid(address) is None:
        return Use(address, version)
    if version is None:
        if not may_start:
            msg = f"nothing answers at {address}"
            raise BuildError(msg, fix="start Ollama there: `ollama serve`; or leave it out of ollama.host")
        _refuse_to_start(address)
    import fcntl  # not on Windows: nothing gets here there

    cache = cache_folder()
    try:
        servers_folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the cache can't be made: {error}"
        raise BuildError(msg, fix="set $XDG_CACHE_HOME to a folder that you may write to") from error
    if version is None:
        embedded.installed(cache)
    with embedded.locked(_state("start.lock", address)):
        version = version_at(address)  # it may have come or gone while we waited
        if version is None:
            _refuse_silent(address)
            version = _start(cache, address)
        lease = _state("lease", address).open("w")
        fcntl.flock(lease, fcntl.LOCK_SH)
        return Use(address, version, lease)


def would_start(address: Address) -> bool:
    """Would the embedded server be started at this address, where nothing answers, did a build need one now?"""
    try:
        _refuse_to_start(address)
    except BuildError:
        return False
    return True


def expected_version(address: Address) -> str | None:
    """The version of the server that a build would use, or None where there is none."""
    return version_at(address) or (embedded.VERSION if would_start(address) else None)


def known_digests(address: Address) -> dict[str, str] | None:
    """The digest of each model by its name with tag; None where nothing answers. The embedded server need not run: its folder is read."""
    digests = digests_at(address)
    if digests is not None or not would_start(address):
        return digests
    # A model's digest is that of its manifest (seen on 0.9.3).
    library = embedded.models_folder(cache_folder()) / "manifests/registry.ollama.ai/library"
    return {f"{path.parent.name}:{path.name}": digest_file(path) for path in library.glob("*/*")}


def _refuse_to_start(address: Address) -> None:
    """Raise BuildError where the embedded server must not be started at this address."""
    if not address.is_here:
        msg = f"nothing answers at {address}"
        raise BuildError(msg, fix="start Ollama on that machine, or set $OLLAMA_HOST to one that runs")
    if _server_pid(address) is None:  # ours may be on its way, or just ending
        _refuse_silent(address)
    if shutil.which("ollama"):
        # Not started by us: as a service it has another user's folder of models.
        msg = f"nothing answers at {address}, but Ollama is installed"
        raise BuildError(msg, fix="start it: `ollama serve`, or `systemctl start ollama`")
    if not embedded.is_possible():
        msg = f"nothing answers at {address}, and there is no embedded Ollama for this machine (only for Linux x86_64)"
        raise BuildError(msg, fix=GET_OLLAMA)


def _refuse_silent(address: Address) -> None:
    """Raise BuildError where something has the port, and has not said its version."""
    if listens(address):
        msg = f"{address} takes connections, and gives no answer"
        raise BuildError(msg, fix="end what listens on that port, or set $OLLAMA_HOST to another: OLLAMA_HOST=127.0.0.1:11500")


def _start(cache: Path, address: Address) -> str:
    models = embedded.models_folder(cache)
    models.mkdir(parents=True, exist_ok=True)
    (cache / "home").mkdir(exist_ok=True)
    argv, environment = embedded.command(embedded.installed(cache), address, models)
    log = _state("log", address)
    # Not subprocess: the server may outlive this process. A session of its own: Ctrl-C is for the build, which ends the server in its own time.
    pid = os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    _state("pid", address).write_text(json.dumps({"pid": pid}), encoding="utf-8")
    until = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until and os.waitpid(pid, os.WNOHANG) == (0, 0):
            version = version_at(address)
            if version is not None:
                return version
            time.sleep(0.05)
    except BaseException:  # Ctrl-C: nobody would end it
        _end_server(address)
        raise
    _end_server(address)
    msg = f"the embedded Ollama did not start at {address}; {log} ends:\n{last_lines(log)}"
    raise BuildError(msg, fix="set $OLLAMA_HOST to a free port (OLLAMA_HOST=127.0.0.1:11500), or get Ollama from https://ollama.com/download")


def _server_pid(address: Address) -> int | None:
    """The process of the embedded server at this address, if it runs."""
    try:
        pid = int(json.loads(_state("pid", address).read_text(encoding="utf-8"))["pid"])
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # The number may be another process's by now.
    return pid if words[0].startswith(bytes(cache_folder())) and b"serve" in words else None


def _end_if_unused(address: Address) -> None:
    with _state("lease", address).open("w") as lease:
        if try_lock(lease):
            _end_server(address)


def _end_server(address: Address) -> None:
    pid = _server_pid(address)
    if pid is not None:
        for deadly in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(pid, deadly)  # its runners too
            except ProcessLookupError:
                break
            if _gone(pid):
                break
        else:
            return  # it is still there, and still ours
    _state("pid", address).unlink(missing_ok=True)


def _gone(pid: int) -> bool:
    """Wait for the end of a process, ours or not."""
    until = time.monotonic() + PATIENCE / 6
    while time.monotonic() < until:
        try:
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                return True
        except ChildProcessError:  # another build started it
            if not Path(f"/proc/{pid}").exists():
                return True
        time.sleep(0.02)
    return False


def _state(kind: str, address: Address) -> Path:
    return servers_folder() / f"{address.file_name}.{kind}"
