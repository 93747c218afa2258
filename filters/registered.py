"""Numbers that carry their own proof: check digits, dates, and digits that say what the rest means."""

from datetime import UTC, date, datetime, timedelta

_RESIDENT_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
_BUSINESS_WEIGHTS = (1, 3, 7, 1, 3, 7, 1, 3, 5)
_CENTURIES = {1: 1900, 2: 1900, 5: 1900, 6: 1900, 3: 2000, 4: 2000, 7: 2000, 8: 2000, 9: 1800, 0: 1800}
FREE_DIGITS_FROM = date(2020, 10, 1)  # Korean numbers issued from here on end in six free digits, without a check digit


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = sum(sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def is_card(digits: str) -> bool:
    """Whether 13 to 19 digits are a payment card's: an issuer's first digits and its length, and the check digit."""
    size, first = len(digits), int(digits[:6])
    lengths = {
        "4": (13, 16, 19), "5": (16,), "2": (16,), "3": (14, 15, 16), "6": (16, 17, 18, 19), "9": (16,),
    }  # fmt: skip
    if size not in lengths.get(digits[0], ()):
        return False
    issued = (
        digits[0] == "4"
        or 510000 <= first <= 559999
        or 222100 <= first <= 272099
        or (size == 15 and digits[:2] in ("34", "37"))
        or (size == 14 and (digits[:2] in ("36", "38", "39") or 300000 <= first <= 305999))
        or (size == 16 and 352800 <= first <= 358999)
        or digits[:2] in ("62", "64", "65")
        or digits[:4] == "6011"
        or digits[0] == "9"  # Korean domestic cards
    )
    return issued and len(set(digits)) > 1 and luhn(digits)


def born(digits: str) -> date | None:
    """The date of birth in a Korean resident or foreigner number, its century from the seventh digit; None if none."""
    try:
        day = date(_CENTURIES[int(digits[6])] + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))
    except ValueError:
        return None
    return day if day <= datetime.now(UTC).date() + timedelta(days=1) else None


def resident_check(digits: str) -> bool:
    """Whether the last of 13 digits checks the others; a foreigner's (seventh digit 5 to 8) is two more."""
    total = sum(int(d) * w for d, w in zip(digits, _RESIDENT_WEIGHTS, strict=False))
    return (11 - total % 11 + (2 if digits[6] in "5678" else 0)) % 10 == int(digits[12])


def is_business(digits: str) -> bool:
    """Whether ten digits are a Korean business registration number: an office, a sort of business, a check digit."""
    if int(digits[:3]) < 101 or digits[3:5] == "00":
        return False
    total = sum(int(d) * w for d, w in zip(digits, _BUSINESS_WEIGHTS, strict=False)) + int(digits[8]) * 5 // 10
    return (10 - total % 10) % 10 == int(digits[9])
