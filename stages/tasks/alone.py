"""Whether a question stands alone, or speaks of a text that whoever reads it does not see.

Patterns for English and Korean. "The text", "the page" or "본문" may be what a document is about (an editor, a web
site, a clause of a law), so most words count only together with one that makes them mean the source.
"""

import regex

THING = "(?:text|passage|document|excerpt|article|paragraph|context|section|snippet|page|chapter|story)"
SAYS = "(?:say|state|mention|describ|discuss|explain|suggest|claim|impl[iy]|recommend|emphasi|provid|list|outlin)"
ASKS = r"(?=\W*$|[,.;:?!]|\ (?:what|how|who|whom|whose|which|when|where|why|is|are|was|were|do|does|did|can|should)\b)"

ENGLISH = rf"""
    \b(?:given|provided|preceding|aforementioned|above|following)\ {THING}\b
  | \b(?:according\ to|based\ on|as\ per)\ (?:the|this|that)\ {THING}{ASKS}
  | \b(?:the|this)\ {THING}(?:\ (?:also|then|does|do|did|not))*\ {SAYS}
  | \b{SAYS}\w*\ (?:in|by)\ (?:the|this)\ {THING}\b
  | \b(?:in|from|of)\ (?:this\ {THING}|the\ (?:passage|excerpt|snippet))(?=\W*$|[,.;:?!])
  | \b(?:topic|purpose|idea|point|theme|title|summary|tone|gist)\ of\ (?:the|this)\ {THING}\b
  | \b{SAYS}\w*\ (?:above|earlier|below)\b
  | \bthe\ author\b(?!\ of)
"""
KOREAN = r"""
    ^본문[은을이]\ | (?<![조항호목관]\ ?)본문(?:에서|에\ |의\ 내용|의\ 주제)
  | (?<![가-힣])(?:윗\ ?|(?:위|이|다음|아래|앞의|위의|주어진|제시된|제공된|해당)\ )
    (?:글|본문|지문|텍스트|문단|단락|구절|발췌문|문서)(?:은|는|이|가|을|를|에|의|과|와|로|상|\b)
  | (?<![가-힣])지문(?:에서|에\ 따르면|의\ 내용)
  | (?<![가-힣])(?:위|앞)에서\ (?:언급|설명|제시|말한|소개)
  | 글쓴이 | 필자[는가의]
"""
REFERS = regex.compile(f"{ENGLISH}|{KOREAN}", regex.VERBOSE | regex.IGNORECASE)


def reference(text: str) -> str:
    """The words that refer to a text out of sight; "" where there are none."""
    found = REFERS.search(text)
    return found.group().strip() if found else ""
