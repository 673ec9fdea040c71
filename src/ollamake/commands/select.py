"""What selectors mean in this call of doit: its models, what of them is stale, and what changed since a commit."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

from ollamake.call import current
from ollamake.commands.look import models_of, needed_by, needing, refused
from ollamake.errors import BuildError
from ollamake.foresight import Foresight
from ollamake.plan import planned
from ollamake.selection import select
from ollamake.since import Difference, common_commit, differences

EXCLUDE = {
    "name": "exclude",
    "long": "exclude",
    "type": list,
    "default": [],
    "help": "leave out the models that this selector means; may stand more than once",
}


def selected(selectors: Sequence[str], exclude: Sequence[str] = ()) -> list[str]:
    """The models of the dodo.py that these selectors mean, and say so where there are none. Raises InvalidCommand."""
    try:
        names = select(selectors, models_of(current().steps), looked_up, exclude=exclude)
    except (BuildError, OSError) as error:
        raise refused(error) from error
    if not names:
        without = f" without {' '.join(exclude)}" if exclude else ""
        print(f"no model is selected: {' '.join(selectors) or 'all'}{without}", file=sys.stderr)
    return names


def looked_up(method: str, value: str, names: Sequence[str]) -> Collection[str]:
    """Those of these models that are in this state, or that an edit since this commit changes."""
    if method == "state":
        return in_state(value, names)
    catalogs = [(run.sights, steps) for run, steps in current().catalogs.values()]
    different = differences(common_commit(value), catalogs)
    say_notes(different)
    return {name for found in different for name in found.by_model}


def say_notes(different: Sequence[Difference]) -> None:
    """Say what could not be seen, each once."""
    for note in dict.fromkeys(note for one in different for note in one.notes):
        print(note, file=sys.stderr)


def in_state(state: str, names: Sequence[str]) -> set[str]:
    """Those of these models that are fresh, stale or new, as a plan of them has it."""
    found: set[str] = set()
    for run, steps in current().catalogs.values():
        chosen = needed_by(names, steps)
        here = set(names) & set(models_of(steps))
        if state == "new":
            found |= here - {step.name for step in chosen if step.stage != "validate" and run.sights.remembered(step)}
        else:
            stale = here & needing((plan.step for plan in planned(chosen, Foresight(run.sights, steps, times=False))), steps)
            found |= here - stale if state == "fresh" else stale
    return found
