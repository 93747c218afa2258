"""Spool: a queue on disk behaves as one in memory."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Record
from stages import spool
from stages.spool import Spool
from tests.helpers import record


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4))
def test_it_is_a_queue(moves: list[bool], held: int) -> None:
    """Whatever the order of adding and taking, the first comes out first, as it went in."""
    ours: Spool = Spool()
    theirs: deque[Record] = deque()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "HELD", held)
        for number, adds in enumerate(moves):
            if adds:
                one = record("토끼\n" * number, id=f"r{number}")
                ours.append(one)
                theirs.append(one)
            elif theirs:
                assert ours[0] == theirs[0]
                assert ours.popleft() == theirs.popleft()
            assert len(ours) == len(theirs)
        assert list(ours) == list(theirs)
        assert not ours
