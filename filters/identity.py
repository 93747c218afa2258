"""A teacher that tells its name, its maker, or when its knowledge ends.

Only what an answer says of itself counts: a text about OpenAI, a quotation of ChatGPT, and a Gemini who writes of
the zodiac survive.
"""

from functools import cached_property
from typing import Annotated, Literal

import regex
from pydantic import Field

from filters.base import TextFilter
from filters.hints import Hints
from filters.markup import own_words, sentences
from filters.text import normal
from pipeline.records import Check

# Names that nothing and nobody else bears, and names that also are people, animals or stars.
NAMES = (
    r"chat\ ?gpt|gpt-?\ ?[2345][\w.-]*|openai|qwen[\w.-]*|tongyi\ ?qianwen|deepseek[\w.-]*"
    r"|hyper\ ?clova(?:\ ?x)?|clova\ ?x|exaone|chatglm[\w.-]*|internlm[\w.-]*|baichuan[\w.-]*|ernie\ bot"
    r"|mixtral[\w.-]*|smollm[\w.-]*|stablelm|koalpaca|vicuna|open\ ?assistant|bing\ chat|microsoft\ copilot"
    r"|github\ copilot|google\ (?:bard|gemini)|anthropic|llama[\ -]?[234][\w.-]*|phi-[1234][\w.-]*"
    r"|gemma-?[123][\w.-]*|챗\s?(?:gpt|지피티)|하이퍼\s?클로바\s?x?|클로바\s?x|엑사원|큐원|딥시크|通义千问"
    r"|文心一言|豆包"
)
SHARED_NAMES = (
    r"claude|gemini|llama|mistral|grok|bard|gemma|phi|falcon|solar|kimi|copilot|alpaca|zephyr|dolly|제미나이"
    r"|클로드|라마|솔라|카나나"
)
MAKERS = (
    r"open\ ?ai|오픈\s?ai|anthropic|앤(?:트|스)로픽|google(?:\ deepmind)?|구글|deepmind|meta(?:\ ai)?|메타"
    r"|facebook|alibaba(?:\ cloud)?|알리바바|microsoft|마이크로소프트|deepseek|mistral\ ai|baidu|바이두|tencent"
    r"|zhipu\ ai|moonshot\ ai|naver|네이버|kakao|카카오|lg(?:\ ai\ research|\ ai\s?연구원)?|upstage|업스테이지"
    r"|hugging\ ?face|lmsys|large\ model\ systems|cohere|x\.?ai|nvidia|stability\ ai|laion|bytedance|samsung"
    r"|삼성(?:전자)?|skt|sk텔레콤|엔씨소프트|아마존|amazon|ibm|databricks"
)
MOST_READ = 1000  # characters of a sentence: who speaks is said early
_MADE = r"(?:develop|creat|train|build|built|design|programm|power|provid|fine-?tun|produc)(?:ed)?|made"
_AI = (
    r"(?:ai|a\.i\.|artificial\ intelligence|language\ model|llm|chat\ ?bot"
    r"|(?:(?:virtual|digital|ai)\ )?assistant|model|bot|robot)"
)
_AI_KO = r"(?:인공지능|ai|언어\s?모델|모델|챗봇|어시스턴트|비서|시스템)"
_MADE_KO = r"(?:개발|만든|만들|제작|훈련|학습|설계|출시)"
# One of these stands in every text that signs: looked for first, for most texts hold none.
_HINTS = Hints(
    "gpt", "openai", "open ai", "qwen", "qianwen", "deepseek", "clova", "exaone", "chatglm", "internlm", "baichuan",
    "ernie", "mixtral", "mistral", "smollm", "stablelm", "koalpaca", "vicuna", "assistant", "copilot", "bard",
    "gemini", "anthropic", "claude", "llama", "grok", "gemma", "phi-", "falcon", "kimi", "developed by",
    "trained by", "created by", "made by", "built by", "designed by", "powered by", "provided by", "my creator",
    "my developer", "my maker", "cutoff", "cut-off", "my last", "my latest", "my most recent", "my knowledge",
    "my training", "my data", "my information", "my current", "was last", "was only", "trained on data", "챗지피티",
    "챗 지피티", "챗gpt", "클로바", "엑사원", "큐원", "딥시크", "通义", "文心", "豆包", "제미나이", "클로드",
    "라마", "솔라", "카나나", "인공지능", "언어 모델", "언어모델", "챗봇", "어시스턴트", "까지의", "시점",
    "업데이트", "컷오프", "네이버", "카카오", "구글", "업스테이지", "지식은", "지식이",
)  # fmt: skip
_PERSON = regex.compile(r"\b(?:i|i'm|my|me|call|as)\b|저|제|나|내|전|로서|我|由")
_ENDS = r"(?:update|cut-?off|training|data|knowledge)"
_UNTIL = r"(?:up\ to|until|as\ of|to\ data|in\ (?:19|20)\d\d|through)"
_CUTOFF = regex.compile(
    rf"""\bmy\ (?:\w+\ )?(?:knowledge|training(?=\ (?:data|cut|only|goes|extends))(?:\ data)?|data
        |information|database)\b
        [^,;]{{0,30}}?\ (?:cut-?off|goes\ up\ to|only\ (?:goes|extends|covers)|extends|includes\ information
        |(?:is|are|was|were)\ (?:(?:only|current|limited|based\ on|accurate|up\ to\ date|last\ updated)\ )*{_UNTIL}
        |(?:ends|stops)\ [^\n]{{0,20}}?(?:19|20)\d\d)
    | \b(?:my|i)\b[^\n]{{0,60}}\b(?:knowledge|training|data)[ -]cut-?off
    | \b(?:as\ of|since|at\ the\ time\ of|up\ to|until|after|beyond)
        \ my\ (?:last|latest|most\ recent|current|knowledge|training|final)
        \ (?:major\ )?(?:(?:knowledge|training)\ )?{_ENDS}
    | \bmy\ (?:last|latest|most\ recent|knowledge)\ (?:(?:knowledge|training|data)\ )?(?:update|cut-?off|training\ data)
    | \bi\ was\ (?:last|only)\ (?:updated|trained)\b
    | \bi\ (?:was|have\ been)\ trained\ on\ data\ (?:up\ to|until|through)
    | (?:저의|제|나의|내)\s[^\n]{{0,15}}?(?:지식|정보|데이터|업데이트)[^\n]{{0,30}}?(?:까지|시점|기준|컷오프|한정|제한)
    | (?:저는|나는|제가)[^\n]{{0,20}}?\d{{4}}년[^\n]{{0,20}}?까지의?[^\n]{{0,15}}?(?:데이터|정보|지식|자료)
        [^\n]{{0,12}}?(?:학습|훈련|업데이트|가지고|알고)
    | (?:저의|제|나의|내)\s(?:마지막|최종|최근)\s?(?:지식\s|학습\s)?(?:업데이트|학습)
    """,
    regex.VERBOSE,
)


class Identity(TextFilter):
    """Drops answers that sign as a model (`teacher_signature`) or name their `knowledge_cutoff`."""

    kind: Literal["identity"] = "identity"
    allowed: Annotated[
        tuple[str, ...], Field(description="names a sentence may tell: the student's own, and its maker's")
    ] = ()
    cutoff: Annotated[bool, Field(description="also drop what says until when its knowledge goes")] = True

    def measure(self, text: str) -> Check:
        """How many sentences tell who speaks or until when it knows; the reason is the first one's."""
        low = text.lower()
        if not _HINTS.stand_in(low):
            return self.yes(0)
        found: list[tuple[str, str]] = []
        for sentence in sentences(own_words(low)):
            if not _HINTS.stand_in(sentence) or not _PERSON.search(sentence):
                continue
            if any(name in normal(sentence) for name in self._allowed):
                continue
            sentence = sentence[:MOST_READ]
            if signed := _SIGNED.search(sentence):
                found.append(("teacher_signature", signed[0]))
            elif self.cutoff and (ends := _CUTOFF.search(sentence)):
                found.append(("knowledge_cutoff", ends[0]))
        if not found:
            return self.yes(0)
        return self.no(len(found), found[0][0], f"says {found[0][1].strip()[:100]!r}")

    @cached_property
    def _allowed(self) -> tuple[str, ...]:
        return tuple(normal(name) for name in self.allowed if name.strip())


_I_AM = r"(?:\bi\ am|\bi'm|\bmy\ name\ is|\bi\ am\ called|\bi\ go\ by|\bcall\ me)"
_STILL = r"(?:(?:actually|indeed|called|named|just|also|still|here|only|not\ human,?\ but|an?|the|version\ of)\ )*"
_PERSONS = r"(?:user|customer|employee|subscriber|engineer|researcher|developer|expert|fan)"
_I_KO = r"(?:저는|나는|전|제가|저를|나를)\s"
_IS_KO = r"(?:입니다|이에요|예요|이라고|라고|이라는|라는|이며|로서|으로서|이야|야(?!\S))"
_BY = rf"(?:{_MADE})\ (?:and\ \w+\ )?by\ "
_SIGNED = regex.compile(
    rf"""{_I_AM}\ {_STILL}(?:{NAMES})\b(?!\ {_PERSONS})
    | {_I_AM}\ {_STILL}(?:{SHARED_NAMES})\b(?=,|\ )[^\n]*?\b(?:{_AI}|{_BY}(?:{MAKERS}))\b
    | \bas\ (?:an?\ )?(?:{NAMES}|(?:{SHARED_NAMES})(?=,))(?:\ (?:model|assistant))?,?\ (?:i\b|i'm|my\b)
    | \bas\ an?\ [^\n.]{{0,50}}?\b{_AI}\b[^\n]{{0,25}}?(?:{_MADE})\ (?:\w+\ )?by\ [^\n]{{0,30}}?(?:{MAKERS})\b
        [^\n]*?\b(?:i|my|me|i'm)\b
    | \b(?:i\ was|i\ am|i'm|i\ have\ been|i've\ been)
        (?:,?\ (?:an?|the|your|just\ an?)\ [^\n.]{{0,60}}?\b{_AI}\b[^\n.]{{0,25}}?)?
        \ (?:\w+ly\ )?{_BY}(?:[\w']+\ ){{0,4}}?(?:{MAKERS})\b
    | \b(?:i\ am|i'm)\ (?:[^\n.,]{{1,25}},\ )?(?:an?|your)\ (?:[\w-]+\ ){{0,3}}
        (?:ai|artificial\ intelligence|(?:large\ )?language\ model|chat\ ?bot|virtual\ assistant)\b
        [^\n.]{{0,30}}?\ {_BY}\p{{L}}
    | \bmy\ (?:creators?|developers?|makers?)\b[^\n.]{{0,15}}?\ (?:is|are|at)\ (?:the\ )?(?:\w+\ ){{0,2}}(?:{MAKERS})\b
    | (?:저는|나는|전|제\s?이름은|내\s?이름은|저,)\s[^\n]{{0,25}}?(?:{NAMES}|{SHARED_NAMES})
        \s?(?:\([\w .-]+\))?(?:\s?(?:모델|챗봇|ai))?{_IS_KO}
    | {_I_KO}[^\n]{{0,30}}?(?:{MAKERS})[^\n]{{0,12}}?
        (?:{_MADE_KO}\S*\s(?:\S+\s){{0,4}}?\S*{_AI_KO}|개발되었|개발됐|만들어졌|훈련되었|학습되었|개발했|만들었|훈련했|탄생)
    | {_I_KO}[^\n]{{0,20}}?\S+(?:에서|이|가|에\s?의해)\s(?:개발|훈련|제작|학습)(?:한|된|시킨)\s
        [^\n]{{0,12}}?(?:인공지능|ai|언어\s?모델|챗봇)
    | (?:{MAKERS})(?:에서|이|가)\s{_MADE_KO}\S*\s(?:\S+\s){{0,3}}?\S*{_AI_KO}\S*\s?(?:로서|으로서)
    | 我(?:是|叫)[^\n]{{0,20}}?(?:{NAMES}|claude|kimi)
    | 由(?:阿里|百度|openai|深度求索|字节|腾讯|智谱)[^\n]{{0,10}}?(?:开发|训练|研发|创造)
    """,
    regex.VERBOSE,
)
