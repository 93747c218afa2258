"""The examples' rules over stories that people wrote: a rule that drops good text is a defect."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from filters import AnyFilter
from filters.base import Filter, SetFilter
from pipeline.records import Check, Record
from tests.helpers import Nobody, record

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared/data"
MARKUP = ("# ", "* License", "* Text", "* Illustration", "* Translation", "* Language")


def rules(example: str) -> dict[str, Filter | SetFilter]:
    """The rules of an example's plan by kind, those that ask a model left out."""
    plan = yaml.safe_load((ROOT / f"examples/{example}/plan.yaml").read_text(encoding="utf-8"))
    given = [rule for rule in plan["filter"]["rules"] if rule["kind"] != "judge"]
    return {rule["kind"]: TypeAdapter(AnyFilter).validate_python(rule) for rule in given}


def folk_tales(name: str) -> list[Record]:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    files = sorted(folder.rglob("*.md"))
    return [record(_story(file.read_text(encoding="utf-8")), id=file.stem) for file in files]


def fables() -> list[Record]:
    file = DATA / "aesop_en/aesop4children.json"
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    return [record(f["fable"], id=f["title"]) for f in json.loads(file.read_text(encoding="utf-8"))]


def _story(text: str) -> str:
    """The story without title, page breaks and licence lines."""
    lines = [line for line in text.splitlines() if line.strip() != "##" and not line.startswith(MARKUP)]
    return "\n".join(lines).strip()


def dropped(rule: Filter | SetFilter, stories: list[Record]) -> Iterator[tuple[str, Check]]:
    checks = list(rule.sift(stories, Nobody()))
    assert len(checks) == len(stories)
    return ((r.id, c) for r, c in zip(stories, checks, strict=True) if not c.passed)


@pytest.mark.parametrize("kind", ["repetition", "script", "words", "echo", "exact"])
def test_no_korean_story_is_dropped(kind: str) -> None:
    """Thirty Korean picture books pass every rule of the Korean example but the one on length."""
    assert list(dropped(rules("stories-ko")[kind], folk_tales("stories_ko"))) == []


def test_korean_stories_are_dropped_by_length_only_for_their_length() -> None:
    """Picture books are shorter or longer than the example wants; the reason says which."""
    stories = {story.id: len(story.answer.strip()) for story in folk_tales("stories_ko")}
    rule = rules("stories-ko")["length"]
    for name, check in dropped(rule, folk_tales("stories_ko")):
        assert check.reason == ("too_short" if stories[name] < 150 else "too_long")
        assert not 150 <= stories[name] <= 600


def test_repetition_passes_nearly_every_english_story() -> None:
    """2 of 316 folk tales (counting rhymes of one sentence) were dropped when measured: at most 1 %."""
    stories = folk_tales("stories_en")
    lost = list(dropped(rules("stories")["repetition"], stories))
    assert len(lost) / len(stories) <= 0.01, lost


def test_repetition_passes_every_fable() -> None:
    """None of Aesop's 144 fables is dropped for repetition or script."""
    stories = fables()
    for kind in ("repetition", "script"):
        assert list(dropped(rules("stories")[kind], stories)) == []


def test_every_english_story_is_in_latin_script() -> None:
    """None of 316 folk tales full of African names is dropped for its script."""
    assert list(dropped(rules("stories")["script"], folk_tales("stories_en"))) == []
