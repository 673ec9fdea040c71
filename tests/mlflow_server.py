"""A real MLflow server on loopback: $OLLAMAKE_MLFLOW, the `mlflow` of an environment that has all of it, where the development environment has its client alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from live_fixtures import free_port

PROGRAM = "OLLAMAKE_MLFLOW"
USER, PASSWORD = "somebody", "the-password-of-the-test"
AUTH = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = {user}
admin_password = {password}
"""


class MlflowServer:
    def __init__(self, folder: Path, *, users: bool = False) -> None:
        """`users`: it lets nobody in but who has a password. Skips where there is none."""
        program = os.environ.get(PROGRAM)
        if not program:
            pytest.skip(f"no MLflow server: ${PROGRAM} names no `mlflow` (python3 -m venv DIR && DIR/bin/pip install 'mlflow[auth]')")
        self.folder, self.users = folder, users
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        store = ["--backend-store-uri", f"sqlite:///{folder}/store.db", "--default-artifact-root", f"{folder}/artifacts"]
        self.argv = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store]
        self.argv += ["--app-name", "basic-auth"] if users else []
        (folder / "auth.ini").write_text(AUTH.format(folder=folder, user=USER, password=PASSWORD), encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name not in {"PYTHONPATH", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
            },
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the tests",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.argv, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < end, (self.folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
        except OSError:
            return False
        return True

    def signal(self, number: int) -> None:
        """To it and its workers."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ask(self, what: str, **facts: Any) -> Any:
        """What its REST API answers; `what`: `runs/search`."""
        login = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
        asks = what.rpartition("/")[2] in {"get-by-name", "get", "list", "get-history"}
        query = "&".join(f"{name}={value}" for name, value in facts.items())
        url, data = (f"{what}?{query}", None) if asks else (what, json.dumps(facts).encode())
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/api/2.0/mlflow/{url}", data=data, headers=headers), timeout=60) as answer:
            return json.load(answer)

    def runs(self, experiment: str = "bots") -> list[dict[str, Any]]:
        """Those of an experiment, the first that was begun first; none where there is no such experiment."""
        try:
            found = self.ask("experiments/get-by-name", experiment_name=experiment)["experiment"]["experiment_id"]
        except urllib.error.HTTPError:
            return []
        runs = self.ask("runs/search", experiment_ids=[found]).get("runs", [])
        return sorted((_plain(run) for run in runs), key=lambda run: run["start"])

    def history(self, id_: str, metric: str) -> list[tuple[int, float]]:
        """Steps and values of a metric."""
        found = self.ask("metrics/get-history", run_id=id_, metric_key=metric).get("metrics", [])
        return [(int(one.get("step", 0)), one["value"]) for one in found]


def _plain(run: dict[str, Any]) -> dict[str, Any]:
    info, data = run["info"], run["data"]
    pairs = {kind: {one["key"]: one.get("value") for one in data.get(kind, [])} for kind in ("params", "metrics", "tags")}
    return {
        "id": info["run_id"],
        "name": info.get("run_name"),
        "status": info["status"],
        "start": info["start_time"],
        "end": info.get("end_time"),
        **pairs,
    }
