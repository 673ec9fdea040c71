"""What becomes of a registration whose server has refused an adapter, whatever its version says: merged weights, in the same build."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ollamake.catalog import Model
from ollamake.drift import refused_mixture
from ollamake.errors import AdaptersRefusedError, BuildError
from ollamake.events import begins
from ollamake.freshness import Reason
from ollamake.locks import wait_for_lock
from ollamake.stages.served import read_served
from ollamake.state.backend import OURS
from ollamake.state.files import LOCAL

if TYPE_CHECKING:
    from ollamake.graph import Step
    from ollamake.run import Run


def done_otherwise(run: Run, step: Step, reasons: tuple[Reason, ...], error: BuildError) -> dict[str, Any]:
    """Do a step that could not be done so in another way. Returns the values of the doit task. Raises the error where there is none, BuildError and OSError."""
    if not isinstance(step.subject, Model) or step.subject.serve.weights != "auto":
        raise error
    if isinstance(error, AdaptersRefusedError):
        return done_with_merged(run, step)
    with _alone(step.name):  # another server's step was refused, and packages merged weights, or has
        pass
    return run.told(step, run.done(step, reasons))


def done_with_merged(run: Run, step: Step) -> dict[str, Any]:
    """Package merged weights and register these. Returns the values of the doit task. Raises BuildError and OSError."""
    package = next(one for one in run.steps if one.stage == "package" and one.name == step.name)
    refusal = refused_mixture(run.sights, package)
    if refusal is not None:
        raise refusal
    run.sights.host(step).note_refusal(package.base)
    also = []
    with _alone(step.name):  # another server's step may have been refused at the same moment
        served = read_served(Path(package.writes[0]))
        why = Reason(kind="key", what="served weights", old="adapter", new="merged")
        if served is None or served.kind == "adapter":
            begins(package.id, [str(why)])
            packaged = run.done(package, (why,))
            also = [{"step": package.id, "place": run.sights.place(package), "block": packaged.record.as_json()}]
    told = run.told(step, run.done(step, (why,)))
    told[OURS]["also"] = also
    return told


@contextmanager
def _alone(name: str) -> Iterator[None]:
    folder = Path(LOCAL, "locks")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"package-{name}").open("w") as file:
        wait_for_lock(file)
        yield
