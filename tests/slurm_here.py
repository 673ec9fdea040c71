"""A Slurm on this machine, on loopback: a controller, two nodes with a GPU in name alone, and the munge that they trust, all of a folder of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "scancel", "squeue", "scontrol")
NODES = ("node1", "node2")
PATIENCE = 60.0  # seconds

CONF = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=10
MinJobAge=300
SchedulerParameters=sched_min_interval=100000
{nodes}
PartitionName=gpu Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str | None:
    """A program of Slurm's that is not here."""
    return next((name for name in PROGRAMS if shutil.which(name) is None), None)


class Slurm:
    """It runs until `end`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        for name in ("munge", "state", *NODES):
            (folder / name).mkdir(parents=True)
        key = folder / "munge/key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        ports = free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 Gres=gpu:1"
            for name, port in zip(NODES, ports[1:], strict=True)
        )
        said = {
            "host": host,
            "controller": ports[0],
            "user": user,
            "folder": folder,
            "nodes": nodes,
            "names": ",".join(NODES),
        }
        self.conf.write_text(CONF.format(**said), encoding="utf-8")
        (folder / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File=/dev/null\n", encoding="utf-8")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        places = {"--key-file": key, "--socket": folder / "munge/socket", "--pid-file": folder / "munge/pid", "--seed-file": folder / "munge/seed"}
        self.begin("munged", "--foreground", "--force", *(f"{option}={path}" for option, path in places.items()))
        until((folder / "munge/socket").exists)
        self.begin("slurmctld", "-D", "-c")
        for name in NODES:
            self.begin("slurmd", "-D", "-N", name, name=name)
        until(lambda: self.asked("sinfo", "-h", "-o", "%T %D") == f"idle {len(NODES)}\n")

    def begin(self, *argv: str, name: str | None = None) -> None:
        """Start one of its programs."""
        with (self.folder / f"{name or argv[0]}.log").open("w", encoding="utf-8") as log:
            self.processes[name or argv[0]] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "SLURM_CONF": str(self.conf)}, start_new_session=True
            )

    def asked(self, *argv: str) -> str:
        """What one of its commands says."""
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, env={**os.environ, "SLURM_CONF": str(self.conf)}, timeout=PATIENCE
        ).stdout

    def jobs(self) -> dict[str, str]:
        """Name and state of each job that is not over."""
        return dict(line.split(maxsplit=1) for line in self.asked("squeue", "-h", "-o", "%j %T").splitlines())

    def steps(self) -> list[int]:
        """The processes that watch over what its nodes run."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_ours = f"SLURM_CONF={self.conf}\0".encode() in (place / "environ").read_bytes()
                if is_ours and (place / "comm").read_text(encoding="utf-8").startswith("slurmstepd"):
                    found.append(int(place.name))
        return found

    def end(self) -> None:
        """End it, and what it runs."""
        self.asked("scancel", "--full", "--me")
        until(lambda: not self.jobs())
        for process in reversed(self.processes.values()):
            process.terminate()
            process.wait(PATIENCE)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(is_so: Callable[[], object]) -> None:
    """Wait for it."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


if __name__ == "__main__":  # by hand: `slurm_here.py FOLDER`, until its input ends
    slurm = Slurm(Path(sys.argv[1]).absolute())
    print(f"export SLURM_CONF={slurm.conf}", flush=True)
    sys.stdin.read()
    slurm.end()
