"""A chat-completion server whose answers and failures are in the prompts; it writes down what it was asked.

Run as `python -m tests.scripted_server LOG [DELAY]`: prints its port, appends every prompt to LOG. A prompt that
begins with a word in capitals fails that way the first time it is asked, and is answered the second time. GET /asked
tells when each answered request came, and how many tokens it took.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import web

asked: Counter[str] = Counter()
taken: list[tuple[float, int]] = []


def shaped(schema: dict[str, Any], text: str) -> Any:
    """A value of a JSON schema: texts say `text`, truths are false, numbers one, lists have one item."""
    match schema.get("type"):
        case "object":
            return {name: shaped(inner, f"{name}: {text}") for name, inner in schema.get("properties", {}).items()}
        case "array":
            return [shaped(schema["items"], text)]
        case "boolean":
            return False
        case "integer" | "number":
            return 1
    return text


def answer(prompt: str, n: int = 1, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the server says to a prompt: always the same."""
    text = f"An answer to {prompt[:40]}: {hashlib.sha256(prompt.encode()).hexdigest()}"
    text = json.dumps(shaped(schema, text)) if schema else text
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"choices": [choice] * n, "usage": {"prompt_tokens": len(prompt), "completion_tokens": len(text)}}


def failure(request: web.Request, prompt: str) -> web.StreamResponse | None:
    """The failure a prompt asks for."""
    match prompt.split()[0]:
        case "LIMIT":
            return web.json_response({"error": "slow down"}, status=429, headers={"Retry-After": "0.2"})
        case "BROKEN":
            return web.Response(text='{"choices": [', content_type="application/json")
        case "TWO":
            return web.json_response(answer(prompt, 2))
        case "CLOSE":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        case "ERROR":
            return web.Response(status=500, text="out of order")
        case "REFUSED":
            return web.json_response({"error": "this prompt is not allowed"}, status=400)
    return complaint(request.headers.get("Authorization", ""), prompt) or limited(prompt)


def complaint(key: str, prompt: str) -> web.Response | None:
    """Errors that asking again does not mend; two of them quote the key."""
    code = {"PARAMETER": "unsupported_parameter", "QUOTA": "insufficient_quota", "ECHO": "", "KEY": ""}
    status = {"PARAMETER": 400, "QUOTA": 429, "ECHO": 400, "KEY": 401}
    if (word := prompt.split()[0]) not in code:
        return None
    error = {"message": "Unsupported parameter: 'max_tokens'" if code[word] else f"you sent {key}", "code": code[word]}
    return web.json_response({"error": error}, status=status[word])


def limited(prompt: str) -> web.Response | None:
    """The ways in which servers say how long to wait: here a second or two."""
    headers = {
        "DATE": {"Retry-After": formatdate(time.time() + 2, usegmt=True)},
        "MILLISECONDS": {"retry-after-ms": "1000", "Retry-After": "30"},
        "RESET": {
            "x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "30s",
            "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1s0ms",
        },
    }.get(prompt.split()[0])  # fmt: skip
    return None if headers is None else web.json_response({"error": "slow down"}, status=429, headers=headers)


def sort_of(prompt: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    """The answer to a prompt, in the shape that its first word or the request names."""
    found = answer(prompt, schema=schema)
    message = found["choices"][0]["message"]
    match prompt.split()[0]:
        case "UNCOUNTED":
            del found["usage"]
        case "THINKS":
            message["reasoning_content"] = "Let me see."
        case "REASONS":
            message |= {"reasoning": "Let me see.", "content": None}
    return found


async def chat(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    came, body = time.monotonic(), await request.json()
    prompt = body["messages"][-1]["content"]
    asked[prompt] += 1
    with Path(sys.argv[1]).open("a", encoding="utf-8") as log:
        log.write(json.dumps(prompt) + "\n")
    if prompt.startswith("HANG") and asked[prompt] == 1:
        await asyncio.sleep(30)
    if (asked[prompt] == 1 or prompt.startswith("REFUSED")) and (failed := failure(request, prompt)) is not None:
        return failed
    await asyncio.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0.02)
    shape = body.get("response_format", {}).get("json_schema", {}).get("schema")
    found = sort_of(prompt, shape)
    taken.append((came, sum(found.get("usage", {}).values())))
    return web.json_response(found)


async def told(request: web.Request) -> web.Response:
    """GET /asked."""
    return web.json_response(taken)


async def main() -> None:
    """Serve on a free port of the loopback until killed."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/asked", told)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
