"""Telephone numbers, told from all the other numbers by their country's numbering plan or the word before them."""

from collections.abc import Iterator

import regex

_PHONE = regex.compile(
    r"(?<![\w,/#@=$€£₩%+*^<>&?-]|\d[.:])[+(]?\d(?:\d|[ .\-]\(?(?=\d)|\)[ .\-]?(?=\d)"
    r"|\((?=\d)){6,19}(?<=\d)(?!\d|[.,:/%][\d]|[-^*=]\d| ?[×=*/+<])"
)
_PHONE_WORD = regex.compile(
    r"phone|\bcall|\btel\b|mobile|\bcell|\bfax|contact|\btext (?:me|us|him|her|them)\b|whatsapp|\bdial|\breach"
    r"|\bdesk\b|\boffice\b|hotline|전화|연락|휴대|핸드폰|팩스|대표번호|문자|카톡",
    regex.IGNORECASE,
)
_DATE = regex.compile(
    r"(?:19|20)\d\d[-. ](?:0?[1-9]|1[0-2])[-. ](?:[0-2]?\d|3[01])\b|(?:[0-2]?\d|3[01])[-.](?:0?[1-9]"
    r"|1[0-2])[-.](?:19|20)\d\d\b|(?:1[5-9]|20)\d\d[- ]{1,3}(?:1[5-9]|20)\d\d$"
)
_MOBILE_KR = regex.compile(r"01[016789]\d{7,8}$")
_SERVICE_KR = regex.compile(r"1[568]\d\d-\d{4}$")


def phones(text: str, regions: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where telephone numbers stand: with a country's code, or as one of `regions` writes its own."""
    for match in _PHONE.finditer(text):
        if _is_phone(match[0].rstrip(), text, match.start(), regions):
            yield match.span()


def _is_phone(written: str, text: str, start: int, regions: tuple[str, ...]) -> bool:
    groups = regex.findall(r"\d+", written)
    if not 8 <= sum(map(len, groups)) <= 15 or _DATE.match(written) or any(len(group) < 2 for group in groups[1:]):
        return False
    if len(groups) == 2 and written[len(groups[0])] == ".":
        return False  # a decimal number
    told = named(_PHONE_WORD, text, start)
    if written[0] == "+":
        return told or _planned(written, None) is not None
    if "KR" in regions and _is_korean(written, groups, told):
        return True
    for region in regions:
        plan = _planned(written, region) if region != "KR" and (told or len(groups) > 2) else None
        if plan is not None and (told or (plan == groups[-len(plan) :] and any(mark in written for mark in "-.("))):
            return True
    return told and len(groups) > 1  # of a country that is not looked for


def _is_korean(written: str, groups: list[str], told: bool) -> bool:
    if _MOBILE_KR.match("".join(groups)):
        return True
    spaced = len(groups) > 1 and (told or "-" in written or "." in written or ")" in written)
    known = bool(_SERVICE_KR.match(written)) or (written.lstrip("(")[0] == "0" and spaced)
    return known and _planned(written, "KR") is not None


def _planned(written: str, region: str | None) -> list[str] | None:
    """The groups in which a country's numbering plan writes such a number; None where it has none."""
    import phonenumbers

    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return regex.findall(r"\d+", phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL))


def named(word: "regex.Pattern[str]", text: str, start: int, *, before: int = 40) -> bool:
    """Whether a word stands shortly before a place, on the same line or the one above."""
    return word.search(text, max(0, start - before), start) is not None
