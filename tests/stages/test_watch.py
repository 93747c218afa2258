"""Rolling rates and the thresholds over them."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.records import Check, Message, Record
from stages.watch import Watch, Watching


def row(text: str, reason: str = "") -> Record:
    """A record that says `text`, dropped for `reason`."""
    messages = [Message(role="user", content="q"), Message(role="assistant", content=text)]
    record = Record(id="r", task="t", messages=messages, seeds=["s"], checks=[Check(name="generate")])
    return record.checked(Check(name="generate", passed=not reason, reason=reason))


ROWS = st.lists(
    st.builds(row, st.text("ab 토끼", max_size=12), st.sampled_from(["", "", "no_answer", "truncated", "not_json"])),
    max_size=60,
)


@given(ROWS)
def test_rates_are_those_of_the_last_rows(rows: list[Record]) -> None:
    """Whatever went before, the rates are what counting the last ten alone gives."""
    rolling, fresh = Watching(Watch(window=10)), Watching(Watch(window=10))
    for record in rows:
        rolling.add(record)
    for record in rows[-10:]:
        fresh.add(record)
    assert rolling.rates() == fresh.rates()


def test_what_the_rates_say() -> None:
    """Shares of failed, cut and unreadable rows, of repeated texts, and of distinct word pairs."""
    watching = Watching(Watch(window=10))
    for text, reason in (("a b c", ""), ("A  b c", ""), ("d e", "truncated"), ("{", "not_json"), ("", "no_answer")):
        watching.add(row(text, reason))
    assert watching.rates() == {
        "failed": 0.2, "truncated": 0.2, "unreadable": 0.2, "duplicates": 0.25, "distinct_2": 0.6,
    }  # fmt: skip
    assert watching.line() == "distinct-2 0.60, 20% failed, 20% truncated, 20% unreadable, 25% duplicates"


@pytest.mark.parametrize(
    ("settings", "bad", "message"),
    [
        ({}, row("", "no_answer"), "60% failed"),
        ({"max_truncated": 0.4}, row("x", "truncated"), "50% truncated"),
        ({"max_unreadable": 0.4}, row("x", "not_json"), "50% unreadable"),
        ({"max_duplicates": 0.4}, row("the same"), "max_duplicates 40%"),
        ({"min_distinct": 0.5}, row("so so so so so so"), r"min_distinct 0\.50"),
    ],
)
def test_a_threshold_stops_the_run(settings: dict[str, float], bad: Record, message: str) -> None:
    """A full window past its threshold is an error that says which; half a window is not."""

    def rows() -> Iterator[Record]:
        for n in range(100):
            yield row(f"{n} says {n * n} to {n + 1}") if n < 20 else bad

    seen = []
    with pytest.raises(PipelineError, match=message):
        for record in Watching(Watch(window=10, **settings)).over(rows()):
            seen.append(record)
    assert 24 <= len(seen) <= 30


def test_few_rows_stop_nothing() -> None:
    """A run shorter than the window ends by itself."""
    assert len(list(Watching(Watch(window=10)).over([row("", "no_answer")] * 9))) == 9
