"""doit, killed at a chosen moment: `killed_doit.py POINT ARGUMENT...`.

The moments are what Python tells its audit hooks of: files opened for writing, renamed, removed, folders made, programs started, connections made. At
the POINT-th of them, before it is done, every process below this one is killed with SIGKILL, and then this one. With POINT 0 nobody is killed, and a
line for each moment, `STEP EVENT PATH`, goes to the file `moments`.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "subprocess.Popen", "fcntl.flock", "socket.connect", "open"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def kill_tree(root: int) -> None:
    for pid in (root, *descendants(root)):
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


class Moments:
    def __init__(self, point: int) -> None:
        self.point = point
        self.count = 0
        self.root = os.getpid()
        self.step = "-"
        self.told: list[str] = []

    def hook(self, event: str, arguments: tuple) -> None:
        if event not in EVENTS or self.step == "-" or (event == "open" and not arguments[2] & WRITING):
            return
        self.count += 1
        if self.count == self.point:
            kill_tree(self.root)
        if self.point == 0:
            self.told.append(f"{self.step} {event} {arguments[0]}\n")

    # Standard output: a step says when it begins.
    def write(self, text: str) -> int:
        if text.startswith(".  "):
            self.step = text.split()[1]
        return sys.__stdout__.write(text)

    def flush(self) -> None:
        sys.__stdout__.flush()

    def isatty(self) -> bool:
        return False


if __name__ == "__main__":
    moments = Moments(int(sys.argv[1]))
    sys.stdout = moments
    from doit.doit_cmd import DoitMain

    sys.addaudithook(moments.hook)
    code = DoitMain().run(sys.argv[2:])
    moments.step = "-"
    if moments.point == 0:
        Path("moments").write_text("".join(moments.told), encoding="utf-8")
    sys.exit(code)
