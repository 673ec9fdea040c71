"""`doit --quiet` and `doit --json`: a run that says less, or says it to programs."""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from doit.cmd_run import opt_outfile
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

from ollamake.call import current
from ollamake.commands.build import plans_of
from ollamake.commands.look import in_a_run
from ollamake.commands.options import INTERRUPTED
from ollamake.commands.plan import counts_of
from ollamake.errors import without_fix
from ollamake.event_reporter import EventReporter, QuietReporter, tell
from ollamake.events import FORMAT, spoken, told
from ollamake.plan import Planned
from ollamake.say import QUIET

UNUSABLE = 3  # doit's exit code of what is wrong before the first task


def run_quietly(run: Callable[[], int], params: Any) -> int:
    """Run; say what failed, warnings, and one line. Returns the exit code."""
    params["reporter"] = QuietReporter
    with spoken(QUIET):
        return run()


def run_with_events(run: Callable[[], int], params: Any, command: Any) -> int:
    """Run; tell all as events, of which `run ends` is the last, whatever comes between. Returns the exit code."""
    params["reporter"] = EventReporter
    begun = time.monotonic()
    by_default = params["outfile"] is opt_outfile["default"]
    with told(sys.stdout if by_default else params["outfile"]) as lines:
        params["outfile"] = lines.out
        lines.write({"event": "run begins", "format": FORMAT, "command": list(command.typed)})
        code, error = UNUSABLE, ""
        try:
            code = run()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
            raise
        except KeyboardInterrupt:
            code = INTERRUPTED
            raise
        except (InvalidDodoFile, InvalidCommand, InvalidTask) as refused:
            error = str(refused)
            raise
        except Exception as fault:  # of a dodo.py; doit prints where it is
            error = "".join(traceback.format_exception_only(fault))
            raise
        finally:
            reporter = getattr(command, "reporter", None)
            message, fix = without_fix(error.strip()) if error else (None, None)
            facts = getattr(reporter, "outcome", {})
            seconds = round(time.monotonic() - begun, 3)
            lines.write({"event": "run ends", "exit_code": code, "seconds": seconds, "error": message, "fix": fix, **facts})
    return code


def refuse_with_events(error: Exception, command: Any) -> int:
    """Tell of a run that was refused before its options could be read. Raises the error, which doit prints."""

    def refuse() -> int:
        raise error

    return run_with_events(refuse, {"outfile": opt_outfile["default"]}, command)


def tell_plan(tasks: Sequence[Any], names: list[str]) -> None:
    """Tell what a run of these tasks will do."""
    plans: list[Planned] = []
    models = sum(seal.count for seal in current().seals.values())
    for run, steps in current().catalogs.values():
        chosen = in_a_run(list(tasks), names, steps)
        models += len({step.name for step in chosen if step.stage != "validate"})
        plans += plans_of(run, steps, chosen)
    stages: dict[str, Counter[str]] = {}
    for plan in plans:
        stages.setdefault(plan.step.stage, Counter())[plan.runs] += 1
    tell("plan", models=models, steps={stage: dict(counts) for stage, counts in stages.items()}, **counts_of(plans))
