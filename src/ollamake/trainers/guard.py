"""Runs a trainer, and ends it when its build is gone: `guard.py PROGRAM ARGUMENT...`.

The build holds this process's standard input open. When that closes, because the build ends the training or was killed itself, the program and all
that it has started are ended. Otherwise this process ends as the program does, by the same exit code or signal. Standard library alone, and quick
to start: it is run by `python -I -S`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PATIENCE = 10.0  # seconds that the program has to end when it is told to
INHERITED, PATIENT = "OLLAMAKE_INHERITED", "OLLAMAKE_PATIENCE"  # variables for this process alone: descriptors that the program inherits; PATIENCE


def main(argv: list[str]) -> int:
    """Run the program; return its exit code, negative for a signal."""
    inherited = [int(number) for number in os.environ.pop(INHERITED, "").split()]
    patience = float(os.environ.pop(PATIENT, PATIENCE))
    for number in ENDING:
        # Ctrl-C is for the build, which closes our standard input. A handler, and not SIG_IGN: the program would inherit that.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=inherited, start_new_session=True)
    ending = threading.Event()
    watch = threading.Thread(target=_end_with_build, args=(program, ending, patience), daemon=True)
    watch.start()
    code = program.wait()
    if ending.is_set():
        watch.join()  # what the program has started may be there yet
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, signal.SIGTERM)  # what it has left behind: it would hold our output, and the GPU
    return code


def _end_with_build(program: subprocess.Popen[bytes], ending: threading.Event, patience: float) -> None:
    while os.read(0, 4096):
        pass
    ending.set()
    for deadly in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(program.pid, deadly)
        except ProcessLookupError:
            return
        until = time.monotonic() + patience
        while _is_any_there(program.pid) and time.monotonic() < until:
            time.sleep(0.02)


def _is_any_there(group: int) -> bool:
    """Does anything run that the program has started? Its own end says little: a script dies before what it waits for, which may have a job to cancel."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
