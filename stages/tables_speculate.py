"""What a person wants to see of speculative decoding: speed and acceptance, what theory expects, texts that differ."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline import console
from pipeline.visible import visible
from stages.speculate import Speculated
from stages.speculate_figures import Difference

SHOWN = 10  # differences


def report(found: Speculated) -> RenderableType:
    """The measured passes side by side, the expectation below, then what differs."""
    pieces: list[RenderableType] = [_pair(found), _measured(found), Text()]
    if found.expected:
        pieces += [_expected(found), Text()]
    return Group(*pieces, *_texts(found))


def _pair(found: Speculated) -> Text:
    pair, (whole, part) = found.pair, found.pair.sizes
    line = (
        f"{pair.student.name} ({part / 1e6:,.1f} M) drafts {found.options.tokens} tokens for {pair.teacher.model} "
        f"({whole / 1e6:,.1f} M, {whole / part:.1f} times as many)"
    )
    return Text(visible(line), style="bold")


def _measured(found: Speculated) -> Table:
    places = [_at_once(p.batch) for p in found.passes]
    table = console.table("", *places, right=tuple(places))
    for name, show in (
        ("teacher alone", lambda p: f"{p.alone:,.1f} tokens/s"),
        ("with the draft", lambda p: f"{p.speculative:,.1f} tokens/s"),
        ("speed-up", lambda p: f"{p.speedup:.2f}x"),
        ("accepted", lambda p: f"{p.acceptance:.1%} of {p.drafted:,} drafted"),
        ("by position", lambda p: " ".join(f"{share:.0%}" for share in p.by_position)),
        ("tokens a step", lambda p: f"{p.tokens_per_step:.2f}"),
        ("same answers", lambda p: f"{found.equal(p.batch):,} of {found.rows:,}"),
    ):
        table.add_row(name, *map(show, found.passes))
    return table


def _expected(found: Speculated) -> Table:
    right = ("one token passes", "accepted", "tokens a step")
    table = console.table("decoding", *right, right=right, title="Expected, by both models at the teacher's answers")
    for row in found.expected:
        table.add_row(row.decoding, f"{row.chance:.1%}", f"{row.acceptance:.1%}", f"{row.tokens_per_step:.2f}")
    return table


def _texts(found: Speculated) -> list[Text]:
    shown = [Text(visible(_difference(d, found.dtype))) for d in found.differences[:SHOWN]]
    if (more := len(found.differences) - SHOWN) > 0:
        shown.append(Text(f"and {more:,} more"))
    if found.left_out:
        shown.append(Text(f"note: {found.left_out:,} prompts were too long for an answer under max_model_len"))
    return shown


def _difference(one: Difference, dtype: str) -> str:
    who = "the draft" if one.draft else "no draft"
    verdict = {True: "a tie", False: "NO tie", None: "not looked at"}[one.tie(dtype)]
    less = "" if one.less is None else f", {one.less:.4f} nats less likely"
    words = f" {one.texts[1]!r} for {one.texts[0]!r}" if one.texts else ""
    return f"record {one.id}, {_at_once(one.batch)}, {who}: token {one.at}{words}{less}: {verdict}"


def _at_once(batch: int) -> str:
    return "one at a time" if batch == 1 else f"{batch} at once"
