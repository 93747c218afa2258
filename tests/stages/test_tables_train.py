"""What a person sees of the look before training."""

import io

from rich.console import Console

from stages.preflight import UNKNOWN, Example, Preflight
from stages.tables_train import report

EXAMPLE = Example("r0", [("<s>a fox?", False), ("A [bold] fox.\x1b[2J</s>", True)])
FOUND = Preflight(1200, 90_000, 60_000, 300, "r7", 12, 3, 3, 450, 3.0, [UNKNOWN], [EXAMPLE], None, 40, 100)


def printed(seconds: float | None, *, colour: bool) -> str:
    file = io.StringIO()
    system = "standard" if colour else None
    Console(file=file, width=100, force_terminal=colour, color_system=system).print(report(FOUND, seconds))  # type: ignore[arg-type]
    return file.getvalue()


def test_trained_text_is_marked_where_there_is_no_colour() -> None:
    """Brackets stand around it; text is never markup, nor an order to the terminal."""
    text = printed(None, colour=False)
    assert "<s>a fox?[[A [bold] fox.\N{REPLACEMENT CHARACTER}[2J</s>]]" in text
    assert "record r0: trained tokens in [[ ]]" in text


def test_trained_text_is_green_on_a_terminal() -> None:
    """Colour takes the place of the brackets."""
    text = printed(None, colour=True)
    assert "\x1b[32mA [bold] fox." in text and "[[" not in text and "\x1b[2J" not in text


def test_the_figures_are_there() -> None:
    """All that the table is for, with what is worth a note."""
    text = printed(125, colour=False)
    for words in ("1,200", "90,000", "66.7% of them", "300 tokens (record r7)", "12, 3 of them left out", "450"):
        assert words in text
    assert "student      40 parameters" in text and "teacher      100 parameters, 2.5 times the student" in text
    assert "about 2:05" in text and "unknown" not in text.split("note:")[0]
    assert "note: the teacher's tokenizer is not here" in text
    assert "unknown: no earlier version" in printed(None, colour=False)


def test_long_texts_lose_their_middle() -> None:
    """Both ends of a stretch stay to be seen."""
    long = Preflight(*FOUND[:11], [Example("r0", [("begin " + "x " * 3000 + " end", True)])], None)
    file = io.StringIO()
    Console(file=file, width=500).print(report(long, None))
    assert "[[begin x x" in file.getvalue() and "x x  end]]" in file.getvalue() and len(file.getvalue()) < 1500
