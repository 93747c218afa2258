"""The student as its teacher's draft: the arithmetic, what is refused before anything is loaded, what is said after."""

import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pipeline.engines.vllm import Vllm
from pipeline.errors import ModelError, PipelineError, UsageError
from pipeline.run import Run
from pipeline.store import Version
from stages import child, speculate, speculate_decode, tables_speculate
from stages.plan import load
from stages.speculate import Options, Speculated
from stages.speculate_figures import Difference, expected, parting, replayed
from tests.helpers import record, write_plan
from tests.stages import tiny
from tests.stages.sealed import seal

TALK = [{"role": "user", "content": "tell me about the fox ?"}]


@pytest.mark.parametrize(("chance", "steps"), [(0.0, 1.0), (0.5, 1.875), (1.0, 4.0)])
def test_tokens_a_step(chance: float, steps: float) -> None:
    """(1 - a^(g+1)) / (1 - a), at a = 1 too; the accepted share follows from it."""
    found = expected("greedy", chance, 3)
    assert found.tokens_per_step == pytest.approx(steps)
    assert found.acceptance == pytest.approx((steps - 1) / 3)


def test_replaying_counts_runs() -> None:
    """Each draft passes its run of matches, two at most here; the token after the run is the teacher's own."""
    y, n = True, False
    #        prefill, [y y] own, [y n] own at n, [y] to the end
    found = replayed([[n, y, y, n, y, n, y], [y]], 2)
    assert found.tokens_per_step == pytest.approx(1 + 4 / 3)
    assert found.acceptance == pytest.approx(4 / 6)
    assert found.chance == 5 / 8
    assert replayed([[y, y, y, y, y, y, y]], 2).tokens_per_step == 3
    assert replayed([[y]], 4).tokens_per_step == 1


def test_where_answers_part() -> None:
    """The first token that differs, or None."""
    assert parting([1, 2, 3], [1, 2, 3]) is None
    assert parting([1, 2, 3], [1, 4, 3]) == 1


def test_a_tie_depends_on_the_number_format() -> None:
    """What rounding explains in 16 bits it does not in 32; what could not be measured nobody knows."""
    close = Difference("r0", 1, True, 3, [], -0.1)
    assert close.tie("bfloat16") is True and close.tie("float32") is False
    assert close._replace(less=None).tie("float32") is None


class Bench:
    """A run with held-out prompts and a student, without models."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.run, self.monkeypatch = folder, Run(folder / "runs/tiny"), monkeypatch
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.teacher({"kind": "vllm", "model": str(model(folder / "teacher", 1000)), "max_model_len": 64})
        seal(self.run, "generate", [record(id=f"r{n}", split="heldout") for n in range(3)])
        self.student = seal(self.run, "train")
        model(self.student.path / "model", 250)

    def teacher(self, section: dict[str, Any]) -> None:
        write_plan(self.folder, teacher=section)

    def speculate(self, **options: Any) -> Speculated:
        return speculate.speculate(load(self.folder / "plan.yaml"), self.run, Options(**options))

    def refused(self, words: str, **options: Any) -> UsageError:
        """What stands in the error; no child may have been asked."""
        with pytest.raises(UsageError, match=words) as caught:
            self.speculate(**options)
        assert not self.asked
        return caught.value

    def answers(
        self, alone: list[list[int]], drafted: list[list[int]], *, less: float = 0.0, looks: bool = True
    ) -> None:
        """Children that say this; alone and drafted, one by one and together."""

        def ask(module: str, job: dict[str, Any], bar: Any, log: Path) -> dict[str, Any]:
            self.asked.append((module, job))
            if module == speculate.AGREE:
                if not looks:
                    raise ModelError("out of memory")
                return {"rows": [self.look(row, less) for row in job["rows"]]}
            with_draft = job["speculative"] is not None
            own = {"answers": drafted if with_draft else alone, "seconds": 2.0 if with_draft else 3.0}
            counts = {"drafts": 4, "drafted": 16, "accepted": 6, "by_position": [3, 2, 1, 0]} if with_draft else {}
            passes = [{"batch": batch, **own, **counts} for batch in (1, 3)]
            rows = [{"id": row["id"], "prompt": [1]} for row in job["rows"]]
            return {"rows": rows, "passes": passes, "dtype": "float32", "max_num_seqs": 16}

        self.monkeypatch.setattr(child, "ask", ask)

    @staticmethod
    def look(row: dict[str, Any], less: float) -> dict[str, Any]:
        size, differing = len(row["answer"]), row["instead"]
        said = {"less": [less for _ in differing], "texts": [[str(row["answer"][at]), str(t)] for at, t in differing]}
        return {"overlap": size / 2, "liked": size / 4, "matches": [True] * size} | said


def model(folder: Path, parameters: int, vocabulary: tuple[str, ...] = ("a", "b"), width: int = 2) -> Path:
    """Files that pass for a model: a header of weights, a tokenizer, the width of the embedding."""
    from tokenizers import Tokenizer, models

    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [parameters], "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": width}))
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token=vocabulary[0]))
    words.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Teacher of 1,000 parameters, student of 250, three held-out prompts; children that must not be asked."""
    made = Bench(tmp_path, monkeypatch)
    made.answers([], [])
    return made


def test_another_engine_is_refused(bench: Bench) -> None:
    """Only vLLM drafts; a server's owner is told how it is started there."""
    bench.teacher({"kind": "openai", "model": "x", "base_url": "http://localhost:1/v1"})
    assert "--speculative-config" in bench.refused("of kind openai").hint
    bench.teacher({"kind": "transformers", "model": str(bench.folder / "teacher")})
    assert "--speculative-config" not in bench.refused("of kind transformers").hint


def test_nothing_to_draft_with_or_to_answer_is_refused(bench: Bench) -> None:
    """No train version, one that is not there, no held-out prompts."""
    bench.refused("train has no version 7; there are: 0001-00000001", input="7")
    seal(bench.run, "generate", [record()])
    bench.refused("no held-out prompts")
    (bench.run.path / "lock.json").write_text('{"format": 1, "current": {}}')
    assert bench.refused("not trained yet").hint == "pipeline train PLAN"


def test_a_draft_that_cannot_help_is_refused(bench: Bench) -> None:
    """One as large as the teacher, and one whose tokens mean something else."""
    model(bench.student.path / "model", 1000)
    bench.refused(r"not smaller than its teacher")
    model(bench.student.path / "model", 250, ("a", "c"))
    bench.refused(r"different tokenizers \(1 token ids mean different words\)")


def test_a_prompt_needs_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no prompt leaves room for an answer, the message says what to change."""
    none = {"rows": [], "passes": [], "dtype": "float32", "max_num_seqs": 16}
    monkeypatch.setattr(child, "ask", lambda *_: none)
    with pytest.raises(UsageError, match="leaves room for 128 tokens under max_model_len 64"):
        bench.speculate()


@pytest.mark.parametrize(("width", "apart"), [(2, False), (64, True)])
def test_padded_vocabularies_are_told_to_vllm(bench: Bench, width: int, apart: bool) -> None:
    """vLLM refuses embeddings of another width unless it maps one vocabulary to the other."""
    model(bench.student.path / "model", 250, ("a", "b"), width)
    bench.answers([[1], [2], [3]], [[1], [2], [3]])
    bench.speculate(tokens=3)
    (_, drafted), (_, alone), _ = bench.asked
    assert drafted["speculative"]["num_speculative_tokens"] == 3
    assert drafted["speculative"].get("use_heterogeneous_vocab", False) is apart
    assert alone["speculative"] is None and alone["teacher"]["max_num_seqs"] == 16


def test_figures_are_written(bench: Bench) -> None:
    """Speeds, acceptance, expectation and equal answers, in the file of the train version."""
    bench.answers([[1, 2, 3]] * 3, [[1, 2, 3]] * 3)
    found = bench.speculate()
    found.refuse()
    kept = json.loads((bench.run.path / f"speculate/{bench.student.name}.json").read_text())
    one = kept["passes"][0]
    assert (one["alone"], one["speculative"], one["speedup"]) == (3.0, 4.5, 1.5)
    assert (one["acceptance"], one["tokens_per_step"]) == (6 / 16, 2.5)
    assert one["by_position"] == [0.75, 0.5, 0.25, 0]
    assert kept["ratio"] == 4 and kept["equal"] == {"1": 3, "3": 3}
    assert [row["chance"] for row in kept["expected"]] == [1, 1, 0.25, 0.5]
    assert kept["environment"]["packages"]["python"]
    text = printed(found)
    assert "1.50x" in text and "37.5% of 16 drafted" in text and "75% 50% 25% 0%" in text and "3 of 3" in text


@pytest.mark.parametrize(("less", "said"), [(0.001, "a tie"), (0.2, "NO tie")])
def test_an_answer_that_differs_is_shown(bench: Bench, less: float, said: str) -> None:
    """Its row, the token and how undecided the teacher was; the command fails only where it was not."""
    bench.answers([[1, 2, 3]] * 3, [[1, 2, 3], [1, 9, 3], [1, 2, 3]], less=less)
    found = bench.speculate()
    assert [found.equal(batch) for batch in (1, 3)] == [2, 2]
    assert f"record r1, one at a time, the draft: token 1 '9' for '2', {less:.4f} nats less likely: {said}" in " ".join(
        printed(found).split()
    )
    if said == "NO tie":
        with pytest.raises(PipelineError, match="2 answers differ where the teacher was not undecided"):
            found.refuse()
    else:
        found.refuse()


def test_models_too_large_to_look_at_cost_the_expectation_alone(bench: Bench) -> None:
    """What was measured stays; whether a difference is a tie is then unknown, and nothing is refused for it."""
    bench.answers([[1, 2]] * 3, [[1, 5]] * 3, looks=False)
    found = bench.speculate()
    assert found.expected == [] and found.passes[0].speedup == 1.5
    assert "not looked at" in printed(found)
    found.refuse()


def printed(found: Speculated) -> str:
    console = Console(width=140)
    with console.capture() as caught:
        console.print(tables_speculate.report(found))
    return caught.get()


class Tongue:
    """A tokenizer of one id a letter, whose template knows no system turn."""

    def apply_chat_template(self, messages: list[dict[str, str]], **more: Any) -> list[int]:
        if messages[0]["role"] == "system":
            raise ValueError("no system turn")
        return [ord(letter) for letter in messages[-1]["content"]]


class Opened:
    """An open engine whose model reads ten tokens."""

    model_config = SimpleNamespace(max_model_len=10, dtype="torch.bfloat16")
    llm_engine = SimpleNamespace(
        vllm_config=SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=2)),
    )

    def __init__(self) -> None:
        self.llm, self.closed = self, False

    def get_tokenizer(self) -> Tongue:
        return Tongue()

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("draft", [None, {"method": "draft_model"}])
def test_the_teacher_opens_as_in_the_plan_but_for_the_draft(
    monkeypatch: pytest.MonkeyPatch, draft: dict[str, Any] | None
) -> None:
    """The plan's own engine settings hold; a draft that the plan names itself is replaced; the engine is closed."""
    opened, settings = Opened(), {}

    def open_(self: Vllm, log: Path) -> Opened:
        settings.update(self.engine)
        return opened

    monkeypatch.setattr(Vllm, "open", open_)
    teacher = Vllm(model="x", engine={"enforce_eager": False, "speculative_config": {"method": "ngram"}})
    job: dict[str, Any] = {
        "teacher": teacher.model_dump(mode="json"),
        "speculative": draft,
        "log": "log",
        "max_tokens": 8,
        "rows": [],
    }
    found = speculate_decode.decode(job, lambda n: None)
    assert found == {"rows": [], "passes": [], "dtype": "bfloat16", "max_num_seqs": 2}
    assert settings == {"enforce_eager": False, "speculative_config": draft, "disable_log_stats": False}
    assert opened.closed


def test_prompts_leave_room_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too long is left out; one that the chat template refuses is named."""
    monkeypatch.setattr(Vllm, "open", lambda self, log: Opened())
    monkeypatch.setattr(speculate_decode, "_timed", lambda *_: {})
    monkeypatch.setattr(speculate_decode, "_generate", lambda *_: [])
    job: dict[str, Any] = {
        "teacher": {"model": "x"},
        "speculative": None,
        "log": "log",
        "max_tokens": 8,
        "chat_template_kwargs": {},
    }
    short, long = ({"id": text, "messages": [{"role": "user", "content": text}]} for text in ("ab", "abc"))
    found = speculate_decode.decode(job | {"rows": [short, long]}, lambda n: None)
    assert found["rows"] == [{"id": "ab", "prompt": [97, 98]}]
    assert len(found["passes"]) == 1
    strange = {"id": "r7", "messages": [{"role": "system", "content": "x"}]}
    with pytest.raises(ModelError, match="chat template of x fails on record r7: no system turn"):
        speculate_decode.decode(job | {"rows": [strange]}, lambda n: None)


@pytest.mark.slow
def test_the_overlap_is_the_sum_of_minima() -> None:
    """Against the definition, token by token; a model overlaps wholly with itself."""
    import torch

    from stages.speculate_agree import compare

    torch.manual_seed(0)
    p, q = (torch.randn(5, 7).mul(2).log_softmax(-1) for _ in range(2))
    answer = torch.tensor([0, 1, 2, 3, int(q[4].argmax())])
    found = compare(p, q, answer)
    whole = sum(min(math.exp(a), math.exp(b)) for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True))
    assert found["overlap"] == pytest.approx(whole, rel=1e-5)
    assert found["liked"] == pytest.approx(sum(math.exp(p[n, int(q[n].argmax())]) for n in range(5)), rel=1e-5)
    assert found["matches"][4] is True and found["matches"] == [int(q[n].argmax()) == answer[n] for n in range(5)]
    assert compare(p, p, answer)["overlap"] == pytest.approx(5, rel=1e-5)


@pytest.mark.slow
def test_both_models_look_at_the_teachers_answers(tmp_path: Path) -> None:
    """A draft that is the teacher matches its greedy answer everywhere, also where its embedding is padded."""
    import torch

    from stages.speculate_agree import agree

    teacher, draft, other = tiny.model(2), tiny.model(2), tiny.model(2, seed=5)
    draft.resize_token_embeddings(64, mean_resizing=False)
    for one, name in ((teacher, "teacher"), (draft, "draft"), (other, "other")):
        one.save_pretrained(tmp_path / name)
        tiny.tokenizer().save_pretrained(tmp_path / name)
    prompt = tiny.tokenizer().apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([prompt])
    answer = teacher.generate(ids, do_sample=False, max_new_tokens=6, min_new_tokens=6)[0, len(prompt) :].tolist()
    logits = teacher(torch.tensor([prompt + answer])).logits[0].detach().log_softmax(-1)
    rows = [{"prompt": prompt, "answer": answer, "instead": [[2, 7]]}]
    told: list[int] = []

    def look(draft: str) -> dict[str, Any]:
        names = {"teacher": {"model": str(tmp_path / "teacher")}, "draft": {"model": str(tmp_path / draft)}}
        (row,) = agree(names | {"rows": rows}, told.append)["rows"]
        return dict(row)

    same = look("draft")
    at = len(prompt) + 1  # the logits that decide token 2
    assert same["matches"][2:] == [True] * 4 and told == [1]
    assert same["less"] == [pytest.approx(float(logits[at, answer[2]] - logits[at, 7]), abs=1e-4)]
    assert same["texts"] == [[tiny.tokenizer().decode([answer[2]]), tiny.tokenizer().decode([7])]]
    assert same["overlap"] == pytest.approx(6, rel=1e-5)
    assert look("other")["overlap"] < 5.9


def test_versions_are_picked_by_name(bench: Bench) -> None:
    """--input takes another train version than the current one, with or without its stage."""
    newer: Version = seal(bench.run, "train")
    model(newer.path / "model", 100)
    bench.answers([[1]] * 3, [[1]] * 3)
    assert bench.speculate().pair.student.name == newer.name
    assert bench.speculate(input="1").pair.sizes == (1000, 250)
    assert bench.speculate(input=f"train/{bench.student.name}").pair.sizes == (1000, 250)
