"""What commands share that are about the versions of one model: which one, on which servers, and the servers that answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ollamake.call import current
from ollamake.commands.select import selected
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.ollama.address import Address, address_of
from ollamake.spelling import nearest

if TYPE_CHECKING:
    from ollamake.ollama.client import OllamaServer
    from ollamake.ollama.hosts import Host
    from ollamake.run import Run

HOST = {"name": "host", "long": "host", "type": str, "default": "", "help": "of several servers, this one alone"}


def one_model(selector: str) -> tuple[Run, tuple[Step, ...], str]:
    """The one model that this selector means, with its catalog's run and steps. Raises BuildError."""
    names = selected([selector])
    if len(names) != 1:
        msg = f"{selector!r} means {len(names)} models{': ' if names else ''}{', '.join(names)}"
        raise BuildError(msg, fix="name one of them" if names else "name a model")
    run, steps = next((run, steps) for run, steps in current().catalogs.values() if any(_is_of(step, names[0]) for step in steps))
    return run, steps, names[0]


def tests_of(run: Run, steps: Sequence[Step], name: str, host: str) -> list[Step]:
    """The model's test steps, one for each server; of `host` alone, where it names one. Raises BuildError."""
    tests = [step for step in steps if step.stage == "test" and step.name == name]
    if not host:
        return tests
    known = {run.sights.host(step).name: step for step in tests}
    found = known.get(host) or next((step for step in tests if run.sights.host(step).address == _address(host)), None)
    if found is None:
        msg = f"--host {host}: the catalog names no such server"
        raise BuildError(msg, fix=nearest(host, known))
    return [found]


@contextmanager
def connected(host: Host) -> Iterator[OllamaServer]:
    """The server, as long as this lasts; the embedded one is started where that is meant. Raises BuildError."""
    from ollamake.ollama.client import OllamaServer  # takes a while to be imported

    use = host.use()
    try:
        with OllamaServer(host.address) as server:
            yield server
    finally:
        use.end()


def _address(host: str) -> Address | None:
    try:
        return address_of(host)
    except BuildError:
        return None


def _is_of(step: Step, name: str) -> bool:
    return step.stage != "validate" and step.name == name
