"""speculate: the trained student drafts for its teacher in vLLM (speculative decoding, arXiv 2211.17192).

Three processes, one after the other: the teacher with the draft, the teacher alone, and one look of both models at
the teacher's answers. The result is written to `RUN/speculate/<train version>.json`.
"""

import json
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import console
from pipeline.engines.vllm import Vllm
from pipeline.errors import ModelError, PipelineError, UsageError
from pipeline.models import cached, ensure, find, parameters
from pipeline.records import Record
from pipeline.run import Run
from pipeline.store import Version, pretty, write_atomic
from stages import child, flow
from stages.plan import Plan
from stages.speculate_figures import Difference, Expected, Pass, expected, parting, replayed

DECODE, AGREE = "stages.speculate_decode", "stages.speculate_agree"


class Options(NamedTuple):
    """`tokens` drafted a step; `rows` held-out prompts at most; `input`: a train version, or "" for the current one."""

    tokens: int = 4
    rows: int = 32
    max_tokens: int = 128
    input: str = ""


class Pair(NamedTuple):
    """A teacher and the student that drafts for it."""

    teacher: Vllm
    student: Version
    sizes: tuple[int, int]
    """Parameters of teacher and student."""
    widths_differ: bool

    @property
    def draft(self) -> str:
        """The student's folder."""
        return _folder(self.student)

    def speculative(self, tokens: int) -> dict[str, Any]:
        """What vLLM takes as `speculative_config`."""
        config: dict[str, Any] = {"method": "draft_model", "model": self.draft, "num_speculative_tokens": tokens}
        return config | ({"use_heterogeneous_vocab": True} if self.widths_differ else {})


class Speculated(NamedTuple):
    """What was measured. `expected` is empty where the two models could not be compared."""

    pair: Pair
    options: Options
    rows: int
    left_out: int
    """Prompts too long for an answer beside them."""
    dtype: str
    passes: list[Pass]
    expected: list[Expected]
    differences: list[Difference]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        whole, part = self.pair.sizes
        return {
            "teacher": {"model": self.pair.teacher.model, "parameters": whole, "dtype": self.dtype},
            "student": {"version": self.pair.student.name, "parameters": part},
            "ratio": whole / part,
            "options": self.options._asdict() | {"speculative_config": self.pair.speculative(self.options.tokens)},
            "rows": self.rows,
            "left_out": self.left_out,
            "passes": [p.plain() for p in self.passes],
            "expected": [e._asdict() for e in self.expected],
            "equal": {str(p.batch): self.equal(p.batch) for p in self.passes},
            "differences": [d._asdict() | {"tie": d.tie(self.dtype)} for d in self.differences],
        }

    def equal(self, batch: int) -> int:
        """Answers that are the teacher's own, token by token, with the draft."""
        return self.rows - sum(d.draft for d in self.differences if d.batch == batch)

    def refuse(self) -> None:
        """Raise PipelineError where the draft has changed an answer and rounding does not explain it."""
        changed = [d for d in self.differences if d.draft and d.tie(self.dtype) is False]
        if changed:
            raise PipelineError(
                f"with the draft {len(changed)} answers differ where the teacher was not undecided, the first is of "
                f"record {changed[0].id} at token {changed[0].at}: speculative decoding is broken on this machine",
                hint="do not use it here; another dtype or version of vLLM may help",
            )


def speculate(plan: Plan, run: Run, options: Options) -> Speculated:
    """Measure, and write what was measured. Raises UsageError before anything is loaded, ModelError, PipelineError."""
    pair = _pair(plan, run, options)
    heldout = list(islice(_heldout(plan, run), options.rows))
    if not heldout:
        raise UsageError(
            "there are no held-out prompts to answer",
            hint="set generate.heldout above 0, or loosen the filters that dropped them",
        )
    with run.writing():
        found = _measure(plan, pair, heldout, options, run.logs / "speculate.log")
        folder = run.path / "speculate"
        folder.mkdir(exist_ok=True)
        result = found.plain() | {"environment": flow.environment()}
        write_atomic(folder / f"{pair.student.name}.json", pretty(result))
    console.say(f"written to {folder / pair.student.name}.json")
    return found


def _pair(plan: Plan, run: Run, options: Options) -> Pair:
    """Teacher and student, if vLLM can take the two together. Raises UsageError."""
    teacher = plan.teacher
    if not isinstance(teacher, Vllm):
        kind = f"is of kind {teacher.kind}" if teacher else "is missing"
        served = "; a server has to be started with it: `vllm serve TEACHER --speculative-config '{...}'`"
        raise UsageError(
            f"vLLM on this machine has to run the teacher, and the plan's {kind}",
            hint="teacher: {kind: vllm, model: ...}" + (served if teacher and teacher.remote else ""),
        )
    student = run.pick("train", options.input.removeprefix("train/")) if options.input else run.current("train")
    if student is None:
        raise UsageError("the student is not trained yet", hint="pipeline train PLAN")
    folder = Path(find(_folder(student)).where)
    found = ensure(teacher.model, teacher.revision)
    whole = Path(found.where) if found.local else cached(teacher.model, teacher.revision)
    sizes = parameters(teacher.model, teacher.revision), parameters(str(folder))
    if whole is None or not min(sizes):
        raise UsageError(f"{teacher.model} or {folder} holds no safetensors", hint="speculate reads them to compare")
    if sizes[1] >= sizes[0]:
        raise UsageError(
            f"the student ({sizes[1] / 1e6:,.1f} M parameters) is not smaller than its teacher "
            f"({sizes[0] / 1e6:,.1f} M): drafting would cost more than it saves"
        )
    if strangers := _strangers(whole, folder):
        raise UsageError(
            f"teacher and student have different tokenizers ({strangers:,} token ids mean different words): "
            "what one drafts the other cannot read",
            hint="train a student with the teacher's tokenizer, as train.student.init does",
        )
    return Pair(teacher, student, sizes, _width(whole) != _width(folder))


def _folder(student: Version) -> str:
    return str((student.path / "model").resolve())


def _strangers(teacher: Path, student: Path) -> int:
    """Token ids that both tokenizers have, for different tokens; vLLM itself looks at the vocabulary's width alone."""
    from tokenizers import Tokenizer

    files = [folder / "tokenizer.json" for folder in (teacher, student)]
    if not all(file.is_file() for file in files):
        return 0
    one, other = ({n: word for word, n in Tokenizer.from_file(str(file)).get_vocab().items()} for file in files)
    return sum(one[n] != other[n] for n in one.keys() & other.keys())


def _width(folder: Path) -> int | None:
    """Rows of the embedding, as vLLM compares them; families pad them differently from size to size."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    width = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    return None if width is None else int(width)


def _heldout(plan: Plan, run: Run) -> Any:
    """Held-out records, from the stage that `evaluate` reads them of."""
    giver = next((name for name in ("filter", "generate") if name in plan.stages()), "generate")
    version = run.current(giver)
    if version is None:
        raise UsageError(f"speculate reads {giver}, which has not been run", hint=f"pipeline {giver} PLAN")
    return version.read("heldout")


def _measure(plan: Plan, pair: Pair, heldout: list[Record], options: Options, log: Path) -> Speculated:
    rows = [{"id": r.id, "messages": [m.model_dump() for m in _question(r)]} for r in heldout]
    job: dict[str, Any] = {
        "teacher": pair.teacher.model_dump(mode="json"),
        "rows": rows,
        "chat_template_kwargs": plan.generate.chat_template_kwargs if plan.generate else {},
        "max_tokens": options.max_tokens,
        "log": str(log),
    }
    console.say(f"loading {pair.teacher.model} with {pair.student.name} as its draft, then alone (log: {log})")
    with console.Bar("speculate", 5 * len(rows)) as bar:
        drafted = child.ask(DECODE, job | {"speculative": pair.speculative(options.tokens)}, bar, log)
        if not drafted["rows"]:
            raise UsageError(
                f"no held-out prompt leaves room for {options.max_tokens} tokens under max_model_len "
                f"{pair.teacher.max_model_len}",
                hint="lower --max-tokens, or raise teacher.max_model_len",
            )
        job["teacher"]["max_num_seqs"] = drafted["max_num_seqs"]  # less than the plan's where memory ran out
        alone = child.ask(DECODE, job | {"speculative": None}, bar, log)
        parted = _parted(alone, drafted)
        looked = _look(pair, alone, parted, bar, log)
    differences = [
        d if looked is None else d._replace(less=looked[n]["less"][k], texts=looked[n]["texts"][k])
        for n, row in enumerate(parted)
        for k, (d, _) in enumerate(row)
    ]
    together = zip(alone["passes"], drafted["passes"], strict=True)
    return Speculated(
        pair=pair,
        options=options,
        rows=len(alone["rows"]),
        left_out=len(rows) - len(alone["rows"]),
        dtype=alone["dtype"],
        passes=[Pass.of(one, other) for one, other in together],
        expected=_theory(looked, options.tokens) if looked else [],
        differences=differences,
    )


def _question(record: Record) -> Any:
    """The turns that the teacher answers."""
    return record.messages[:-1] if record.messages[-1].role == "assistant" else record.messages


def _parted(alone: dict[str, Any], drafted: dict[str, Any]) -> list[list[tuple[Difference, int]]]:
    """For each row the answers that are not the first pass's, and the token in place of the teacher's."""
    own = alone["passes"][0]["answers"]
    found: list[list[tuple[Difference, int]]] = [[] for _ in own]
    for measured, draft in ((alone, False), (drafted, True)):
        for one in measured["passes"]:
            for n, answer in enumerate(one["answers"]):
                at = parting(own[n], answer)
                if at is not None:
                    there = Difference(alone["rows"][n]["id"], one["batch"], draft, at, [], None)
                    found[n].append((there, answer[at]))
    return found


def _look(
    pair: Pair, alone: dict[str, Any], parted: list[list[tuple[Difference, int]]], bar: console.Bar, log: Path
) -> list[dict[str, Any]] | None:
    """Both models at the teacher's answers; None where they do not fit into one process."""
    rows = [
        {**row, "answer": answer, "instead": [(d.at, token) for d, token in differing]}
        for row, answer, differing in zip(alone["rows"], alone["passes"][0]["answers"], parted, strict=True)
    ]
    teacher = {"model": pair.teacher.model, "revision": pair.teacher.revision}
    try:
        job = {"teacher": teacher, "draft": {"model": pair.draft}, "rows": rows}
        return list(child.ask(AGREE, job, bar, log)["rows"])
    except ModelError as error:
        console.warn(f"what theory expects is left out: {error}")
        return None


def _theory(looked: list[dict[str, Any]], tokens: int) -> list[Expected]:
    matches = [row["matches"] for row in looked]
    places = sum(map(len, matches))
    found = replayed(matches, tokens)
    return [
        found,
        expected("greedy", found.chance, tokens),
        expected("temperature 1, greedy drafts", sum(row["liked"] for row in looked) / places, tokens),
        expected("temperature 1, drawn drafts", sum(row["overlap"] for row in looked) / places, tokens),
    ]
