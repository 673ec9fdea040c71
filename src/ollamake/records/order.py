"""The order of a conversation's turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ollamake.records.rules import Found

FOLLOWS: Mapping[str, frozenset[str]] = {
    "start": frozenset({"user"}),
    "user": frozenset({"assistant"}),
    "assistant": frozenset({"user", "tool"}),
    "tool": frozenset({"assistant", "tool"}),
}


def order_faults(roles: Sequence[str], name: str, number: int) -> Iterator[Found]:
    """The faults of a conversation's order: an optional system prompt, then user and assistant in turn, where tools may come between; it ends with an answer."""
    offset = int(bool(roles) and roles[0] == "system")
    before = "start"
    for index, role in enumerate(roles[offset:], start=offset):
        if role not in FOLLOWS[before]:
            place = "comes first" if before == "start" else f"follows {before}"
            fix = f"here comes {' or '.join(sorted(FOLLOWS[before]))}"
            yield Found("role-order", number, f"{name}[{index}]: {role} {place}", fix)
            return
        before = role
    if before != "assistant":
        yield Found("no-answer", number, f"{name} ends without an answer of the assistant", "add the answer, or delete the line")
