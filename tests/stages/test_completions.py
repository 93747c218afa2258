"""Stored completions become records without asking anybody: every shape is read, every line accounted for."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.errors import UsageError
from pipeline.records import Record, Seed
from pipeline.run import Run
from stages import flow
from stages.plan import load
from stages.sources.completions import Completions
from stages.tasks.base import Example
from stages.tasks.stored import Stored
from tests.helpers import write_plan
from tests.stages.scripted import played

GROQ = Path(__file__).resolve().parents[3] / "shared/data/openai_batch_groq"
ASKED = [{"role": "user", "content": "2+2?"}]


def choice(content: str | None = "4", finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """One choice of a chat completion."""
    return {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}


def completion(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chat completion, of one choice if none is given."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return {"id": "c", "model": "big-1", "choices": list(choices or [choice()]), "usage": usage} | more


def output(custom_id: str, *choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A line of a batch's output."""
    response = {"status_code": 200, "body": completion(*choices)}
    return {"custom_id": custom_id, "response": response, "error": None} | more


def request(custom_id: str, *messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A line of a batch's input."""
    body = {"model": "big", "messages": list(messages or ASKED), **more}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def lines(path: Path, *rows: dict[str, Any] | bytes) -> Path:
    """A JSONL file; bytes are written as they are."""
    path.write_bytes(b"".join(row if isinstance(row, bytes) else orjson.dumps(row) + b"\n" for row in rows))
    return path


def examples(folder: Path, *rows: dict[str, Any] | bytes, asked: Any = None, **settings: Any) -> list[Example]:
    """What the lines of a file bring, in order."""
    path = lines(folder / "out.jsonl", *rows)
    requests = lines(folder / "in.jsonl", *asked) if asked is not None else None
    seeds = Completions(path=path, requests=requests).seeds(7, 0)
    return [e for unit in played(Stored(**settings), seeds, folder, _nobody) for e in unit.examples]


def _nobody(request: Any) -> Any:
    raise AssertionError("nobody is asked")


def turns(example: Example) -> list[tuple[str, str]]:
    """Roles and contents."""
    return [(message.role, message.content) for message in example.messages]


def reasons(made: list[Example]) -> list[str]:
    """Why each was dropped, "" where it was not."""
    return [example.reason for example in made]


@pytest.mark.parametrize(
    "row",
    [
        {"request": {"messages": ASKED}, "response": completion()},
        {"request": {"messages": ASKED}, "response": {"status_code": 200, "body": completion()}},
        {"body": {"messages": ASKED}, "response": completion()},
        completion(messages=ASKED, object="chat.completion", metadata={"user": "7"}),
        completion(input=ASKED),
        completion(request={"messages": ASKED}),
        {"messages": [*ASKED, {"role": "assistant", "content": "4"}], "model": "big-1"},
    ],
    ids=["log", "log-with-status", "body", "export", "export-input", "export-request", "conversation"],
)
def test_every_shape_of_a_log_is_read(row: dict[str, Any], tmp_path: Path) -> None:
    """What was asked and what came back, wherever they stand in the line."""
    (example,) = examples(tmp_path, row)
    assert example.reason == ""
    assert turns(example) == [("user", "2+2?"), ("assistant", "4")]
    assert example.made_by["model"] == "big-1"


def test_batch_output_is_matched_with_its_input(tmp_path: Path) -> None:
    """In any order, by custom_id; what has no partner is a dropped row that says so."""
    asked = [request(name, {"role": "user", "content": name}) for name in "abc"]
    made = examples(tmp_path, output("c"), output("x"), output("a"), asked=asked)
    assert reasons(made) == ["", "no_request", "", "no_output"]
    assert [turns(example)[0] for example in made] == [("user", "c"), ("assistant", "4"), ("user", "a"), ("user", "b")]
    assert "'x'" in made[1].detail and "b" in made[3].detail


def test_answers_without_what_was_asked_say_what_to_name(tmp_path: Path) -> None:
    """A batch's output alone is rows to drop, with the next step."""
    (example,) = examples(tmp_path, output("a"))
    assert (example.reason, turns(example)) == ("no_request", [("assistant", "4")])
    assert "`requests`" in example.detail


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (output("a", response=None, error={"code": "expired", "message": "too late"}), "no_answer"),
        (output("a", response={"status_code": 429, "body": {"error": {"message": "too many"}}}), "no_answer"),
        (output("a", response={"status_code": 200, "body": {"choices": []}}), "no_answer"),
        (output("a", response={"status_code": 200, "body": None}), "no_answer"),
        (output("a", {"message": None}), "no_answer"),
        (output("a", "what"), "no_answer"),  # type: ignore[arg-type]
        (output("a", choice("  ")), "empty_answer"),
        (output("a", choice(None, refusal="I will not.")), "refusal"),
        (output("a", choice("Once", "content_filter")), "content_filter"),
        (output("a", choice("One, two, th", "length")), "truncated"),
        (output("a", choice(None, "tool_calls", tool_calls=[{"id": "1"}])), "tool_call"),
    ],
)
def test_an_answer_that_is_none_is_dropped_with_its_reason(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """Errors, refusals, calls of tools and cut answers: what was asked stays in the row."""
    (example,) = examples(tmp_path, row, asked=[request("a")])
    assert example.reason == reason
    assert turns(example)[0] == ("user", "2+2?")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "not_text"),
        ([{"role": "tool", "content": "4", "tool_call_id": "1"}, *ASKED], "tool_call"),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, *ASKED], "tool_call"),
        ([*ASKED, {"role": "assistant", "content": "It is"}], "bad_request"),
        ([{"role": "robot", "content": "x"}], "bad_request"),
        ([{"role": "user"}], "bad_request"),
        (["2+2?"], "bad_request"),
        ("2+2?", "no_request"),
    ],
)
def test_a_request_that_no_record_holds_is_dropped(messages: Any, reason: str, tmp_path: Path) -> None:
    """Its whole request stays in `meta`, for no turn shows it."""
    (example,) = examples(tmp_path, {"request": {"messages": messages}, "response": completion()})
    assert (example.reason, turns(example)) == (reason, [("assistant", "4")])
    assert example.meta["request"]["messages"] == messages


def test_developer_turns_and_text_in_parts_are_understood(tmp_path: Path) -> None:
    """`developer` is the new name of `system`, and a content may be a list of texts."""
    parts = {"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]}
    (example,) = examples(
        tmp_path,
        {"request": {"messages": [{"role": "developer", "content": "Brief."}, parts]}, "response": completion()},
    )
    assert turns(example) == [("system", "Brief."), ("user", "2+\n2?"), ("assistant", "4")]


def test_several_choices_are_several_examples(tmp_path: Path) -> None:
    """Each is judged by itself; how many tokens each took is unknown."""
    made = examples(tmp_path, output("a", choice("4"), choice("fo", "length"), choice("Four.")), asked=[request("a")])
    assert [(example.messages[-1].content, example.reason) for example in made] == [
        ("4", ""),
        ("fo", "truncated"),
        ("Four.", ""),
    ]
    assert {example.made_by["completion_tokens"] for example in made} == {0}


def test_who_answered_and_how_is_kept(tmp_path: Path) -> None:
    """Model, tokens, sampling and reason of the end; the licence is what the plan says."""
    asked = [request("a", temperature=0.5, top_p=0.9, seed=3, max_completion_tokens=50)]
    (example,) = examples(tmp_path, output("a"), asked=asked, licence="MIT")
    assert example.made_by == {
        "engine": "stored", "model": "big-1", "licence": "MIT", "finish_reason": "stop", "prompt_tokens": 7,
        "completion_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 3, "max_tokens": 50,
    }  # fmt: skip
    assert "messages" not in example.meta["request"] and "choices" not in example.meta["response"]


def test_nonsense_in_a_log_is_unknown(tmp_path: Path) -> None:
    """Numbers that are none count as not said."""
    asked = [request("a", temperature="warm", seed=None, max_tokens="many", top_p=[])]
    row = output("a", response=completion(usage={"prompt_tokens": 7, "completion_tokens": None}, model=7))
    (example,) = examples(tmp_path, row, asked=asked)
    assert {example.made_by[name] for name in ("temperature", "top_p", "seed", "max_tokens")} == {0}
    assert example.made_by["model"] == "big"


def test_thinking_is_kept_apart(tmp_path: Path) -> None:
    """From its own field or from think tags."""
    rows = [output("a", choice("4", reasoning_content="2 and 2")), output("a", choice("<think>2 and 2</think>\n4"))]
    made = examples(tmp_path, *rows, asked=[request("a")])
    assert [(example.messages[-1].content, example.reasoning) for example in made] == [("4", "2 and 2")] * 2


def test_a_called_tool_beside_text_is_noted(tmp_path: Path) -> None:
    """The text is kept, the call goes to `meta`."""
    (example,) = examples(tmp_path, output("a", choice("Let me see.", tool_calls=[{"id": "1"}])), asked=[request("a")])
    assert (example.reason, example.meta["tool_calls"]) == ("", [{"id": "1"}])


def test_cut_answers_are_kept_where_the_plan_says_so(tmp_path: Path) -> None:
    """`truncated: keep`, as in generate."""
    (example,) = examples(tmp_path, output("a", choice("On", "length")), asked=[request("a")], truncated="keep")
    assert example.reason == ""


def test_broken_lines_are_rows_that_name_their_place(tmp_path: Path) -> None:
    """The lines around them are read; a torn last line is called one."""
    made = examples(
        tmp_path, b"{]\n", b"[1]\n", output("a"), b"\n", b"\xff\n", b'{"custom_id": "b"', asked=[request("a")]
    )
    assert reasons(made) == ["broken_line", "broken_line", "", "broken_line", "broken_line"]
    places = [example.detail.split(":")[1].split()[0] for example in made if example.reason]
    assert places == ["1", "2", "5", "6"]
    assert "is torn" in made[-1].detail and "is torn" not in made[0].detail


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([b"{]\n"], r"in\.jsonl:1 is no request"),
        ([request("a"), {"body": {"messages": ASKED}}], r"in\.jsonl:2 has no custom_id"),
        ([request("a"), request("b"), request("a")], r"in\.jsonl:3 has the custom_id of line 1: a"),
    ],
)
def test_a_batch_input_that_is_none_is_refused(rows: list[Any], why: str, tmp_path: Path) -> None:
    """Answers cannot be matched with it, so nothing runs."""
    with pytest.raises(UsageError, match=why):
        examples(tmp_path, output("a"), asked=rows)


def test_lines_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Windows tools write one."""
    mark = b"\xef\xbb\xbf"
    made = examples(tmp_path, mark + orjson.dumps(output("a")), asked=[mark + orjson.dumps(request("a"))])
    assert reasons(made) == [""]


def test_log_probabilities_do_not_fill_the_seeds(tmp_path: Path) -> None:
    """They are most of a line that has them."""
    path = lines(tmp_path / "out.jsonl", output("a", choice() | {"logprobs": {"content": ["much"] * 100}}))
    ((fields, _),) = Completions(path=path).rows(0)
    assert "logprobs" not in fields["response"]["choices"][0]


def test_a_seed_of_another_source_is_refused(tmp_path: Path) -> None:
    """Task stored goes with source completions."""
    with pytest.raises(UsageError, match="request"):
        Stored().require({"prompt"})
    with pytest.raises(UsageError, match=r"seeds\.jsonl:3"):
        played(Stored(), [Seed("s", {"prompt": "x"}, "seeds.jsonl:3")], tmp_path, _nobody)


def made_by_plan(folder: Path, **generate: Any) -> dict[str, list[Record]]:
    """Rows of generate by a plan without a teacher, by shard."""
    section = {"task": {"kind": "stored"}, "heldout": 0, **generate}
    path = write_plan(folder, teacher=None, generate=section)
    (version,) = flow.run_stages(load(path), Run(folder / "runs/tiny"), ["generate"], flow.Options())
    return {shard: list(version.read(shard)) for shard in ("kept", "dropped")}


def test_a_plan_needs_no_teacher(tmp_path: Path) -> None:
    """generate runs without one, accounts for every line and says who answered."""
    lines(tmp_path / "in.jsonl", request("a"), request("b"), request("c"))
    lines(tmp_path / "out.jsonl", output("b", choice("4"), choice("Four")), output("a", error="no"), b'{"cus')
    rows = made_by_plan(tmp_path, source={"kind": "completions", "path": "out.jsonl", "requests": "in.jsonl"})
    assert [record.answer for record in rows["kept"]] == ["4", "Four"]
    assert [record.reason for record in rows["dropped"]] == ["no_answer", "broken_line", "no_output"]
    assert len({record.id for shard in rows.values() for record in shard}) == 5
    assert {(record.made_by.engine, record.made_by.model) for record in rows["kept"]} == {("stored", "big-1")}


def test_a_real_batch_is_whole(tmp_path: Path) -> None:
    """A provider's own input and output, out of order."""
    if not GROQ.is_dir():
        pytest.skip(f"no {GROQ}")
    files = {"path": str(GROQ / "batch_output.jsonl"), "requests": str(GROQ / "batch_input.jsonl")}
    rows = made_by_plan(tmp_path, source={"kind": "completions", **files})
    assert not rows["dropped"]
    found = {record.prompt[:12]: record for record in rows["kept"]}
    assert found["What is 2+2?"].answer == "The answer to 2+2 is 4."
    assert found["Hello, how a"].made_by.completion_tokens == 76
    assert all(record.messages[0].role == "system" for record in rows["kept"])


def test_one_question_falls_on_one_side(tmp_path: Path) -> None:
    """Two answers to one question are both held out, or neither is."""
    asked = [{"messages": [{"role": "user", "content": f"{n % 20}"}]} for n in range(100)]
    rows = [{"request": request, "response": completion(choice(str(n)))} for n, request in enumerate(asked)]
    sides: dict[str, set[str]] = {}
    for seed in Completions(path=lines(tmp_path / "out.jsonl", *rows)).seeds(7, 0.5):
        sides.setdefault(seed.fields["request"]["messages"][0]["content"], set()).add(seed.split)
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"train", "heldout"}


def test_the_same_rows_are_never_counted_twice(tmp_path: Path) -> None:
    """`count` takes what there is, once; `samples` is refused."""
    lines(tmp_path / "in.jsonl", request("a"), request("b"))
    lines(tmp_path / "out.jsonl", output("a"), output("b"))
    source = {"kind": "completions", "path": "out.jsonl", "requests": "in.jsonl"}
    rows = made_by_plan(tmp_path, source=source, count={"accepted": 50})
    assert len(rows["kept"]) == 2
    with pytest.raises(UsageError, match="asks nobody"):
        made_by_plan(tmp_path, source=source, samples=2)
