"""What should not stand in a text that is trained on: secrets, tokens of chat templates, control characters.

All lines of a block are searched for what every such place begins with, at gigabytes a second; only where that is found are the patterns asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from ollamake.records.raw import Places, hidden
from ollamake.records.rules import Found

# Token shapes as their makers publish them; what begins them is below. AKIA: AWS access keys. gh*_: GitHub. glpat: GitLab. xox*: Slack.
SECRETS: Mapping[str, str] = {
    "a private key": r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----",
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9_]{22,255}\b",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}",
    "an API key": r"\bsk-(?=[\w-]*[A-Z0-9])[\w-]{20,}",
    "a Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,}",
    "a Google API key": r"\bAIza[\w-]{35}(?![\w-])",
    "a Hugging Face token": r"\bhf_[A-Za-z]{30,}\b",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "a PyPI token": r"\bpypi-AgEIcHlwaS5vcmc[\w-]{50,}",
    "a JSON Web Token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
}
TEMPLATE_TOKENS = re.compile(
    r"<\|[A-Za-z0-9_ ]{2,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<[be]os>|###\s?(?:Instruction|Input|Response|Human|Assistant):"
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_SECRET = re.compile("|".join(f"(?P<kind{number}>{pattern})" for number, pattern in enumerate(SECRETS.values())), re.ASCII)
# What every match has in it, as JSON writes it. Few and long ones in each search: so it is done with the processor's vector instructions.
_BEGINNINGS = [
    [b"PRIVATE KEY-----", b"AKIA", b"ASIA", b"github_pat_", b"glpat-", b"_live_", b"AIza", b"pypi-AgEI", b".eyJ"],
    [b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"npm_", b"xox", b"sk-", b"hf_"],
    [b"INST]", b"SYS>>", b"<s>", b"</s>", b"<\\/s>", b"_of_turn>", b"<bos>", b"<eos>"],
    [b"Instruction:", b"Input:", b"Response:", b"Human:", b"Assistant:"],
    [b"<|"],
]
_SEARCHES = [BytesAhoCorasick(patterns, matchkind=MatchKind.LeftmostFirst) for patterns in _BEGINNINGS]


def masked(text: str) -> str:
    """The text as it may be printed: of what looks like a secret, its beginning alone."""
    return _SECRET.sub(lambda match: f"{match[0][:4]}...", text)


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
        for match in _SECRET.finditer(text):
            kind = list(SECRETS)[int(str(match.lastgroup)[4:])]
            fix = "take it out of the data, and make a new one: it has been in a repository"
            yield Found("secrets", number, f"{name} has what looks like {kind}: {match[0][:4]}... at character {match.start() + 1}", fix)
        for found in dict.fromkeys(TEMPLATE_TOKENS.findall(text)):
            yield Found(
                "template-tokens", number, f"{name} has {found!r}, which chat templates write", "take it out: the format writes such tokens itself"
            )
        for found in dict.fromkeys(CONTROL.findall(text)):
            yield Found("control-characters", number, f"{name} has the control character U+{ord(found):04X}", "take it out")
