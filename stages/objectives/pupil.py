"""The student before its training, as an engine: what it says by itself is what a preference objective rejects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pipeline import console
from pipeline.engines import Completion, Request, Sampling
from pipeline.engines.transformers import Transformers
from pipeline.engines.transformers_session import TransformersSession
from pipeline.errors import ModelError, UsageError
from pipeline.job import Job
from pipeline.models import find
from pipeline.records import Record, digest
from pipeline.torch_model import number_format
from stages.base import Rows
from stages.student import load


class Pupil(Transformers):
    """A student that may have no folder yet: it is made as the training makes it."""

    kind: Literal["student"] = "student"  # type: ignore[assignment]  # names its log
    init: dict[str, Any] = {}
    seed: int
    eos_token: str = ""
    chat_template: str = ""

    def words(self) -> dict[str, str]:
        """The model it is made from, and how; random weights hang on the seed."""
        model = find(self.model, self.revision)
        made = self.init | ({"seed": self.seed} if "config" in self.init else {})
        made |= {name: said for name in ("eos_token", "chat_template") if (said := getattr(self, name))}
        words = {"engine": "transformers", "model": model.name, "revision": model.revision}
        return words | {"dtype": number_format("auto")} | ({"made": digest(made)} if made else {})

    def open(self, log: Path | None = None) -> TransformersSession:
        """Make the student. Raises ModelError."""
        import torch
        from transformers import set_seed

        with console.silenced(log):
            set_seed(self.seed)
            model, tokenizer = load(self.model, self.revision, **self.init)
        dress(model, tokenizer, self.eos_token, self.chat_template)
        if not tokenizer.is_fast:
            raise ModelError(f"{self.model} has no fast tokenizer, which asking it needs", hint="pairs: judge")
        model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        room = getattr(model.config.get_text_config(), "max_position_embeddings", None) or self.max_model_len
        return TransformersSession(model, tokenizer, room, self.batch_tokens, log)


def dress(model: Any, tokenizer: Any, eos_token: str, chat_template: str) -> None:
    """Give a model another end of turn and another chat template; "" leaves them. Raises UsageError."""
    if chat_template:
        tokenizer.chat_template = chat_template
    if not eos_token:
        return
    if eos_token not in tokenizer.get_vocab():
        raise UsageError(f"train.objective.config.eos_token: {eos_token!r} is no token of the student")
    tokenizer.eos_token = eos_token
    model.config.get_text_config().eos_token_id = tokenizer.eos_token_id
    before = model.generation_config.eos_token_id
    ends = before if isinstance(before, list) else [] if before is None else [before]
    model.generation_config.eos_token_id = list(dict.fromkeys([tokenizer.eos_token_id, *ends]))


def answers(job: Job, pupil: Pupil, rows: Rows, sampling: Sampling) -> Iterator[tuple[Record, Completion]]:
    """What the student says to the prompt of every row for training, in their order; remembered as all answers are."""
    failed, why = 0, ""
    with console.Bar("student", rows.count("kept")) as bar:
        asked = (_question(record, sampling, job.seed) for record in rows.read("kept"))
        for record, answered in zip(rows.read("kept"), job.ask(pupil, asked), strict=True):
            if error := answered.completion.error:
                failed, why = failed + 1, why or f"{record.id}: {error}"
            yield record, answered.completion
            bar.advance()
    if failed:
        console.warn(f"the student has no answer to {failed:,} prompts; the first is record {why}")


def _question(record: Record, sampling: Sampling, seed: int) -> Request:
    own = int(digest([seed, "student", record.id], 7), 16)
    return Request(id=record.id, messages=tuple(record.messages[:-1]), sampling=sampling, seed=own)
