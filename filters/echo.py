"""The answer repeats the instruction instead of following it.

Some tasks are to give back what was given, changed a little: a translation, a correction, a completion. There the
material may stand in the answer, and only the whole prompt said again is an echo.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import regex
from pydantic import Field
from rapidfuzz import fuzz
from rapidfuzz.distance import Postfix, Prefix

from filters.base import Filter, Measure
from filters.text import normal
from pipeline.records import Check, Record

BLOCK = 10  # a common part of twice this length holds one of the blocks that a text is cut into
PROMPT, ANSWER, PLACES = 4000, 20_000, 8  # characters that are compared, places where one block is looked at
WHOLE = 0.95  # share of a prompt that is all of it
NEAR = 90  # similarity (rapidfuzz.fuzz.ratio) from which an answer is the prompt with slips
# Asks to work on a text that the prompt holds, in the languages of the presets.
_REWRITE = regex.compile(
    r"\b(?:re-?writ|re-?phras|paraphras|translat|correct|proofread|edit|fix|debug|refactor|improv|revis|convert|"
    r"transform|complet|continu|finish|fill|replac|remov|add|insert|format|punctuat|capitali|simplif|repeat|quote|copy|"
    r"extract|highlight|annotat|label|tag|sort|order|rearrang|reorder|unscrambl|shorten|expand|change|modif|turn|"
    r"summari|mark|identify|find|pick|select|choose|spell|reverse|clean|polish)\w*"
    r"|고쳐|고치|수정|교정|첨삭|번역|옮겨|바꿔|바꾸|변환|다듬|완성|이어|채우|채워|추출|반복|인용|따라|정리|요약|줄여|늘려|삭제|추가|"
    r"넣어|정렬|표시|찾아|골라|고르|맞춤법|띄어쓰기|리팩|디버"
)


_SENTENCE = regex.compile(r"[^\n]*?[.?!。？！](?=\s|$)|[^\n]+")
_ASKS = regex.compile(
    r"[?？]$|^(?:please|can you|could you|write|explain|describe|give|list|generate|create|name|tell|provide|make|"
    r"suggest|discuss|compare|define|design|imagine|compose|draft|outline|show|state|calculate|compute|solve|answer|help|what|"
    r"why|how|who|when|where|which)\b|(?:주세요|줘|주십시오|시오|하라|해라|세요|까|나요|가요|ください|なさい)[.?!。]?$"
)
_CODE = regex.compile(r"\b(?:def|class|function|import|return|select|public|const|var|let)\b|#include|[{};]|=>")
_ENDS = ".!?:;…。！？：)]-–—"  # what stands before a sentence; a quotation mark or a heading's # does not


class Echo(Filter):
    """Drops answers that say the instruction again: its first sentence, or the whole prompt in one piece.

    Words of a question taken up in the answer ("The main ingredient of ... is") are no echo.
    """

    kind: Literal["echo"] = "echo"
    prefix_chars: Annotated[int, Field(ge=5, description="shorter instructions cannot be echoed")] = 20
    max_share: Annotated[
        float,
        Field(gt=0, le=1, description="share of the first sentence, from its start, that may stand in the answer"),
    ] = 0.6

    def judge(self, record: Record) -> Check:
        """The longest common part of prompt and answer in characters (0 below 20), white space and case aside."""
        prompt, answer = normal(record.prompt[:PROMPT]), normal(record.answer[:ANSWER])
        if len(prompt) < self.prefix_chars:
            return self.yes(0)
        common = longest_common(prompt, answer)
        head, prefix = _head(record.prompt), prompt[: self.prefix_chars]
        at = _said(prefix, answer)
        if at < 0 or _formal(prefix):
            return self.yes(len(common))
        said = Prefix.similarity(prompt, answer[at:])
        if self.prefix_chars <= len(head) < said / self.max_share and _instructs(head, prompt):
            return self.no(said, "repeats_instruction", f"holds {prompt[: min(said, 80)]!r}")
        if said >= WHOLE * len(prompt) or _slips(prompt, answer[at:]):
            return self.no(said, "copies_prompt", f"the answer holds the whole prompt: {prompt[:80]!r}")
        return self.yes(len(common))

    def measures(self, record: Record) -> Iterator[Measure]:
        """How much of the first sentence the answer holds from its start, where that sentence is an instruction."""
        prompt, answer = normal(record.prompt[:PROMPT]), normal(record.answer[:ANSWER])
        head, prefix = _head(record.prompt), prompt[: self.prefix_chars]
        if len(head) < self.prefix_chars or _formal(prefix) or not _instructs(head, prompt):
            return
        at = _said(prefix, answer)
        said = Prefix.similarity(prompt, answer[at:]) if at >= 0 else 0
        yield Measure("max_share", "max", self.max_share, said / len(head))


def _said(prefix: str, answer: str) -> int:
    """Where a sentence of the answer begins with the prefix, outside quotes and headings; -1 where none does."""
    at = answer.find(prefix)
    while at > 0 and answer[:at].rstrip()[-1:] not in (*_ENDS,):
        at = answer.find(prefix, at + 1)
    return at


def _formal(text: str) -> bool:
    """Whether it is code or a formula, which an answer may well begin with."""
    return bool(_CODE.search(text)) or sum(map(str.isalpha, text)) < 0.6 * len(text)


def _slips(prompt: str, answer: str) -> bool:
    """Whether an answer is the prompt with slips."""
    near = 0.8 < len(answer) / len(prompt) < 1.25 and _REWRITE.search(prompt) is None
    return near and fuzz.ratio(prompt, answer, score_cutoff=NEAR) > 0


def _head(prompt: str) -> str:
    """The first sentence, or the first line."""
    found = _SENTENCE.match(prompt.lstrip()[:PROMPT])
    return normal(found[0]) if found else normal(prompt[:PROMPT])


def _instructs(head: str, prompt: str) -> bool:
    """Whether a first sentence asks for something other than to work on a text that the prompt holds."""
    if _REWRITE.search(prompt):
        return False
    return len(head) >= WHOLE * len(prompt) or bool(_ASKS.search(head))


def longest_common(one: str, other: str) -> str:
    """The longest string that stands in both, if it has 20 characters or more; "" otherwise."""
    best, done = "", 0
    for start in range(0, len(one) - BLOCK + 1, BLOCK):
        if start < done:
            continue  # lies in a part that was found
        at = -1
        for _ in range(PLACES):
            at = other.find(one[start : start + BLOCK], at + 1)
            if at < 0:
                break
            left = Postfix.similarity(one[:start], other[:at])
            right = start + BLOCK + Prefix.similarity(one[start + BLOCK :], other[at + BLOCK :])
            done = max(done, right - BLOCK)
            best = max(best, one[start - left : right], key=len)
    return best if len(best) >= 2 * BLOCK else ""
