"""Batches by length: every row once, within the budget, the longest first."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.torch_model import batches


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 200))
def test_every_row_once_and_within_the_budget(lengths: list[int], budget: int) -> None:
    """Padded to its longest row a batch holds the budget at most, but for a row that is longer alone."""
    found = list(batches(lengths, budget))
    assert sorted(n for batch in found for n in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[n] for n in batch) <= budget
    longest = [max(lengths[n] for n in batch) for batch in found]
    assert longest == sorted(longest, reverse=True)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_no_batch_is_smaller_than_it_need_be(lengths: list[int], budget: int) -> None:
    """The next row did not fit any more."""
    found = list(batches(lengths, budget))
    for batch in found[:-1]:
        assert (len(batch) + 1) * max(lengths[n] for n in batch) > budget
