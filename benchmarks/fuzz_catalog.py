"""Whether the catalog's loader ever fails as no user shall see it: `python -m benchmarks.fuzz_catalog --seconds 600`.

Loads catalogs of several files, with matrices, anchors and values of the environment, that are damaged at random (tests/catalog_mutations.py). Each must
be a catalog, or have faults in lines that are there; be the same when it is loaded from what is kept; and tell no value of the environment in its steps.

Prints one JSON object: seconds, loads, catalogs (of those: without fault), and crashes, with the seed of each; the exit code is 1 where there are any.
`--seed N` does one again and shows its files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from catalog_mutations import check, some_repo


def once(seed: int) -> bool:
    """Load the catalog of this seed. Is it one without fault?"""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "some", "where", "below")  # `../..` leads to nothing of others
        folder.mkdir(parents=True)
        os.chdir(folder)
        try:
            return check(some_repo(Random(seed)))
        finally:
            os.chdir("/")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_catalog", description="loads damaged catalogs")
    parser.add_argument("--seconds", type=float, default=600, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N", help="do this one again, and no other")
    asked = parser.parse_args()
    if asked.seed is not None:
        for name, content in some_repo(Random(asked.seed)).items():
            print(f"=== {name}\n{content.decode(errors='backslashreplace')}", file=sys.stderr)
        return 0 if once(asked.seed) in {True, False} else 1
    begun, first = time.monotonic(), time.time_ns() // 1000
    loads = catalogs = 0
    crashes: dict[str, int] = {}  # last line of a traceback, and where it is from -> the first seed that led to it
    while time.monotonic() < begun + asked.seconds:
        try:
            catalogs += once(first + loads)
        except Exception as error:  # noqa: BLE001 - what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {error}"[:300]
            if what not in crashes:
                print(f"seed {first + loads}: {what}", file=sys.stderr)
            crashes.setdefault(what, first + loads)
        loads += 1
    print(json.dumps({"seconds": round(time.monotonic() - begun, 1), "loads": loads, "catalogs": catalogs, "crashes": crashes}))
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
