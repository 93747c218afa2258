"""Answers that stop before they are done.

What the engine said counts first (`finish_reason: length`); then what the text shows: an open code fence, JSON whose
brackets stay open, a last sentence without an end among sentences that have one. Lists, titles, tables, verse, code
and short answers need no full stop.
"""

from typing import Annotated, Literal, NamedTuple

import orjson
import regex
from pydantic import Field

from filters.base import TextFilter
from filters.markup import blocks
from pipeline.records import Check, Record

FEW_WORDS = 4  # a last line of fewer words is a title, a signature, a short answer
MANY_WORDS = 5  # a last line without any full stop is a sentence from here on
LONG = 300  # characters: shorter answers do without a last full stop; only a hanging word tells there
CUT = {"length": "cut_by_length", "content_filter": "content_filter"}


class Cut(NamedTuple):
    """What shows that a text is cut, and how many characters its open end has."""

    reason: str
    detail: str
    size: int


class Finish(TextFilter):
    """Drops answers that were cut: by the engine, in a code block, in JSON, in a sentence."""

    kind: Literal["finish"] = "finish"
    sentences: Annotated[bool, Field(description="also look for a last sentence that has no end")] = True

    def judge(self, record: Record) -> Check:
        """The engine's word about the answer, then the texts'."""
        reason = CUT.get(record.made_by.finish_reason)
        if reason is not None and self.on != "prompt":
            return self.no(len(record.answer), reason, f"finish_reason is {record.made_by.finish_reason!r}")
        return super().judge(record)

    def measure(self, text: str) -> Check:
        """Characters of the open end: after the fence, the JSON's or the last sentence's beginning; 0 when finished."""
        cut = cut_in(text, sentences=self.sentences)
        return self.yes(0) if cut is None else self.no(cut.size, cut.reason, cut.detail)


def cut_in(text: str, *, sentences: bool = True) -> Cut | None:
    """What shows that a text is cut; None where nothing does."""
    text = text.strip()
    fenced = blocks(text)
    if fenced and not fenced[-1].closed:
        last = fenced[-1]
        return Cut("unclosed_fence", f"the code block {_shown(text[last.start :])} has no end", len(text) - last.start)
    if text[:1] in ("{", "[") and (broken := _open_json(text)):
        return broken
    if not sentences or not text or (fenced and fenced[-1].end == len(text)):
        return None
    return _open_sentence(text)


_JSON = regex.compile(r'\{\s*(?:"[^"\n]*"\s*:|$)|\[\s*(?:[{"\[]|-?\d+(?:\.\d+)?\s*,)')
_TOKEN = regex.compile(r'"(?:[^"\\]|\\.)*+(?:"|$)|[\[\]{}]', regex.DOTALL)


def _open_json(text: str) -> Cut | None:
    """JSON that the text begins as, and whose brackets or quotes stay open to its end."""
    if not _JSON.match(text):
        return None
    try:
        orjson.loads(text)
        return None
    except orjson.JSONDecodeError:
        pass
    depth, token = 0, ""
    for token in _TOKEN.findall(text):
        depth += (token in "{[") - (token in "}]") if len(token) == 1 else 0
        if depth == 0:
            return None  # whole: what follows, or what is wrong inside, is another rule's matter
    return Cut("broken_json", f"ends with {_shown(text[-40:])} and {depth} brackets open", len(text))


_OPEN = regex.compile(r"[,(\[{:：，、][*_\"'”’ ]*$")
_MARKER = regex.compile(r"^\s*(?:>\s*)?(?:[-*•·▪◦+]|\d{1,3}[.)]|\(?[a-z가-하][.)]|#{1,6})\s*(?:\*\*|__)?")
_END = regex.compile(r"[.!?…。！？‼⁉~](?:[\"'”’)\]*_`»」』）]*)(?=\s|$|\p{Hangul}|\p{Han}|\p{Hiragana}|\p{Katakana})")
_STOPPED = regex.compile(
    r"[.!?…。！？‼⁉;:~\"'”’)\]`»」』）|>*_\p{So}\p{Sm}\p{Sc}\p{N}%/\\\p{Emoji_Presentation}\uFE0F^-]"
)
_CODE = regex.compile(r"[{};=<>]|^\s*(?:def \w+\(|class \w+[:(]|import \w+$|#include|\$ |@\w)|\w\(|\\\w")
_BOLD = regex.compile(r"(?:^|\s)\*\*\p{L}[^*]*$")  # opened, and not closed
_ADDRESS = regex.compile(r"^\W*(?:https?://|www\.)|\S@\S")
# No sentence, title or item ends with these.
_HANGING = regex.compile(
    r"\b(?:the|an|and|or|of|with|from|that|which|their|its|your|my|our|because|than|into|such|but|while|although|whose"
    r"|if|are|were|was|has|have|had|would|could|should|may|might|must|as|between|including|by)$"
    r"|(?:를|에서|에게|하는|위한|및|또는|되는|이며|하며|통해|대한|관한|그리고|있는|없는|위해서는)$",
    regex.IGNORECASE,
)
# How Korean predicates end, with or without a full stop, and how Japanese and Chinese ones do.
_PREDICATE = regex.compile(
    r"(?:다|요|죠|까|니|네|지|라|자|군|걸|음|함|임|됨|기|것|야|어|아|해|래|게|데|돼|줘|나|냐|구|와|봐|셔|쇼|뿐|듯"
    r"|밖에|거든|[은인던한는]가|ㅋ|ㅎ|ㅠ|ㅜ|ます|です|た|る|い|ね|よ|か|了|的|吗|吧|呢)$"
)
_SIGNED = regex.compile(
    r"^(?:yours?|with|best|kind|warm|love|sincerely|respectfully|regards|thanks?|cheers)\b[^.]{0,50},\s",
    regex.IGNORECASE,
)


def _open_sentence(text: str) -> Cut | None:
    """A last line that stops in the middle."""
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1].strip()
    bare = _MARKER.sub("", last).strip()
    marked = bare != last
    before = [line.strip() for line in lines[:-1]]
    if _empty_item(last, bare, before):
        return Cut("cut_sentence", f"the last item is empty: {_shown(last)}", len(last))
    if before and (bold := _BOLD.search(last)):
        return _cut(last, bold.start())
    if last.startswith("|") or (_STOPPED.match(last[-1]) and not _OPEN.search(last[-8:])):
        return None
    if _CODE.search(last) or _ADDRESS.search(last.split()[-1][:80]) or _SIGNED.search(bare):
        return None
    count = len(bare.split())
    hangs = _HANGING.search(bare[-20:]) and bare.count(",") < count - 1  # "a, an, the" enumerates
    if (_OPEN.search(last[-8:]) or hangs) and count >= FEW_WORDS:
        return _cut(last, 0)
    if len(text) < LONG or _PREDICATE.search(bare[-4:]):
        return None
    if ends := list(_END.finditer(bare)):
        tail = bare[ends[-1].end() :].strip()
        signed = _SIGNED.search(tail) or not _is_sentence(tail, FEW_WORDS)
        return None if signed else _cut(last, len(last) - len(tail))
    if marked and count > 1 and _end_so([line for line in before if _MARKER.match(line)], least=3, words=12):
        return _cut(last, 0)
    return _cut(last, 0) if not marked and _is_sentence(bare, MANY_WORDS) and _end_so(before, least=2) else None


def _empty_item(last: str, bare: str, before: list[str]) -> bool:
    """Whether the last line is the mark of an item alone, after items of a list."""
    if not before or not (last.isdigit() or (bare != last and not bare)):
        return False
    return any(_MARKER.match(line) for line in before[-6:])


def _cut(line: str, start: int) -> Cut:
    open_end = line[start:]
    return Cut("cut_sentence", f"ends with {_shown(open_end[-60:])}", len(open_end))


def _is_sentence(text: str, least: int) -> bool:
    """Whether a piece without an end is long enough for a sentence, and neither a title nor a signature."""
    split = text.split()
    if len(split) < least:
        return len(text) >= 4 * least and regex.search(r"\p{Han}|\p{Hiragana}", text) is not None
    capitals = sum(word[:1].isupper() for word in split)
    return capitals <= len(split) / 2


def _end_so(lines: list[str], *, least: int, words: int = FEW_WORDS) -> bool:
    """Whether nearly all lines of `words` words or more, and `least` of them, end as sentences do."""
    long = [line for line in lines if len(line.split()) >= words and line[-1] not in ":：*"]
    ended = sum(_END.search(line, max(0, len(line) - 6)) is not None for line in long)
    return ended >= least and ended >= 0.8 * len(long)


def _shown(text: str) -> str:
    return repr(text.strip()[:60])
