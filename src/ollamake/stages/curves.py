"""How trainings went, step by step: thinned to what a plot can show, and kept when the next training of the model writes its events anew."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.state.files import LOCAL, read_object, write_whole

POINTS = 300  # of a curve, at most
KEPT = 10  # trainings of a model
LONGEST = 50_000_000  # bytes of events that are read: more than a million steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The course of one training. Columns of one length; None where a step did not tell it."""

    ended: str  # when its last event came: ISO 8601, in UTC
    adapter: str | None = None  # digest of the weights that it came to; None: not known
    is_whole: bool  # did it come to its end?
    steps: tuple[int, ...]
    loss: tuple[float | None, ...]
    learning_rate: tuple[float | None, ...]
    held_out_steps: tuple[int, ...] = ()
    held_out_loss: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def curves_folder(name: str) -> Path:
    """Where those of a model are kept."""
    return Path(LOCAL, "curves", name)


def curve_in(events: Path, adapter: str | None = None) -> Trained | None:
    """What the events in this file tell; None where they tell no step."""
    told = list(_events(events))
    steps = {int(one["step"]): (_number(one.get("loss")), _number(one.get("learning_rate"))) for one in told if _is_step(one, "step")}
    if not steps:
        return None
    held_out = {int(one["step"]): loss for one in told if _is_step(one, "evaluation") and (loss := _number(one.get("loss"))) is not None}
    points = thinned([(step, *steps[step]) for step in sorted(steps)])
    most = max((int(one["steps"]) for one in told if isinstance(one.get("steps"), int)), default=0)
    return Trained(
        ended=next((one["time"] for one in reversed(told) if isinstance(one.get("time"), str)), ""),
        adapter=adapter,
        is_whole=any(one.get("event") == "done" for one in told) or max(steps) >= most > 0,
        steps=tuple(step for step, _, _ in points),
        loss=tuple(loss for _, loss, _ in points),
        learning_rate=tuple(rate for _, _, rate in points),
        held_out_steps=tuple(sorted(held_out)[:POINTS]),
        held_out_loss=tuple(held_out[step] for step in sorted(held_out)[:POINTS]),
    )


def thinned(points: list[tuple[int, float | None, float | None]], most: int = POINTS) -> list[tuple[int, float | None, float | None]]:
    """At most so many of these points: the first, the last, and of each stretch between them the least and the greatest loss."""
    if len(points) <= most:
        return points
    inner, stretches = points[1:-1], (most - 2) // 2
    kept = [points[0]]
    for number in range(stretches):
        some = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        known = [point for point in some if point[1] is not None] or some[:1]
        ends = {id(one): one for one in (min(known, key=_loss, default=None), max(known, key=_loss, default=None)) if one is not None}
        kept.extend(sorted(ends.values()))
    return [*kept, points[-1]]


def keep_curve(name: str, events: Path, adapter: str | None = None) -> None:
    """Keep the course of a training that came to its end; the oldest ones go. A curve is worth no failure: where it can't be kept, it is not."""
    with suppress(OSError):
        curve = curve_in(events, adapter) if events.exists() else None
        if curve is None or not (curve.is_whole or adapter is not None):
            return
        path = curves_folder(name) / f"{re.sub('[^0-9A-Za-z]', '', curve.ended) or 'unknown'}.json"
        if adapter is not None or not path.exists():
            write_whole(path, json.dumps(curve.as_json()) + "\n")
        for old in sorted(path.parent.glob("*.json"))[:-KEPT]:
            old.unlink(missing_ok=True)


def kept_curves(name: str) -> list[Trained]:
    """The trainings that are kept of a model, the youngest first."""
    found = (_kept(path) for path in sorted(curves_folder(name).glob("*.json"), reverse=True))
    return [one for one in found if one is not None]


def _kept(path: Path) -> Trained | None:
    facts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in read_object(path).items()}
    try:
        one = Trained(**facts)
        columns = (one.steps, one.loss, one.learning_rate)
        numbers = (*one.steps, *one.held_out_steps, *one.held_out_loss, *filter(_is_said, (*one.loss, *one.learning_rate)))
        is_sound = len({*map(len, columns)}) == 1 and len(one.held_out_steps) == len(one.held_out_loss) and isinstance(one.ended, str)
        return one if is_sound and one.steps and all(_number(value) is not None for value in numbers) else None
    except TypeError:
        return None


def _is_said(value: Any) -> bool:
    return value is not None


def _events(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            lines: Iterable[bytes] = file.read(LONGEST).split(b"\n")
    except OSError:
        return
    for line in lines:
        with suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                yield value


def _is_step(event: dict[str, Any], kind: str) -> bool:
    return event.get("event") == kind and isinstance(event.get("step"), int)


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _loss(point: tuple[int, float | None, float | None]) -> float:
    return 0.0 if point[1] is None else point[1]
