"""Other names for a tokenizer's control tokens, for programs that take those in a text for plain characters.

llama.cpp reads a text so that `<|im_end|>` in it is seven tokens, and not the one that ends a turn, unless it is told otherwise; llama-finetune is not
told. A token that a vocabulary calls user-defined is found in any text, but llama.cpp holds the usual ends of turns for control tokens by their names,
whatever the vocabulary says. So they get a name that nobody knows, of the same length, in the vocabulary of a base that is trained and never served.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FIRST = "\x02"  # in the place of the first character


def stand_in(token: str) -> str | None:
    """The token's other name, of as many bytes; None where it can have none."""
    return _FIRST + token[1:] if token[:1].isascii() and len(token) > 1 else None


def with_stand_ins(text: str, tokens: Iterable[str]) -> str:
    """The text, with the other name wherever one of these tokens stands."""
    names = {token: name for token in tokens if (name := stand_in(token)) is not None}
    if not names:
        return text
    longest_first = sorted(names, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: names[found[0]], text)
