"""A Ray cluster on this machine, each node with a cache of its own: `ray_nodes.py FOLDER COUNT [CPUS]`, COUNT nodes beside the head, which has no CPU.

Prints the cluster's address, then does what lines of its standard input say: `kill N` ends node N (0: the head) as a loss of power would; it ends with
its input.
"""

import os
import sys
from pathlib import Path

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_health_check_period_ms="500", RAY_health_check_failure_threshold="4")
os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"] = "5"  # noqa: SIM112 - so Ray spells it

from ray.cluster_utils import Cluster

folder, count, cpus = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
Path("/tmp/ray").mkdir(exist_ok=True)  # where Ray notes a cluster's address, whatever its own folder is


def node(number: int) -> dict:
    home = folder / f"node{number}"
    for name in ("cache", "tmp"):
        (home / name).mkdir(parents=True)
    own = {"XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(home / "tmp"), "OLLAMAKE_NODE": str(number)}
    return {"num_cpus": cpus if number else 0, "object_store_memory": 80_000_000, "include_dashboard": False, "env_vars": own}


cluster = Cluster(initialize_head=True, head_node_args={**node(0), "temp_dir": str(folder)})
nodes = [cluster.head_node, *(cluster.add_node(**node(number)) for number in range(1, count + 1))]
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes[int(line.split()[1])], allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
