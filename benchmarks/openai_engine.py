"""`pipeline generate` against a bare asyncio client: 2,000 requests of 20 ms, 64 at a time, on one scripted server.

Run as `python -m benchmarks.openai_engine`; writes benchmarks/openai_engine.json. The pipeline's time is that of
the whole stage (seeds read, every completion durable, shards sealed), start-up of Python and imports apart.
"""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
REQUESTS, SIDE_BY_SIDE, DELAY = 2000, 64, 0.02
COMMAND = "import aiohttp; from pipeline.cli import main; main()"  # what the bare client has imported as well


async def bare(url: str) -> float:
    """Seconds of a client that does nothing but ask."""
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def ask(session: aiohttp.ClientSession, n: int) -> None:
        body = {"model": "scripted", "messages": [{"role": "user", "content": f"bare {n}"}]}
        async with places, session.post(f"{url}/chat/completions", json=body) as response:
            await response.json()

    started = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(ask(session, n) for n in range(REQUESTS)))
    return time.monotonic() - started


def pipeline(url: str, folder: Path) -> float:
    """Seconds of the generate stage, as its manifest says."""
    (folder / "seeds.jsonl").write_text("".join(f'{{"prompt": "ours {n}"}}\n' for n in range(REQUESTS)))
    plan = {
        "name": "bench",
        "teacher": {"kind": "openai", "model": "scripted", "base_url": url, "concurrency": SIDE_BY_SIDE},
        "generate": {"source": {"kind": "jsonl", "path": "seeds.jsonl"}, "task": {"kind": "respond"}},
    }
    (folder / "plan.yaml").write_text(json.dumps(plan))
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "generate", str(folder / "plan.yaml"), "--quiet", "--json"],
        cwd=ROOT,
        env=os.environ | {"PIPELINE_RUNS": str(folder / "runs")},
        capture_output=True,
        check=True,
    )
    seconds: float = json.loads(done.stdout)[0]["usage"]["seconds"]
    return seconds


def main() -> None:
    """Three rounds of both, side by side; the medians and their ratio."""
    rounds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command = [sys.executable, "-m", "tests.scripted_server", str(folder / "log"), str(DELAY)]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
                assert server.stdout is not None
                url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
                rounds.append((asyncio.run(bare(url)), pipeline(url, folder)))
                server.kill()
    floor, ours = (sorted(times)[1] for times in zip(*rounds, strict=True))
    result = {
        "requests": REQUESTS,
        "side_by_side": SIDE_BY_SIDE,
        "server_seconds_each": DELAY,
        "bare_client_seconds": round(floor, 2),
        "pipeline_seconds": round(ours, 2),
        "ratio": round(ours / floor, 2),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    (ROOT / "benchmarks/openai_engine.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
