"""A plan as Markdown, for a comment on a pull request. Pure. Whatever stands in a catalog, a file's name or a record, it stays text there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ollamake.duration import duration
from ollamake.plan import BEHIND, BLOCKED, FAILS, LISTS, PERHAPS, UNKNOWN, YES, Planned
from ollamake.spelling import counted

LIMIT = 65_536  # characters of a comment on GitHub; counted here in bytes, which are never fewer
ROOM = 1_000  # bytes kept for what is said at the end
IN_SIGHT = 20  # models that are not folded
REASONS = 3  # of a model, that its row gives
LONGEST = 300  # characters of a reason
# What Markdown, GitHub or GitLab would make anything of; in <code> they make nothing of the rest: no mention, no reference.
ACTIVE = re.compile(r"[^\w ,./()%?;'=+-]|_|(?<=www)\.", flags=re.ASCII | re.IGNORECASE)
UNSURE = (PERHAPS, UNKNOWN)
CACHED = "cached"  # beside what a plan says of a step
CHANGE, STALE = ("changes", "change"), ("is stale", "are stale")  # what is said of one model, and of several
MODELS = "| model | runs | why |\n|---|---|---|\n"
STEPS = "| step | time | why |\n|---|---|---|\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model that is not known to be fresh, or a dataset that no model reads."""

    name: str
    plans: tuple[Planned, ...]
    is_model: bool = True
    about: str = ""  # what else there is to say: that it is new, or what it was called

    def runs(self, stage: str) -> str:
        """Does this stage run? What the plan says of it; CACHED where the cache has what it would make; empty where it is fresh."""
        return next((_runs(plan) for plan in self.plans if plan.step.stage == stage), "")


def comment(
    rows: Sequence[Row],
    *,
    models: int,
    verb: tuple[str, str],
    more: str,
    where: str = "",
    gone: Iterable[str] = (),
    notes: Iterable[str] = (),
    foot: Iterable[str] = (),
) -> str:
    """The whole text. It begins with a mark that no reader sees, by which it is found again.

    `models`: how many there are in all. `more`: a command that lists all. `where`: the folder in the clone. `gone`: models that there are no more.
    `notes` are any text, `foot` is Markdown of ours.
    """
    first, others = ([_model_row(row) for row in some] for some in (rows[:IN_SIGHT], rows[IN_SIGHT:]))
    plans = {plan.step.id: plan for row in rows for plan in row.plans}
    steps = [_step_row(plan) for plan in plans.values()]
    body = f"{mark(where)}\n### ollamake: {headline(rows, models=models, verb=verb)}\n\n"
    body, left = _table(body, MODELS, first)
    body, others_left = _folded(body, counted(len(others), "more model"), MODELS, others)
    body, steps_left = _folded(body, f"{counted(len(steps), 'step')}, with every reason", STEPS, steps)
    ends = [f"{code(name)} is gone; Ollama may have it still." for name in gone]
    ends += [*map(code, notes), *foot]
    counts = [counted(count, what) for count, what in ((left + others_left, "model"), (steps_left, "step")) if count]
    if counts:
        ends.insert(0, f"Not shown, as a comment may not be longer: {' and '.join(counts)}. {code(more)} lists all.")
    for end in ends:
        body += f"{end}\n\n" if _size(body) + _size(end) < LIMIT - 2 else ""
    return body.rstrip("\n") + "\n"


def mark(where: str) -> str:
    """What the comment is found by: a line that is not shown. One for each folder of a repo that has a catalog."""
    safe = re.sub(r"[^\w./]", lambda found: f"%{ord(found[0]):02x}", where, flags=re.ASCII)
    return f"<!-- ollamake {safe} -->" if where else "<!-- ollamake -->"


def headline(rows: Sequence[Row], *, models: int, verb: tuple[str, str]) -> str:
    """`3 of 12 models change: 1 trains, 1 may train; about 2 h 10 min of training`."""
    own = [row for row in rows if row.is_model]
    if not own:
        return f"no model {verb[0]}"
    trains, cached, may, fails = (
        sum(row.runs("train") == YES for row in own),
        sum(row.runs("train") == CACHED for row in own),
        sum(row.runs("train") in UNSURE for row in own),
        sum(any(plan.runs == FAILS for plan in row.plans) for row in own),
    )
    said = [f"{trains} train{'s' if trains == 1 else ''}"] if trains else []
    said += [f"{counted(cached, 'adapter')} from the cache"] if cached else []
    said += [f"{may} may train"] if may else []
    said += [f"{fails} fail{'s' if fails == 1 else ''}"] if fails else []
    text = f"{len(own)} of {counted(models, 'model')} {verb[len(own) > 1]}: {', '.join(said) or 'none trains'}"
    times = [plan.seconds for row in own for plan in row.plans if plan.may_train]
    known = [seconds for seconds in times if seconds is not None]
    if not known:
        return text
    some = f", and {counted(len(times) - len(known), 'training')} of unknown length" if len(known) < len(times) else ""
    return f"{text}; {'at most' if may else 'about'} {duration(sum(known))} of training{some}"


def code(text: str) -> str:
    """Any text as it is, on one line: nothing in it is Markdown, a mention or a reference."""
    line = "".join(char if char.isprintable() else " " if char.isspace() else f"\\u{ord(char):04x}" for char in text)
    short = line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
    return f"<code>{ACTIVE.sub(lambda found: ''.join(f'&#{ord(char)};' for char in found[0]), short)}</code>"


def _model_row(row: Row) -> str:
    reasons = list(dict.fromkeys(_own_reasons(row.plans)))
    shown = [code(reason) for reason in reasons[:REASONS]] + ([f"and {len(reasons) - REASONS} more"] if len(reasons) > REASONS else [])
    shown += [code(row.about)] if row.about else []
    return f"| {code(row.name)} | {' '.join(_stages(row.plans))} | {'<br>'.join(shown)} |\n"


def _step_row(plan: Planned) -> str:
    time = "cache" if plan.cached else "" if plan.seconds is None else duration(plan.seconds)
    sign = {YES: "", FAILS: " fails", BLOCKED: " blocked"}.get(plan.runs, "?")
    return f"| {code(plan.step.id)}{sign} | {time} | {'<br>'.join(code(reason.text) for reason in plan.reasons)} |\n"


def _stages(plans: Iterable[Planned]) -> Iterator[str]:
    signs: Mapping[str, str] = {YES: "{}", CACHED: "{} (cache)", PERHAPS: "{}?", UNKNOWN: "{}?", FAILS: "**{} fails**"}
    for stage, runs in dict.fromkeys((plan.step.stage, _runs(plan)) for plan in plans if plan.runs != BLOCKED):
        yield "**train**" if (stage, runs) == ("train", YES) else signs[runs].format(stage)


def _runs(plan: Planned) -> str:
    return CACHED if plan.cached else plan.runs


def _own_reasons(plans: Iterable[Planned]) -> Iterator[str]:
    """Without those that another step of the same row tells."""
    for plan in plans:
        files_told = any(reason.kind in {"input new", "input gone"} for reason in plan.reasons)
        for reason in plan.reasons:
            if reason.kind not in {*BEHIND, "blocked"} and not (files_told and reason.what in LISTS):
                yield reason.text


def _table(body: str, head: str, rows: Sequence[str]) -> tuple[str, int]:
    """The text with those of the rows that fit, and how many do not."""
    if not rows:
        return body, 0
    size, fit = _size(body) + _size(head), 0
    for row in rows:
        size += _size(row)
        if size > LIMIT - ROOM:
            break
        fit += 1
    return f"{body}{head}{''.join(rows[:fit])}\n" if fit else body, len(rows) - fit


def _folded(body: str, summary: str, head: str, rows: Sequence[str]) -> tuple[str, int]:
    folded, left = _table(f"{body}<details><summary>{summary}</summary>\n\n", head, rows)
    return (f"{folded}</details>\n\n", left) if left < len(rows) else (body, left)


def _size(text: str) -> int:
    return len(text.encode())
