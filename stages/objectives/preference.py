"""What the objectives share that learn from pairs of answers: which pairs, and TRL's DPOTrainer over them."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.engines import Sampling
from pipeline.errors import UsageError
from pipeline.job import Job
from pipeline.records import Record
from stages.intake import FileRows
from stages.objectives import pair
from stages.objectives.base import MASKED, NOBODY, Fed, Given, Left, Teaching
from stages.objectives.pupil import Pupil, answers, dress
from stages.objectives.tuning import Tuning

if TYPE_CHECKING:
    from stages.preflight import Found

Loss = Literal[
    "sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft",
]  # fmt: skip
Pairs = Annotated[
    Literal["judge", "student"],
    Field(description="judge: those of the filter (filter.pairs); student: what it answers itself is rejected"),
]
FIGURES = {"reward_accuracy": "rewards/accuracies", "reward_margin": "rewards/margins"}


class Preference(Tuning):
    """Base of the objectives over pairs: the chosen answer becomes likelier than the rejected one."""

    config_class: ClassVar[str] = "DPOConfig"
    not_config: ClassVar[frozenset[str]] = frozenset({"eos_token", "chat_template_path"})
    """what TRL's SFTConfig has and its DPOConfig has not: done here"""

    pairs: Pairs
    sampling: Annotated[Sampling, Field(description="of the student's answers")] = Sampling()
    beta: Annotated[float, Field(gt=0, description="how much the student is held to the reference")] = 0.1
    loss_type: Annotated[Loss | list[Loss], Field(description="TRL's name, or several")] = "sigmoid"
    loss_weights: Annotated[list[float] | None, Field(description="of several losses; 1 each when left out")] = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        losses = self.loss_type if isinstance(self.loss_type, list) else [self.loss_type]
        if not losses or (self.loss_weights is not None and len(self.loss_weights) != len(losses)):
            raise ValueError(f"loss_weights: {len(self.loss_weights or [])} weights for {len(losses)} losses")
        if self.pairs == "judge" and "sampling" in self.model_fields_set:
            raise ValueError("sampling is of the student's answers: it means something with `pairs: student` only")
        if self.config.get("sync_ref_model") and (self.lora is not None or self.learns_from == "teacher"):
            raise ValueError("config.sync_ref_model moves a copy of the student, and none is the reference here")
        return self

    def row(self, record: Record) -> dict[str, Any]:
        """A pair of which only the chosen answer is known: it stands in for the other."""
        super().row(record)
        return pair.row(record, record.answer)

    def rows(self, given: Given) -> Iterator[dict[str, Any] | Left]:
        """Pairs, each with the `id` of the record whose answer is the chosen one. Raises UsageError."""
        if isinstance(given.rows, FileRows) and pair.holds_pairs(given.rows):
            return pair.filed(given.rows)
        if self.pairs == "judge":
            return pair.judged(given.rows, self._judges(given))
        if given.job is None:
            return (self.row(record) for record in given.rows.read("kept"))
        return self._against_the_student(given, given.job)

    def examine(self, data: Any, teaching: Teaching) -> "list[Found]":
        """Whether the student was asked, and how many of its answers are cut short."""
        from stages.preflight import Found
        from stages.preflight_rows import Fault

        found = []
        if blank := sum(chosen == rejected for chosen, rejected in zip(data["chosen"], data["rejected"], strict=True)):
            what = "the student is asked when it is trained: until then the chosen answers stand for its own"
            found.append(Found(Fault("student_not_asked", what, "", refused=False), blank, ""))
        if "student_cut" in data.column_names and (cut := sum(data["student_cut"])):
            what = f"{cut:,} of {len(data):,} answers of the student end at sampling.max_tokens, unfinished"
            found.append(Found(Fault("student_cut", what, "", refused=False), cut, ""))
        return found

    def settings(self) -> dict[str, Any]:
        """The fields that TRL's config takes under the same name."""
        return super().settings() | {name: getattr(self, name) for name in ("beta", "loss_type", "loss_weights")}

    def arguments(self, rows: int, folder: Path, seed: int) -> Any:
        """TRL's DPOConfig."""
        config = {name: value for name, value in self.config.items() if name not in self.not_config}
        bare = self if config == self.config else self.model_copy(update={"config": config})
        return super(Preference, bare).arguments(rows, folder, seed)

    def draft(self, *, whole: bool) -> Tuning:
        """The same rows for a student without weights, which has no reference that could compute anything."""
        from stages.objectives.dpo import Dpo

        shared = {name: getattr(self, name) for name in Preference.model_fields if name not in ("kind", "sampling")}
        whole_rows = {"max_length": None} if whole else {}
        config = self.config | {"precompute_ref_log_probs": False} | whole_rows
        return Dpo(**shared | {"lora": None, "config": config})

    @abstractmethod
    def reference(self, model: Any, teaching: Teaching) -> Any:
        """The model that `model` is compared with; None where TRL finds it by itself."""

    def trainer(
        self, model: Any, tokenizer: Any, rows: Any, folder: Path, seed: int, teaching: Teaching = NOBODY
    ) -> Any:
        """A DPOTrainer, with adapters where `lora` is given."""
        from trl import DPOTrainer

        args = self.arguments(len(rows), folder, seed)
        dress(model, tokenizer, *self._dressing())
        trainer = DPOTrainer(
            model=model, ref_model=self.reference(model, teaching), args=args, train_dataset=rows,
            processing_class=tokenizer, peft_config=self.peft(),
        )  # fmt: skip
        if args.precompute_ref_log_probs and teaching.teacher is not None:
            teaching.teacher.to("meta")  # it has said all that is needed: the trainer holds on to it, not to its memory
        return trainer

    def fed(self, trainer: Any, row: dict[str, Any]) -> list[Fed]:
        """The chosen answer after its prompt, and the rejected one."""
        batch = trainer.data_collator([row])
        columns = (batch[name].tolist() for name in ("input_ids", "attention_mask", "completion_mask"))
        found = []
        for of, ids, real, trained in zip(("chosen", "rejected"), *columns, strict=True):
            labels = [token if on else MASKED for token, on in zip(ids, trained, strict=True)]
            found.append(Fed(ids[: sum(real)], labels[: sum(real)], of))
        return found

    def figures(self, trainer: Any) -> dict[str, Any]:
        """How often the chosen answer has the higher reward, and by how much, in the last steps."""
        last: dict[str, Any] = next(
            (log for log in reversed(trainer.state.log_history) if "rewards/margins" in log), {}
        )
        return {name: round(last[theirs], 4) for name, theirs in FIGURES.items() if theirs in last}

    def _judges(self, given: Given) -> Any:
        """The filter version that rows come from."""
        version = given.version("filter")
        if version is None:
            raise UsageError(
                f"objective {self.kind} trains on pairs of answers, and these rows come from no filter version "
                "that could have written some",
                hint="filter.pairs: {} in the plan; or a file of lines with prompt, chosen and rejected; or let the "
                "student's own answers be the rejected ones: train.objective.pairs: student",
            )
        return version

    def _against_the_student(self, given: Given, job: Job) -> Iterator[dict[str, Any] | Left]:
        """The record's answer against what the student says before it is trained."""
        for record in given.rows.read("kept"):  # refused before anything is loaded
            self.row(record)
        made = dict(given.student)
        name, revision = made.pop("model"), made.pop("revision", "")
        eos_token, chat_template = self._dressing()
        pupil = Pupil(model=name, revision=revision, init=made, seed=job.seed, eos_token=eos_token,
                      chat_template=chat_template)  # fmt: skip
        for record, said in answers(job, pupil, given.rows, self.sampling):
            if said.error:
                yield Left(record.id, "student_failed")
            elif not said.text.strip():
                yield Left(record.id, "student_empty")
            else:
                row = pair.paired(record, said.text)
                yield row if isinstance(row, Left) else row | {"student_cut": said.finish_reason == "length"}

    def _dressing(self) -> tuple[str, str]:
        """End of turn and text of the chat template; "" where they are the student's own. Raises UsageError."""
        eos_token, file = (str(self.config.get(name) or "") for name in ("eos_token", "chat_template_path"))
        try:
            return eos_token, Path(file).read_text(encoding="utf-8") if file else ""
        except OSError as error:
            raise UsageError(f"train.objective.config.chat_template_path: {file}: {error.strerror}") from error
