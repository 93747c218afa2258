"""The transformers engine over a tiny random Llama with a byte-level vocabulary: real classes, no download."""

import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import console, machine
from pipeline.engines import Answered, Completion, Request, Sampling
from pipeline.engines.transformers import Transformers
from pipeline.engines.transformers_batch import Batch
from pipeline.engines.transformers_session import TransformersSession
from pipeline.errors import ModelError
from pipeline.records import Message
from tests.helpers import stub_model

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ' ' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant ' }}{% endif %}"
)
PROMPTS = ["a", "a fox", "the moon over the boat", "tell me a story about a bear", "?", "b" * 40, "foxes", "an owl"]
SCHEMA = {
    "type": "object",
    "properties": {"good": {"type": "boolean"}, "word": {"type": "string", "enum": ["fox", "owl"]}},
    "required": ["good", "word"],
    "additionalProperties": False,
}


def tokenizer() -> Any:
    """One token a byte, `<s>` and `</s>` around turns."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({word: n for n, word in enumerate(["<pad>", "<s>", "</s>", *alphabet])}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model and tokenizer as files; spread-out logits, so that neither greedy nor drawn tokens hang on rounding."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
        pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Transformers:
    """The engine of that model."""
    return Transformers(model=str(folder), max_model_len=256)


@pytest.fixture(scope="module")
def session(engine: Transformers) -> Iterator[TransformersSession]:
    """It, open."""
    opened = engine.open()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    """The same weights as transformers loads them, for reference."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def ask(prompt: str, **more: Any) -> Request:
    """A request; settings of Sampling among the keywords go there."""
    sampling = {"max_tokens": 24} | {k: more.pop(k) for k in list(more) if k in Sampling.model_fields}
    return Request(id=prompt, messages=(Message(role="user", content=prompt),), sampling=Sampling(**sampling), **more)


def answers(session: TransformersSession, requests: Iterable[Request | None]) -> dict[str, Completion]:
    """Completions by request id."""
    found: dict[str, Completion] = {}
    for answered in (a for finished in session.complete(requests) for a in finished):
        assert answered.request.id not in found
        found[answered.request.id] = answered.completion
    return found


def traced(completion: Completion) -> list[int]:
    """The tokens of an answer."""
    assert completion.trace is not None, completion.error
    return [int(token) for token in completion.trace.arrays()[0]]


def prompt_ids(prompt: str) -> list[int]:
    """What the model reads."""
    return list(tokenizer()(f"<s>user {prompt}</s><s>assistant ")["input_ids"])


def continued(model: Any, ids: list[int], tokens: list[int]) -> Any:
    """Logits before each of `tokens`, from one whole forward pass."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1]


def test_greedy_is_generates_greedy(session: TransformersSession, model: Any) -> None:
    """A ragged batch at temperature 0 gives, row by row, what `model.generate` gives each prompt alone."""
    import torch

    found = answers(session, [ask(p, temperature=0, top_logprobs=1) for p in PROMPTS])
    for prompt in PROMPTS:
        ids = torch.tensor([prompt_ids(prompt)])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert traced(found[prompt]) == expected[0, ids.shape[1] :].tolist()
        assert found[prompt].prompt_tokens == ids.shape[1]
        ended = traced(found[prompt])[-1] == 2
        assert found[prompt].finish_reason == ("stop" if ended else "length")


@pytest.mark.parametrize("batch_tokens", [1, 200, 100_000])
def test_a_seed_gives_the_same_answer_in_any_company(
    engine: Transformers, session: TransformersSession, batch_tokens: int
) -> None:
    """Alone, joined to rows that are under way, or all at once: an answer is its request's and its seed's."""
    asked = [ask(p, seed=n, top_logprobs=1, max_tokens=6 + 5 * n) for n, p in enumerate(PROMPTS)]
    alone = {request.id: answers(session, [request])[request.id] for request in asked}
    crowded = engine.model_copy(update={"batch_tokens": batch_tokens}).open()
    together = answers(crowded, asked)
    assert {p: traced(c) for p, c in together.items()} == {p: traced(c) for p, c in alone.items()}
    assert {p: c.text for p, c in together.items()} == {p: c.text for p, c in alone.items()}
    assert len({tuple(traced(c)) for c in together.values()}) == len(PROMPTS)


def test_another_seed_is_another_answer_and_a_longer_limit_the_same(session: TransformersSession) -> None:
    """The seed decides; `max_tokens` only cuts, which is what lets the memo leave it out of its keys."""
    short, long = (
        {n: answers(session, [ask("a fox", seed=n, top_logprobs=1, max_tokens=limit)])["a fox"] for n in range(20)}
        for limit in (40, 80)
    )
    assert len({tuple(traced(c)) for c in short.values()}) == 20
    assert {c.finish_reason for c in short.values()} == {"stop", "length"}
    for n, completion in short.items():
        assert traced(long[n])[: len(traced(completion))] == traced(completion)
        assert (long[n] == completion) == (completion.finish_reason == "stop")


@pytest.mark.parametrize("narrow", [{"top_p": 1e-6}, {"top_k": 1}, {"min_p": 1.0}, {"temperature": 1e-3}])
def test_settings_that_leave_one_token_are_greedy(session: TransformersSession, narrow: dict[str, float]) -> None:
    """Whichever setting leaves only the likeliest token, the answer is the greedy one."""
    greedy = answers(session, [ask(p, temperature=0, top_logprobs=1) for p in PROMPTS])
    found = answers(session, [ask(p, seed=5, top_logprobs=1, **narrow) for p in PROMPTS])
    assert {p: traced(c) for p, c in found.items()} == {p: traced(c) for p, c in greedy.items()}


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.7}, {"top_p": 0.6}, {"top_k": 7}, {"min_p": 0.1}, {"min_p": 0.05, "top_k": 9, "top_p": 0.8}],
)
def test_draws_follow_the_distribution(
    session: TransformersSession, model: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First tokens over many seeds are as frequent as vLLM's order of temperature, min_p, top_k and top_p makes them.

    Only 4 tokens are sorted first here, so that the way over the whole vocabulary is walked as well.
    """
    monkeypatch.setattr("pipeline.engines.sampler.LIKELIEST", 4)
    draws = 2000
    asked = [ask("a fox", seed=n, max_tokens=1, top_logprobs=1, **settings) for n in range(draws)]
    found = [a.completion for finished in session.complete(asked) for a in finished]
    expected = filtered(continued(model, prompt_ids("a fox"), [0])[0], Sampling(**settings)).tolist()
    counts = [0] * len(expected)
    for completion in found:
        counts[traced(completion)[0]] += 1
    assert all(expected[token] > 0 for token, count in enumerate(counts) if count)
    distance = sum(abs(count / draws - p) for count, p in zip(counts, expected, strict=True)) / 2
    support = sum(p > 0 for p in expected)
    assert distance < 0.6 * math.sqrt(support / draws)


def filtered(logits: Any, sampling: Sampling) -> Any:
    """The distribution of the next token, written out one setting after the other."""
    p = (logits / sampling.temperature).softmax(-1)
    p = p * (p >= sampling.min_p * p.max())
    if sampling.top_k:
        p = p * (p >= p.sort(descending=True).values[sampling.top_k - 1])
    ranked = (p / p.sum()).sort(descending=True)
    before = ranked.values.cumsum(-1) - ranked.values
    p[ranked.indices[before >= sampling.top_p]] = 0
    return p / p.sum()


@pytest.mark.parametrize(
    "penalties",
    [
        {"repetition_penalty": 1.7},
        {"presence_penalty": 1.5},
        {"frequency_penalty": 0.9},
        {"repetition_penalty": 1.3, "presence_penalty": 0.7, "frequency_penalty": -0.4},
    ],
)
def test_penalties_are_vllms(session: TransformersSession, model: Any, penalties: dict[str, float]) -> None:
    """Repetition counts prompt and answer, presence and frequency the answer: each token is what a plain loop takes."""
    s = Sampling(**penalties)
    found = answers(session, [ask(p, temperature=0, top_logprobs=1, max_tokens=30, **penalties) for p in PROMPTS])
    plain = answers(session, [ask(p, temperature=0, top_logprobs=1, max_tokens=30) for p in PROMPTS])
    assert any(traced(found[p]) != traced(plain[p]) for p in PROMPTS)
    for prompt in PROMPTS:
        ids, tokens = prompt_ids(prompt), traced(found[prompt])
        for n, logits in enumerate(continued(model, ids, tokens)):
            for token in set(ids + tokens[:n]):
                logits[token] *= 1 / s.repetition_penalty if logits[token] > 0 else s.repetition_penalty
            for token in set(tokens[:n]):
                logits[token] -= s.presence_penalty + s.frequency_penalty * tokens[:n].count(token)
            assert tokens[n] == int(logits.argmax())


def test_logprobs_are_those_of_a_whole_forward_pass(session: TransformersSession, model: Any) -> None:
    """Whatever the temperature, log-probabilities are the model's own: of every token, and of the first by text."""
    asked = [ask(p, seed=3, temperature=0.5, top_k=5, top_logprobs=4, logprobs=6) for p in PROMPTS]
    for prompt, completion in answers(session, asked).items():
        assert completion.trace is not None
        tokens, chosen, top_tokens, top_logprobs = (array.tolist() for array in completion.trace.arrays())
        reference = continued(model, prompt_ids(prompt), tokens).log_softmax(-1)
        assert completion.completion_tokens == len(tokens)
        assert chosen == pytest.approx([float(reference[t, token]) for t, token in enumerate(tokens)], abs=1e-4)
        expected = reference.topk(4)
        assert top_tokens == expected.indices.flatten().tolist()
        assert top_logprobs == pytest.approx(expected.values.flatten().tolist(), abs=1e-2)
        best = reference[0].topk(6)
        texts = [tokenizer().decode([token]) for token in best.indices.tolist()]
        assert set(completion.logprobs) - set(texts) <= {tokenizer().decode([tokens[0]])}
        assert completion.logprobs[texts[0]] == pytest.approx(float(best.values[0]), abs=1e-4)


def test_a_stop_string_ends_the_answer_and_is_cut(session: TransformersSession) -> None:
    """The text ends before the stop string that is complete first; the tokens go as far as it does."""
    asked = [ask(f"fox {n}", seed=n, max_tokens=60, json_schema={"type": "string"}, top_k=40) for n in range(20)]
    free = next(c for c in answers(session, asked).values() if len(c.text) > 20)
    request = next(r for r in asked if answers(session, [r])[r.id] == free)
    late, early = free.text[12:15], free.text[7:9]
    assert min(free.text.find(early), free.text.find(late)) == 7
    stop = request.sampling.model_copy(update={"stop": (late, early)})
    (cut,) = answers(session, [request.model_copy(update={"sampling": stop})]).values()
    assert (cut.text, cut.finish_reason) == (free.text[:7], "stop")
    assert cut.completion_tokens < free.completion_tokens


def test_an_answer_that_ends_by_itself_keeps_its_end_out_of_the_text(session: TransformersSession) -> None:
    """The end of turn counts as a token and is traced, but is no text."""
    found = answers(session, [ask(f"{n}", seed=n, temperature=1.5, max_tokens=200, top_logprobs=1) for n in range(40)])
    ended = [c for c in found.values() if c.finish_reason == "stop"]
    assert ended and any(c.finish_reason == "length" for c in found.values())
    for completion in ended:
        tokens = traced(completion)
        assert tokens[-1] == 2 and 2 not in tokens[:-1]
        assert "</s>" not in completion.text


def test_choices_and_schemas_always_hold(session: TransformersSession) -> None:
    """Whatever the temperature, an enforced answer is one of the choices or valid JSON, side by side with free ones."""
    choices = ('yes, "so"', "no\n", "né", "yes")
    asked = [
        request
        for n in range(12)
        for request in (
            ask(f"choice {n}", seed=n, temperature=3.0, choices=choices, max_tokens=40),
            ask(f"schema {n}", seed=n, temperature=3.0, json_schema=SCHEMA, max_tokens=60),
            ask(f"free {n}", seed=n, temperature=3.0),
        )
    ]
    found = answers(session, asked)
    assert {found[f"choice {n}"].text for n in range(12)} > {"né"}
    for n in range(12):
        assert found[f"choice {n}"].text in choices
        row = json.loads(found[f"schema {n}"].text)
        assert set(row) == {"good", "word"} and row["word"] in ("fox", "owl") and isinstance(row["good"], bool)
        assert found[f"schema {n}"].text == json.dumps(row, separators=(",", ":"))
        assert found[f"choice {n}"].finish_reason == found[f"schema {n}"].finish_reason == "stop"


def test_choices_bound_the_logprobs(session: TransformersSession) -> None:
    """As in vLLM, log-probabilities of an enforced answer are over what the grammar allows."""
    (found,) = answers(session, [ask("a fox", choices=("0", "1"), logprobs=20)]).values()
    assert set(found.logprobs) == {"0", "1"}
    assert sum(math.exp(v) for v in found.logprobs.values()) == pytest.approx(1, abs=1e-5)


def test_open_user_writes_the_users_turn(session: TransformersSession) -> None:
    """The prompt ends where the user's words would begin."""
    request = Request(id="u", messages=(), open_user=True, sampling=Sampling(max_tokens=4))
    assert answers(session, [request])["u"].prompt_tokens == len(tokenizer()("<s>user ")["input_ids"])


def test_a_bad_request_comes_back_with_its_error(session: TransformersSession) -> None:
    """Each in its own words, and the good one beside them is answered."""
    turn = (Message(role="user", content="x"),)
    asked = [
        ask("long", max_tokens=300),
        ask("stop", stop=("",)),
        ask("schema", json_schema={"type": "nonsense"}),
        Request(id="kwargs", messages=turn, chat_template_kwargs={"chat_template": "{{ nobody.knows }}"}),
        Request(id="empty", messages=turn, chat_template_kwargs={"chat_template": "{# nothing #}"}),
        ask("good"),
    ]
    found = answers(session, asked)
    assert found["long"].error == (
        f"a prompt of {len(prompt_ids('long'))} tokens and max_tokens 300 pass max_model_len 256"
    )
    assert found["stop"].error == "a stop string is empty"
    assert found["schema"].error.startswith("choices or json_schema: ")
    assert found["kwargs"].error.startswith("chat template: ")
    assert found["empty"].error == "the prompt has no tokens"
    assert not found["good"].error and found["good"].completion_tokens


def test_none_means_later(session: TransformersSession) -> None:
    """With nothing under way an empty list comes first; a request that hangs on an answer is asked all the same."""
    seen: list[Answered] = []

    def requests() -> Iterator[Request | None]:
        yield None
        yield ask("first")
        while not seen:
            yield None
        yield ask("second")

    lists = []
    for finished in session.complete(requests()):
        seen += finished
        lists.append(len(finished))
    assert [a.request.id for a in seen] == ["first", "second"]
    assert lists[0] == 0


def test_two_calls_side_by_side(session: TransformersSession) -> None:
    """Two judges in one chain: each call gets its own answers, whoever is asked next."""
    calls = [session.complete([ask(f"{side} {p}", max_tokens=3 + n) for n, p in enumerate(PROMPTS)]) for side in "ab"]
    found: list[list[str]] = [[], []]
    for lists in zip(*calls, strict=True):
        for side, finished in enumerate(lists):
            found[side] += [a.request.id for a in finished]
    assert [sorted(ids) for ids in found] == [sorted(f"{side} {p}" for p in PROMPTS) for side in "ab"]


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory."), MemoryError()])
def test_out_of_memory_halves_the_batch(
    engine: Transformers, session: TransformersSession, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that do not fit together go on in halves, from where they were, and the user is told; answers stay."""
    import torch

    if isinstance(error, RuntimeError):
        error = torch.OutOfMemoryError(str(error))
    asked = [ask(p, seed=n, top_logprobs=1) for n, p in enumerate(PROMPTS)]
    expected = {p: traced(c) for p, c in answers(session, asked).items()}
    forward = Batch._forward
    crowds: list[int] = []
    said: list[str] = []

    def scarce(self: Batch, ids: Any) -> None:
        crowds.append(len(self.rows))
        if len(self.rows) > 2 and any(len(row.answer) > 5 for row in self.rows):
            raise error
        forward(self, ids)

    monkeypatch.setattr(Batch, "_forward", scarce)
    monkeypatch.setattr(console, "warn", said.append)
    opened = engine.open()
    assert {p: traced(c) for p, c in answers(opened, asked).items()} == expected
    assert crowds[0] == 8 and crowds[-1] <= 2
    assert said[0].startswith("out of memory with 8 answers under way: going on with batch_tokens ")


def test_out_of_memory_alone_is_an_error(engine: Transformers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit alone comes back failed; the smaller ones beside it are answered."""
    forward = Batch._forward

    def scarce(self: Batch, ids: Any) -> None:
        if any(row.length > 50 for row in self.rows):
            raise MemoryError
        forward(self, ids)

    monkeypatch.setattr(Batch, "_forward", scarce)
    found = answers(engine.open(), [ask(p, max_tokens=4) for p in PROMPTS])
    failed = {p for p, c in found.items() if c.error}
    assert failed == {p for p in PROMPTS if len(prompt_ids(p)) + 3 > 50}
    assert failed and failed != set(PROMPTS)
    assert all(found[p].error.startswith("out of memory, alone: a prompt of ") for p in failed)


def test_any_other_failure_is_the_engines(engine: Transformers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RuntimeError that is no lack of memory ends the run with a message."""

    def broken(self: Batch, ids: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Batch, "_forward", broken)
    with pytest.raises(ModelError, match=r"transformers failed while it decoded .*: shapes do not match"):
        answers(engine.open(), [ask("a")])


def test_layers_that_keep_a_window_run_without_newcomers(tmp_path: Path) -> None:
    """Where rows cannot join (sliding windows), batches follow one another, and answers are still `generate`'s."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=259, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3, sliding_window=16, bos_token_id=1,
        eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    opened = Transformers(model=str(tmp_path), max_model_len=256, batch_tokens=200).open()
    asked = [ask(p, temperature=0, top_logprobs=1, max_tokens=8 + 4 * n) for n, p in enumerate(PROMPTS)]
    for request in asked:
        ids = torch.tensor([prompt_ids(request.id)])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=request.sampling.max_tokens, do_sample=False
        )
        assert traced(answers(opened, asked)[request.id]) == expected[0, ids.shape[1] :].tolist()


def test_logits_that_are_no_numbers_are_an_error(engine: Transformers) -> None:
    """A model that overflows in its dtype fails its requests instead of making words up."""
    opened = engine.open()
    opened._model.lm_head.weight.data.fill_(float("nan"))
    assert "not finite" in answers(opened, [ask("a")])["a"].error


def test_enforced_answers_need_xgrammar(engine: Transformers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a plan that needs it is told so, and one that does not runs."""
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    opened = engine.open()
    assert not answers(opened, [ask("a")])["a"].error
    with pytest.raises(ModelError, match="choices and JSON schemas need xgrammar"):
        answers(opened, [ask("a", choices=("x",))])


def test_too_long_a_context_is_refused_when_it_is_opened(engine: Transformers) -> None:
    """A model is never run past the positions it was made for."""
    with pytest.raises(ModelError, match="max_model_len 4096 passes the 256 positions"):
        engine.model_copy(update={"max_model_len": 4096}).open()


def test_a_model_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory is one clear message, not a process the kernel kills."""
    monkeypatch.setattr(machine, "gpus", lambda: ())
    monkeypatch.setattr(machine, "memory_available", lambda: machine.GIB // 2)
    with pytest.raises(ModelError, match=r"needs about 1.0 GiB in float32, and 0.5 are free"):
        Transformers(model=str(stub_model(tmp_path / "model"))).open()


def test_words_name_model_and_dtype(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 on a CPU, the model's own on a GPU, what the plan says before both; knobs do not count."""
    monkeypatch.setattr(machine, "gpus", lambda: ())
    made = Transformers(model=str(folder))
    assert made.words() == {
        "engine": "transformers", "model": str(folder), "revision": made.words()["revision"], "dtype": "float32",
    }  # fmt: skip
    assert made.words() == made.model_copy(update={"batch_tokens": 5}).words()
    assert made.model_copy(update={"dtype": "bfloat16"}).words()["dtype"] == "bfloat16"
    monkeypatch.setattr(machine, "gpus", lambda: ("NVIDIA H100",))
    assert made.words()["dtype"] == "auto"


def test_what_cannot_be_loaded_is_one_message(folder: Path, tmp_path: Path) -> None:
    """A wrong dtype, or a folder that holds no model."""
    with pytest.raises(ModelError, match="no such dtype: float12"):
        Transformers(model=str(folder), dtype="float12").open()
    with pytest.raises(ModelError, match="transformers cannot load"):
        Transformers(model=str(stub_model(tmp_path / "stub"))).open()
