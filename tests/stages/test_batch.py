"""Batch files: what is written is what is not known yet, and what is read is remembered, whatever else is in there."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import console, job
from pipeline.cli import app
from pipeline.errors import BusyError, PipelineError, UsageError
from pipeline.memo import Memo
from stages import batch, flow
from tests.helpers import write_plan
from tests.scripted_server import answer
from tests.stages.conftest import Workshop, workshop

__all__ = ["workshop"]  # a fixture
NOBODY = {"kind": "openai", "model": "big", "base_url": "http://127.0.0.1:9/v1", "retries": 0,
          "price": {"prompt": 1.0, "completion": 2.0}}  # fmt: skip
Answer = Callable[[dict[str, Any]], dict[str, Any]]


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """What the scripted server would say."""
    return answer(body["messages"][-1]["content"])


def answers(requests: Path, say: Answer = plain) -> list[dict[str, Any]]:
    """Lines of a batch's output, in another order than they were asked."""
    rows = [orjson.loads(line) for line in requests.read_bytes().splitlines()]
    found = [
        {"id": f"out-{n}", "custom_id": row["custom_id"], "response": {"status_code": 200, "body": say(row["body"])},
         "error": None}
        for n, row in enumerate(rows)
    ]  # fmt: skip
    random.Random(0).shuffle(found)
    return found


class Batches:
    """A plan whose teacher is out of reach, and the two commands over it."""

    def __init__(self, workshop: Workshop, **sections: Any) -> None:
        self.workshop = workshop
        write_plan(workshop.folder, teacher=NOBODY, **sections)
        self.files = self.later = 0

    def write(self, stage: str = "generate", *overrides: str, **options: Any) -> tuple[Path, int]:
        """The next file and how many requests are in it."""
        self.files += 1
        file = self.workshop.folder / f"requests-{self.files}.jsonl"
        plan = self.workshop.plan(*overrides)
        found = batch.write(plan, self.workshop.run, stage, file, flow.Options(**options))
        self.later += found["later"]
        return file, found["requests"]

    def read(self, rows: list[dict[str, Any]] | bytes, stage: str = "generate") -> dict[str, Any]:
        """What a file of answers held."""
        file = self.workshop.folder / f"answers-{self.files}.jsonl"
        file.write_bytes(rows if isinstance(rows, bytes) else b"".join(orjson.dumps(row) + b"\n" for row in rows))
        return batch.read(self.workshop.plan(), self.workshop.run, stage, file, flow.Options())


@pytest.fixture
def batches(workshop: Workshop) -> Batches:
    """Over the plan of eight prompts."""
    return Batches(workshop)


def test_write_read_generate(batches: Batches) -> None:
    """Eight requests out, eight answers in, and generate finds them all although nobody can be asked."""
    file, count = batches.write()
    rows = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert count == len(rows) == 8
    assert all((row["method"], row["url"]) == ("POST", "/v1/chat/completions") for row in rows)
    assert all(row["body"]["model"] == "big" and len(row["custom_id"]) <= 64 for row in rows)
    assert len({row["custom_id"] for row in rows}) == 8
    found = batches.read(answers(file))
    assert (found["read"], found["left"]) == (8, 0)
    assert found["cost"] == pytest.approx((found["prompt_tokens"] + 2 * found["completion_tokens"]) / 1e6)
    assert batches.write() == (batches.workshop.folder / "requests-2.jsonl", 0)
    (version,) = batches.workshop.make("generate")
    assert version.manifest.usage["remembered"] == 8 and "asked" not in version.manifest.usage
    kept = [*version.read("kept"), *version.read("heldout")]
    assert len(kept) == 8
    assert all(r.answer == answer(r.prompt)["choices"][0]["message"]["content"] for r in kept)


def test_writing_leaves_no_version(batches: Batches) -> None:
    """Neither command begins a version, and a file that is there is left alone."""
    file, _ = batches.write()
    batches.read(answers(file))
    assert batches.workshop.run.folders("generate") == []
    before = file.read_bytes()
    batches.files -= 1
    with pytest.raises(UsageError, match=r"requests-1\.jsonl is there already"):
        batches.write()
    assert file.read_bytes() == before
    batches.files += 1
    nothing, _ = batches.write()
    assert not nothing.exists()


def test_only_what_is_not_known_is_written(batches: Batches) -> None:
    """After half of the answers, the other half is left, with the ids of before."""
    file, _ = batches.write()
    rows = answers(file)
    assert batches.read(rows[:4])["left"] == 4
    rest, count = batches.write()
    assert count == 4
    ids = {orjson.loads(line)["custom_id"] for line in rest.read_bytes().splitlines()}
    assert ids == {row["custom_id"] for row in rows[4:]}


def test_every_line_is_accounted_for(batches: Batches, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """Errors, other statuses, doubles, strangers, known answers and a torn line: each is counted, and told."""
    file, _ = batches.write()
    rows = answers(file)
    batches.read(rows[:1])
    expired = rows[1] | {"response": None, "error": {"code": "batch_expired", "message": "It expired."}}
    refused = rows[2] | {"response": {"status_code": 400, "body": {"error": {"message": "no"}}}}
    stranger = rows[3] | {"custom_id": "request-1"}
    another = rows[3] | {"custom_id": "0" * 32 + "-512"}
    content = b"".join(
        orjson.dumps(row) + b"\n" for row in (rows[0], expired, refused, rows[1], rows[3], rows[3], stranger, another)
    )
    monkeypatch.setattr(console, "_quiet", False)
    found = batches.read(b"\xef\xbb\xbf" + content + b"\n" + orjson.dumps(rows[4])[:-9])
    counted = {what: found[what] for what in batch.COUNTED}
    assert counted == {"read": 2, "known": 1, "repeated": 1, "failed": 2, "unknown": 2, "unreadable": 1}
    assert sum(counted.values()) == 9 and found["left"] == 5
    talk = capsys.readouterr().err
    for said in ("failed: 2", "answers-1.jsonl:2 (It expired.)", "repeated: 1", "answers-1.jsonl:6", "unknown: 2",
                 "'request-1'", "unreadable: 1", "answers-1.jsonl:10"):  # fmt: skip
        assert said in talk, said
    with Memo(batches.workshop.run.memo) as memo:
        assert len(memo) == 3


def test_a_file_with_nothing_in_it_for_us_fails(batches: Batches) -> None:
    """Answers to other questions, a file of requests, no lines at all: one message, nothing remembered."""
    file, _ = batches.write()
    strangers = [row | {"custom_id": f"request-{n}"} for n, row in enumerate(answers(file))]
    for content in (strangers, file.read_bytes(), b""):
        with pytest.raises(PipelineError, match="holds no answer that generate asks for"):
            batches.read(content)
    with Memo(batches.workshop.run.memo) as memo:
        assert len(memo) == 0


def test_rounds_until_nothing_is_left(workshop: Workshop) -> None:
    """Answers that cannot be read are asked for again: a second file, and a third for what is still empty."""
    batches = Batches(workshop)

    def empty(body: dict[str, Any]) -> dict[str, Any]:
        found = plain(body)
        found["choices"][0]["message"]["content"] = ""
        return found

    sizes = []
    for _ in range(9):
        file, count = batches.write()
        if count == 0:
            break
        sizes.append(count)
        batches.read(
            answers(file, lambda body: empty(body) if "number 3" in body["messages"][-1]["content"] else plain(body))
        )
    assert sizes == [8, 1, 1]
    (version,) = workshop.make("generate")
    assert {r.reason for r in version.read("dropped")} == {"empty_answer"}
    assert version.manifest.usage["remembered"] == 10


def test_a_judge_by_batch(workshop: Workshop) -> None:
    """The filter stage asks for its verdicts by file too, with their log-probabilities."""
    rubric = workshop.rubric("first")
    batches = Batches(workshop, filter={"rules": [{"kind": "judge", "prompt": rubric, "min_score": 3}]})
    file, _ = batches.write()
    batches.read(answers(file))
    workshop.make("generate")

    def verdict(body: dict[str, Any]) -> dict[str, Any]:
        assert body["logprobs"] is True
        top = [{"token": "4", "logprob": -0.6931472}, {"token": "2", "logprob": -0.6931472}]
        content = [{"token": "4", "logprob": -0.6931472, "top_logprobs": top}]
        choice = {"message": {"content": "4"}, "finish_reason": "stop", "logprobs": {"content": content}}
        return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}

    file, count = batches.write("filter")
    assert count == 8
    assert batches.read(answers(file, verdict), "filter")["left"] == 0
    (version,) = workshop.make("filter")
    rows = [*version.read("kept"), *version.read("heldout")]
    assert len(rows) == 8 and all(row.checks[-1].value == pytest.approx(3.0) for row in rows)


def test_one_model_a_file(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two judges of two models: no file names both, and file by file nothing is left."""
    monkeypatch.setattr(job, "LOOKUP", 2)
    second = {
        "kind": "judge",
        "prompt": workshop.rubric("second"),
        "name": "second",
        "engine": NOBODY | {"model": "two"},
    }
    first = {"kind": "judge", "prompt": workshop.rubric("first"), "name": "first"}
    batches = Batches(workshop, filter={"rules": [first, second]})
    file, _ = batches.write()
    batches.read(answers(file))
    workshop.make("generate")

    def verdict(body: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"message": {"content": "5"}, "finish_reason": "stop"}]}

    models = []
    while (found := batches.write("filter"))[1]:
        rows = [orjson.loads(line)["body"]["model"] for line in found[0].read_bytes().splitlines()]
        assert len(set(rows)) == 1
        models += rows[:1]
        batches.read(answers(found[0], verdict)[: max(1, len(rows) // 2)], "filter")
    assert set(models) == {"big", "two"} and batches.later > 0
    (version,) = workshop.make("filter")
    assert version.manifest.usage["remembered"] == 16


def test_counting_rows_ends(workshop: Workshop) -> None:
    """A plan that asks until enough rows are accepted writes a file that ends; once there are enough, nothing."""
    source = {"kind": "grid", "axes": {"prompt": [f"Tell me about number {n}." for n in range(3)]}}
    sections = {"source": source, "task": {"kind": "respond"}, "heldout": 0, "count": {"accepted": 3}}
    batches = Batches(workshop, generate=sections)
    file, count = batches.write()
    assert 3 <= count < 10_000
    batches.read(answers(file))
    assert batches.write()[1] == 0
    (version,) = workshop.make("generate")
    assert version.manifest.counts["kept"] == 3


def test_a_limit_is_kept_and_its_answers_serve_all(batches: Batches) -> None:
    """`--limit` writes fewer; reading without it takes them."""
    file, count = batches.write(limit=3)
    assert count == 3
    found = batches.read(answers(file))
    assert (found["read"], found["left"]) == (3, 5)


def test_what_cannot_be_batched_is_refused(workshop: Workshop, batches: Batches) -> None:
    """A stage that asks nobody, an engine that is no server's, a run that is being written."""
    with pytest.raises(UsageError, match="no section `filter`"):
        batches.write("filter")
    write_plan(workshop.folder, filter={"rules": [{"kind": "length", "min_chars": 5}]})
    with pytest.raises(UsageError, match="filter asks no model"):
        batches.write("filter")
    with pytest.raises(UsageError, match="an engine of kind replay; batch files are for openai and vllm"):
        batches.write()
    write_plan(workshop.folder, teacher=NOBODY)
    with workshop.run.writing(), pytest.raises(BusyError):
        batches.write()


def test_a_request_no_server_takes_is_refused(batches: Batches) -> None:
    """Log-probabilities by token id, from a server that is not vLLM's: no file, and the reason."""
    with pytest.raises(UsageError, match="gives no token ids"):
        batches.write("generate", "generate.sampling.top_logprobs=4")


def test_a_vllm_teachers_lines_are_vllms(workshop: Workshop) -> None:
    """An engine of kind vllm: the model by its name in the plan, sampling in full, tokens by id."""
    model = str(workshop.folder / "model")
    batches = Batches(workshop)
    write_plan(workshop.folder, teacher={"kind": "vllm", "model": model})
    file, count = batches.write("generate", "generate.sampling.top_logprobs=4")
    bodies = [orjson.loads(line)["body"] for line in file.read_bytes().splitlines()]
    assert count == len(bodies) == 8
    for body in bodies:
        assert (body["model"], body["top_k"], body["repetition_penalty"]) == (model, 0, 1.0)
        assert (body["logprobs"], body["top_logprobs"], body["return_tokens_as_token_ids"]) == (True, 5, True)


def test_the_command(batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pipeline batch` has figures on stdout with --json, and takes exactly one of its two files."""
    from typer.testing import CliRunner

    monkeypatch.setenv("PIPELINE_RUNS", str(batches.workshop.folder / "runs"))
    plan, file = str(batches.workshop.path), batches.workshop.folder / "out.jsonl"
    done = CliRunner().invoke(app, ["batch", plan, "generate", "--write", str(file), "--json"])
    assert json.loads(done.stdout) == {"requests": 8, "refused": 0, "later": 0} and file.is_file()
    for words in ([], ["--write", "a", "--read", "b"]):
        assert isinstance(CliRunner().invoke(app, ["batch", plan, "generate", *words]).exception, UsageError)
