"""What sinks are told of a model: of its training, and of what its tests came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.expanded import told, written
from ollamake.catalog.outside import SinkPlace
from ollamake.graph import BUILD, Step, adapter_files, adapter_folder, weights_files
from ollamake.records.secrets import masked_value
from ollamake.sinks import feed
from ollamake.stages.delivery import data_of
from ollamake.state.digests import digest_if_there
from ollamake.state.receipts import Receipt, Sealed
from ollamake.state.versions import report_with


@contextmanager
def telling(
    places: Sequence[SinkPlace], step: Step, model: Model, sealed: Sealed, events: Path, *, goes_on: bool
) -> Iterator[Callable[[Receipt], None]]:
    """Tell them of a training, from its begin to its end; what is yielded is told the receipt of one that ended well. `goes_on`: from a checkpoint."""
    with feed.told(places, model.name, lambda: _run(step, model, sealed), events, goes_on=goes_on) as ended:
        yield lambda receipt: ended({"seconds": receipt.seconds, "adapter": receipt.record.targets.get(step.writes[-1])})


def _run(step: Step, model: Model, sealed: Sealed) -> dict[str, Any]:
    """The training as it begins."""
    begun = sealed({}, {})
    params = {
        "base": model.base.name,
        "data": ", ".join(f"{entry.get('name')} ({entry.get('records')})" for entry in data_of(step)),
        "train.trainer": told(model.train.trainer),
        **{f"train.{key}": told(value) for key, value in model.train.recipe.items()},
    }
    digests = {"base digest": f"base {model.base.name}", "text digest": written(step.reads[0])}
    tags = {**{name: begun.record.inputs.get(path) for name, path in digests.items()}, "commit": begun.commit, "model": model.name}
    return {
        "name": model.name,
        "params": masked_value(params),
        "tags": {name: value for name, value in tags.items() if value},
        "folder": f"{BUILD}/{model.name}",
    }


@contextmanager
def tests_told(places: Sequence[SinkPlace], model: Model, place: str, digest: str) -> Iterator[None]:
    """While the version with this digest is tested, on the server that is called so as a file: tell them what came of it, once it is over."""
    try:
        yield
    finally:
        report = report_with(place, model.name, digest) if places else None
        files = (weights_files(model)[0], adapter_files(adapter_folder(model))[-1]) if report else ()
        made = next(filter(None, map(digest_if_there, files)), None)
        if report is not None and made is not None:
            failed = len(report.failures)
            facts = {
                "tests_passed": len(report.results) - failed,
                "tests_failed": failed,
                "tests": "passed" if report.passed else "failed",
                "model digest": digest,
            }
            run = {"name": model.name, "params": {}, "tags": {}, "folder": f"{BUILD}/{model.name}"}
            feed.note(places, Path(BUILD, model.name), lambda: run, made, facts)
