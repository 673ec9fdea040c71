"""MLflow, by its own client: a run for each training."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ollamake.errors import BuildError
from ollamake.said import said
from ollamake.sinks.port import FAILED, FINISHED, Outcome, Point, TrainingRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ollamake"
MOST_PARAMS, MOST_METRICS = 100, 1000  # that the server takes at once
LONGEST = 500  # characters of a param, of which older servers take no more
_STATES = {FINISHED: "FINISHED", FAILED: "FAILED"}
_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # a run that is not there; one that was deleted
# A server that is away is given up soon; the library's own would try for minutes.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_DISABLE_TELEMETRY": "true"}


class MlflowSink:
    """A run of MLflow."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.id = ""

    def begin(self, run: TrainingRun) -> str:
        """Begin a run in the experiment, which is made where it is not there; so is a run anew that is there no more."""
        for name, value in _IMPATIENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.client = client = MlflowClient(tracking_uri=self.options.get("uri"))
        with _let_in():
            return self._begun(client, run)

    def _begun(self, client: MlflowClient, run: TrainingRun) -> str:
        if run.id is not None and _goes_on(client, run.id):
            self.id = run.id
            return self.id
        experiment = _experiment(client, self.options.get("experiment", EXPERIMENT))
        tags = {**{f"ollamake.{name}": value for name, value in run.tags.items()}, **self.options.get("tags", {})}
        self.id = str(client.create_run(experiment, run_name=run.name, tags=tags).info.run_id)
        from mlflow.entities import Param

        params = [Param(name, str(value)[:LONGEST]) for name, value in run.params.items()]
        for some in _pieces(params, MOST_PARAMS):
            client.log_batch(self.id, params=some)
        return self.id

    def points(self, points: Sequence[Point]) -> None:
        """As metrics, by step."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, int(point.time * 1000), point.step) for point in points for name, value in point.values.items()]
        for some in _pieces(metrics, MOST_METRICS):
            self.client.log_batch(self.id, metrics=some)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Numbers as metrics, the rest as tags; in one request, as one that asks for a password takes a while for each."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        numbers = {name: value for name, value in facts.items() if isinstance(value, int | float)}
        metrics = [Metric(name, float(value), now, 0) for name, value in numbers.items()]
        tags = [RunTag(f"ollamake.{name}", str(value)) for name, value in facts.items() if name not in numbers]
        self.client.log_batch(self.id, metrics=metrics, tags=tags)

    def end(self, outcome: Outcome | None) -> None:
        """With its state, and why it failed."""
        if outcome is not None:
            self.note({**outcome.facts, **({"reason": outcome.reason} if outcome.reason else {})})
        self.client.set_terminated(self.id, status=_STATES.get(outcome.state, "KILLED") if outcome else "FINISHED")


@contextmanager
def _let_in() -> Iterator[None]:
    """Raise BuildError where the server lets nobody in."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.get_http_status_code() not in {401, 403}:
            raise
        msg = f"it lets us not in: {said(error)}"
        raise BuildError(msg, fix="set $MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD, or $MLFLOW_TRACKING_TOKEN") from error


def _goes_on(client: MlflowClient, id_: str) -> bool:
    """Have the run go on; False where there is none any more, or it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        client.update_run(id_, status="RUNNING")
    except MlflowException as error:
        if error.error_code not in _GONE:
            raise
        return False
    return True


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment. Two trainings that begin at once may both find that it is not there."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except Exception:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        msg = f"the experiment {name!r} was deleted there"
        raise BuildError(msg, fix=f"`mlflow experiments restore -x {found.experiment_id}`, or name another in sinks.mlflow.experiment")
    return str(found.experiment_id)


def _pieces(values: Sequence[Any], most: int) -> Iterator[Iterable[Any]]:
    for begin in range(0, len(values), most):
        yield values[begin : begin + most]
