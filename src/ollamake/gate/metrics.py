"""How near an answer is to the one that a record has, from 0 to 1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from ollamake.catalog.tests import LOSS, Measure

SLACK = 1e-6  # that a score may be short of what is wanted: a mean of floating-point numbers is no better than that

_WORDS = re.compile(r"\w+|[^\w\s]")


def exact(answer: str, wanted: str) -> float:
    """1 where they are the same, but for white space at both ends."""
    return float(answer.strip() == wanted.strip())


def contains(answer: str, wanted: str) -> float:
    """1 where the answer has the wanted text in it."""
    return float(wanted.strip() in answer)


def token_f1(answer: str, wanted: str) -> float:
    """The harmonic mean of the share of the answer's words that are wanted, and of the wanted ones that are in it; in whichever case and order."""
    said, right = (Counter(_WORDS.findall(text.casefold())) for text in (answer, wanted))
    if not said or not right:
        return float(said == right)
    common = (said & right).total()
    return 2 * common / (said.total() + right.total())


SCORES: Mapping[str, Callable[[str, str], float]] = {"exact": exact, "contains": contains, "token_f1": token_f1}


def mean(scores: Iterable[float]) -> float:
    """Their mean. There has to be one."""
    found = list(scores)
    return sum(found) / len(found)


def wrong_with_score(measure: Measure, score: float, others: Mapping[str, float | None]) -> str | None:
    """Why the score is not enough; None where it is. `others`: the scores of "base" and "previous"; None, or missing, where there is none to hold it against."""
    if not isfinite(score):
        return f"the {measure.metric} is no number: {score}"
    better = -1 if measure.metric == LOSS else 1
    against = {"min": measure.least, "max": measure.most}
    if measure.no_worse_than is not None:
        names = {"base": "that of the base", "previous": "that of the model before"}
        against[names[measure.no_worse_than]] = others.get(measure.no_worse_than)
    for name, other in against.items():
        if other is not None and better * (score - other) < -SLACK:
            return f"{score:.4f}, {'more' if better < 0 else 'less'} than {name}, {other:g}" if name in {"min", "max"} else _worse(score, name, other)
    return None


def _worse(score: float, name: str, other: float) -> str:
    return f"{score:.4f}, worse than {name}, {other:.4f}"


def wanted(measure: Measure) -> str:
    """What is wanted of the score, in a line: `token_f1 at least 0.8, no worse than base`."""
    parts = []
    if measure.least is not None:
        parts.append(f"at least {measure.least:g}")
    if measure.most is not None:
        parts.append(f"at most {measure.most:g}")
    if measure.no_worse_than is not None:
        parts.append(f"no worse than {measure.no_worse_than}")
    return f"{measure.metric} {', '.join(parts)}"
