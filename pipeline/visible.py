"""Text that somebody else wrote, safe to print: no terminal obeys any of it."""

SIGNS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
"""Control characters by their pictures (Unicode's block of that name): ESC is shown as one sign."""
UNSEEN = dict.fromkeys([*range(0x80, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
"""Further control characters, which some terminals obey, and marks that turn the direction of writing around."""
PICTURES = SIGNS | UNSEEN


def visible(text: str) -> str:
    """`text` with a sign in the place of each control character but tab and newline; as long as before."""
    return text.translate(PICTURES)


def line(text: str, longest: int) -> str:
    """`text` as one line of at most so many characters; where it was cut it ends in an ellipsis."""
    said = visible(" ".join(text[: 4 * longest].split()))
    return said if len(said) <= longest else f"{said[: longest - 1]}\u2026"
