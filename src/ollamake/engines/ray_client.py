"""The drivers of Ray clusters that this process has started, each a process of its own, and what is asked of them."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ollamake.engines.local import modules
from ollamake.errors import BuildError, EngineError, WithdrawnError
from ollamake.say import say

INSTALL = "pip install 'ollamake[ray]'"
LOG = Path(".ollamake", "ray.log")
PATIENCE = 20.0  # seconds that a driver has to cancel what it has begun
JOIN = 90.0  # seconds that it takes at most to join a cluster
HURRY = 2.0  # seconds that the end of a run waits for who looks for a cluster
KNOCK = 10.0  # seconds that its address has to answer
# Of Ray, for its driver, where the environment has no others. A connection on which nothing comes is asked every minute whether it stands, and given up where
# it does not answer for another: by itself, Ray waits seven for a node whose network is cut. Its servers put up with one question a minute, and no more.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_grpc_client_keepalive_time_ms": "60000", "RAY_grpc_client_keepalive_timeout_ms": "60000"}
# What the last report of a training has one of.
LAST = {"ended", "refused", "absent", "environment", "memory", "lost", "fault", "failed", "withdrawn"}

Facts = dict[str, Any]


def is_installed() -> bool:
    """Is Ray here? Imports nothing."""
    return importlib.util.find_spec("ray") is not None


def missing() -> EngineError:
    """The error that Ray is not here."""
    return EngineError("engine: ray: Ray is not installed", fix=INSTALL)


class Driver:
    """A driver of a cluster, and the trainings of this run that it has begun."""

    def __init__(self, address: str, runtime_env: Facts) -> None:
        """Start it, and wait until it has joined the cluster, with what its nodes shall have. Raises BuildError where it can't."""
        self.address = address
        self.answers: dict[int, SimpleQueue[Facts]] = {}
        self.count = 0
        self.end: BuildError | None = None
        self.has_withdrawn = False
        self._one = threading.Lock()
        _knock(address)
        LOG.parent.mkdir(exist_ok=True)
        with LOG.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ollamake.engines.ray_driver", address, json.dumps(runtime_env)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**SETTINGS, **os.environ, **modules()},
                start_new_session=True,  # Ctrl-C is for us
            )
        atexit.register(self.close)
        waited = threading.Timer(JOIN, self.process.kill)
        waited.start()
        _joining.add(self.process)
        first = self._line()
        _joining.discard(self.process)
        waited.cancel()
        if "joined" not in first:
            self.close()
            if "environment" in first:
                raise unusable(first["environment"])
            is_late = self.process.returncode == -signal.SIGKILL
            raise _unreachable(address, first.get("refused") or (f"nothing in {JOIN:.0f} s" if is_late else f"its driver has ended; read {LOG}"))
        threading.Thread(target=self._hear, daemon=True).start()

    def _line(self) -> Facts:
        assert self.process.stdout is not None  # it is a pipe
        line = self.process.stdout.readline()
        try:
            found: Facts = json.loads(line)
        except ValueError:  # the end, or a line that it cuts off
            return {}
        return found

    def _hear(self) -> None:
        while told := self._line():
            if "waits" in told:
                with contextlib.suppress(OSError):  # who reads it may be gone, and all wait for this thread
                    say(f"   {told['waits']}: waiting for a node with {told['for']}; the cluster has {told['has']}")
            elif "silent" in told:
                with contextlib.suppress(OSError):
                    say(f"   node {told['silent']} of the cluster does not answer this machine: nothing is trained there until it does")
            elif (waiting := self.answers.get(told["id"])) is not None:  # else nobody waits for it any more
                waiting.put(told)
        with self._one:
            self.end = EngineError(f"the Ray cluster at {self.address} was lost", fix=f"read {LOG}; look after the cluster, then run `doit` again")
            for waiting in list(self.answers.values()):  # each leaves when it likes
                waiting.put({"gone": True})

    def asked(self, task: Facts, hear: Callable[[Facts], None]) -> Facts:
        """Have a training done; `hear` is told of its reports. Returns the last one. Raises BuildError where the cluster is lost."""
        with self._one:
            self.count += 1
            number = self.count
            answers = self.answers[number] = SimpleQueue()
            self._ask({"id": number, **task})
        try:
            return self._last(answers, hear)
        except BaseException:
            with self._one, contextlib.suppress(BuildError):
                self._ask({"do": "cancel", "id": number})
            raise
        finally:
            del self.answers[number]

    def _last(self, answers: SimpleQueue[Facts], hear: Callable[[Facts], None]) -> Facts:
        while True:
            told = answers.get()
            if "gone" in told:
                raise self._gone()
            if told.keys() & LAST:
                return told
            hear(told)

    def withdraw(self) -> None:
        """Cancel what has not begun."""
        with self._one:
            if self.has_withdrawn:
                return
            self.has_withdrawn = True
            if self.answers:
                say("   what waits for a node is withdrawn; what has begun comes to its end")
            if self.end is None:
                self._ask({"do": "withdraw"})

    def _ask(self, asked: Facts) -> None:
        if self.end is not None:
            raise self._gone()
        assert self.process.stdin is not None  # it is a pipe
        with contextlib.suppress(BrokenPipeError):  # it is said in a moment that it is gone
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()

    def _gone(self) -> BuildError:
        """The error of the first that hears of it; the others were just not done."""
        error, self.end = self.end, WithdrawnError("the cluster is lost")
        return error or WithdrawnError("the cluster is lost")

    def close(self) -> None:
        """End the driver; it cancels what it has begun."""
        atexit.unregister(self.close)
        assert self.process.stdin is not None  # it is a pipe
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _knock(address: str) -> None:
    """Raise EngineError where nothing at all listens at this address: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if "/" in address or not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from error


def _unreachable(address: str, why: str) -> BuildError:
    if "ersion mismatch" in why:
        return EngineError(f"the Ray cluster at {address}: {why}", fix="have the same Python and Ray on all machines")
    if address == "auto":
        return EngineError(
            "no Ray cluster runs on this machine, and the catalog names no other",
            fix="write `engine: {address: HOST:PORT}`, or start one: ray start --head",
        )
    fix = "is it started, and does this machine belong to it? `ray start --address=HOST:PORT` joins it; docs/cluster.md of ollamake says how"
    return EngineError(f"no Ray cluster answers at {address}: {why}", fix=fix, key="address")


def unusable(why: str) -> EngineError:
    """The error that Ray can't give its nodes what they shall have."""
    return EngineError(f"Ray can't make the runtime_env: {why}", key="runtime_env", fix=f"mend engine.runtime_env in the catalog; {LOG} may say more")


class _Drivers:
    """Those of this process, by the addresses of their clusters and what these shall have."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Driver | BuildError] = {}
        self.lock = threading.Lock()

    def of(self, address: str, runtime_env: Facts) -> Driver:
        with self.lock:
            key = address, json.dumps(runtime_env, sort_keys=True)
            if key not in self.known:
                if not is_installed():
                    raise missing()
                try:
                    self.known[key] = Driver(address, runtime_env)
                except BuildError as error:
                    self.known[key] = WithdrawnError(str(error))
                    raise
            found = self.known[key]
            if isinstance(found, BuildError):
                raise found
            return found

    def withdraw(self) -> None:
        for driver in list(self.known.values()):
            if isinstance(driver, Driver):
                with contextlib.suppress(BuildError):
                    driver.withdraw()

    def close(self) -> None:
        for process in list(_joining):  # nobody waits for a cluster that does not answer
            process.kill()
        if self.lock.acquire(timeout=HURRY):
            for driver in self.known.values():
                if isinstance(driver, Driver):
                    driver.close()
            self.known.clear()
            self.lock.release()


_joining: set[subprocess.Popen[str]] = set()  # drivers of which it is not known yet whether they come to a cluster
_drivers = _Drivers()
driver_of = _drivers.of
withdraw = _drivers.withdraw
close = _drivers.close
