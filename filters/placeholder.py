"""Templates that show: slots nobody filled, control tokens of chat formats, and inputs that are not there.

What the prompt asks for is no leak: a template, a form, a quiz with blanks, code in Jinja, Vue or LaTeX. Code blocks
and code in backticks are left out, but for control tokens at the very end of an answer.
"""

from typing import Annotated, Literal, NamedTuple

import regex
from pydantic import Field

from filters.base import TextFilter
from filters.hints import Hints
from filters.markup import prose
from pipeline.records import Check, Record


class Leak(NamedTuple):
    """What shows: the reason and the words."""

    reason: str
    words: str


class Placeholder(TextFilter):
    """Drops records with unfilled slots, `<noinput>`, control tokens, or an input that is only named or linked."""

    kind: Literal["placeholder"] = "placeholder"
    on: Annotated[Literal["answer", "prompt", "both"], Field(description="which text it reads")] = "both"

    def judge(self, record: Record) -> Check:
        """How many leaks the texts hold; the reason is the first one's, the prompt's before the answer's."""
        prompt, found = record.prompt, list[Leak]()
        if self.on != "answer":
            found += [leak._replace(words=f"the prompt: {leak.words}") for leak in leaks(prompt, asks=True)]
            found += missing_input(prompt)
        if self.on != "prompt":
            found += leaks(record.answer, prompt=prompt)
        return self._check(found)

    def measure(self, text: str) -> Check:
        """How many leaks a text holds by itself."""
        return self._check(leaks(text))

    def _check(self, found: list[Leak]) -> Check:
        if found:
            return self.no(len(found), found[0].reason, f"holds {found[0].words[:100]!r}")
        return self.yes(0)


_MARKS = Hints("{{", "${", "___", "<", "[", "###")
_CONTROL = regex.compile(
    r"<[|｜][\w▁ ]{2,40}[|｜]>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?think>|<\|?eot_id\|?>|<unk>"
    r"|<pad>|\[PAD\]"
    r"|^###\s?(?:Instruction|Response|Input)\s?:|^<s>|</s>$",
    regex.MULTILINE,
)
_CONTROL_AT_END = regex.compile(r"(?:<[|｜][\w▁ ]{2,40}[|｜]>|\[/INST\]|<end_of_turn>|(?<!<s>[^\n]{0,200})</s>)\s*$")
_OF_TOKENS = regex.compile(r"token(?!s? of)|토큰|chat template|채팅 템플릿", regex.IGNORECASE)
_NO_INPUT = regex.compile(r"<\s?no\s?(?:input|output)\s?>", regex.IGNORECASE)
_BRACES = regex.compile(
    r"(?<![\\{$}\w^_])\{\{[-~]?\s*([\p{L}_][\p{L}\p{N}_. -]{0,40}?)\s*[-~]?\}\}(?!\})"
    r"|\$\{[a-z_][\w.]{1,30}\}(?!\S*[;`(])"
)
_NAMED = (
    r"name|full name|first name|last name|surname|date|today'?s date|address|city(?:, state)?|state"
    r"|zip(?: code)?|phone(?: number)?|email(?: address)?"
    r"|company(?: name)?|organi[sz]ation(?: name)?|position|job title|job position|title|signature"
    r"|recipient(?:'?s)?(?: name)?|sender(?:'?s)?(?: name)?|website|url"
    r"|link|number|amount|location|time|month|year|day|product(?: name)?|brand(?: name)?|customer(?:'?s)? name"
    r"|manager'?s name|employer'?s? name|school(?: name)?"
    r"|university(?: name)?|department|topic|subject|contact information"
)
_KOREAN_SLOT = (
    r"(?:귀하의\s|당신의\s|본인의?\s|귀사의?\s|고객\s?|담당자\s?|수신자\s?|발신자\s?|상대방\s?|친구\s?|제품\s?"
    r"|회사\s?)?(?:이름|성명|성함|날짜|주소|연락처"
    r"|전화번호|이메일(?:\s주소)?|회사명|회사|직책"
    r"|직위|부서명?|제품명|학교명?|장소|시간|금액|서명|링크|제목)|[\p{Hangul} ]{1,20}\s?(?:입력|기입"
    r"|삽입)(?:하세요|해\s?주세요)?"
)
_BIDS = r"(?:your|insert|enter|add|fill\ in|include|specify|mention|the\ name\ of|name\ of)[ _'][^\]\n]{1,60}"
_SLOT = regex.compile(
    rf"(?<![\w\])\[])\[(?:{_BIDS}|(?:{_NAMED})|{_KOREAN_SLOT})\](?![(\[:\]])", regex.IGNORECASE | regex.VERBOSE
)
_BIDDING = regex.compile(rf"(?<![\w\])\[])\[{_BIDS}\](?![(\[:\]])", regex.IGNORECASE | regex.VERBOSE)
_BLANK = regex.compile(r"(?<![\w_\\])_{3,}(?![\w_])")
_RULE = regex.compile(r"^[ \t]*_{3,}[ \t]*$", regex.MULTILINE)
_ENGINE = regex.compile(r"jinja|handlebars|mustache|\bvue\b|angular|liquid|\bhelm\b|ansible|#!/", regex.IGNORECASE)
_MARKUP = regex.compile(r"</?[a-zA-Z][\w-]*(?:\s[^<>\n]*)?/?>")

# A prompt that speaks of these wants them in the answer.
_WANTS_SLOTS = regex.compile(
    r"template|placeholder|\bform\b|boilerplate|fill[ -]?in|blank|sample letter|\[[\p{L}' ]{2,30}\]|템플릿|양식|서식"
    r"|빈\s?칸|괄호|틀",
    regex.IGNORECASE,
)
_WANTS_BRACES = regex.compile(
    r"template|placeholder|jinja|handlebars|mustache|\bvue|angular|svelte|liquid|django|flask|ansible|helm"
    r"|hugo|twig|blade|prompt|latex|html"
    r"|variable|f-?string|format|github action|workflow|yaml|moustache|langchain|react|jsx|템플릿|양식|변수"
    r"|프롬프트|\{\{|\$\{",
    regex.IGNORECASE,
)
_WANTS_BLANKS = regex.compile(
    r"__|blank|cloze|fill|worksheet|quiz|form\b|template|underscore|signature|contract|questionnaire|markdown"
    r"|hangman|ascii|draw|빈\s?칸|밑줄|양식|서식|퀴즈|괄호|문제|계약서|템플릿",
    regex.IGNORECASE,
)


def leaks(text: str, *, prompt: str = "", asks: bool = False) -> list[Leak]:
    """What shows of a template in a text, but for what `prompt` wants.

    A text that `asks` may hold blanks and named slots, for they are what is to be filled.
    """
    if not _MARKS.stand_in(text):
        return []
    found = (
        [Leak("control_token", m[0].strip()) for m in _CONTROL_AT_END.finditer(text)] if text[-1:] in ">]\n " else []
    )
    text = prose(text)
    if any(mark in text for mark in ("<", "[", "###")) and not found and not _OF_TOKENS.search(text):
        found += [Leak("control_token", m[0]) for m in _CONTROL.finditer(text) if m[0] not in prompt]
    if "<" in text:
        found += [Leak("no_input_mark", m[0]) for m in _NO_INPUT.finditer(text) if m[0] not in prompt]
    if ("{{" in text or "${" in text) and not _WANTS_BRACES.search(_BRACES.sub("", text) if asks else prompt):
        found += [Leak("template_variable", m[0]) for m in _BRACES.finditer(text) if not _in_markup(text, m.start())]
    if "[" in text and not _WANTS_SLOTS.search(prompt):
        found += [Leak("unfilled_slot", m[0]) for m in (_BIDDING if asks else _SLOT).finditer(text)]
    if "___" in text and not asks and not _WANTS_BLANKS.search(prompt):
        found += [Leak("unfilled_blank", m[0][:20]) for m in _BLANK.finditer(_RULE.sub("", text))]
    return found


def _in_markup(text: str, position: int) -> bool:
    """Whether a line, or one beside it, is source code that stands there without a fence."""
    start = text.rfind("\n", 0, max(0, text.rfind("\n", 0, position))) + 1
    end = text.find("\n", max(0, text.find("\n", position)) + 1 or len(text))
    around = text[start : end if end >= 0 else len(text)]
    return bool(_MARKUP.search(around)) or "\\" in around or "{%" in text or bool(_ENGINE.search(text))


_MEDIA = r"(?:images?|pictures?|photos?|photographs?|screenshots?|figures?|diagrams?|infographic|painting|drawing)"
_FILES = (
    rf"(?:{_MEDIA}|files?|documents?|pdf|spreadsheets?|audio|videos?|recordings?|charts?|graphs?|tables?|attachments?)"
)
_ATTACHED = regex.compile(
    rf"""\b(?:attached|(?:the|this|that|an|my)\ uploaded|enclosed)\ (?:\w+\ )?{_FILES}\b
    | \b(?:following|above|provided|given|shown)\ {_MEDIA}\b(?!\ (?:descriptions?|captions?|url|tag|file
        |name|link|format|of\ speech|book|in\ words))
    | \b{_MEDIA}\ (?:i\ |that\ i\ |that\ is\ |i've\ )?(?:\ ?have\ )?(?:attached|uploaded|(?:shown|given
        |provided)?\ ?(?:below|above)(?=\W*$|[.,?!:]))
    | \b(?:see|look\ at|in)\ the\ attached\b
    | 첨부(?:한|된|드린|해\s?드린)?\s?(?:이미지|사진|그림|파일|문서|자료|스크린\s?샷|동영상|영상|도표|표|그래프)
    | (?:다음|아래|위|위의|아래의|제공된|주어진|업로드한|올린)\s?(?:이미지|사진|그림|스크린\s?샷)(?:을|를
        |에서|은|는|의|에|이|가|\s)(?!\s?(?:설명|묘사|캡션))
    """,
    regex.VERBOSE | regex.IGNORECASE,
)
_ATTACHED_HINTS = Hints(
    "attach", "upload", "enclosed", "below", "above", "following", "provided", "given", "shown",
    "이미지", "사진", "그림", "첨부", "스크린",
)  # fmt: skip
_URL = regex.compile(r"(?:https?://|www\.)[^\s<>\"'）)]+")
_ABOUT_URLS = regex.compile(
    r"\b(?:url|urls|uri|domain|host ?name|encode|decode|parse|shorten|regex|query string|http status|curl|wget"
    r"|scrap|request|api|code|python|script"
    r"|function|slug|phishing|valid|extract|link|classif)|도메인|주소|인코딩|파싱|링크|코드",
    regex.IGNORECASE,
)
_TO_READ = regex.compile(
    r":\s*$|summar|article|\b(?:page|website|blog|post|video|read|review|translate|paraphrase|transcri\w*|this"
    r"|following)\b"
    r"|요약|기사|번역|읽|페이지|사이트|영상|다음",
    regex.IGNORECASE,
)
_FEW_WORDS = 30  # a longer prompt says something itself; its address is a reference


def missing_input(prompt: str) -> list[Leak]:
    """What a prompt wants worked on and does not hold: an attachment, or a page behind a bare address."""
    low = prompt.lower()
    if _ATTACHED_HINTS.stand_in(low):
        plain = prose(prompt)
        # a prompt that says how to send attachments, or goes on to describe one, is whole
        if (found := _ATTACHED.search(plain)) and not regex.search(
            r"<img|<svg|!\[|description:|caption:|설명:|html|email|e-mail|이메일|메일", low
        ):
            return [Leak("attached_media", found[0].strip())]
    if "http" in low or "www." in low:
        rest = _URL.sub(" ", prompt)
        address = _URL.search(prompt)
        ends_so = address is not None and _URL.fullmatch(prompt.strip().split()[-1]) is not None
        worked_on = not rest.strip() or _TO_READ.search(rest) or (ends_so and "\n" in prompt.strip())
        if ends_so and worked_on and len(rest.split()) < _FEW_WORDS and not _ABOUT_URLS.search(rest):
            assert address is not None
            return [Leak("bare_url", address[0])]
    return []
