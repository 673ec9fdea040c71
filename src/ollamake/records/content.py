"""What should not stand in a text that is trained on: secrets, tokens of chat templates, control characters.

All lines of a block are searched for what every such place begins with, at gigabytes a second; only where that is found are the patterns asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from ollamake.records.raw import Places, hidden
from ollamake.records.rules import Found
from ollamake.records.secrets import secrets_in

TEMPLATE_TOKENS = re.compile(
    r"<\|[A-Za-z0-9_ ]{2,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<[be]os>|###\s?(?:Instruction|Input|Response|Human|Assistant):"
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# What every match has in it, as JSON writes it. Few and long ones in each search: so it is done with the processor's vector instructions.
_BEGINNINGS = [
    [b"PRIVATE KEY-----", b"AKIA", b"ASIA", b"github_pat_", b"glpat-", b"_live_", b"AIza", b"pypi-AgEI", b".eyJ"],
    [b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"npm_", b"xox", b"sk-", b"hf_"],
    [b"INST]", b"SYS>>", b"<s>", b"</s>", b"<\\/s>", b"_of_turn>", b"<bos>", b"<eos>"],
    [b"Instruction:", b"Input:", b"Response:", b"Human:", b"Assistant:"],
    [b"<|"],
]
_SEARCHES = [BytesAhoCorasick(patterns, matchkind=MatchKind.LeftmostFirst) for patterns in _BEGINNINGS]


def suspects(lines: bytes, escapes: Places) -> list[int]:
    """The places in these JSON lines at which something of that may be: nearly always none. `escapes` are those of their escapes."""
    found = [place for search in _SEARCHES for _, place, _ in search.find_matches_as_indexes(lines)]
    found.extend(hidden(lines, escapes).tolist())
    if b"\x7f" in lines:  # the one control character that JSON lets stand as it is
        found.extend(match.start() for match in re.finditer(b"\x7f", lines))
    return found


def content_faults(texts: Iterable[tuple[str, str]], number: int) -> Iterator[Found]:
    """The faults of a record's texts, (name, text) each. A secret is not quoted: what CI prints is read by many."""
    for name, text in texts:
        for kind, begin, shown in secrets_in(text):
            fix = "take it out of the data, and make a new one: it has been in a repository"
            yield Found("secrets", number, f"{name} has what looks like {kind}: {shown} at character {begin + 1}", fix)
        for found in dict.fromkeys(TEMPLATE_TOKENS.findall(text)):
            yield Found(
                "template-tokens", number, f"{name} has {found!r}, which chat templates write", "take it out: the format writes such tokens itself"
            )
        for found in dict.fromkeys(CONTROL.findall(text)):
            yield Found("control-characters", number, f"{name} has the control character U+{ord(found):04X}", "take it out")
