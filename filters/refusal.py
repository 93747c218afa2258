"""Refusals and assistant disclaimers, in English and Korean.

What counts is how an answer opens, in its author's own words: a story whose fox says "I cannot help you", a
letter that declines an invitation and an answer that is sorry to hear something refuse nobody.
"""

from typing import Annotated, Literal, NamedTuple

import regex
from pydantic import Field

from filters.base import TextFilter
from filters.hints import Hints
from filters.markup import own_words, sentences
from filters.text import words
from pipeline.records import Check

Reason = Literal["refusal", "partial_refusal", "assistant_disclaimer"]

OPENING = 600  # characters: a refusal comes first
FIRST = 4  # sentences of the opening in which one refuses
ANSWERS_FROM = 80  # words beside the refusing ones: from here on it answers all the same

# One of these stands in every opening that refuses: looked for first, for most hold none.
_HINTS = Hints(
    "sorry", "apolog", "can't", "cannot", "can not", "unable", "not able", "not allowed", "not permitted",
    "not programmed", "not designed", "not authori", "not willing", "not going to", "not in a position", "won't",
    "i will not", "i would", "declin", "refus", "comfortable", "against my", "not within", "beyond my",
    "not something", " ai", "an ai", "language model", "artificial intel", "chatbot", "virtual assistant",
    "have personal", "hold personal", "any personal", "죄송", "미안", "유감", "안타깝", "양해", "수 없", "수는 없",
    "수가 없", "수도 없", "수없", "어렵", "어려", "힘들", "힘듭", "불가", "거절", "곤란", "드리지", "능력 밖",
    "인공지능", "언어 모델", "언어모델", "챗봇", "ai로", "ai이", "ai라", "ai 언",
)  # fmt: skip
_NOT = (
    r"(?:can(?:'t|\s?not)|(?:am|'m)\ (?:\w+\ ){0,2}?(?:unable|not\ (?:able|allowed|permitted|programmed|designed|"
    r"authori[sz]ed|comfortable|going|willing|in\ a\ position))(?:\ to|\ with)?|won't|will\ not|would(?:n't|\ not)"
    r"|(?:must|have\ to|will|'ll|need\ to)\ (?:\w+\ )?(?:decline|refuse)(?:\ to)?|decline\ to|refuse\ to)"
)
# Verbs of an assistant; the others of everybody, which refuse only beside an apology, an "as an AI" or the request.
_SERVE = (
    r"(?:assist|fulfil+|comply|accommodate|condone|endorse|facilitate|satisfy|engage\ in|encourage|entertain"
    r"|(?:help|aid)\ (?:you\ )?(?:with|in|to|you)|help\b(?!\ (?:but|feeling|thinking|\w+ing))"
    r"|respond\ to\ (?:that|this)"
    r"|answer\ (?:that|this|your|such|the)|(?:provide|generate|produce|offer)"
    r"|(?:do|discuss|create|write|share|participate)\ (?:in\ )?(?:that|this|such|content|any)"
    r"|(?:recommend\ or\ )?give\ (?:you\ )?(?:any\ )?instructions)"
)
_DO = (
    r"(?:do|discuss|support|promote|create|write|share|participate|give|tell|show|make|suggest|recommend|advise|answer"
    r"|respond|continue|complete|access|browse|process|open|view|see|predict|disclose|reveal|explain|perform|execute)"
)
_DECLINES = regex.compile(rf"\bi\ ?{_NOT}\ (?:be\ able\ to\ )?(?:\w+(?:\ or|,)?\ ){{0,3}}?{_SERVE}\b", regex.VERBOSE)
_EXCUSED = regex.compile(
    rf"""(?:sorry|apologi[sz]e|apologies|unfortunately|regret|request|instruction|as\ an?\ )
         [^\n]*?(?:\bi\ ?|(?:sorry|apologies
             |unfortunately),?\ (?:but\ )?){_NOT}\ (?:be\ able\ to\ )?(?:\w+(?:\ or|,)?\ ){{0,3}}?(?:{_SERVE}
             |{_DO})\b""",
    regex.VERBOSE,
)
_NOTHING_TO = regex.compile(
    r"sorry[^\n]{0,40}\b(?:that|this)(?:\ is|'s)\ (?:not\ something|beyond|against|outside)"
    r"|\bnot\ something\ i(?:\ can|'m|\ am)|\bagainst\ my\ (?:programming|guidelines|policy|policies|principles)"
    r"|\bnot\ within\ my\ (?:programming|capabilit)|\bbeyond\ my\ (?:capabilit|abilit|scope)"
    r"|^(?:sorry|apologies),?\ (?:but\ )?(?:no\b|can't|cannot|unable)"
    r"|sorry[^\n]{0,30}\b(?:do\ not|don't)\ (?:see|have)\ (?:an?y?|the|enough)\b"
    r"|\bi\ (?:must|will\ have\ to|'ll\ have\ to|have\ to)\ (?:\w+\ )?decline(?:\ (?:this|that|your)\ request"
    r"|\ to\ answer|[.!]?$)"
    r"|n(?:o|')t\ feel\ comfortable\ (?:with\ )?(?:\w+ly\ )?(?:produc|provid|creat|writ|generat|answer|help"
    r"|shar|discuss|assist)",
    regex.VERBOSE,
)
_AI = (
    r"(?:(?:large\ )?(?:ai|artificial\ intelligence|language)(?:[\ -](?:powered|based|language|model|assistant"
    r"|system|chatbot|program|bot|trained))*|chatbot|virtual\ assistant)"
)
_AS_AI = regex.compile(
    rf"\bas\ an?\ (?:[\w-]+,?\ ){{0,5}}?{_AI}\b(?=[,;]|\ (?:developed|trained|created|made|built|designed"
    rf"|programmed|i\b|i'm|my)|$)"
    r"[^\n]*?\b(?:i|i'm|me|my)\b"
    rf"|\b(?:me|i|myself),?\ as\ an?\ (?:[\w-]+,?\ ){{0,5}}?{_AI}\b"
    rf"|\bi(?:\ am|'m)\ (?:just\ |only\ |merely\ |simply\ )?an?\ (?:[\w-]+,?\ ){{0,3}}?{_AI}\b[^\n]*?\b(?:don't"
    rf"|do\ not|can't|cannot|not|unable|no|without)\b"
    r"|\bi\ (?:do\ not|don't)\ (?:have|hold|possess)\ (?:any\ )?(?:personal\ (?:opinion|belief|view|emotion)"
    r"|feelings\ or|human\ (?:emotion|feeling)|(?:real-?time|live)\ (?:access|data|information)"
    r"|a\ physical\ (?:body|form)|consciousness)",
    regex.VERBOSE,
)
_IMPROPER = regex.compile(
    r"(?:not|never|neither|nor|isn't)\ (?:\w+\ ){0,3}?(?:appropriate|ethical|acceptable|accurate|fair"
    r"|respectful|okay|right)"
    r"|inappropriate|unethical|discriminat|harmful|offensive|illegal|stereotyp|n(?:o|')t\ have\ access|n(?:o"
    r"|')t\ have\ the\ ability",
    regex.VERBOSE,
)
_KOREAN_NO = regex.compile(
    r"(?:(?:도와|답해|답변해|대답해|알려|말씀|제공해|작성해|생성해|안내해|추천해|공유해|지원해|설명해|만들어"
    r"|써)\s?드릴|답변할|대답할|제공할|"
    r"도와줄|도울|응할|응답할|생성할|수행할|이행할|공유할|지원할|논의할|따를)\s?수(?:는|가|도)?\s?없"
    r"|(?:답변|답|도움|제공|응답|대답|요청|지원|안내|설명|작성|생성)\S{0,3}\s?(?:을|를|은|는|이|에)?\s?(?:\S+\s)?"
    r"(?:어렵습|어려울|어려워요|어렵네|힘듭|힘들|불가|곤란|거절|드릴\s?수\s?(?:는\s|가\s)?없|응할\s?수\s?없"
    r"|할\s?수\s?(?:는\s|가\s)?없)"
    r"|(?:도와|답해|알려|제공해|작성해|안내해)\s?드리(?:기|지는?)\s?(?:어렵|힘들|못|않)|제\s능력\s밖"
)
_KOREAN_EXCUSE = regex.compile(r"죄송|미안하지만|미안합니다|유감스럽|안타깝|양해")
_KOREAN_CANNOT = regex.compile(
    r"(?:할|드릴|줄|될|쓸|볼|알|열|만들|제공될)\s?수(?:는|가|도)?\s?없(?:습니다|어요|는|음|네)|못합니다"
    r"|않습니다|불가능합니다|어렵습니다|어려워요"
)
_KOREAN_AI = regex.compile(
    r"(?:인공지능|언어\s?모델|ai|챗봇)(?:\s?(?:언어\s?)?(?:모델|비서|어시스턴트|챗봇|시스템))?"
    r"(?:(?:으로서|로서)(?!의)|이기\s때문에|이라서|라서|이므로|이라\s|일\s뿐)"
)


class Finding(NamedTuple):
    """How an answer refuses: the reason, the phrase that shows it, and the share of its words spent on that."""

    reason: Reason
    phrase: str
    share: float


class Refusal(TextFilter):
    """Drops answers that refuse (`refusal`), refuse a part (`partial_refusal`) or speak as an AI."""

    kind: Literal["refusal"] = "refusal"
    drop: Annotated[tuple[Reason, ...], Field(min_length=1, description="what is dropped; the rest is measured")] = (
        "refusal", "partial_refusal", "assistant_disclaimer",
    )  # fmt: skip

    def measure(self, text: str) -> Check:
        """Share of the words that stand in refusing or disclaiming sentences; 0 where there is none."""
        found = refusal_in(text)
        if found is None:
            return self.yes(0)
        detail = f"says {found.phrase!r}"
        if found.reason not in self.drop:
            return self.yes(found.share, f"{found.reason}: {detail}")
        return self.no(found.share, found.reason, detail)


def refusal_in(text: str) -> Finding | None:
    """How a text refuses or disclaims; None where it does neither."""
    head = text[:OPENING].replace("’", "'").lower()
    if not _HINTS.stand_in(head):
        return None
    opening = sentences(own_words(head))[:FIRST]
    judged = [(s, *_judged(s)) for s in opening if _HINTS.stand_in(s)]
    refusing = [(s, kind, phrase) for s, kind, phrase in judged if kind]
    if not refusing:
        return None
    spent = sum(len(words(s)) for s, _, _ in refusing)
    whole = max(spent, len(words(text)))
    declined = next((phrase for _, kind, phrase in refusing if kind == "refusal"), "")
    if not declined:
        return Finding("assistant_disclaimer", refusing[0][2][:80], spent / whole)
    return Finding("partial_refusal" if whole - spent >= ANSWERS_FROM else "refusal", declined[:80], spent / whole)


def _judged(sentence: str) -> tuple[Literal["", "refusal", "assistant_disclaimer"], str]:
    """What a sentence does, and the words that show it."""
    for pattern in (_DECLINES, _EXCUSED, _NOTHING_TO, _KOREAN_NO):
        if found := pattern.search(sentence):
            return "refusal", found[0]
    if _KOREAN_EXCUSE.search(sentence) and (found := _KOREAN_CANNOT.search(sentence)):
        return "refusal", found[0]
    if found := _AS_AI.search(sentence) or _KOREAN_AI.search(sentence):
        improper = _IMPROPER.search(sentence) or _KOREAN_CANNOT.search(sentence)
        return ("refusal" if improper else "assistant_disclaimer"), found[0]
    return "", ""
