"""Self-Instruct: what is shown, what counts as new, and that the order of answers changes nothing."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.component import file_digest
from pipeline.engines import Completion, Request
from pipeline.errors import UsageError
from pipeline.records import Seed, Split, digest
from stages.scripts import Unit
from stages.tasks.base import Example, Question
from stages.tasks.pool import Pool, Seen, known
from stages.tasks.self_instruct import SelfInstruct
from tests.stages.scripted import played

FEW = [
    "Name three birds that cannot fly.", "Is this review good or bad?", "Explain photosynthesis to a child.",
    "Translate the sentence into French.",
]  # fmt: skip


def seeds(*texts: str, split: Split = "train", **fields: Any) -> list[Seed]:
    """Seed tasks with an answer each."""
    return [
        Seed(f"{split}{n}", {"instruction": text, "output": f"Answer {n}.", **fields}, f"seeds.jsonl:{n + 1}", split)
        for n, text in enumerate(texts)
    ]


def wants(request: Request) -> str:
    """Which of the questions this is."""
    names = sorted((request.json_schema or {})["properties"])
    return {"instructions": "ideas", "input output": "instance", "input": "input"}[" ".join(names)]


def said(value: Any) -> Completion:
    """An answer in JSON."""
    return Completion(text=json.dumps(value, ensure_ascii=False), finish_reason="stop", completion_tokens=9)


def ideas(*instructions: str, labels: Sequence[str] = ()) -> Completion:
    """An answer to the first question."""
    return said({"instructions": [{"instruction": text, "labels": [*labels]} for text in instructions]})


def first_question(task: SelfInstruct, own: Seed, memory: Pool) -> Question:
    """What a script asks first."""
    asked = next(task.script(own, random.Random(1), memory))
    assert isinstance(asked, list)
    return asked[0]


def one_script(folder: Path, answers: dict[str, Completion], task: SelfInstruct | None = None) -> Unit:
    """The script of the first of a few seeds."""
    (unit,) = played(task or SelfInstruct(), seeds(*FEW)[:1], folder, lambda request: answers[wants(request)])
    return unit


def outcomes(unit: Unit) -> list[str]:
    return [example.reason for example in unit.examples]


def test_an_instruction_becomes_a_solved_task(tmp_path: Path) -> None:
    """The user asks with instruction and input, the assistant answers; where it came from stands in `meta`."""
    answers = {"ideas": ideas("Count the vowels in the word."), "instance": said({"input": "banana", "output": "3"})}
    (example,) = one_script(tmp_path, answers).examples
    assert [m.content for m in example.messages] == ["Count the vowels in the word.\n\nbanana", "3"]
    assert example.meta["self_instruct"] == {
        "instruction": "Count the vowels in the word.", "input": "banana", "labels": [], "shown": ["train0"],
    }  # fmt: skip


@pytest.mark.parametrize("nothing", ["", "N/A", "None", " 없음 "])
def test_an_input_may_be_empty(tmp_path: Path, nothing: str) -> None:
    """A word for nothing is nothing."""
    answers = {"ideas": ideas("Write a poem about rain."), "instance": said({"input": nothing, "output": "Rain."})}
    (example,) = one_script(tmp_path, answers).examples
    assert [m.content for m in example.messages] == ["Write a poem about rain.", "Rain."]


def test_a_label_is_drawn_before_its_input_is_written(tmp_path: Path) -> None:
    """For classification the answer comes first, every label has its turn, and the teacher is told which."""

    def teacher(request: Request) -> Completion:
        if wants(request) == "ideas":
            return ideas("Say whether the animal is a bird or a fish.", labels=["bird", "fish", "fish"])
        asked = request.messages[-1].content
        return said({"input": "a trout" if "a fish. => fish\n" in asked else "a wren"})

    task = SelfInstruct(max_similarity=1)
    units = [u for n in range(20) for u in played(task, [seeds(*FEW)[0]._replace(id=str(n))], tmp_path, teacher)]
    pairs = {tuple(m.content.split("\n\n")[-1] for m in u.examples[0].messages) for u in units}
    assert pairs == {("a trout", "fish"), ("a wren", "bird")}
    assert all(u.examples[0].meta["self_instruct"]["labels"] == ["bird", "fish"] for u in units)


def test_one_label_is_no_classification(tmp_path: Path) -> None:
    """A single possible answer is a mistake of the teacher: the task is solved like any other."""
    answers = {"ideas": ideas("Write a poem about rain.", labels=["poem"]),
               "instance": said({"input": "", "output": "Rain."})}  # fmt: skip
    (example,) = one_script(tmp_path, answers).examples
    assert example.messages[-1].content == "Rain."


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("2. Rain poem.", "wrong_length"),
        ("", "wrong_length"),
        ("word " * 151, "wrong_length"),
        (", and then write it down.", "begins_with_punctuation"),
        ("Describe what is shown in the picture.", "needs_other_media"),
        ("Draw a graph of the function.", "needs_other_media"),
        ("이 사진을 보고 설명해 주세요.", "needs_other_media"),
        ("아래 그래프에서 가장 큰 값을 찾으세요.", "needs_other_media"),
        ("어린이에게 좋은 그림책을 추천해 주세요.", ""),
        ("Write a graphic description of rain.", ""),
        ('"Time flies" means what exactly?', ""),
        ("시 한 편 써 줘", ""),
        ("写一首关于雨的诗", ""),
        ("Name three birds which cannot fly.", "not_novel"),
    ],
)
def test_instructions_that_will_not_do(tmp_path: Path, instruction: str, reason: str) -> None:
    """Wrong length, punctuation first, pictures and the like, and what is there already; the rest passes."""
    answers = {"ideas": ideas(instruction), "instance": said({"input": "", "output": "An answer."})}
    (example,) = one_script(tmp_path, answers).examples
    assert example.reason == reason
    assert example.messages[0].content == instruction.removeprefix("2. ").strip()


def test_the_detail_names_what_it_resembles(tmp_path: Path) -> None:
    """`not_novel` comes with the most similar instruction and its score."""
    (example,) = one_script(tmp_path, {"ideas": ideas("Name three birds which cannot fly.")}).examples
    assert example.detail == f"0.83 like {FEW[0]!r}"


@pytest.mark.parametrize(
    ("kind", "labels", "instance", "reason"),
    [
        ("instance", [], {"input": "", "output": "  "}, "empty_output"),
        ("instance", [], {"input": "The same.", "output": "the  same."}, "input_is_output"),
        ("instance", [], {"input": "", "output": "Answer 0."}, "copies_example"),
        ("instance", [], {"input": "only"}, "wrong_shape"),
        ("input", ["yes", "no"], {"input": "none"}, "no_input"),
    ],
)
def test_instances_that_will_not_do(
    tmp_path: Path, kind: str, labels: list[str], instance: dict[str, str], reason: str
) -> None:
    """No answer, nothing but the input again, the wrong shape, nothing to sort."""
    answers = {"ideas": ideas("Count the vowels in the word.", labels=labels), kind: said(instance)}
    assert outcomes(one_script(tmp_path, answers)) == [reason]


def test_siblings_are_compared_too(tmp_path: Path) -> None:
    """Of two alike instructions of one answer the first stays; only what is new costs a question."""
    twice = ideas("Count the vowels in the word.", "Count the vowels in this word.", "Plan a picnic for six people.")
    unit = one_script(tmp_path, {"ideas": twice, "instance": said({"input": "", "output": "Done."})})
    assert outcomes(unit) == ["", "not_novel", ""]
    assert unit.spent.requests == 3


def test_more_than_asked_for_is_left_out(tmp_path: Path) -> None:
    """A server that does not enforce the schema may give more; the schema itself has an end."""
    task = SelfInstruct(per_request=1)
    assert outcomes(
        one_script(
            tmp_path,
            {
                "ideas": ideas("One two.", "Three four."),
            },
            task,
        )
    ) == ["wrong_length"]
    question = first_question(task, seeds(*FEW)[0], task.remember(seeds(*FEW)))
    assert question.json_schema is not None
    assert question.json_schema["properties"]["instructions"]["maxItems"] == 1


def test_no_instructions_are_a_reason(tmp_path: Path) -> None:
    """An empty list is asked for again and then dropped."""
    (unit,) = played(SelfInstruct(), seeds(*FEW)[:1], tmp_path, lambda request: ideas(), retries=2)
    assert (outcomes(unit), unit.spent.requests) == (["no_instructions"], 3)


def test_held_out_tasks_are_shown_to_held_out_ones_only() -> None:
    """No training row grows from a task that is kept for measuring, nor from what grew from one."""
    train, held = seeds(*FEW), seeds("Give a synonym for happy.", "Sum the two numbers.", split="heldout")
    task = SelfInstruct(examples=8, written=2)
    memory = task.remember([*train, *held])
    memory.take("Invent a proverb about patience.", "heldout0")
    memory.take("Summarise the plot of Hamlet.", "train0")
    for_train = first_question(task, train[0], memory).messages[-1].content
    for_held = first_question(task, held[0], memory).messages[-1].content
    assert all(text in for_train for text in (*FEW, "Hamlet"))
    assert not any(text in for_train for text in ("synonym", "Sum the two", "proverb"))
    assert all(text in for_held for text in ("synonym", "Sum the two", "proverb")) and "Hamlet" not in for_held


def test_so_many_are_shown_and_so_many_of_them_written() -> None:
    """The seed's own task always, two that were written, seeds for the rest; seeds alone in the beginning."""
    task = SelfInstruct(examples=8, written=2)
    many = seeds(*(f"Task number {n} of the seeds." for n in range(30)))
    memory = task.remember(many)
    before = first_question(task, many[3], memory).messages[-1].content
    for n in range(10):
        memory.take(f"Written task {n}.", "train0")
    after = first_question(task, many[3], memory).messages[-1].content
    assert (before.count("Task number"), before.count("Written task")) == (8, 0)
    assert (after.count("Task number"), after.count("Written task")) == (6, 2)
    assert "Task number 3 of" in before and "Task number 3 of" in after


def test_a_view_of_the_pool_does_not_grow() -> None:
    """What a script saw when it began is what it sees."""
    memory = SelfInstruct().remember(seeds(*FEW))
    view = memory.now()
    memory.take("Plan a picnic for six people.", "train0")
    assert view.closest("Plan a picnic for six people.", 0.7) is None
    assert memory.closest("Plan a picnic for six people.", 0.7) == ("Plan a picnic for six people.", 1)


def test_solved_tasks_are_of_the_same_sort() -> None:
    """Where an instance is asked for, classification is shown to classification; long instances are not shown."""
    rows = [
        *seeds("Sort this one.", is_classification=True), *seeds("Write this one.")[:1],
        Seed("long", {"instruction": "Too long.", "output": "x" * 2000}, "here"),
        Seed("bare", {"instruction": "No instance."}, "here"),
    ]  # fmt: skip
    memory = SelfInstruct().remember(rows)
    for classification, text in ((True, "Sort this one."), (False, "Write this one.")):
        found = memory.solved(known(rows[0], "instruction"), classification, 9, random.Random(1))
        assert [task.instruction for task in found] == [text]


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": ""}, {"instruction": None}, {"instruction": "a b c", "instances": "text"},
        {"instruction": "a b c", "instances": [{"input": "", "output": 3}]}, {"instruction": "a b c", "output": ["x"]},
    ],
)  # fmt: skip
def test_a_bad_seed_is_named(fields: dict[str, Any]) -> None:
    """Where it was read, before anything is asked."""
    seed = Seed("s", fields, "seeds.jsonl:7")
    with pytest.raises(UsageError, match=r"seeds\.jsonl:7: (instruction holds no|an instance is)"):
        SelfInstruct().remember([seed])


def test_the_papers_own_rows_are_read() -> None:
    """`instances` and `is_classification` of the 175 published seed tasks, where they are at hand."""
    file = Path(__file__).resolve().parents[3] / "shared/data/self_instruct/seed_tasks.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    rows = [Seed(str(n), orjson.loads(line), f"{file}:{n}") for n, line in enumerate(file.open("rb"), 1)]
    tasks = [known(seed, "instruction") for seed in rows]
    assert (len(tasks), sum(t.classification for t in tasks), sum(t.instance is None for t in tasks)) == (175, 26, 0)
    assert tasks[1].instance == ("Night : Day :: Right : Left", rows[1].fields["instances"][0]["output"])


def test_settings_that_contradict_each_other() -> None:
    """The seed's own task has to fit among the examples; the bounds of length have to leave something."""
    with pytest.raises(ValidationError, match="written is 8 of 8 examples"):
        SelfInstruct(written=8)
    with pytest.raises(ValidationError, match="min_words 9 is above max_words 8"):
        SelfInstruct(min_words=9, max_words=8)


VERBS, THINGS = ("Praise", "Describe", "Compare", "Sell", "Mend", "Draw up", "Explain"), "abcdefghijklmnopqrstuvw"


def fickle(request: Request) -> Completion:
    """A teacher whose answer hangs on every word of the question: another pool is another answer."""
    chance = random.Random(digest([m.content for m in request.messages] + [request.seed]))
    if wants(request) == "instance":
        return said({"input": "", "output": chance.choice(["Yes.", "No.", " "])})
    texts = [" ".join([chance.choice(VERBS), *chance.choices(THINGS, k=3)]) for _ in range(chance.randint(0, 3))]
    return ideas(*texts)


def brought(folder: Path, width: int, shuffle: int) -> list[list[Example]]:
    """What 24 scripts bring when answers come in one of many orders."""
    folder.mkdir()
    units = played(
        SelfInstruct(written=6, examples=7),
        seeds(*FEW),
        folder,
        fickle,
        samples=30,
        retries=1,
        width=width,
        shuffle=shuffle,
    )
    return [[example._replace(by=None) for example in unit.examples] for unit in units]


def test_the_order_of_answers_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool grows with every script, and yet examples are the same however many are under way at once."""
    monkeypatch.setattr(SelfInstruct, "lag", 4)
    one_by_one = brought(tmp_path / "one", 1, 0)
    reasons = Counter(example.reason for examples in one_by_one for example in examples)
    assert {"", "not_novel", "empty_output", "no_instructions"} <= set(reasons)
    shown = [example.meta["self_instruct"]["shown"] for examples in one_by_one for example in examples if example.meta]
    assert sum(not name.startswith("train") for name in shown[-1]) == 6, "written ones are shown"
    assert brought(tmp_path / "seven", 7, 1) == one_by_one
    assert brought(tmp_path / "all", 1000, 2) == one_by_one


def test_what_is_taken_is_unlike_all_before_it(tmp_path: Path) -> None:
    """Whatever was under way at once, no two kept instructions reach the similarity that is not new."""
    units = played(SelfInstruct(), seeds(*FEW), tmp_path, fickle, samples=40)
    kept = [e.messages[0].content for u in units for e in u.examples if not e.reason]
    seen = Seen()
    assert len(kept) > 10
    for text in (*FEW, *kept):
        assert seen.closest(text, 0.7) is None
        seen.add(text)


def rouge_l(one: list[str], other: list[str]) -> float:
    """The F-measure by its definition: precision and recall of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for a in one:
        last, row = row, [0]
        for j, b in enumerate(other):
            row.append(last[j] + 1 if a == b else max(row[j], last[j + 1]))
    if not row[-1]:
        return 0.0
    precision, recall = row[-1] / len(one), row[-1] / len(other)
    return 2 * precision * recall / (precision + recall)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.lists(st.sampled_from("abcd"), min_size=1))
def test_the_score_is_rouge_l(one: list[str], other: list[str]) -> None:
    """It equals the measure's definition, and nothing is found under the least score."""
    seen, score = Seen(), rouge_l(one, other)
    seen.add(" ".join(other))
    found = seen.closest(" ".join(one), 0.01)
    assert (found.score if found else 0.0) == pytest.approx(score)
    assert score > 0.99 or seen.closest(" ".join(one), score + 0.01) is None


def test_korean_is_compared_by_the_syllable() -> None:
    """A particle or an ending more is no new instruction; another object is."""
    seen = Seen()
    seen.add("다음 문장을 읽고 글쓴이의 기분을 한 낱말로 말해 주세요.")
    assert seen.closest("다음 문장을 읽고 글쓴이 기분을 한 낱말로 말하세요", 0.7)
    assert seen.closest("다음 편지를 존댓말로 고쳐 주세요.", 0.7) is None


@pytest.mark.parametrize(("language", "letters"), [("en", "Latin"), ("ko", "Hangul")])
def test_the_prompts_of_a_language(language: Any, letters: str) -> None:
    """Each bundled prompt is in its language, and its content is part of what names a version."""
    task = SelfInstruct(language=language)
    files = [task.instructions_prompt, task.instance_prompt, task.input_prompt]
    assert all(
        regex.search(rf"\p{{{letters}}}{{2}}", f.read_text(encoding="utf-8")) and f.stem == language for f in files
    )
    assert task.identity()["input_prompt"] == {"sha256": file_digest(files[2])}


def test_an_own_prompt_may_need_what_the_source_gives(tmp_path: Path) -> None:
    """Its needs are met by the source's fields or by what the task gives."""
    (tmp_path / "own.md").write_text("---\nabout: x\nneeds: [tasks, field]\n---\n>>> user\n{{ tasks }} {{ field }}\n")
    task = SelfInstruct.model_validate({"instructions_prompt": tmp_path / "own.md"})
    task.require({"instruction", "field"})
    with pytest.raises(UsageError, match="needs 'field', which nothing gives it"):
        task.require({"instruction"})
