"""Examples in rows: nothing is lost, nothing is there twice but the beginning that all share, and each token is learnt from the state before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamake.trainers.examples import Example
from ollamake.trainers.packing import Row, batches, pack, shared_beginning


@st.composite
def examples(draw: st.DrawFn) -> list[Example]:
    head = draw(st.lists(st.integers(1, 3), max_size=12))
    found = []
    for _ in range(draw(st.integers(1, 6))):
        ids = [*head[: draw(st.integers(0, len(head)))], *draw(st.lists(st.integers(1, 3), min_size=2, max_size=8))]
        places = st.lists(st.integers(1, len(ids) - 1), min_size=1, max_size=len(ids), unique=True)
        found.append(Example(tuple(ids), tuple(sorted(draw(places)))))
    return found


def as_examples(row: Row) -> list[Example]:
    """What was packed, read back from the row alone."""
    beginning, start, found = row.ids[: row.shared], row.shared, []
    for rest in row.rests:
        learnt = tuple(place + 1 - start + row.shared for place in row.places if start <= place < start + rest)
        found.append(Example(beginning + row.ids[start : start + rest], learnt))
        start += rest
    return found


@given(examples(), st.integers(1, 40))
def test_a_row_is_its_examples(batch: list[Example], longest: int) -> None:
    rows = pack(batch, longest=longest)
    assert [example for row in rows for example in as_examples(row)] == batch
    for row in rows:
        assert len(row.ids) <= longest or len(row.rests) == 1
        assert len(row.ids) == len(row.positions) == row.shared + sum(row.rests)
        assert row.positions == (*range(row.shared), *(place for rest in row.rests for place in range(row.shared, row.shared + rest)))
        assert [row.ids[place + 1] for place in row.places] == list(row.labels)


@given(examples())
def test_what_is_shared_is_alike_and_ends_before_what_is_learnt(batch: list[Example]) -> None:
    shared = shared_beginning(batch)
    assert len({example.ids[:shared] for example in batch}) == 1
    assert all(shared < len(example.ids) and shared < example.learnt[0] for example in batch)


def test_the_longest_common_beginning_is_shared() -> None:
    batch = [Example((1, 2, 3, 4, 5, last, 7), (6,)) for last in (8, 9, 8)]
    assert shared_beginning(batch) == 5
    assert len(pack(batch)[0].ids) == 5 + 3 * 2


def test_of_equal_prompts_the_state_that_predicts_is_each_ones_own() -> None:
    batch = [Example((1, 2, 3, 4, 5, 6, answer), (6,)) for answer in (7, 8)]
    (row,) = pack(batch)
    assert (row.shared, row.places, row.labels) == (5, (5, 7), (7, 8))


def test_a_short_beginning_is_not_shared() -> None:
    assert shared_beginning([Example((1, 2, 3, 4), (3,)), Example((1, 2, 3, 5), (3,))]) == 0


def test_an_epoch_has_every_example_once_in_batches_of_like_length() -> None:
    text = [Example(tuple(range(length)), (1,)) for length in (9, 2, 8, 3, 7, 4, 6)]
    first, again, other = (batches(text, size=2, seed=1, epoch=epoch) for epoch in (0, 0, 1))
    assert first == again != other
    assert sorted(len(example.ids) for batch in first for example in batch) == [2, 3, 4, 6, 7, 8, 9]
    assert sorted(sorted(len(example.ids) for example in batch) for batch in first) == [[2, 3], [4, 6], [7, 8], [9]]
