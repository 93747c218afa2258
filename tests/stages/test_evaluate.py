"""The stage over models whose measures the test wrote: what is asked, left out, scored, judged and written."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import console
from pipeline.engines import Completion, Request
from pipeline.engines.replay import Replay
from pipeline.errors import PipelineError, UsageError
from pipeline.job import Job
from pipeline.run import Run
from pipeline.store import Manifest, Version, VersionWriter
from stages import child
from stages.show import lines
from tests.helpers import stub_model, write_plan
from tests.stages.conftest import Workshop, teacher

GRADED, COMPARED = 3 * 6, 2 * 2 * 6  # questions: models or pairs and orders, times prompts
NATS = {"teacher": 0.5, "untrained": 4.0, "trained": 1.0}  # a token
PAIR = """\
---
about: Which is better.
needs: [prompt, answer_a, answer_b, fence]
---
>>> user
{{ prompt }} first <a-{{ fence }}>{{ answer_a }}</a-{{ fence }}> second <b-{{ fence }}>{{ answer_b }}</b-{{ fence }}>
"""


def judge(request: Request) -> Completion:
    """Likes answers that call somebody a friend; otherwise the first one. As a grader: 5 for a friend, else 1."""
    text = request.messages[-1].content
    if request.choices == ("A", "B"):
        first, second = (part.split("</")[0] for part in text.split("second"))
        return Completion(text="B" if "friend" in second and "friend" not in first else "A", completion_tokens=1)
    if request.choices:
        return Completion(text="5" if "friend" in text else "1", completion_tokens=1)
    return teacher(request)


def train(run: Run, *prompts: str) -> Version:
    """A finished training on these prompts."""
    student = str(stub_model(run.path.parent / "student"))
    settings = {"train": {"student": {"model": student}, "objective": {"kind": "sft"}}}
    folder = run.folder_for("train", "ab" * 32)
    writer = VersionWriter(
        folder, Manifest(stage="train", version=folder.name, fingerprint="ab" * 32, settings=settings, inputs=[])
    )
    writer.begin()
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts or ("Anything else?",)]
    (folder / "rows.jsonl").write_bytes(b"".join(orjson.dumps({"prompt": turn}) + b"\n" for turn in turns))
    (folder / "model").mkdir()
    (folder / "model/model.safetensors").write_bytes(b"12345")
    version = writer.seal()
    run.set_current(version)
    return version


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The jobs that children were given; what they find is made up: the untrained student alone is not friendly."""
    jobs: list[dict[str, Any]] = []

    def measure(module: str, job: dict[str, Any], bar: console.Bar, log: Path) -> dict[str, Any]:
        jobs.append(job)
        where = job["model"]["model"]
        name = "untrained" if where.endswith("student") else "trained" if "train/" in where else "teacher"
        words = {"teacher": "Every number is a friend.", "trained": "A number is a friend of {}.", "untrained": "zq zq"}

        def say(place: int) -> dict[str, Any]:
            return {"text": words[name].format(place), "ended": name != "untrained", "error": ""}

        counts = [len(turns[-1]["content"].split()) for turns in job["conversations"]]
        return {
            "losses": [[NATS[name] * count * (1 + n / 50), count] for n, count in enumerate(counts)],
            "texts": [[NATS[name] * 3 * (1 + n / 50), 3] for n in range(len(job["texts"]))],
            "answers": [say(n) for n in range(len(job["asked"]))],
            "probes": [say(n) for n in range(len(job["probes"]))],
            "tokens_per_second": 10.0, "first_token_seconds": 0.1, "peak_memory": 1000, "parameters": 10,
        }  # fmt: skip

    monkeypatch.setattr(child, "ask", measure)
    return jobs


@pytest.fixture
def ready(workshop: Workshop, recorded: Callable[..., None], asked: list[dict[str, Any]]) -> Callable[..., Workshop]:
    """A run with everything before `evaluate`, whose section is given."""

    def make(*trained_on: str, heldout: float = 0.6, count: int = 24, **section: Any) -> Workshop:
        student = str(stub_model(workshop.folder / "student"))
        axes = {"prompt": [f"Tell me about number {n}." for n in range(10, 10 + count)]}
        write_plan(
            workshop.folder,
            generate={
                "source": {"kind": "grid", "axes": axes}, "task": {"kind": "respond"}, "heldout": heldout,
            },
            train={"student": {"model": student}, "objective": {"kind": "sft"}},
            evaluate=section,
        )  # fmt: skip
        recorded("generate")
        workshop.make("generate")
        train(workshop.run, *trained_on)
        return workshop

    return make


def models(version: Version) -> dict[str, dict[str, Any]]:
    return {model["model"]: model for model in version.manifest.figures["models"]}


def metrics(version: Version) -> dict[str, dict[str, Any]]:
    return {metric["name"]: metric for metric in version.manifest.figures["metrics"]}


def heldout(workshop: Workshop) -> list[Any]:
    version = workshop.run.current("generate")
    assert version is not None
    return list(version.read("heldout"))


def test_three_models_answer_the_same_prompts(ready: Callable[..., Workshop], asked: list[dict[str, Any]]) -> None:
    """One job a model, equal but for the model; figures, scores.jsonl, outputs.jsonl and samples.jsonl agree."""
    workshop = ready(rows=10, answers=5, samples=2)
    (version,) = workshop.make("evaluate")
    assert len(asked) == 3
    rest = [{k: v for k, v in job.items() if k != "model"} for job in asked]
    assert rest[0] == rest[1] == rest[2]
    assert [len(asked[0][part]) for part in ("conversations", "asked", "texts", "probes")] == [10, 5, 0, 0]
    assert asked[0]["asked"] == [turns[:-1] for turns in asked[0]["conversations"][:5]]
    figures = version.manifest.figures
    assert (figures["rows"], figures["prompts"], figures["answers"]) == (10, 10, 5)
    found = models(version)
    assert list(found) == ["teacher", "untrained", "trained"]
    assert found["trained"]["disk"] == 5 and found["untrained"]["disk"] == 0
    assert lines(version.path / "scores.jsonl", 9) == figures["models"]
    samples = lines(version.path / "samples.jsonl", 99)
    assert [list(row) for row in samples] == [["id", "prompt", "heldout", "teacher", "untrained", "trained"]] * 2
    outputs = lines(version.path / "outputs.jsonl", 99)
    assert [row["id"] for row in outputs] == [record.id for record in heldout(workshop)[:10]]
    assert [len(row["answers"]) for row in outputs] == [3] * 5 + [0] * 5
    assert outputs[0]["answers"]["untrained"] == "zq zq"
    assert outputs[0]["weights"]["trained"]["perplexity"] == len(outputs[0]["heldout"].split())


def test_perplexity_intervals_and_the_gap(ready: Callable[..., Workshop]) -> None:
    """By hand: losses are proportional between the models, so every draw has the same gap, (4 - 1) / (4 - .5)."""
    (version,) = ready(rows=14).make("evaluate")
    found = models(version)
    low, high = found["trained"]["intervals"]["perplexity"]
    assert math.e < low < found["trained"]["perplexity"] < high < math.exp(1.3)
    metric = metrics(version)["perplexity"]
    assert metric["gap"]["value"] == pytest.approx(3 / 3.5)
    ratio = metric["difference"]["untrained"]["value"]
    assert ratio == pytest.approx(found["trained"]["perplexity"] / found["untrained"]["perplexity"])
    assert metric["difference"]["teacher"]["low"] > 1
    assert metrics(version)["distinct_2"]["gap"] is None, "neither way of diversity is better"
    assert metrics(version)["ended"]["difference"]["untrained"]["value"] == 1


def test_prompts_that_were_trained_on_are_left_out_and_named(ready: Callable[..., Workshop]) -> None:
    workshop = ready(rows=50)
    before = heldout(workshop)
    train(workshop.run, before[0].prompt.upper(), before[2].prompt)
    (version,) = workshop.make("evaluate")
    ids = [row["id"] for row in lines(version.path / "outputs.jsonl", 99)]
    assert ids == [r.id for r in before if r.id not in (before[0].id, before[2].id)]
    assert version.manifest.figures["leaks"] == {"rows": 2, "ids": [before[0].id, before[2].id]}
    assert any("2 held-out rows" in note and before[0].id in note for note in version.manifest.notes)
    train(workshop.run, *(record.prompt for record in before))
    with pytest.raises(PipelineError, match="among the training rows"):
        workshop.make("evaluate", again=True)


def test_no_heldout_rows_are_refused(ready: Callable[..., Workshop]) -> None:
    with pytest.raises(PipelineError, match="no held-out records"):
        ready(heldout=0.0).make("evaluate")


def test_judges_score_and_compare(ready: Callable[..., Workshop], recorded: Callable[..., None]) -> None:
    """Scores for every model; the trained student's win rate over both others; nothing is asked twice."""
    workshop = ready()
    (workshop.folder / "pair.md").write_text(PAIR)
    judges = [{"kind": "judge", "prompt": workshop.rubric("rate")}, {"kind": "pairwise", "prompt": "pair.md"}]
    overrides = (f"evaluate.judges={orjson.dumps(judges).decode()}", "evaluate.answers=6", "evaluate.samples=1")
    train(Run(workshop.folder / "scratch"))
    recorded("evaluate", script=judge, overrides=overrides)
    (version,) = workshop.make("evaluate", overrides=overrides)
    found = models(version)
    assert {name: model["judge_score"] for name, model in found.items()} == {"teacher": 5, "untrained": 1, "trained": 5}
    assert found["trained"]["pairwise_vs_untrained"] == 1
    assert found["trained"]["pairwise_vs_teacher"] == 0.5
    assert "pairwise_vs_untrained" not in found["teacher"]
    *scored, untrained, top = version.manifest.figures["duels"]
    assert [(duel["judge"], duel["second"], duel["won"], duel["tied"]) for duel in scored] == [
        ("judge", "untrained", 6, 0), ("judge", "teacher", 0, 6),
    ]  # fmt: skip
    assert found["trained"]["judge_vs_untrained"] == 1
    assert (untrained["won"], untrained["tied"], untrained["lost"], untrained["flipped"]) == (6, 0, 0, 0)
    assert (top["won"], top["tied"], top["lost"], top["flipped"]) == (0, 6, 0, 6)
    assert version.manifest.usage["asked"] == GRADED + COMPARED
    assert any("judges its own answers" in note for note in version.manifest.notes)
    (again,) = workshop.make("evaluate", overrides=overrides, again=True)
    assert again.manifest.usage.get("asked", 0) == 0
    outputs = lines(version.path / "outputs.jsonl", 1)
    assert outputs[0]["scores"]["trained"]["pairwise_vs_untrained"] == 1


def test_probes_and_human_texts(
    workshop: Workshop, ready: Callable[..., Workshop], asked: list[dict[str, Any]]
) -> None:
    (workshop.folder / "human.txt").write_text("사람이 쓴 글이에요.\n\nA text by a person.\n")
    ready(
        answers=2,
        probes=[{"prompt": "A friend?", "pattern": "friend"}, {"prompt": "2 + 2?", "final": "number", "gold": 4}],
        human={"file": "human.txt"},
    )
    (version,) = workshop.make("evaluate")
    assert asked[0]["texts"] == ["사람이 쓴 글이에요.", "A text by a person."]
    assert asked[0]["probes"][1] == [{"role": "user", "content": "2 + 2?"}]
    found = models(version)
    assert {name: model["probes"] for name, model in found.items()} == {"teacher": 0.5, "untrained": 0, "trained": 0.5}
    assert found["teacher"]["human_perplexity"] < found["trained"]["human_perplexity"]
    sorts = [row["sort"] for row in lines(version.path / "outputs.jsonl", 99)]
    assert sorts[-4:] == ["human", "human", "probe", "probe"]


def test_several_answers_to_one_prompt_are_one_prompt(
    ready: Callable[..., Workshop], recorded: Callable[..., None]
) -> None:
    """Their losses add up, and the prompt is asked once: rows of one prompt are not independent."""
    workshop = ready(count=8)
    overrides = ("generate.samples=2",)
    recorded("generate", overrides=overrides)
    workshop.make("generate", overrides=overrides)
    (version,) = workshop.make("evaluate", overrides=overrides)
    figures = version.manifest.figures
    assert figures["rows"] == 2 * figures["prompts"]
    assert figures["answers"] == figures["prompts"] == len(lines(version.path / "outputs.jsonl", 99))


def test_without_answers_only_perplexity_is_measured(ready: Callable[..., Workshop]) -> None:
    (version,) = ready(answers=0, samples=0).make("evaluate")
    assert set(metrics(version)) == {"perplexity", "bits_per_byte"}
    assert (version.path / "samples.jsonl").read_bytes() == b""


def test_old_sections_read_as_before(ready: Callable[..., Workshop]) -> None:
    """`rows`, `samples` and `sampling` alone; more samples than answers means more answers."""
    workshop = ready(rows=12, samples=11, answers=3, sampling={"temperature": 0.7, "top_p": 0.95, "max_tokens": 20})
    (version,) = workshop.make("evaluate")
    assert len(lines(version.path / "samples.jsonl", 99)) == version.manifest.figures["answers"] == 11


@pytest.mark.parametrize(
    ("judges", "word"),
    [
        ([{"kind": "pairwise"}, {"kind": "pairwise"}], "two judges"),
        ([{"kind": "pairwise", "reference": "gold"}], "leave `reference` out"),
        ([{"kind": "length"}], "length"),
    ],
)
def test_wrong_judges_are_refused(ready: Callable[..., Workshop], judges: list[Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        ready(judges=judges)


def test_sacrebleu_that_is_missing_is_said(ready: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = ready()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sacrebleu" else find(name))
    with pytest.raises(UsageError, match=r"pipeline\[evaluate\]"):
        workshop.make("evaluate")


def test_a_teacher_on_a_server_stands_for_itself_by_its_heldout_answers(
    ready: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch, asked: list[dict[str, Any]]
) -> None:
    """It is not measured, and nobody asks it: its column holds what its held-out answers tell."""
    workshop = ready(answers=4)
    monkeypatch.setattr(Replay, "remote", property(lambda self: True))
    (version,) = workshop.make("evaluate")
    assert len(asked) == 2
    found = models(version)
    assert list(found) == ["teacher", "untrained", "trained"]
    assert "perplexity" not in found["teacher"] and "rouge_l" not in found["teacher"]
    assert found["teacher"]["distinct_2"] > 0
    first = lines(version.path / "samples.jsonl", 1)[0]
    assert first["teacher"] == first["heldout"]


def test_engines_are_closed_before_models_are_measured(
    ready: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    workshop = ready()
    measure = child.ask
    monkeypatch.setattr(Job, "close_engines", lambda self: order.append("closed"))

    def ask(module: str, job: dict[str, Any], bar: console.Bar, log: Path) -> dict[str, Any]:
        order.append("measured")
        return measure(module, job, bar, log)

    monkeypatch.setattr(child, "ask", ask)
    workshop.make("evaluate")
    assert order.index("closed") < order.index("measured")


def harness(asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The jobs of the harness, whose items are made up."""
    jobs: list[dict[str, Any]] = []
    measure = child.ask
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find("json") if name == "lm_eval" else find(name))

    def ask(module: str, job: dict[str, Any], bar: console.Bar, log: Path) -> dict[str, Any]:
        if module != "stages.harness":
            return measure(module, job, bar, log)
        jobs.append(job)
        right = {"untrained": [0, 0, 1, 0], "trained": [1, 0, 1, 1]}.get(asked[len(jobs) - 1]["name"], [1, 1, 1, 1])
        items = {str(n): {"acc": float(value), "nats": 2.0 - value} for n, value in enumerate(right)}
        return {"version": "0", "tasks": {"quiz": {"better": {"acc": True, "nats": False}, "items": items, "left": []}}}

    for name in ("teacher", "untrained", "trained"):
        asked.append({"name": name})
    monkeypatch.setattr(child, "ask", ask)
    return jobs


def test_tasks_of_the_harness_are_metrics_like_any_other(
    workshop: Workshop, ready: Callable[..., Workshop], asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and files in one list; items are rows of outputs.jsonl, so that evaluations can be compared on them."""
    (workshop.folder / "mine.yaml").write_text("task: mine\n")
    jobs = harness(asked, monkeypatch)
    (version,) = ready(answers=1, samples=0, lm_eval=["quiz", "mine.yaml"]).make("evaluate")
    assert [job["tasks"] for job in jobs] == [["quiz"]] * 3
    assert jobs[0]["files"] == [str(workshop.folder / "mine.yaml")]
    assert {name: model["quiz_acc"] for name, model in models(version).items()} == {
        "teacher": 1, "untrained": 0.25, "trained": 0.75,
    }  # fmt: skip
    gap = metrics(version)["quiz_acc"]["gap"]
    assert gap["value"] == pytest.approx(2 / 3)
    assert metrics(version)["quiz_nats"]["better"] == "lower"
    rows = lines(version.path / "outputs.jsonl", 99)[-4:]
    assert [row["id"] for row in rows] == [f"quiz/{n}" for n in range(4)]
    assert [row["scores"]["trained"]["quiz_acc"] for row in rows] == [1, 0, 1, 1]


def test_a_harness_that_is_missing_is_said(ready: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = ready(lm_eval=["quiz"])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lm_eval" else find(name))
    with pytest.raises(UsageError, match=r"pipeline\[harness\]"):
        workshop.make("evaluate")
