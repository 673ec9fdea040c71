"""What looks like a secret, and the same without it: fit to be printed, and to be told to others. Standard library alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

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


def secrets_in(text: str) -> Iterator[tuple[str, int, str]]:
    """Of each: what it looks like, where it begins, and what may be shown of it."""
    for match in _pattern().finditer(text):
        yield list(SECRETS)[int(str(match.lastgroup)[4:])], match.start(), _shown(match)


def masked(text: str) -> str:
    """The text as it may be printed: of what looks like a secret, its beginning alone."""
    return _pattern().sub(_shown, text)


def masked_value(value: Any) -> Any:
    """A JSON value, all texts of it masked."""
    if isinstance(value, dict):
        return {masked(key): masked_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(masked_value, value))
    return masked(value) if isinstance(value, str) else value


def _shown(match: re.Match[str]) -> str:
    return f"{match[0][:4]}..."


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<kind{number}>{pattern})" for number, pattern in enumerate(SECRETS.values())), re.ASCII)
