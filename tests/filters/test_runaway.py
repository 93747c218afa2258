"""No text of any shape keeps a rule busy: patterns that go over a text again and again are a way to stop a run."""

import time

import pytest

from filters.base import Filter
from filters.finish import Finish
from filters.format import Format
from filters.identity import Identity
from filters.pii import Pii
from filters.placeholder import Placeholder
from filters.refusal import Refusal
from tests.helpers import record

SIZE = 60_000
PIECES = (
    '"', "`", "` ", "```\n", "{{", "{{ a ", "[your ", "<", "___ ", "1-", "1.", "a@", "a.a@a.", "a.", "2001:",
    "i am an ", "as an ai ", "sorry i ", "my knowledge ",
    "저는 네이버가 ", "\n", "- a\n", "\\", "$", '{"a":', '["', "http://",
    "<pre>", "<code a", "“", "900101-", "driver's license ", "passport A", "gpt by i am ", "\\begin{a}",
)  # fmt: skip


@pytest.mark.parametrize(
    "rule", [Refusal(), Identity(), Placeholder(), Finish(), Format(), Pii()], ids=lambda r: r.label
)
def test_repeated_pieces_are_read_in_time(rule: Filter) -> None:
    """60 kB of one piece over and over takes under 2 CPU seconds, alone and before an at sign."""
    for piece in PIECES:
        text = piece * (SIZE // len(piece))
        for answer in (text, text + "@"):
            began = time.process_time()
            rule.judge(record(answer, prompt=text))
            assert time.process_time() - began < 2, piece
