"""How filters compare texts."""

import unicodedata


def normal(text: str) -> str:
    """Compatibility form (NFKC), case folded, every run of white space one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
