"""`doit rollback MODEL`: a version that was kept is the one that is used again. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doit.exceptions import InvalidCommand

from ollamake.commands.look import Look, needed_by
from ollamake.commands.one_model import HOST, connected, one_model, tests_of
from ollamake.foresight import Foresight
from ollamake.graph import LATEST, PREVIOUS, Step
from ollamake.plan import planned
from ollamake.stages.rollback import noted, roll_back, rolled_back, target_of
from ollamake.state.backend import VALUES
from ollamake.state.receipts import read_receipt, write_receipt
from ollamake.state.versions import short

if TYPE_CHECKING:
    from ollamake.ollama.client import OllamaServer
    from ollamake.run import Run
    from ollamake.stages.kept import Kept

TO = {"name": "to", "long": "to", "type": str, "default": PREVIOUS, "help": "a tag or the first digits of a digest [default: %(default)s]"}
BECAUSE = {"name": "because", "long": "because", "type": str, "default": "", "help": "why: `doit why` and `doit history` show it"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be done on one server."""

    to: Kept
    latest: str | None  # digest of the version that has the name now
    because: str


class RollbackCommand(Look):
    """Use an earlier version."""

    name = "rollback"
    doc_purpose = "use an earlier version of a model again, without training"
    doc_usage = "MODEL [--to TAG|DIGEST]"
    doc_description = (
        "The latest version and the other one change places, on each server. It stays so until the model's data, recipe or tests change: "
        "the next `doit` does not undo it. Rolled back again, they change places again."
    )
    cmd_options = (TO, HOST, BECAUSE)

    def _execute(self, *, to: str, host: str, because: str, pos_args: Sequence[str]) -> int:
        if len(pos_args) != 1:
            msg = "usage: doit rollback MODEL [--to TAG|DIGEST]"
            raise InvalidCommand(msg)
        database = self.dep_manager.backend
        database.hold()
        try:
            run, steps, name = one_model(pos_args[0])
            tests = tests_of(run, steps, name, host)
            with ExitStack() as stack:  # all are found before any is touched
                servers = [stack.enter_context(connected(run.sights.host(step))) for step in tests]
                targets = [target_of(server, name, run.sights.host(step).file_name, to) for step, server in zip(tests, servers, strict=True)]
                for step, server, (target, latest) in zip(tests, servers, targets, strict=True):
                    change = Change(to=target, latest=latest, because=because.strip())
                    self.outstream.writelines(f"{line}\n" for line in self.one(run, step, server, change))
            database.dump()
            run.sights.ask_again()
            self.outstream.write(f"{_what_comes(run, steps, name)}\n")
        finally:
            database.lock.release()
        return 0

    def one(self, run: Run, step: Step, server: OllamaServer, change: Change) -> Iterator[str]:
        """Roll one back. Yields what there is to say. Raises BuildError."""
        sights, name, host, to = run.sights, step.name, run.sights.host(step), change.to
        record = sights.remembered(step)
        is_latest = change.latest == to.digest
        if is_latest and record is not None and record.targets.get(f"{name}:{LATEST}") == to.digest:
            yield f"{name}:{LATEST} on {host.name} is {short(to.digest)} already"
            return
        if not is_latest:
            roll_back(server, name, to, keep=sights.catalog.kept_versions)
        before = None if is_latest else change.latest
        said = noted(name, host.file_name, to, before, change.because)
        path = sights.receipt_path(step)
        receipt = rolled_back(step, record, sights.sight(step, None), read_receipt(path), to=to, said=said, place=host.file_name)
        if receipt is not None:
            write_receipt(path, receipt)
            self.dep_manager.backend.set(step.id, VALUES, run.told(step, receipt))
        yield f"{name}:{LATEST} on {host.name} is {short(to.digest)} again{'' if before is None else f', and {short(before)} is {name}:{to.tag}'}"


def _what_comes(run: Run, steps: tuple[Step, ...], name: str) -> str:
    """What the next build makes of it."""
    plans = planned(needed_by([name], steps), Foresight(run.sights, steps))
    if not plans:
        return "so it stays until its data, its recipe or its tests change"
    first = plans[0]
    return f"the next `doit` makes another version all the same: {first.step.id}: {'; '.join(reason.text for reason in first.reasons)}"
