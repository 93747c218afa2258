"""A record's story as a person reads it: seed, question, answer, and every stage with what it measured."""

from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline import console
from pipeline.records import Record
from pipeline.visible import line, visible
from stages.measured import Measured, Vote
from stages.tables_curate import number
from stages.whence import Asked
from stages.why import At, Neighbour, Story

LONGEST = 3000  # characters of a turn
BRIEF = 300  # of a field, a neighbour, a row
CUT = " ... (cut; --json has all)"
SELECTED = ("topic", "nearest", "dedup", "embed")  # what `curate` says besides who was chosen


def told(story: Story) -> RenderableType:
    """The whole story."""
    record = Record.model_validate(story.record)
    parts: list[RenderableType] = [Text.assemble((visible(story.id), "bold"), f"  {visible(story.fate)}")]
    for seed in story.seeds:
        parts += [_head("seed", f"{seed.id}  {seed.where}")]
        parts += [_in(f"{name}: {line(_text(value), BRIEF)}") for name, value in seed.fields.items()]
    parts += _question(story, record)
    if record.reasoning:
        parts += [_head("reasoning"), _in(_cut(record.reasoning))]
    parts += [_head("answer", _made(record)), _in(_cut(record.answer or "(none)"))]
    for at in story.stages:
        parts += _stage(at)
    parts += [Text(f"\nnote: {visible(note)}", style="yellow") for note in story.notes]
    return Group(*parts)


def _head(name: str, rest: str = "") -> Text:
    return Text.assemble("\n", (name, "bold"), (f"  {visible(rest)}" if rest else "", "dim"))


def _in(text: str | Text, by: int = 2) -> Padding:
    return Padding(Text(visible(text)) if isinstance(text, str) else text, (0, 0, 0, by), expand=False)


def _cut(text: str) -> str:
    text = text.strip("\n")
    return text if len(text) <= LONGEST else text[:LONGEST] + CUT


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _made(record: Record) -> str:
    by = record.made_by
    if not by.engine:
        return ""
    drawn = f"temperature {by.temperature:g}, top_p {by.top_p:g}, seed {by.seed}, sample {by.sample}"
    tokens = f"{by.completion_tokens} of {by.max_tokens} tokens, {by.finish_reason}"
    return f"{by.engine} {by.model}; {drawn}; {tokens}"


def _question(story: Story, record: Record) -> list[RenderableType]:
    """What was asked, of several questions each; the record's own turns where that is not known."""
    prompt = f"prompt {record.made_by.prompt}" if record.made_by.prompt else ""
    turns = [m.model_dump() for m in record.messages if m.role != "assistant" or m is not record.messages[-1]]
    if not story.asked:
        return [_head("asked", "; ".join(filter(None, [prompt, "as the record has it"]))), *_turns(turns)]
    several, parts = len(story.asked) > 1, list[RenderableType]()
    before: list[dict[str, str]] = []
    for n, one in enumerate(story.asked, 1):
        which = [f"question {n} of {len(story.asked)}" if several else "", prompt, one.model]
        gave = "the record is from its answer" if several and one.gave else ""
        same = one.messages == before
        again = "the same as before" if same else ""
        parts += [_head("asked", "; ".join(filter(None, [*which, again, gave]))), *_turns([] if same else one.messages)]
        before = one.messages
        if several and not one.gave:
            parts.append(_in(_answered(one)))
    if all(one.messages != turns for one in story.asked):
        parts += [_head("kept as", "the turns that the record holds"), *_turns(turns)]
    return parts


def _answered(one: Asked) -> Text:
    said = line(one.said, BRIEF) if one.remembered else "the memo does not hold the answer"
    return Text.assemble(("said  ", "dim"), said)


def _turns(turns: list[dict[str, str]]) -> list[RenderableType]:
    return [_in(Text.assemble((f"[{t['role']}] ", "dim"), visible(_cut(t["content"])))) for t in turns]


def _stage(at: At) -> list[RenderableType]:
    ended = f"by {at.by}: {at.reason}" if at.by else ""
    head = Text.assemble("\n", (at.stage, "bold"), (f"  {at.version}" if at.version else "", "dim"))
    if at.fate:
        head.append(f"  {at.fate} {ended}".rstrip(), style="red" if at.by else "green")
    parts: list[RenderableType] = [head]
    if at.note:
        parts.append(_in(Text(line(at.note, BRIEF), style="yellow" if at.fate else "dim")))
    chosen = at.stage == "curate"
    checks = [check for check in at.checks if not (chosen and check.name == "nearest")]
    if checks:
        parts.append(Padding(_choice(checks) if chosen else _checks(checks), (0, 0, 0, 2), expand=False))
    for check in checks:
        parts += [_in(piece, 4) for piece in _verdict(check)]
    parts += [_in(_neighbour(one)) for one in at.neighbours]
    parts += [_in(_row(at.stage, row)) for row in at.rows]
    return parts


def _checks(checks: list[Measured]) -> Table:
    table = console.table("check", "value", "bounds", "", "", right=("value",))
    for check in checks:
        if not check.measured:
            table.add_row(visible(check.name), "", "", Text("not measured", style="dim"), "dropped before")
            continue
        fate = Text("passed") if check.passed else Text(check.reason, style="red")
        table.add_row(visible(check.name), number(check.value), _bounds(check), fate, line(check.detail, BRIEF))
    return table


def _bounds(check: Measured) -> Text:
    """Every bound of the value itself; of further measures those that do not hold, and the number of those that do."""
    own = [b for b in check.bounds if b.value == check.value or not b.held]
    parts = [f"{b.setting} {b.bound:g}" + (f" ({number(b.value)})" if b.value != check.value else "") for b in own]
    if more := len(check.bounds) - len(own):
        parts.append(f"{more} more held")
    return Text(visible(", ".join(parts)))


def _choice(checks: list[Measured]) -> Table:
    """Topic, duplicate, and whether it was chosen, as the how-manieth."""
    table = console.table("", "", "")
    for check in checks:
        ranked = check.name not in SELECTED
        if ranked:
            value = f"chosen, rank {check.value:g}" if check.passed else check.reason
        else:
            value = number(check.value) if check.passed else f"{check.reason}, {number(check.value)}"
        table.add_row(visible(check.name), value, line(check.detail, BRIEF))
    table.show_header = False
    return table


def _verdict(check: Measured) -> list[Text]:
    """What a judge was asked, and every vote."""
    if not check.votes:
        return []
    asked = Text.assemble((f"{check.name} was asked  ", "dim"), line(check.asked[-1]["content"], LONGEST))
    return [asked, *(_vote(vote) for vote in check.votes)]


def _vote(vote: Vote) -> Text:
    shares = ", ".join(f"{choice} {share:.0%}" for choice, share in vote.shares.items())
    thought = f"; it thought: {line(vote.reasoning, LONGEST)}" if vote.reasoning else ""
    said = f"{line(vote.said, BRIEF)}{f' ({shares})' if shares else ''}"
    return Text.assemble((f"{visible(vote.model)} said  ", "dim"), said, thought)


def _neighbour(one: Neighbour) -> Text:
    how = "nearest chosen" if one.how == "nearest" else "a duplicate of"
    head = f"{how} {visible(one.id)}, cosine {one.cosine:.3f}: "
    return Text.assemble((head, "dim"), line(one.text, BRIEF) or "(not in this version)")


def _row(stage: str, row: dict[str, Any]) -> Text:
    """A training row, a pair, or models' answers: what of them does not stand above."""
    told: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            told |= {f"{name}.{inner}": said for inner, said in value.items()}
        elif name not in ("id", "prompt", "heldout", "split"):
            told[name] = value
    parts = [Text.assemble((f"{visible(name)}  ", "dim"), line(_said(value), BRIEF)) for name, value in told.items()]
    head = {"train": "a training row", "filter": "a preference pair", "evaluate": "what models answered"}[stage]
    return Text("\n").join([Text(head), *parts])


def _said(value: Any) -> str:
    """Turns as what they say, anything else as JSON."""
    turns = value if isinstance(value, list) else []
    if turns and all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in turns):
        return " ".join(turn["content"] for turn in turns)
    return _text(value)
