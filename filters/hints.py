"""Strings that tell at once where a costly pattern cannot match: looked for together, in one pass over the text."""

from functools import cached_property

from ahocorasick_rs import AhoCorasick


class Hints:
    """Strings of which one stands in every text that the pattern behind them matches."""

    def __init__(self, *strings: str) -> None:
        self.strings = strings

    def stand_in(self, text: str) -> bool:
        """Whether one of them stands in the text."""
        return bool(self._automaton.find_matches_as_indexes(text))

    @cached_property
    def _automaton(self) -> AhoCorasick:
        return AhoCorasick(self.strings)
