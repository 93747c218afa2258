"""Where personal data stands in a text: addresses, telephone and card numbers, numbers that states give out.

Each sort is found by its own rule: a number's check digit and dates (`filters.registered`), a country's numbering plan
(the phonenumbers library), and, for numbers that look like any other, the word that names them just before.
"""

import ipaddress
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import regex

from filters.hints import Hints
from filters.phones import named, phones
from filters.registered import FREE_DIGITS_FROM, born, is_business, is_card, resident_check

Sort = Literal["email", "phone", "card", "ip", "resident", "foreigner", "business", "passport", "driver", "ssn"]
# In the order in which they are looked for: what one has taken, no later one takes again.
SORTS: tuple[Sort, ...] = (
    "email", "resident", "foreigner", "card", "driver", "passport", "business", "ssn", "ip", "phone",
)  # fmt: skip


class Span(NamedTuple):
    """A piece of a text that is personal data of a sort."""

    start: int
    end: int
    sort: Sort


class Search(NamedTuple):
    """What is looked for: sorts, countries whose telephone numbers may stand without +, and how strictly."""

    sorts: frozenset[Sort]
    regions: tuple[str, ...]
    checked: bool = True
    examples: bool = False


_DIGITS = regex.compile(r"[0-9][0-9 .()\-]{4,}[0-9]")
_WIDE = regex.compile(r"[０-９－＠‐‑‒–—−]")
_FOLD = str.maketrans("０１２３４５６７８９－＠‐‑‒–—−", "0123456789-@------")


def personal(text: str, search: Search) -> list[Span]:
    """The personal data in a text, in order, without overlaps."""
    if _WIDE.search(text):
        text = text.translate(_FOLD)  # one character for one: positions stay
    digits = _DIGITS.search(text) is not None
    taken: list[Span] = []
    for sort in SORTS:
        if sort in search.sorts and (digits or sort in ("email", "ip", "passport", "driver")):
            for start, end in _FINDERS[sort](text, search):
                if all(end <= span.start or start >= span.end for span in taken):
                    taken.append(Span(start, end, sort))
    return sorted(taken)


Found = Iterator[tuple[int, int]]
_EMAIL = regex.compile(
    r"(?<![A-Za-z0-9_+%-])([A-Za-z0-9_+%-]{1,64}+(?:\.[A-Za-z0-9_+%-]{1,64}+){0,8}+)@"
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}|(?:\d{1,3}\.){3}\d{1,3})(?![A-Za-z0-9(-]"
    r"|\.\w|:[\w~/])"
)
_FILES = (
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "css",
    "js",
    "ts",
    "html",
    "json",
    "md",
    "py",
    "txt",
    "pdf",
    "zip",
)
_RESERVED = regex.compile(
    r"(?:^|\.)(?:example\.[a-z.]+|(?:your)?-?domain\.[a-z.]+)$|\.(?:example|test|invalid|localhost|local)$"
)


def _emails(text: str, search: Search) -> Found:
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        domain = match[2].lower()
        if domain.rpartition(".")[2] in _FILES or match[1] == "git":
            continue
        if search.examples or not _RESERVED.search(domain):  # RFC 2606: nobody's
            yield match.span()


_RESIDENT = regex.compile(r"(?<![\d-])(\d{6})(?:\s?-\s?|\s)?([1-8]\d{6})(?!-?\d)")
_RESIDENT_WORD = regex.compile(r"주민|등록번호|외국인|resident|registration", regex.IGNORECASE)


def _residents(text: str, search: Search) -> Found:
    yield from _registered(text, search, "1234")


def _foreigners(text: str, search: Search) -> Found:
    yield from _registered(text, search, "5678")


def _registered(text: str, search: Search, seventh: str) -> Found:
    for match in _RESIDENT.finditer(text):
        digits = match[1] + match[2]
        day = born(digits) if digits[6] in seventh else None
        if day is None:
            continue
        # 13 digits in a row are anything; only their check digit or their name tells
        told = "-" in match[0] or named(_RESIDENT_WORD, text, match.start())
        free = day >= FREE_DIGITS_FROM or not search.checked
        if resident_check(digits) or (free and told):
            yield match.span()


_CARD_GROUPS = {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), *((size,) for size in range(13, 20))}
_CARD = regex.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?!-?\d|\.\d)")


def _cards(text: str, search: Search) -> Found:
    for match in _CARD.finditer(text):
        groups = regex.findall(r"\d+", match[0])
        if tuple(map(len, groups)) in _CARD_GROUPS and is_card("".join(groups)):
            yield match.span()


_REGION = "서울|부산|경기|경기북부|경기남부|강원|충북|충남|전북|전남|경북|경남|제주|대구|인천|광주|대전|울산"
_DRIVER_HINTS = Hints("icen", "ICEN", "permit", "Permit", "면허")
_DRIVER = regex.compile(
    rf"(?<![\d-])(?:(?:1[1-9]|2[0-68])"
    rf"|(?:{_REGION})(?:\s?-?\s?))\s?[- ]?\s?\d{{2}}\s?-\s?\d{{6}}\s?-\s?\d{{2}}(?![\d-])"
)
_DRIVER_NAMED = regex.compile(
    r"(?:driver'?s?'?|driving)\s(?:licen[cs]e|permit)(?:\s(?:number|no\.?|num|id|#))?\s?(?:is|:|#|=)?\s*\(?"
    r"((?=[A-Z0-9-]*\d{4})[A-Z]{0,3}\d[0-9A-Z-]{4,16}[0-9A-Z])\b|면허(?:증|번호|증번호)?[^\n\d]{0,12}(\d{12})(?!\d)",
    regex.IGNORECASE,
)


def _drivers(text: str, search: Search) -> Found:
    if _DIGITS.search(text):
        yield from (match.span() for match in _DRIVER.finditer(text))
    if _DRIVER_HINTS.stand_in(text):
        for match in _DRIVER_NAMED.finditer(text):
            yield match.span(1 if match[1] else 2)


_PASSPORT = regex.compile(r"(?<![A-Za-z0-9-])(?:[A-Z]{1,2}\d{7,8}|[A-Z]\d{3}[A-Z]\d{4}|\d{9})(?![A-Za-z0-9-])")
_PASSPORT_HINTS = Hints("assport", "ASSPORT", "여권")
_PASSPORT_WORD = regex.compile(r"passport|여권", regex.IGNORECASE)


def _passports(text: str, search: Search) -> Found:
    if not _PASSPORT_HINTS.stand_in(text):
        return
    for match in _PASSPORT.finditer(text):
        if named(_PASSPORT_WORD, text, match.start()):
            yield match.span()


_BUSINESS = regex.compile(r"(?<![\d-])(\d{3})(\s?-\s?|)(\d{2})\2(\d{5})(?!-?\d)")
_BUSINESS_WORD = regex.compile(r"사업자|business\s(?:registration|number)", regex.IGNORECASE)


def _businesses(text: str, search: Search) -> Found:
    for match in _BUSINESS.finditer(text):
        told = match[2] or named(_BUSINESS_WORD, text, match.start())
        if told and is_business(match[1] + match[3] + match[4]):
            yield match.span()


_SSN = regex.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")


def _ssns(text: str, search: Search) -> Found:
    for match in _SSN.finditer(text):
        if match[0] not in ("123-45-6789", "078-05-1120") or search.examples:  # printed on samples
            yield match.span()


_DOTTED = regex.compile(r"\d\.\d{1,3}\.\d")  # what stands in every address, found much sooner
_COLONS = regex.compile(r"[23][0-9a-fA-F]{3}:[0-9a-fA-F:]")
_IPV4 = regex.compile(
    r"(?<![\w.-]|\d[,/])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w-]|\.\d)"
)
_IPV6 = regex.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:(?:[0-9a-fA-F]{0,4}:){1,6}[0-9a-fA-F]{0,4}(?![\w:])")
_ADDRESS_WORD = regex.compile(
    r"(?<![a-z])ip(?![a-z])|address|host|server|ping|dns|gateway|client|주소|서버|아이피", regex.IGNORECASE
)
_VERSION_WORD = regex.compile(
    r"(?:version|ver\.?|v|release|section|chapter|build|rev|§|버전|판|절)\s?$", regex.IGNORECASE
)
_WELL_KNOWN = frozenset(("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9"))  # public resolvers, in every manual
_SMALL = 32  # four numbers below are rather a version's or a section's


def _ips(text: str, search: Search) -> Found:
    for match in _IPV4.finditer(text) if _DOTTED.search(text) else ():
        parts = match[0].split(".")
        if any(len(part) > 1 and part[0] == "0" for part in parts) or _VERSION_WORD.search(
            text, max(0, match.start() - 12), match.start()
        ):
            continue
        small = all(int(part) < _SMALL for part in parts)
        if (not small or named(_ADDRESS_WORD, text, match.start())) and _reachable(match[0], search):
            yield match.span()
    for match in _IPV6.finditer(text) if _COLONS.search(text) else ():
        if _reachable(match[0], search):
            yield match.span()


def _reachable(written: str, search: Search) -> bool:
    """Whether an address is somebody's: neither private, nor reserved, nor for documentation."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return search.examples or (address.is_global and not address.is_multicast and written not in _WELL_KNOWN)


_FINDERS: dict[Sort, Callable[[str, Search], Found]] = {
    "email": _emails,
    "resident": _residents,
    "foreigner": _foreigners,
    "card": _cards,
    "driver": _drivers,
    "passport": _passports,
    "business": _businesses,
    "ssn": _ssns,
    "ip": _ips,
    "phone": lambda text, search: phones(text, search.regions),
}
