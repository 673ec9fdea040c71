"""What a cluster and a large catalog cost: `python -m benchmarks.scale`.

`--trainings` trainings (default 1,000) of a trainer that takes 50 ms and its start, by `doit train` on a Ray cluster of `--nodes` nodes on this machine,
each with one slot; all before the trainings is built already. In turn with plain Ray tasks that do the same: each gets a text and a recipe, runs the same
program on them in a folder of its own, and gives back the adapter's files, which are written where doit has them. Both start a process of their own, and
connect to a cluster that is up.

And a `doit` that has nothing to do, with 1,000, 3,000 and 10,000 models and a cache in a folder configured (`--models`, in this order; `--no-noop` leaves
it out, as building takes long). In turn with the same catalog without the cache.

Prints one JSON object. Wall time of whole processes, medians: ray_seconds and plain_seconds, ray_ratio of them; noop_seconds by the number of models,
and noop_cache_ratio, of the largest catalog with the cache to that without.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.noop import DOIT, OURS, TRAINER, Built, catalog, ours, started_server, write_tiny_base

ROUNDS, NOOP_ROUNDS = 3, 9
STORE = 100_000_000  # bytes of a node's objects
TAKES = 0.05  # seconds
PLAIN = """\
import subprocess, sys, tempfile
from pathlib import Path
import ray

trainer, source, target = map(Path, sys.argv[1:])
program = trainer.read_text()

@ray.remote(num_cpus=1)
def train(text, recipe):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "text.jsonl").write_bytes(text)
        (folder / "recipe.json").write_bytes(recipe)
        (folder / "trainer.py").write_text(program)
        (folder / "out").mkdir()
        subprocess.run([sys.executable, "-I", "-S", "trainer.py", "text.jsonl", "out"], cwd=folder, check=True)
        return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}

ray.init(address="auto", logging_level="error", log_to_driver=False)
names = {}
for text in sorted(source.glob("*/text.jsonl")):
    names[train.remote(text.read_bytes(), b"{}")] = text.parent.name
left = list(names)
while left:
    done, left = ray.wait(left)
    for ref in done:
        folder = target / names[ref]
        folder.mkdir(parents=True)
        for name, content in ray.get(ref).items():
            (folder / name).write_bytes(content)
"""


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """A cluster of so many nodes on this machine, each with room for one training; its address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    one = {"num_cpus": 1, "object_store_memory": STORE}
    made = Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            made.add_node(**one)
        made.wait_for_nodes()
        yield str(made.address)
    finally:
        made.shutdown()


def trained(folder: Path, trainings: int, address: str) -> tuple[float, float]:
    """The seconds that doit and plain tasks take for so many trainings; medians."""
    folder.mkdir()
    (folder / "datasets").mkdir()
    write_tiny_base(folder / "base.gguf")
    trainer = folder / "trainer.py"
    trainer.write_text(f"import time; time.sleep({TAKES})\n{TRAINER}", encoding="utf-8")
    (folder / "dodo.py").write_text(OURS, encoding="utf-8")
    engine = f'engine: {{kind: ray, address: "{address}", runtime_env: {{working_dir: {json.dumps(str(folder / "code"))}}}}}'
    (folder / "code").mkdir()
    shutil.copyfile(trainer, folder / "code/trainer.py")
    (folder / "models.yaml").write_text("\n".join([*catalog(trainings), engine]) + "\n", encoding="utf-8")
    for number in range(trainings):
        record = {"instruction": f"Question of {number}?", "output": "Answer."}
        (folder / f"datasets/{number}.jsonl").write_text(f"{json.dumps(record)}\n", encoding="utf-8")
    environment = {**os.environ, "OLLAMA_HOST": started_server(), "XDG_CACHE_HOME": str(folder / "cache"), "RAY_ADDRESS": address}
    subprocess.run([*DOIT, "-n", "2", "convert"], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    plain = [sys.executable, "-c", PLAIN, str(trainer), "build", "plain"]
    took: dict[str, list[float]] = {"ray": [], "plain": []}
    for _ in range(ROUNDS):
        for what, argv in (("ray", [*DOIT, "train"]), ("plain", plain)):
            for made in ("adapters", "plain"):
                shutil.rmtree(folder / made, ignore_errors=True)
            begun = time.perf_counter()
            done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            took[what].append(time.perf_counter() - begun)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
            made = "adapters" if what == "ray" else "plain"
            assert len(list((folder / made).glob("*/adapter_model.safetensors"))) == trainings
    print({what: [round(one, 2) for one in all_took] for what, all_took in took.items()}, file=sys.stderr)
    return statistics.median(took["ray"]), statistics.median(took["plain"])


def nothing_to_do(folder: Path, models: int) -> tuple[float, float]:
    """The seconds of a run with nothing to do, with a cache and without; medians."""
    built = ours(folder, models, f"cache: {{url: {json.dumps(str(folder / 'shared'))}}}")
    with_cache, without = (folder / "models.yaml").read_text(encoding="utf-8"), "\n".join(catalog(models)) + "\n"
    took: dict[str, list[float]] = {with_cache: [], without: []}
    for _ in range(NOOP_ROUNDS):
        for text, seen in took.items():
            (folder / "models.yaml").write_text(text, encoding="utf-8")
            _read(built)
            seen.append(built.seconds())
    return statistics.median(took[with_cache]), statistics.median(took[without])


def _read(built: Built) -> None:
    """One run more, which keeps its reading of the catalog."""
    built.seconds()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="times trainings on a cluster, and large catalogs")
    parser.add_argument("--trainings", type=int, default=1000, metavar="N", help="0 leaves them out")
    parser.add_argument("--nodes", type=int, default=3, metavar="N")
    parser.add_argument("--models", type=int, nargs="+", default=[1000, 3000, 10000], metavar="N")
    parser.add_argument("--no-noop", action="store_true", help="leave out the runs with nothing to do")
    asked = parser.parse_args()
    facts: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        folder = Path(temporary)
        if asked.trainings:
            with cluster(asked.nodes) as address:
                ray, plain = trained(folder / "ray", asked.trainings, address)
            facts |= {"ray_ratio": round(ray / plain, 3), "ray_seconds": round(ray, 2), "plain_seconds": round(plain, 2)}
        if not asked.no_noop:
            found = {models: nothing_to_do(folder / str(models), models) for models in asked.models}
            with_cache, without = found[asked.models[-1]]
            facts["noop_seconds"] = {models: round(seconds, 3) for models, (seconds, _) in found.items()}
            facts["noop_cache_ratio"] = round(with_cache / without, 3)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
