"""Q8_0 by numpy: llama.cpp's own bytes."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ollamake.lora.q8_0 import q8_0
from ollamake.lora.quants import quantized

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5).map(lambda blocks: 32 * blocks))


def theirs(weights: NDArray[np.float32]) -> bytes:
    return gguf.quantize(weights, GGMLQuantizationType.Q8_0).tobytes()


@given(SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(-6e4, 6e4, width=32))))
def test_any_weights(weights: NDArray[np.float32]) -> None:
    found = q8_0(weights)
    if found is None:
        assert any(0 < largest / 127 < 3e-39 for largest in np.abs(weights.reshape(-1, 32)).max(axis=1).tolist())
    else:
        assert found.tobytes() == theirs(weights)


def test_weights_of_all_sizes() -> None:
    chance = np.random.default_rng(1)
    weights = chance.standard_normal((512, 2048), dtype=np.float32) * np.exp(4 * chance.standard_normal((512, 1), dtype=np.float32))
    found = q8_0(weights)
    assert found is not None
    assert found.shape == (512, 2048 // 32 * 34)
    assert found.tobytes() == theirs(weights)


def test_halves_are_rounded_away_from_zero() -> None:
    """With a scale of 1 each number is its own quotient."""
    numbers = np.zeros((1, 32), dtype=np.float32)
    halves = [
        0.5,
        -0.5,
        1.5,
        -1.5,
        2.5,
        -2.5,
        126.5,
        -126.5,
        np.nextafter(np.float32(0.5), np.float32(0)),
        np.nextafter(np.float32(2.5), np.float32(0)),
    ]
    numbers[0, : len(halves)] = halves
    numbers[0, -1] = 127
    found = q8_0(numbers)
    assert found is not None
    assert found[0, 2:].view(np.int8).tolist()[: len(halves)] == [1, -1, 2, -2, 3, -3, 127, -127, 0, 2]
    assert found.tobytes() == theirs(numbers)


def test_a_block_of_nothing_has_a_scale_of_nothing() -> None:
    found = q8_0(np.zeros((1, 64), dtype=np.float32))
    assert found is not None
    assert not found.any()


@pytest.mark.parametrize("number", [1e-40, np.inf, np.nan])
def test_a_block_without_a_scale_is_left_to_others(number: float) -> None:
    weights = np.ones((1, 64), dtype=np.float32)
    weights[0, 32:] = number
    assert q8_0(weights) is None
    assert len(quantized(weights, GGMLQuantizationType.Q8_0)) == 68
