"""Agreement: the figures are the textbook's, their intervals cover, and length is what a judge has to beat."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.agreement import (
    Compared,
    Figure,
    Scored,
    correlation,
    figures,
    kappa,
    of_pairs,
    of_scores,
    partial,
    ranks,
    saturation,
    share,
    threshold_for,
)  # fmt: skip

numbers = st.lists(st.integers(0, 6).map(float), min_size=4, max_size=30)


@given(numbers, st.randoms())
def test_rank_correlation_is_scipys(x: list[float], chance: random.Random) -> None:
    """Spearman's rho with ties, and nothing where one side is constant."""
    stats = pytest.importorskip("scipy.stats")
    y = [chance.randrange(5) for _ in x]
    ours = correlation(ranks(x), ranks(y))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(stats.spearmanr(x, y).statistic)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_kappa_is_scikit_learns(pairs: list[tuple[bool, bool]]) -> None:
    """Cohen's kappa of two raters; none where both say one thing only."""
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = zip(*pairs, strict=True)
    if len(set(a) | set(b)) == 1:
        assert kappa(pairs) is None
    else:
        assert kappa(pairs) == pytest.approx(metrics.cohen_kappa_score(a, b))


def test_a_partial_correlation_takes_length_out() -> None:
    """Two that agree only through a third do not agree once it is held fixed."""
    assert partial(0.64, 0.8, 0.8) == pytest.approx(0)
    assert partial(0.5, 0.0, 0.0) == pytest.approx(0.5)


def rows(score: list[float], gold: list[float], length: list[int], bound: float = 3) -> list[list[Scored]]:
    return [[Scored(s, g, n, s >= bound, g >= bound)] for s, g, n in zip(score, gold, length, strict=True)]


def test_a_judge_of_length_looks_like_one() -> None:
    """Its correlation is that of length, what it has over length is nothing, and so its interval says."""
    chance = random.Random(0)
    length = [chance.randrange(50, 900) for _ in range(200)]
    gold = [n / 200 + chance.gauss(0, 1) for n in length]
    by_length = {f.name: f for f in figures(rows([n / 180 for n in length], gold, length), of_scores, 0)}
    assert by_length["spearman"].value == pytest.approx(by_length["length_spearman"].value)
    assert by_length["spearman_over_length"].value == pytest.approx(0)
    assert by_length["spearman_over_length"].low == pytest.approx(0)
    assert by_length["spearman_with_length"].value == pytest.approx(1)
    knowing = {f.name: f for f in figures(rows([g + chance.gauss(0, 0.3) for g in gold], gold, length), of_scores, 0)}
    assert (knowing["spearman_over_length"].low or 0) > 0.1
    assert (knowing["spearman_at_equal_length"].value or 0) > 0.8


def test_length_may_prefer_the_shorter() -> None:
    """A baseline uses whichever sign works: a judge that hates long answers is no better than one."""
    pairs = [[Compared(won=1.0, longer=0.0)]] * 8 + [[Compared(won=0.0, longer=1.0)]] * 2
    found = {f.name: f.value for f in figures(pairs, of_pairs, 0)}
    assert found["pair_accuracy"] == found["length_pair_accuracy"] == 0.8
    assert found["pair_accuracy_over_length"] == 0


def test_swaps_and_places_are_counted() -> None:
    """AA and BB are flips; of all verdicts the share that named the first place."""
    pairs = [Compared(1, 1, "AB"), Compared(0.5, 1, "AA"), Compared(0.5, 0, "AA"), Compared(0, 0, "BA")]
    found = of_pairs(pairs)
    assert (found["swap_flips"], found["first_preferred"], found["pair_ties"]) == (0.5, 0.75, 0.5)
    assert found["pair_accuracy"] == 0.5


def test_intervals_cover() -> None:
    """Of 95 % intervals over samples of 60 about 95 % hold the truth."""
    chance = random.Random(1)
    covered = 0
    for n in range(60):
        pairs = [[Compared(float(chance.random() < 0.7), 1.0)] for _ in range(60)]
        (figure,) = (f for f in figures(pairs, of_pairs, n) if f.name == "pair_accuracy")
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= 0.7 <= figure.high
    assert covered >= 51


def test_rows_of_one_prompt_are_drawn_together() -> None:
    """Ten copies of each answer are no more evidence than one: the interval stays as wide."""
    chance = random.Random(2)
    pairs = [[Compared(float(chance.random() < 0.6), 1.0)] for _ in range(40)]
    once = figures(pairs, of_pairs, 0)[0]
    tenfold = figures([cluster * 10 for cluster in pairs], of_pairs, 0)[0]
    assert tenfold == once
    assert figures(pairs, of_pairs, 0) == figures(pairs, of_pairs, 0)


def test_a_figure_that_draws_do_not_determine_has_no_interval() -> None:
    """A correlation of equal scores is undefined, not 0."""
    found = {f.name: f for f in figures(rows([3.0] * 9, [1, 2, 3] * 3, [5] * 9), of_scores, 0)}
    assert found["spearman"] == Figure("spearman", None)


def test_the_loosest_bound_that_is_precise_enough() -> None:
    """Rows of one score pass together; what no bound reaches is None."""
    marked = [Scored(s, 0, 1, True, good) for s, good in
              [(5, True), (4, True), (4, False), (3, True), (3, True), (2, False), (1, False)]]  # fmt: skip
    assert threshold_for(marked, 0.8) == (3, 0.8, 1.0, 5)
    assert threshold_for(marked, 1.0) == (5, 1.0, 0.25, 1)
    assert threshold_for([Scored(1, 0, 1, True, False)], 0.5) is None


def test_saturation_is_the_commonest_number() -> None:
    """Scores that round to one number do not tell answers apart."""
    assert saturation([4.1, 3.9, 4.4, 2.0]) == 0.75


def test_a_share_has_wilsons_interval() -> None:
    """Never outside 0 to 1, and not of width 0 at the ends."""
    assert share("x", 9, 10)[1:] == pytest.approx((0.9, 0.596, 0.982), abs=1e-3)
    assert share("x", 5, 5).low == pytest.approx(0.566, abs=1e-3)
    assert share("x", 0, 0).value is None
