"""`doit rollback MODEL`: a version that was kept is the one that is used again. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from doit.exceptions import InvalidCommand

from ollamake.commands.look import Look, needed_by
from ollamake.commands.one_model import HOST, connected, one_model, tests_of
from ollamake.errors import BuildError
from ollamake.foresight import Foresight
from ollamake.graph import LATEST, PREVIOUS, Step
from ollamake.plan import planned
from ollamake.stages.promotion import tags_on
from ollamake.stages.rollback import note, roll_back, rolled_back, target_of, told
from ollamake.state.backend import VALUES
from ollamake.state.receipts import read_receipt, write_receipt
from ollamake.state.versions import history, short

if TYPE_CHECKING:
    from ollamake.ollama.client import OllamaServer
    from ollamake.run import Run
    from ollamake.stages.kept import Kept
    from ollamake.state.receipts import Receipt

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
        "The latest version and the other one change places, on each server. It stays so until its adapter, how it is served or its tests change: "
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
        before = None if change.latest == to.digest else change.latest
        is_done = before is None and record is not None and record.targets.get(f"{name}:{LATEST}") == to.digest
        remembered = nullcontext() if is_done else self.remembered(run, step, server, change)
        tag = roll_back(server, name, to, change.latest, keep=sights.catalog.kept_versions, remembered=remembered)
        if not is_done or [version.digest for version in history(host.file_name, name)[-1:]] != [to.digest]:  # killed before it was noted
            note(name, host.file_name, to, before, change.because)
        if is_done:
            yield f"{name}:{LATEST} on {host.name} is {short(to.digest)} already"
            return
        yield f"{name}:{LATEST} on {host.name} is {short(to.digest)} again{'' if before is None else f', and {short(before)} is {name}:{tag}'}"

    @contextmanager
    def remembered(self, run: Run, step: Step, server: OllamaServer, change: Change) -> Iterator[None]:
        """Remember of the test step that its model is rolled back; where that fails before it is so, what was remembered before. Raises BuildError."""
        sights, to, path = run.sights, change.to, run.sights.receipt_path(step)
        record, receipt = sights.remembered(step), read_receipt(path)
        said = told(to, None if change.latest == to.digest else change.latest, change.because)
        now = rolled_back(step, record, sights.sight(step, None), receipt, to=to, said=said, place=sights.host(step).file_name)
        if now is not None:
            self.keep(run, step, now)
        try:
            yield
        except BaseException:
            with suppress(BuildError):  # who can't be asked may be rolled back
                if record is not None and receipt is not None and tags_on(server, step.name).get(LATEST) != to.digest:
                    self.keep(run, step, replace(receipt, record=record))
            raise

    def keep(self, run: Run, step: Step, receipt: Receipt) -> None:
        """Have this be what is remembered of the step. Raises OSError."""
        write_receipt(run.sights.receipt_path(step), receipt)
        self.dep_manager.backend.set(step.id, VALUES, run.told(step, receipt))


def _what_comes(run: Run, steps: tuple[Step, ...], name: str) -> str:
    """What the next build makes of it."""
    plans = planned(needed_by([name], steps), Foresight(run.sights, steps, times=False))
    if not plans:
        return "so it stays until its adapter, how it is served (`serve:`) or its tests change"
    first = plans[0]
    return f"the next `doit` makes another version all the same: {first.step.id}: {'; '.join(reason.text for reason in first.reasons)}"
