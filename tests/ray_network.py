"""A Ray cluster over a network that can be cut: `ray_network.py FOLDER COUNT`, a head, a machine for doit and COUNT nodes with a core each.

Each machine is a network namespace, and this process the wire between them: packets come from a TUN device of one, and go to that of another. Needs
root. Prints the head's address and a process of doit's machine, whose namespaces `inside` enters; then does what lines of its standard input say, of
machines by number (0: head, 1: doit's, 2 and on: nodes) or `*`:

    cut A B         packets between them are lost without a word, until
    join A B        they are not
    slow A B LOSS SECONDS BYTES   of each packet this share is lost, it takes so long, and so many pass in a second

It ends with its input. `/tmp/ray` of each machine is a folder of its own; other files are those of all.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

HEAD, DOIT = 0, 1
NET, PORT = "10.9.77", 6379
MTU = 9000
QUEUE = 1.0  # seconds of traffic that wait for a slow wire; more is dropped
TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
OWN = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")  # of processes, as Ray looks among them for its node
# Its shell stays, to bury processes whose parents are gone.
BEGIN = 'read -r _; ip link set lo up; ip addr add "$1/24" dev "$2"; ip link set "$2" mtu "$3" up; mount --bind "$4" /tmp/ray; shift 4; "$@"; exit'


def address(machine: int) -> str:
    return f"{NET}.{machine + 1}"


def inside(process: int, folder: Path) -> list[str]:
    """Words before a program's, which run it on the machine of this process."""
    spaces = {"net": "net", "mount": "mnt", "pid": "pid_for_children"}
    return ["nsenter", *(f"--{name}=/proc/{process}/ns/{file}" for name, file in spaces.items()), f"--wd={folder}"]


def why_not() -> str | None:
    """Why there is no such network here."""
    if not hasattr(os, "geteuid") or os.geteuid():
        return "network namespaces need root"
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun"
    if subprocess.run(["unshare", *OWN, "ip", "link"], capture_output=True, check=False).returncode:
        return "no network namespaces (unshare, ip)"
    return None


class Wire:
    """All wires between the machines."""

    def __init__(self, machines: int) -> None:
        self.devices = [os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK) for _ in range(machines)]
        for machine, device in enumerate(self.devices):
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name(machine).encode(), TUN_WITHOUT_HEADER))
        self.cut: set[frozenset[int]] = set()
        self.slow: dict[frozenset[int], tuple[float, float, float]] = {}
        self.free: dict[tuple[int, int], float] = {}  # when a wire has sent all that it was given
        self.late: list[tuple[float, int, int, bytes]] = []

    def carry(self) -> None:
        """Carry packets, for ever."""
        machines = {device: machine for machine, device in enumerate(self.devices)}
        poll = select.poll()
        for device in self.devices:
            poll.register(device, select.POLLIN)
        count = 0
        while True:
            wait = max(0, self.late[0][0] - time.monotonic()) * 1000 if self.late else None
            for device, _ in poll.poll(wait):
                for packet in packets(device):
                    source, target = machines[device], packet[19] - 1
                    if packet[0] >> 4 == 4 and 0 <= target < len(self.devices):
                        count += 1
                        self.send(count, source, target, packet)
            while self.late and self.late[0][0] <= time.monotonic():
                *_, target, packet = heapq.heappop(self.late)
                self.give(target, packet)

    def send(self, count: int, source: int, target: int, packet: bytes) -> None:
        """Give a packet to its target, later or never."""
        wire = frozenset((source, target))
        if wire in self.cut:
            return
        if wire not in self.slow:
            self.give(target, packet)
            return
        loss, delay, rate = self.slow[wire]
        now = time.monotonic()
        sent = max(now, self.free.get((source, target), 0)) + len(packet) / rate
        if random.random() >= loss and sent - now < QUEUE:
            self.free[source, target] = sent
            heapq.heappush(self.late, (sent + delay, count, target, packet))

    def give(self, target: int, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # its queue is full
            os.write(self.devices[target], packet)

    def told(self, words: list[str]) -> None:
        """Do what a line says."""
        every = range(len(self.devices))
        one, other = ([int(word)] if word != "*" else list(every) for word in words[1:3])
        for wire in {frozenset((a, b)) for a in one for b in other if a != b}:
            if words[0] == "cut":
                self.cut.add(wire)
            elif words[0] == "slow":
                loss, delay, rate = map(float, words[3:])
                self.slow[wire] = (loss, delay, rate)
            else:
                self.cut.discard(wire)
                self.slow.pop(wire, None)


def name(machine: int) -> str:
    return f"omk{os.getpid()}.{machine}"


def packets(device: int) -> Iterator[bytes]:
    try:
        for _ in range(64):
            yield os.read(device, MTU + 64)
    except BlockingIOError:
        return
    except OSError:  # its machine is not up yet
        time.sleep(0.01)


def begun(folder: Path, machine: int) -> subprocess.Popen[str]:
    """A machine, with Ray's processes."""
    home = folder / f"machine{machine}"
    for part in ("cache", "tmp", "ray"):
        (home / part).mkdir(parents=True)
    own = {"XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(home / "tmp"), "OLLAMAKE_NODE": str(machine)}
    own |= {"RAY_TMPDIR": "/tmp", "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "90"}
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={address(machine)}"]
    ray += ["--head", f"--port={PORT}", "--include-dashboard=false"] if machine == HEAD else [f"--address={address(HEAD)}:{PORT}"]
    ray += [f"--num-cpus={0 if machine in {HEAD, DOIT} else 1}", "--object-store-memory=80000000"]
    with (home / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["unshare", *OWN, "sh", "-c", BEGIN, "sh", address(machine), name(machine), str(MTU), str(home / "ray"), *ray],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **own},
            cwd=home,
            text=True,
            start_new_session=True,
        )
    while os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.01)
    subprocess.run(["ip", "link", "set", name(machine), "netns", str(process.pid)], check=True)
    assert process.stdin is not None  # it is a pipe
    process.stdin.write("\n")
    process.stdin.flush()
    return process


def is_up(folder: Path, machine: int) -> bool:
    return "Ray runtime started" in (folder / f"machine{machine}/log").read_text(encoding="utf-8")


def main(folder: Path, nodes: int) -> None:
    Path("/tmp/ray").mkdir(exist_ok=True)
    wire = Wire(nodes + 2)
    threading.Thread(target=wire.carry, daemon=True).start()
    machines: list[subprocess.Popen[str]] = []
    try:
        for machine in range(nodes + 2):
            machines.append(begun(folder, machine))
            while machine == HEAD and not is_up(folder, machine):
                assert machines[-1].poll() is None
                time.sleep(0.1)
        while not all(is_up(folder, machine) for machine in range(nodes + 2)):
            assert all(process.poll() is None for process in machines)
            time.sleep(0.1)
        print(f"{address(HEAD)}:{PORT} {machines[DOIT].pid}", flush=True)
        for line in sys.stdin:
            wire.told(line.split())
            print("done", flush=True)
    finally:
        for process in machines:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
