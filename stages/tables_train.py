"""What a person wants to see before training: figures of the rows as they are fed, and some of them."""

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

from pipeline import console
from pipeline.visible import visible
from stages.preflight import Example, Preflight

ENDS = 200  # characters shown at either end of a stretch of text


def report(found: Preflight, seconds: float | None) -> RenderableType:
    """Figures, examples, and what was found; `seconds`: how long training will take, None where nobody knows."""
    table = console.table("", "", title="Preflight")
    table.show_header = False
    for name, value in (
        *_sizes(found),
        ("rows", f"{found.rows:,}"),
        ("tokens", f"{found.tokens:,}"),
        ("trained", f"{found.share:.1%} of them"),
        ("longest row", f"{found.longest:,} tokens (record {found.longest_id})"),
        (
            "rows cut",
            f"{found.cut:,}" + (f", {found.lost:,} of them left out: no answer remains" if found.lost else ""),
        ),
        ("steps", f"{found.steps:,}"),
        ("time", "unknown: no earlier version to go by" if seconds is None else f"about {console.clock(seconds)}"),
    ):
        table.add_row(name, Text(value))
    notes = [Text(visible(f"note: {f}"), style="yellow") for f in found.found if not f.fault.refused]
    return Group(table, *(Shown(example) for example in found.examples), *notes)


def _sizes(found: Preflight) -> Iterator[tuple[str, str]]:
    yield "student", f"{found.parameters:,} parameters"
    if found.teacher_parameters:
        ratio = found.teacher_parameters / found.parameters
        yield "teacher", f"{found.teacher_parameters:,} parameters, {ratio:.1f} times the student"


class Shown:
    """A row as it is fed: the trained text in green; between [[ and ]] where there is no colour."""

    def __init__(self, example: Example) -> None:
        self.example = example

    def __rich_console__(self, where: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """One paragraph, under the record's id."""
        plain = where.color_system is None or where.no_color
        text = Text()
        for piece, trained in self.example.pieces:
            words = _brief(piece)
            text.append(f"[[{words}]]" if trained and plain else words, style="green" if trained else "dim")
        name = f"record {self.example.id}" + (f", {self.example.of}" if self.example.of else "")
        yield Text(f"\n{visible(name)}: trained tokens {'in [[ ]]' if plain else 'in green'}", style="bold")
        yield text


def _brief(text: str) -> str:
    """Without control characters, and without the middle where it is long."""
    clean = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= 2 * ENDS + 5 else f"{clean[:ENDS]} ... {clean[-ENDS:]}"
