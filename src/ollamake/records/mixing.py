"""Which records of a dataset a model is trained on, and in which order. By fingerprints alone: adding records moves no other."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

Prints: TypeAlias = NDArray[np.uint64]  # a fingerprint of each record

_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)  # odd, their bits in no order


def fingerprints(parts: NDArray[np.uint64]) -> Prints:
    """One fingerprint of each row's parts, of shape (rows, parts): the same on every machine."""
    mixed = np.zeros(len(parts), np.uint64)
    for part, factor in zip(parts.T, _FACTORS, strict=False):  # two parts are the prompt alone
        mixed += part * factor
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    return np.asarray(mixed)


def held_out(prints: Prints, share: float) -> NDArray[np.bool_]:
    """Which of these records are kept from training, where about this share of them is."""
    return _shares(prints, "holdout") < share


def times(prints: Prints, weight: float) -> NDArray[np.int64]:
    """How often each of these records is read with this weight: 0.3 is three of ten once, 2.5 is each twice and every other once more."""
    whole = int(weight)
    return whole + (_shares(prints, "weight") < weight - whole)


def within(prints: Prints, limit: int) -> NDArray[np.int64]:
    """The places of at most this many of the records, in their order; which ones, their fingerprints decide."""
    if len(prints) <= limit:
        return np.arange(len(prints))
    return np.sort(np.argsort(_shares(prints, "limit"), kind="stable")[:limit])


def shuffled(prints: Prints, seed: int) -> NDArray[np.int64]:
    """The places of the records in an order that the seed decides; of equal ones, the first comes first."""
    return np.argsort(_shares(prints, f"order {seed}"), kind="stable")


def _shares(prints: Prints, purpose: str) -> NDArray[np.float64]:
    """A number from 0 up to 1 for each record, another one for each purpose."""
    salt = np.uint64(xxh3_64_intdigest(purpose.encode()))
    mixed = prints ^ salt
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53)):  # the finalizer of MurmurHash3
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53)
