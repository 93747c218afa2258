"""Personal data: masked, or the record dropped, as each sort wants it."""

from collections import Counter
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, field_validator

from filters.base import TextFilter
from filters.personal import SORTS, Search, Sort, Span, personal
from pipeline.records import Check, Message, Record

Action = Literal["mask", "drop"]
MASKS: dict[Sort, str] = {
    "email": "<EMAIL>",
    "phone": "<PHONE>",
    "card": "<CARD>",
    "ip": "<IP>",
    "resident": "<RESIDENT_NUMBER>",
    "foreigner": "<FOREIGNER_NUMBER>",
    "business": "<BUSINESS_NUMBER>",
    "passport": "<PASSPORT>",
    "driver": "<DRIVER_LICENCE>",
    "ssn": "<SSN>",
}


class Pii(TextFilter):
    """Masks personal data in every turn, or drops the records that hold it; counts the finds.

    Found by rule: e-mail, telephone, card and IP addresses, Korean resident, foreigner and business numbers, passports,
    driver's licences, US social security numbers. Names and street addresses are not: they need a model.
    """

    kind: Literal["pii"] = "pii"
    on: Annotated[Literal["answer", "prompt", "both"], Field(description="whose turns it reads")] = "both"
    sorts: Annotated[tuple[Sort, ...], Field(min_length=1, description="what is looked for")] = SORTS
    action: Annotated[Action, Field(description="mask the find and keep the record, or drop it")] = "mask"
    actions: Annotated[dict[Sort, Action], Field(description="the same for single sorts: {card: drop}")] = {}
    regions: Annotated[
        tuple[str, ...], Field(description="countries whose telephone numbers are known without their +code")
    ] = ("KR", "US")
    resident_check: Annotated[
        Literal["digit", "date"],
        Field(
            description="digit: Korean numbers of births before October 2020 need their check digit; date: a date does"
        ),
    ] = "digit"
    examples: Annotated[
        bool, Field(description="also what belongs to nobody: example.com, private and documentation addresses")
    ] = False

    @field_validator("regions")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        import phonenumbers

        if unknown := [region for region in value if region not in phonenumbers.SUPPORTED_REGIONS]:
            raise ValueError(f"{unknown[0]!r} is no country code of two capital letters, such as KR, US, DE")
        return value

    @cached_property
    def _search(self) -> Search:
        return Search(frozenset(self.sorts), self.regions, self.resident_check == "digit", self.examples)

    def judge(self, record: Record) -> Check:
        """How many finds the turns hold; the reason names the first sort that drops."""
        return self._check([span for text in self._texts(record) for span in personal(text, self._search)])

    def measure(self, text: str) -> Check:
        """How many finds a text holds."""
        return self._check(personal(text, self._search))

    def mend(self, record: Record) -> Record:
        """The record with every find of a masked sort replaced, in all its turns and its reasoning."""
        if not record.scored(self.label):
            return record
        messages = [
            m.model_copy(update={"content": self.masked(m.content)}) if self._reads(m) else m for m in record.messages
        ]
        reasoning = record.reasoning if self.on == "prompt" else self.masked(record.reasoning)
        return record.model_copy(update={"messages": messages, "reasoning": reasoning})

    def masked(self, text: str) -> str:
        """The text with masks in place of what is masked."""
        for span in reversed(personal(text, self._search)):
            if self._action(span.sort) == "mask":
                text = text[: span.start] + MASKS[span.sort] + text[span.end :]
        return text

    def _reads(self, message: Message) -> bool:
        return self.on == "both" or (message.role == "assistant") == (self.on == "answer")

    def _texts(self, record: Record) -> list[str]:
        texts = [m.content for m in record.messages if self._reads(m)]
        return [*texts, record.reasoning] if record.reasoning and self.on != "prompt" else texts

    def _action(self, sort: Sort) -> Action:
        return self.actions.get(sort, self.action)

    def _check(self, found: list[Span]) -> Check:
        counts = Counter(span.sort for span in found)
        detail = ", ".join(f"{count} {sort}" for sort, count in counts.items())
        dropping = next((sort for sort in counts if self._action(sort) == "drop"), None)
        if dropping is not None:
            return self.no(len(found), f"holds_{dropping}", detail)
        return self.yes(len(found), f"masked {detail}" if detail else "")
