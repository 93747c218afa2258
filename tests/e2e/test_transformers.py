"""The transformers engine on the demo teacher: sensible answers, the same in any company, vLLM's to the letter."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from pipeline.engines import Completion, Request, Sampling
from pipeline.engines.transformers import Transformers
from pipeline.engines.transformers_session import TransformersSession
from pipeline.engines.vllm import Vllm
from pipeline.models import models_home
from pipeline.records import Message

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (models_home() / "smollm2-135m-instruct/config.json").is_file(), reason="`make models` has not been run"
    ),
]
SETTINGS = {"model": "demo:smollm2-135m-instruct", "max_model_len": 512}
TOPICS = ("fox", "boat", "moon", "bear")


def ask(prompt: str, **more: Any) -> Request:
    """A request; settings of Sampling among the keywords go there."""
    sampling = {"max_tokens": 24} | {k: more.pop(k) for k in list(more) if k in Sampling.model_fields}
    return Request(id=prompt, messages=(Message(role="user", content=prompt),), sampling=Sampling(**sampling), **more)


def answers(session: Any, requests: Iterable[Request]) -> dict[str, Completion]:
    """Completions by request id."""
    return {a.request.id: a.completion for finished in session.complete(requests) for a in finished}


@pytest.fixture(scope="module")
def session() -> Iterator[TransformersSession]:
    """The teacher, open."""
    opened = Transformers.model_validate(SETTINGS).open()
    yield opened
    opened.close()


def test_a_question_gets_its_answer(session: TransformersSession) -> None:
    """The model knows the capital of France, and its turn ends without a trace of the template."""
    (found,) = answers(session, [ask("What is the capital of France?", temperature=0, max_tokens=40)]).values()
    assert "Paris" in found.text
    assert found.finish_reason == "stop"
    assert "<|" not in found.text and found.text == found.text.strip()


def test_a_seed_gives_the_same_story_in_any_company(session: TransformersSession) -> None:
    """Drawn alone or among prompts of other lengths, a story is the same."""
    asked = [ask(f"Tell me a {'very ' * n}short story about a {t}.", seed=n) for n, t in enumerate(TOPICS)]
    together = answers(session, asked)
    assert all(answers(session, [request])[request.id] == together[request.id] for request in asked[1:3])
    assert len({c.text for c in together.values()}) == len(TOPICS)


def test_answers_are_vllms(session: TransformersSession) -> None:
    """Greedy texts, penalties, stop strings, enforced answers and log-probabilities agree with the other engine."""
    schema = {
        "type": "object",
        "properties": {"why": {"type": "string", "maxLength": 40}, "score": {"enum": [1, 2, 3]}},
        "required": ["why", "score"],
    }
    penalties = {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.3}
    asked = [
        *(ask(f"Tell me a {'very ' * n}short story about a {t}.", temperature=0) for n, t in enumerate(TOPICS)),
        ask("Tell me a story.", temperature=0, max_tokens=48, **penalties),
        ask("Name three colours.", temperature=0, max_tokens=48, stop=("red", "\n")),
        ask("Rate this from 1 to 3: the fox ran.", temperature=0, max_tokens=60, json_schema=schema),
        ask("Is the sky blue? Answer yes or no.", temperature=0, choices=("yes", "no"), logprobs=5),
    ]
    ours = answers(session, asked)
    other = Vllm.model_validate(SETTINGS).open()
    theirs = answers(other, asked)
    other.close()
    for request in asked:
        mine, yours = ours[request.id], theirs[request.id]
        assert mine.model_dump(exclude={"logprobs"}) == yours.model_dump(exclude={"logprobs"})
        assert mine.logprobs == pytest.approx(yours.logprobs, abs=1e-3)
    assert json.loads(ours[asked[-2].id].text)["score"] in (1, 2, 3)
