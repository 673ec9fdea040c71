"""A trainer for tests of a cluster: writes a real, tiny adapter, decided by its text; leaves `NAME NODE PID begun` and `... ended` in FOLDER/told.

Usage: node_trainer.py FOLDER TEXT OUT RECIPE. Before it writes, it waits for as long as there is FOLDER/hold, or FOLDER/hold-NAME; the first that
sees FOLDER/fail removes it, says so and fails.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

folder, text, out, recipe = (Path(word) for word in sys.argv[1:])
name = json.loads(recipe.read_text(encoding="utf-8"))["name"]


def tell(what: str) -> None:
    with (folder / "told").open("a", encoding="utf-8") as log:
        log.write(f"{name} {os.environ.get('OLLAMAKE_NODE', '-')} {os.getpid()} {what}\n")


tell("begun")
print(json.dumps({"event": "start", "steps": 2, "examples": 1, "tokens": 10}), flush=True)
while True:
    if (folder / "fail").exists():
        (folder / "fail").unlink()
        print("it is no good")
        sys.exit(3)
    if not any((folder / file).exists() for file in ("hold", f"hold-{name}")):
        break
    time.sleep(0.05)
subprocess.run([sys.executable, "-I", "-S", Path(__file__).with_name("quick_trainer.py"), text, out, recipe], check=True, cwd=folder)
print(json.dumps({"event": "step", "step": 2, "steps": 2, "loss": 0.5}), flush=True)
tell("ended")
