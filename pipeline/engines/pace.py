"""How fast a server is asked: what it allows in a minute, and how much at once while it complains.

The clock is real and the arithmetic is kept apart from the requests, which only wait for their `turn`.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress

MINUTE = 60.0  # seconds over which a server counts


class Share:
    """Tokens that one request takes from the minute it was sent in: an estimate, until the server has counted them."""

    def __init__(self, tokens: float, prompt_bytes: int) -> None:
        self.tokens, self.prompt_bytes = tokens, prompt_bytes
        self.sent = time.monotonic()
        self.counts = True  # until the window has passed it


class Pace:
    """Requests evenly apart, and tokens in a window that slides: no minute holds more than its limit.

    A request sets aside its prompt, estimated from its bytes, and all of its `max_tokens`; what the answer's usage
    says takes their place. Tokens to a byte are learnt on the way: a Korean prompt takes three times the tokens of an
    English one with some tokenizers, and no more with others.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._requests, self._limit = requests_per_minute, tokens_per_minute
        self._next_start = 0.0
        self._shares: deque[Share] = deque()
        self._used = 0.0
        self._seen_bytes, self._seen_tokens = 3000, 1000  # three bytes a token, until answers tell better
        self._door, self._freed = asyncio.Lock(), asyncio.Event()

    async def turn(self, prompt_bytes: int, max_tokens: int) -> Share | None:
        """Wait until the limits allow one more; first come, first served. None where tokens are not limited."""
        if self._requests is None and self._limit is None:
            return None
        async with self._door:
            start = max(time.monotonic(), self._next_start)
            await asyncio.sleep(start - time.monotonic())
            share = None if self._limit is None else await self._room(prompt_bytes, max_tokens)
            if self._requests is not None:
                self._next_start = max(start, share.sent if share else start) + MINUTE / self._requests
            return share

    def settle(self, share: Share | None, prompt_tokens: int, completion_tokens: int) -> None:
        """What a request has really taken; nothing, where the server has refused it."""
        if share is None:
            return
        if prompt_tokens:
            self._seen_bytes += share.prompt_bytes
            self._seen_tokens += prompt_tokens
        if share.counts:
            self._used += prompt_tokens + completion_tokens - share.tokens
            share.tokens = prompt_tokens + completion_tokens
            self._freed.set()

    async def _room(self, prompt_bytes: int, max_tokens: int) -> Share:
        tokens = prompt_bytes * self._seen_tokens / self._seen_bytes + max_tokens
        while (wait := self._until_room(tokens)) > 0:
            self._freed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), wait)
        share = Share(tokens, prompt_bytes)
        self._shares.append(share)
        self._used += tokens
        return share

    def _until_room(self, tokens: float) -> float:
        """Seconds until the oldest share has left the window; 0 where there is room, or nothing left to wait for."""
        now = time.monotonic()
        while self._shares and self._shares[0].sent + MINUTE <= now:
            oldest = self._shares.popleft()
            oldest.counts = False
            self._used -= oldest.tokens
        if self._limit is None or not self._shares or self._used + tokens <= self._limit:
            return 0.0
        return self._shares[0].sent + MINUTE - now


class Width:
    """How many requests run at once: one more for every round that went well, 30 % fewer when the server complains."""

    def __init__(self, most: int) -> None:
        self._most, self._now, self._eased = float(most), float(most), 0.0

    def __int__(self) -> int:
        return max(1, int(self._now))

    def grow(self) -> None:
        """An answer has come."""
        self._now = min(self._most, self._now + 1 / self._now)

    def ease(self) -> None:
        """The server complains; at most one step a second, for what is under way complains together."""
        now = time.monotonic()
        if now - self._eased >= 1.0:
            self._eased, self._now = now, max(1.0, self._now * 0.7)
