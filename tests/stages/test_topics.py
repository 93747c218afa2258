"""Topics: planted groups are found, central and isolated records are the right ones, names tell topics apart."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import console
from stages import topics
from stages.terms import names
from stages.topics import Topics, find, named

ENGLISH = [
    "The planets orbit the sun, and the moon orbits the earth.",
    "Which planets have a moon? Saturn's moons are many.",
    "A telescope shows the moon and the planets.",
]
COOKING = [
    "Boil the rice and fry the onions.",
    "Fry the rice with garlic.",
    "It's the rice that you don't boil, fry it.",
]
KOREAN = [
    "학교에서 선생님이 수업을 시작했다.",
    "선생님은 학교에 일찍 오셨다.",
    "수업이 끝나자 학교가 조용했다.",
]


def unit(values: Any) -> Any:
    found = np.asarray(values, dtype=np.float64)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def planted(sizes: list[int], *, noise: float = 0.05, dimensions: int = 16) -> tuple[Any, Any]:
    """Vectors about as many orthogonal centres as there are sizes, and the group of each."""
    source = np.random.default_rng(1)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return unit(np.eye(dimensions)[group] + source.normal(scale=noise, size=(len(group), dimensions))), group


def apart(vectors: Any) -> Any:
    """Distances of all pairs, of a record to itself infinite."""
    found = 1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(found, np.inf)
    return found


def consistent(found: Topics, n: int) -> bool:
    """Every record has a topic, sizes are those of the labels and fall, and so do the near ones by distance."""
    sizes = np.bincount(found.labels, minlength=len(found.sizes)).tolist()
    near = [found.distances[rows].tolist() for rows in found.near]
    return (
        len(found.labels) == len(found.distances) == n
        and found.sizes == sizes == sorted(sizes, reverse=True)
        and min(sizes) > 0
        and all(set(found.labels[rows].tolist()) == {k} for k, rows in enumerate(found.near))
        and all(row == sorted(row) for row in near)
        and [min(size, topics.READ) for size in sizes] == [len(rows) for rows in found.near]
    )


def test_planted_groups_are_found() -> None:
    """Eight far groups of unequal size, eight topics: each is one group, the largest first."""
    vectors, group = planted([40, 30, 20, 15, 10, 6, 4, 3])
    found = find(vectors, 0)
    assert consistent(found, 128) and len(found.sizes) == round((128 / 2) ** 0.5) == 8
    assert found.sizes == [40, 30, 20, 15, 10, 6, 4, 3]
    assert found.labels.tolist() == group.tolist()


def test_central_records_are_nearest_to_the_middle() -> None:
    """Central are the three records of a topic whose cosine to its mean is highest; distances are 1 - cosine."""
    vectors, _ = planted([50, 30])
    found = find(vectors, 0)
    for topic, rows in enumerate(found.central):
        members = np.flatnonzero(found.labels == topic)
        middle = vectors[members].mean(axis=0, dtype=np.float64)
        distance = 1 - vectors[members] @ (middle / np.linalg.norm(middle))
        assert found.distances[rows] == pytest.approx(np.sort(distance)[:3], abs=1e-5)
        assert found.distances[members] == pytest.approx(distance, abs=1e-5)


@pytest.mark.parametrize("pairs", [200_000_000, 1])
def test_isolated_records_are_far_from_all_others(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    """Those with the farthest nearest neighbour; where not all can be looked at, those far from their topic are."""
    monkeypatch.setattr(topics, "PAIRS", pairs)
    vectors, _ = planted([700, 600], noise=0.01)
    vectors = np.concatenate([vectors[:900], np.eye(16, dtype=np.float32)[5:8], vectors[900:]])
    found = find(vectors, 0)
    nearest = apart(vectors).min(axis=1)
    assert {row for row, _ in found.isolated[:3]} == {900, 901, 902}
    assert [row for row, _ in found.isolated] == np.argsort(-nearest, kind="stable")[:5].tolist()
    assert [far for _, far in found.isolated] == pytest.approx(np.sort(nearest)[::-1][:5], abs=1e-5)


@pytest.mark.parametrize(("n", "most"), [(1, 1), (2, 2), (3, 2), (8, 2), (200, 10), (1152, 24), (5000, 24)])
def test_how_many_topics(n: int, most: int) -> None:
    """About sqrt(N / 2), at least 2, at most 24, and never more than records."""
    vectors = unit(np.random.default_rng(0).normal(size=(n, 4)))
    found = find(vectors, 0)
    assert consistent(found, n) and len(found.sizes) == most


@pytest.mark.filterwarnings("error")
@given(st.integers(1, 60), st.integers(1, 4))
def test_few_different_vectors_give_few_topics(n: int, kinds: int) -> None:
    """Records with the same vector share a topic; no topic is empty, and k-means has nothing to warn of."""
    kind = np.random.default_rng(n).integers(kinds, size=n)
    found = find(unit(np.random.default_rng(7).normal(size=(kinds, 5)))[kind], 0)
    assert consistent(found, n)
    assert len(found.sizes) <= len(set(kind.tolist()))
    assert all(len(set(found.labels[kind == k].tolist())) <= 1 for k in range(kinds))


def test_large_sets_are_fitted_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record gets the topic of its group though k-means saw few, block after block."""
    vectors, group = planted([300, 200, 100])
    monkeypatch.setattr(topics, "FIT", 150)
    monkeypatch.setattr(topics, "BLOCK", 37)
    monkeypatch.setattr(topics, "MOST", 3)
    found = find(vectors, 0)
    assert consistent(found, 600) and found.labels.tolist() == group.tolist()


def test_the_same_topics_again(tmp_path: Path) -> None:
    """The same seed gives the same topics, from memory or from a file."""
    vectors = unit(np.random.default_rng(0).normal(size=(300, 8)))
    np.save(tmp_path / "v.npy", vectors)
    first, again = find(vectors, 2), find(np.load(tmp_path / "v.npy", mmap_mode="r"), 2)
    assert first.labels.tolist() == again.labels.tolist() and first[2:] == again[2:]
    assert first.labels.tolist() != find(vectors, 3).labels.tolist()


def test_names_come_from_the_wanted_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 60 texts of each topic, the nearest to its centre, are all that has to be handed over."""
    monkeypatch.setattr(topics, "MOST", 2)
    vectors, group = planted([300, 100])
    found = find(vectors, 0)
    wanted = found.wanted()
    assert wanted == sorted(set(wanted)) and np.bincount(group[wanted]).tolist() == [60, 60]
    texts = {row: ("monkeys eat bananas", "violins make music")[group[row]] for row in wanted}
    assert named(found, texts) == ["bananas, eat, monkeys", "make, music, violins"]


def test_english_names_are_words_of_the_topic() -> None:
    """Lower case, without stop words and contractions; of a word and its plural one."""
    sky, food = (name.split(", ") for name in names([ENGLISH, COOKING]))
    assert len(sky) == len(food) == 3
    assert set(sky) <= {"planets", "moon", "sun", "earth", "telescope", "orbit", "saturn", "orbits", "shows"}
    assert "planets" in sky and "moon" in sky and "moons" not in sky
    assert set(food) == {"rice", "fry", "boil"}


def test_forms_of_a_word_are_one_term() -> None:
    """Of a word and its plural the one with more weight; possessives count as the word, contractions not at all."""
    assert names([["model models zebra", "model zebra", "model zebra's"]]) == ["model, zebra"]
    assert names([["I haven't, couldn’t and they'd", "Zoë’s"]]) == ["zoë"]


def test_words_of_all_topics_name_none() -> None:
    """A word that stands in every text weighs less than one of the topic's own."""
    (first, second) = names([["common apple"] * 3, ["common pear"] * 3])
    assert first.startswith("apple") and second.startswith("pear")


def test_one_text_does_not_name_a_topic() -> None:
    """A word that one text repeats counts less than one that three texts have."""
    (name,) = names([["cat zebra zebra zebra zebra zebra zebra", "cat dog", "cat dog"]])
    assert name.split(", ")[:2] == ["cat", "dog"]


def test_korean_names_are_nouns() -> None:
    """Without particles; foreign words of a Korean text count; languages mix."""
    pytest.importorskip("kiwipiepy")
    korean, mixed = names([KOREAN, ["GPU를 샀다", "The GPU를 판다", "GPU가 비싸다"]])
    assert {"학교", "수업"} < set(korean.split(", "))
    assert mixed == "gpu"


def test_without_kiwipiepy_korean_words_stand_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said once, and only where there is Korean."""
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    names([ENGLISH])
    assert capsys.readouterr().err == ""
    assert "학교에" in names([["학교에 간다", "학교에 온다"], ["다른 말이다"]])[0]
    assert capsys.readouterr().err.count("kiwipiepy is not installed") == 1


def test_scripts_without_spaces_have_terms() -> None:
    """Katakana words, short runs of Han whole, longer ones by pairs; hiragana alone names nothing."""
    (name,) = names([["東京のコンピューター", "東京でコンピューターを"]])
    assert set(name.split(", ")) == {"東京", "コンピューター"}
    (name,) = names([["我们研究人工智能技术", "人工智能很重要"]])
    assert {"人工", "工智", "智能"} >= set(name.split(", "))


def test_two_topics_never_share_a_name() -> None:
    """A further term tells them apart where there is one, else a number; none at all has words for it."""
    same = ["red green blue"] * 4
    first, second, third = names([[*same, "zinc"], [*same, "iron"], same])
    assert len({first, second, third}) == 3
    assert (first, second) == ("blue, green, red", "blue, green, red, iron") and third == "blue, green, red (2)"
    assert names([["..."], [""], ["the of and"]]) == ["no words", "no words (2)", "no words (3)"]


@given(st.lists(st.lists(st.text("ab xé漢字カナ'.\n", max_size=12), min_size=1, max_size=3), min_size=1, max_size=4))
def test_any_texts_have_names(groups: list[list[str]]) -> None:
    """One a group, none empty, no two alike, the same again."""
    found = names(groups)
    assert len(set(found)) == len(found) == len(groups) and all(found)
    assert found == names(groups)
