"""Behaves as Slurm's srun, as far as ollamake sees of it: `srun_stand_in.py [--OPTION]... PROGRAM ARGUMENT...`.

It runs the program where no signal of ours reaches it, in a session of its own and without our descriptors; talks of itself; forwards SIGTERM; ends with
the program's exit code, or 128 and the signal. Leaves each call in launched.log of the folder that SRUN_LOG names.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

place = next(number for number, word in enumerate(sys.argv[1:], 1) if not word.startswith("-"))
options, program = sys.argv[1:place], sys.argv[place:]
with Path(os.environ["SRUN_LOG"], "launched.log").open("a", encoding="utf-8") as log:
    log.write(json.dumps({"options": options, "program": program, "folder": os.getcwd()}) + "\n")
if "--partition=nowhere" in options:
    print("srun: error: Unable to allocate resources: Invalid partition name specified", file=sys.stderr)
    sys.exit(1)
print("srun: job 7 queued and waiting for resources", file=sys.stderr, flush=True)
print("srun: job 7 has been allocated resources", flush=True)
child = subprocess.Popen(program, stdin=subprocess.DEVNULL, start_new_session=True)


def forward(number: int, _: object) -> None:
    print("srun: forcing job termination", file=sys.stderr, flush=True)
    time.sleep(0.5)  # there is a controller to be asked
    os.killpg(child.pid, number)


signal.signal(signal.SIGTERM, forward)
code = child.wait()
if code:
    print(f"srun: error: node1: task 0: {f'Exited with exit code {code}' if code > 0 else 'Killed'}", file=sys.stderr)
sys.exit(code if code >= 0 else 128 - code)
