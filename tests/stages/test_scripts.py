"""The runner of scripts: order, rounds, questions side by side, tries, several engines, memories with a lag."""

import random
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel

from pipeline.engines import Completion, Engine, Request
from pipeline.job import Job
from pipeline.records import Seed
from pipeline.run import Run
from stages import scripts
from stages.sampling import VariedSampling
from stages.scripts import Asking, Scripts
from stages.tasks.base import Example, Failed, Got, Question, Script, Task, Unreadable, answer, parsed, user
from tests.stages.scripted import Shuffled, played, replay

SEEDS = [Seed(f"s{n}", {"prompt": f"question {n}"}, f"seeds.jsonl:{n}") for n in range(30)]


class Plain(Task):
    """A task of the test."""

    kind: Literal["plain"] = "plain"

    def require(self, given: set[str]) -> None:
        """Nothing."""

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """One question."""
        reply = yield Question((user(seed.fields["prompt"]),))
        return [Example([answer(reply.text)])]


class Rounds(Plain):
    """Asks on about what was said, as often as `chance` says, then three questions side by side."""

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Some rounds and a fan."""
        text = seed.fields["prompt"]
        for _ in range(chance.randrange(4)):
            text = (yield Question((user(text),))).text
        outcomes = yield [Question((user(f"{text} {n}"),)) for n in range(3)]
        return [Example([answer(o.value.text if isinstance(o, Got) else o.reason)], by=o.by) for o in outcomes]


def echo(request: Request) -> Completion:
    """Says what it was asked, and under which seed."""
    text = f"{request.messages[-1].content}+{request.seed % 97}"
    return Completion(text=text, finish_reason="stop", prompt_tokens=2, completion_tokens=3)


def said(units: list[scripts.Unit]) -> list[list[str]]:
    """The texts of every unit's examples."""
    return [[example.messages[-1].content for example in unit.examples] for unit in units]


@pytest.mark.parametrize("task", [Plain(), Rounds()], ids=["plain", "rounds"])
def test_results_do_not_hang_on_the_order_of_answers(task: Task, tmp_path: Path) -> None:
    """One at a time or thirty, whichever finishes first: the same examples in the order of the seeds."""
    alone = said(played(task, SEEDS, tmp_path, echo, width=1, samples=2))
    assert len(alone) == 60 and len({t for texts in alone for t in texts}) == sum(map(len, alone))
    for width, shuffle in ((3, 1), (30, 2), (200, 3)):
        assert said(played(task, SEEDS, tmp_path, echo, width=width, shuffle=shuffle, samples=2)) == alone


def test_a_window_bounds_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the first answer, no more than the window's scripts are begun."""
    monkeypatch.setattr(Job, "window", 5)
    begun: list[str] = []

    class Counted(Plain):
        def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
            begun.append(seed.id)
            return super().script(seed, chance, memory)

    teacher = replay(tmp_path)
    run = Run(tmp_path / "run")
    run.create()
    job = Job(run, 7, teacher)
    job.use(teacher, Shuffled(echo, 100, 0))
    asking = Asking(VariedSampling(), 0, "drop", {})
    units = Scripts(job, Counted(), asking, ((seed, 0) for seed in SEEDS), None).units()
    for emitted, unit in enumerate(units):
        assert unit.seed.id == f"s{emitted}"
        assert len(begun) <= emitted + 5
    job.close()


class Shape(BaseModel):
    """What `Strict` wants to read."""

    n: int


class Strict(Plain):
    """Reads JSON."""

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """One question whose answer has a shape."""
        shape = yield Question((user("context"), user(seed.fields["prompt"])), read=parsed(Shape), kept=(user("kept"),))
        return [Example([answer(str(shape.n))])]


def test_an_unreadable_answer_is_asked_for_again(tmp_path: Path) -> None:
    """With another seed each time, as often as `retries` says; what fails for good shows what was said."""
    asked: Counter[str] = Counter()
    seeds_asked: set[int] = set()

    def third_time(request: Request) -> Completion:
        prompt = request.messages[-1].content
        asked[prompt] += 1
        seeds_asked.add(request.seed)
        return Completion(text='{"n": 3}' if asked[prompt] == 3 else "{", finish_reason="stop", completion_tokens=1)

    units = played(Strict(), SEEDS[:2], tmp_path, third_time, retries=2, width=1)
    assert said(units) == [["3"], ["3"]] and len(seeds_asked) == 6
    assert units[0].spent.requests == 3
    asked.clear()
    (unit,) = played(Strict(), SEEDS[:1], tmp_path, third_time, retries=1)
    (example,) = unit.examples
    assert (example.reason, [m.content for m in example.messages]) == ("not_json", ["kept", "{"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [('```json\n{"n": 1}\n```', ""), ("", "empty_answer"), ("[1", "not_json"), ('{"m": 1}', "wrong_shape")],
)
def test_what_cannot_be_read_has_a_slug(tmp_path: Path, text: str, reason: str) -> None:
    """JSON in a code fence is read; each way of failing has its own reason."""
    (unit,) = played(Strict(), SEEDS[:1], tmp_path, lambda r: Completion(text=text, finish_reason="stop"))
    assert unit.examples[0].reason == reason


def test_a_cut_answer_is_truncated_whatever_it_looks_like(tmp_path: Path) -> None:
    """Half a JSON object is `truncated`, not `not_json`; it is tried again only where the user says so."""
    asked: list[int] = []

    def cut(request: Request) -> Completion:
        asked.append(request.seed)
        return Completion(text="{", finish_reason="length", completion_tokens=9)

    (unit,) = played(Strict(), SEEDS[:1], tmp_path, cut, retries=5)
    assert unit.examples[0].reason == "truncated" and len(asked) == 1
    played(Strict(), SEEDS[:1], tmp_path, cut, retries=5, retry=frozenset({"truncated"}))
    assert len(asked) == 1 + 2


class Catching(Plain):
    """Keeps its first round when the second fails."""

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Two rounds."""
        first = yield Question((user("one"),))
        try:
            yield Question((user("two"),))
        except Unreadable as problem:
            return [Example([answer(first.text)], meta={"stopped": problem.reason})]
        return []


def test_a_script_may_catch_what_failed(tmp_path: Path) -> None:
    """A question that failed for good is thrown into the script, which may keep what it has."""

    def second_fails(request: Request) -> Completion:
        two = request.messages[-1].content == "two"
        return Completion(error="down") if two else Completion(text="yes", finish_reason="stop")

    (unit,) = played(Catching(), SEEDS[:1], tmp_path, second_fails)
    assert unit.examples == [Example([answer("yes")], meta={"stopped": "no_answer"})]


def test_one_of_several_may_fail(tmp_path: Path) -> None:
    """Of questions side by side, a failed one is `Failed` in its place; the others are there."""
    seen: list[Got | Failed] = []

    class Fan(Plain):
        def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
            seen.extend((yield [Question((user(str(n)),)) for n in range(3)]))
            return []

    played(Fan(), SEEDS[:1], tmp_path, lambda r: Completion(error="no") if r.messages[0].content == "1" else echo(r))
    assert [isinstance(outcome, Got) for outcome in seen] == [True, False, True]
    assert isinstance(seen[1], Failed) and (seen[1].reason, seen[1].detail) == ("no_answer", "no")


def test_equal_questions_side_by_side_are_different_draws(tmp_path: Path) -> None:
    """The same words asked twice in one list have seeds of their own: answers to choose from."""

    class Twice(Plain):
        def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
            outcomes = yield [Question((user("same"),)), Question((user("same"),))]
            return [Example([answer(o.value.text)]) for o in outcomes]

    ((first, second),) = said(played(Twice(), SEEDS[:1], tmp_path, echo))
    assert first != second


class Two(Plain):
    """Asks one engine, then another."""

    kind: Literal["plain"] = "plain"
    other: Any

    def asks(self, teacher: Engine | None) -> list[Engine]:
        """Both."""
        return [*super().asks(teacher), self.other]

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Back and forth."""
        text = seed.fields["prompt"]
        for n in range(4):
            text = (yield Question((user(text),), engine=self.other if n % 2 else None)).text
        return [Example([answer(text)])]


def test_several_engines_take_turns(tmp_path: Path) -> None:
    """A script that goes from engine to engine ends as if there were one, in any order of answers."""
    task = Two(other=replay(tmp_path, "other"))
    alone = said(played(task, SEEDS, tmp_path, echo, width=1))
    assert said(played(task, SEEDS, tmp_path, echo, width=7, shuffle=4)) == alone
    assert all(text.count("+") == 4 for (text,) in alone)


class Memory:
    """What was settled, and how many of it a script may see."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def now(self) -> int:
        """So many."""
        return len(self.texts)


class Remembering(Plain):
    """Asks with the number of examples that its view of the memory holds, and drops what was said before."""

    lag: ClassVar[int | None] = 4

    def remember(self, seeds: Any) -> Memory:
        """An empty memory."""
        return Memory()

    def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
        """Tell how much is remembered."""
        reply = yield Question((user(f"{seed.fields['prompt']} after {memory}"),))
        return [Example([answer(reply.text)])]

    def settle(self, example: Example, memory: Memory) -> Example:
        """Drop what was said before."""
        text = example.messages[-1].content
        repeated = text in memory.texts
        memory.texts.append(text)
        return example._replace(reason="repeated") if repeated else example


def test_a_memory_is_seen_as_of_a_fixed_place(tmp_path: Path) -> None:
    """Script i sees what scripts 0 to i-4 have brought, settled in order, whatever the order of the answers."""

    def fixed(request: Request) -> Completion:
        return Completion(text=request.messages[-1].content, finish_reason="stop")

    seeds = [Seed(f"s{n}", {"prompt": "question"}, "here") for n in range(12)]
    for width, shuffle in ((1, 0), (3, 1), (50, 2)):
        units = played(Remembering(), seeds, tmp_path, fixed, width=width, shuffle=shuffle)
        seen = [unit.examples[0].messages[-1].content.split("after ")[1] for unit in units]
        assert seen == [str(max(0, n - 3)) for n in range(12)]
        assert [unit.examples[0].reason for unit in units] == ["", "repeated", "repeated", "repeated"] + [""] * 8


def test_a_script_that_asks_nothing_ends(tmp_path: Path) -> None:
    """Examples that are there already need no answer."""

    class Known(Plain):
        def script(self, seed: Seed, chance: random.Random, memory: Any) -> Script:
            return [Example([answer(seed.id)])]
            yield

    assert said(played(Known(), SEEDS, tmp_path, echo)) == [[seed.id] for seed in SEEDS]
