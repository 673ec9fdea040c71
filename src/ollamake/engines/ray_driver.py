"""The driver of a Ray cluster: a process of its own, started by `ollamake.engines.ray`, which it talks to in lines of JSON.

Of its own, as Ray ends its driver's process when the cluster is lost. It ends when its standard input closes, and cancels what it has begun; nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import exceptions as lost
from ray.exceptions import RuntimeEnvSetupError
from ray.util import get_node_ip_address

from ollamake.digest import digest_bytes, digest_file
from ollamake.engines.node_files import Wanted
from ollamake.engines.ray_lines import Facts, Lines, cluster, first_line, last_line, shown
from ollamake.engines.ray_places import MovedError, Places
from ollamake.engines.ray_sent import Sent
from ollamake.errors import BuildError

LOOK = 5.0  # seconds between two looks at the nodes
OWN = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}  # options of a task that are resources


def _on_node(told: Facts, files: list[tuple[str, str, Any]], base: list[Any] | None) -> Iterator[Facts]:
    """The Ray task of a training. It stands here, so that it travels as it is: a node may have no ollamake."""
    where = get_node_ip_address()
    yield {"node": ray.get_runtime_context().get_node_id()}
    try:
        from ollamake.engines.on_node import trained
    except ImportError as error:
        yield {"absent": str(error), "where": where}
        return
    content = [(name, digest, what if isinstance(what, bytes) else ray.get(what)) for name, digest, what in files]
    pieces = None if base is None else (ray.get(ref) for ref in base)
    yield from trained(told, content, pieces, gpus=len(ray.get_gpu_ids()), where=where)


class Driver:
    """The trainings that this process has begun."""

    def __init__(self, tell: Callable[[Facts], None]) -> None:
        """`tell` answers."""
        self.tell = tell
        self.task = ray.remote(num_returns="streaming", max_retries=0)(_on_node)
        self.running: dict[int, Any] = {}  # training -> Ray's generator of its reports
        self.waiting: dict[int, tuple[str, dict[str, float]]] = {}  # those that have not begun -> model and what they take
        self.withdrawn: set[int] = set()
        self.sent = Sent()
        self.places = Places()

    async def serve(self, lines: AsyncIterator[Facts]) -> None:
        """Do what is asked until nobody asks any more; then cancel what is left."""
        tasks = {asyncio.create_task(self._look_at_nodes())}
        async for asked in lines:
            if asked["do"] == "withdraw":
                self._withdraw()
            elif asked["do"] == "cancel":
                self._cancel(asked["id"])
            else:
                task = asyncio.create_task(self._train(asked))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        for reports in list(self.running.values()):
            ray.cancel(reports, force=True)

    def _withdraw(self) -> None:
        """Cancel what has not begun."""
        for number in self.waiting:
            self._cancel(number)

    def _cancel(self, number: int) -> None:
        """Nobody waits for this training any more."""
        self.withdrawn.add(number)
        if number in self.running:
            ray.cancel(self.running[number], force=True)

    async def _train(self, asked: Facts) -> None:
        number = asked["id"]
        takes = {"CPU": 1.0, **asked["resources"]}
        self.waiting[number] = (asked["told"]["name"], takes)
        try:
            files = await self.sent.take(asked["files"])
            answer = await self._tried(asked, takes, files)
        except BuildError as error:
            answer = {"refused": str(error)}
        except Exception as error:  # noqa: BLE001 - told to the one that waits for it
            answer = {"failed": f"{type(error).__name__}: {error}"}
        finally:
            self.running.pop(number, None)
            self.waiting.pop(number, None)
            self.sent.leave(asked["files"])
        self.tell({"id": number, **answer})

    async def _tried(self, asked: Facts, takes: dict[str, float], files: list[Any]) -> Facts:
        """Begin the training, again where its node is lost. Returns the answer."""
        left: int = asked["retries"]
        while True:
            answer = await self._once_or_lost(asked, takes, files)
            if "needs" in answer:
                await self._send_base(asked)
            elif "moved" in answer:
                continue
            elif "lost" not in answer:
                return answer
            elif asked["id"] in self.withdrawn:
                return {"withdrawn": True}
            elif not left:
                return {**answer, "tries": asked["retries"]}
            else:
                left -= 1
                self.waiting[asked["id"]] = (asked["told"]["name"], takes)
                self.tell({"id": asked["id"], "again": answer["lost"], "try": asked["retries"] - left, "of": asked["retries"]})

    async def _once_or_lost(self, asked: Facts, takes: dict[str, float], files: list[Any]) -> Facts:
        """The last report of a training, or what Ray has against it."""
        try:
            return await self._once(asked, takes, files)
        except MovedError:
            return {"moved": True}
        except lost.TaskCancelledError:
            return {"withdrawn": True}
        except lost.OutOfMemoryError as error:
            return {"memory": first_line(error)}
        except (RuntimeEnvSetupError, lost.TaskUnschedulableError) as error:
            return {"environment": last_line(error)}
        except lost.RayTaskError as error:
            return {"failed": first_line(error.cause or error)}
        except lost.RayError as error:  # a node, a worker, or what they had
            return {"lost": first_line(error)}

    async def _once(self, asked: Facts, takes: Mapping[str, float], files: list[Any]) -> Facts:
        number = asked["id"]
        base = asked["told"]["base"]
        pieces = await self.sent.base(base["digest"]) if base is not None else None
        options: Facts = {OWN[name]: amount for name, amount in takes.items() if name in OWN}
        options["resources"] = {name: amount for name, amount in takes.items() if name not in OWN}
        remote = self.task.options(name=f"train:{asked['told']['name']}", **options, **self.places.options())
        if number in self.running:  # the try before this one, whose node may be there again
            ray.cancel(self.running[number], force=True)
        reports = remote.remote(asked["told"], files, pieces)
        self.running[number] = reports
        if number in self.withdrawn:
            ray.cancel(reports, force=True)
        out = Path(asked["out"])
        await asyncio.to_thread(_empty, out)
        async for report in self.places.heard(reports):
            if "needs" not in report:
                self.waiting.pop(number, None)
            if "piece" in report:
                with _place(out, report["file"]).open("ab") as file:
                    file.write(report["piece"])
            elif report.keys() & {"ended", "refused", "fault", "needs", "absent"}:
                return await asyncio.to_thread(_with_files, report, out)
            else:
                self.tell({"id": number, **report})
        return {"failed": "the training has ended without a word"}

    async def _send_base(self, asked: Facts) -> None:
        wanted = Wanted.from_json(asked["told"]["base"])
        if not self.sent.puts(wanted.digest):
            self.tell({"id": asked["id"], "sends": wanted.size})
        await self.sent.put(Path(asked["base"]), wanted)

    async def _look_at_nodes(self) -> None:
        """Say which nodes do not answer, and what no node has that a training waits for, once for each kind."""
        told: set[str] = set()
        while True:
            await asyncio.sleep(LOOK)
            if not self.running:
                continue
            try:
                nodes = [node for node in await asyncio.to_thread(ray.nodes) if node["Alive"]]
            except Exception:  # noqa: BLE001, S112 - the head does not answer, and may do so again
                continue
            for address in await self.places.look(nodes):
                self.tell({"silent": address})
            for name, takes in list(self.waiting.values()):
                what = shown(takes)
                if what not in told and not any(all(node["Resources"].get(one, 0) >= amount for one, amount in takes.items()) for node in nodes):
                    told.add(what)
                    self.tell({"waits": name, "for": what, "has": cluster([node["Resources"] for node in nodes])})


def _empty(out: Path) -> None:
    """Remove what a try before this one has left."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()


def _with_files(report: Facts, out: Path) -> Facts:
    """The last report of a training, its files put into the folder and held against their digests."""
    answer = {name: value for name, value in report.items() if name != "files"}
    answer["files"] = []
    for name, digest, content in report.get("files", ()):
        if content is not None:
            _place(out, name).write_bytes(content)
        found = digest_bytes(content) if content is not None else digest_file(_place(out, name))
        if found != digest:
            return {"failed": f"{name} has come damaged from the node"}
        answer["files"].append(name)
    return answer


def _place(out: Path, name: str) -> Path:
    """Where a file goes that a node has made. Raises ValueError where that is not in the folder."""
    if name in {"", ".", ".."} or Path(name).name != name:
        msg = f"the node names a file {name!r}"
        raise ValueError(msg)
    return out / name


def _end_with_parent(has_joined: threading.Event) -> None:
    """End with who started this process while it tries to join a cluster, which may take minutes; from then on its input says so."""
    parent = os.getppid()
    while not has_joined.wait(0.5):
        if os.getppid() != parent:
            os._exit(1)


def main(address: str, runtime_env: Facts) -> None:
    """Join the cluster, say so, and do what is asked."""
    lines, has_joined = Lines(), threading.Event()
    threading.Thread(target=_end_with_parent, args=(has_joined,), daemon=True).start()
    try:
        # Of the whole job, not of each task: a folder of this machine is sent for a job alone.
        ray.init(address=address, runtime_env=runtime_env or None, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # noqa: BLE001 - Ray raises whatever it was
        is_environment = runtime_env and isinstance(error, (ValueError, TypeError, RuntimeEnvSetupError))
        lines.tell({"environment" if is_environment else "refused": f"{type(error).__name__}: {first_line(error)}"})
        return
    has_joined.set()
    lines.tell({"joined": ray.get_runtime_context().gcs_address})
    try:
        asyncio.run(Driver(lines.tell).serve(lines.asked()))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
