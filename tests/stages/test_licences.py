"""Licences: names are told however they are written, the strictest counts, and what cannot go together is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.licences import SORTS, TABLE, Chain, Source, chain, known, of_model

TEACHER = Source("teacher", "a/teacher", "apache-2.0")


def of(*licences: str, base: str | None = None, repo: str = "") -> Chain:
    """A teacher under the first licence, seeds under the others; a base model under `base`."""
    sources = [Source("teacher" if n == 0 else "seeds", f"s{n}", licence) for n, licence in enumerate(licences)]
    return chain(sources, None if base is None else Source("base model", "b/base", base), repo)


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("Apache-2.0", "apache-2.0"), ("apache 2.0", "apache-2.0"), ("Apache License, Version 2.0", "apache-2.0"),
        ("Apache-2.0 (LICENSE beside this file)", "apache-2.0"), ("['mit']", "mit"), ("CC BY-SA 4.0", "cc-by-sa-4.0"),
        ("cc_by_nc_4.0", "cc-by-nc-4.0"), ("GPL-3.0-or-later", "gpl-3.0"), ("ODbL-1.0", "odbl"), ("odc-by", "odc-by"),
        ("llama3.1", "llama3.1"), ("", "unknown"), ("other", "unknown"), ("my own words", "unknown"),
    ],
)  # fmt: skip
def test_a_licence_is_told_by_its_name(text: str, id: str) -> None:
    """Spaces, case, brackets and SPDX's endings make no difference; what is not in the table is unknown."""
    assert known(text).id == id


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini", "openai-terms"), ("openai/gpt-4.1", "openai-terms"), ("o3-mini", "openai-terms"),
        ("claude-sonnet-4", "anthropic-terms"), ("models/gemini-2.0-flash", "gemini-terms"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama2"), ("meta-llama/Meta-Llama-3-8B", "llama3"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3.1"), ("llama3.2:1b", "llama3.2"), ("google/gemma-2-9b", "gemma"),
        ("openai/gpt-oss-20b", "unknown"), ("gpt2", "unknown"), ("huggyllama/llama-30b", "unknown"),
        ("TinyLlama/TinyLlama-1.1B", "unknown"), ("openlm/open-llama-3b", "unknown"), ("codellama/34b", "unknown"),
    ],
)  # fmt: skip
def test_a_model_that_says_nothing_is_told_by_its_name(model: str, name: str) -> None:
    """Only names whose terms are certain; what the model's files say counts before its name."""
    assert of_model(model, "").known_as == name
    assert of_model(model, "mit").id == "mit"


def test_ids_of_the_table_are_told_apart() -> None:
    """Every licence can be asked for by its own name and by its SPDX id."""
    for licence in TABLE:
        assert known(licence.known_as) == licence
        assert not licence.spdx or known(licence.spdx) == licence


def test_the_strictest_counts_and_unknown_ones_are_named() -> None:
    """Permissive parts take on what the others ask; nothing is claimed for what is not known."""
    assert of("apache-2.0", "mit").licence.id == "apache-2.0"
    assert of("apache-2.0", "cc-by-4.0").licence.id == "cc-by-4.0"
    assert of("apache-2.0", "cc-by-sa-4.0").licence.id == "cc-by-sa-4.0"
    found = of("cc-by-sa-4.0", "", "the author's")
    assert found.licence.id == "unknown" and not found.conflicts
    assert found.unknown == [
        "seeds s1: no licence is said", "seeds s2: \"the author's\" is not in the table",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("licences", "says"),
    [
        (("apache-2.0", "cc-by-nc-4.0"), "seeds s1 is under cc-by-nc-4.0: name the source; nobody may use it"),
        (("llama3",), "may not be used to improve other large language models than Llama 3 itself"),
        (("mit", "cc-by-nd-4.0"), "nothing that was made of it may be published"),
        (("cc-by-sa-4.0", "gpl-3.0"), "cc-by-sa-4.0 and gpl-3.0 each ask"),
        (
            ("llama3.1", "cc-by-sa-4.0"),
            "cc-by-sa-4.0 asks that what is made of it has the same licence, which llama3.1",
        ),
    ],
)
def test_what_does_not_go_together_is_a_conflict(licences: tuple[str, ...], says: str) -> None:
    """Non-commercial, no derivatives, terms against other models, share-alike beside another of its kind."""
    assert any(says in text for text in of(*licences).conflicts)


@pytest.mark.parametrize("licences", [("apache-2.0", "mit", "cc-by-4.0"), ("cc-by-sa-4.0", "mit"), ("gemma", "mit")])
def test_what_goes_together_is_none(licences: tuple[str, ...]) -> None:
    """Permissive licences go with anything; one share-alike licence may have its way."""
    assert of(*licences).conflicts == []


def test_terms_against_other_models_allow_their_own() -> None:
    """A Llama 3 may be taught by a Llama 3; another model may not."""
    assert of("llama3", base="llama3").conflicts == []
    assert of("llama3", base="apache-2.0").conflicts
    assert of("llama2", base="llama3").conflicts


def test_a_llama_teacher_asks_for_a_name() -> None:
    """From Llama 3.1 on others may be trained, and their names say so."""
    assert of("llama3.1", base="apache-2.0", repo="me/Llama-stories").conflicts == []
    (said,) = of("llama3.1", base="apache-2.0", repo="me/stories").conflicts
    assert said == "teacher s0 (llama3.1) asks for a name that begins with Llama, not me/stories"
    assert of("llama3.1").conflicts == [] and "Built with Llama" in of("llama3.1").asks[0]


@given(st.lists(st.sampled_from([licence.known_as for licence in TABLE] + ["", "?"]), min_size=1, max_size=6))
def test_more_sources_never_ask_for_less(names: list[str]) -> None:
    """The result is as strict as its strictest part, and its order does not matter."""
    sources = [Source("seeds", f"s{n}", name) for n, name in enumerate(names)]
    whole = chain(sources)
    for part in (sources[:n] for n in range(1, len(sources))):
        assert SORTS.index(chain(part).licence.sort) <= SORTS.index(whole.licence.sort)
        assert set(chain(part).unknown) <= set(whole.unknown)
        assert bool(chain(part).conflicts) <= bool(whole.conflicts)
    back = chain(reversed(sources))
    assert back.licence.sort == whole.licence.sort and set(back.conflicts) == set(whole.conflicts)
