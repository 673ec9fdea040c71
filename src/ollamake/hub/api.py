"""The Hub's API, by its own library."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PATIENCE = 600.0  # seconds without a byte; the library's own has no end, but for files


def hub_api() -> HfApi:
    """The API of the Hub that is meant; what does not answer is given up after a while."""
    from huggingface_hub import HfApi, get_session

    get_session().timeout = PATIENCE
    return HfApi()
