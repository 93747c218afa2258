"""Answers that people wrote or approved, from ../shared/data: what no rule may throw away."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import pytest

DATA = Path(__file__).resolve().parents[3] / "shared/data"
MARKUP = ("# ", "* License", "* Text", "* Illustration", "* Translation", "* Language")


class Row(NamedTuple):
    """A prompt and its answer."""

    prompt: str
    answer: str


def shared(path: str) -> Path:
    """A file or folder of the shared data; skips the test where it is absent."""
    there = DATA / path
    if not there.exists():
        pytest.skip(f"{there} is not on this machine")
    return there


def self_instruct() -> list[Row]:
    """175 seed tasks, solved by people."""
    tasks = [json.loads(line) for line in shared("self_instruct/seed_tasks.jsonl").read_text("utf-8").splitlines()]
    return [Row(f"{t['instruction']}\n\n{i['input']}".strip(), i["output"]) for t in tasks for i in t["instances"]]


def alpaca_rows() -> list[Row]:
    """1,100 short instructions with answers."""
    rows = json.loads(shared("rasbt_instruction/instruction-data.json").read_text("utf-8"))
    return [Row(f"{r['instruction']}\n\n{r['input']}".strip(), r["output"]) for r in rows]


def solutions() -> list[Row]:
    """7,473 worked solutions of GSM8K."""
    rows = [json.loads(line) for line in shared("gsm8k/train.jsonl").read_text("utf-8").splitlines()]
    return [Row(r["question"], r["answer"]) for r in rows]


def stories(folder: str) -> list[Row]:
    """Picture books without titles, page breaks and licence lines: stories_ko, stories_en."""
    found = []
    for file in sorted(shared(folder).rglob("*.md")):
        lines = file.read_text("utf-8").splitlines()
        found.append("\n".join(x for x in lines if x.strip() != "##" and not x.startswith(MARKUP)).strip())
    return [Row("A story.", text) for text in found]


def chats_ko() -> list[Row]:
    """11,823 Korean questions with friendly answers."""
    with shared("chatbot_data_ko/ChatbotData.csv").open(encoding="utf-8") as file:
        return [Row(r["Q"], r["A"]) for r in csv.DictReader(file)]


def role_plays() -> list[Row]:
    """1,923 role plays: letters, speeches, first persons of every sort."""
    rows = json.loads(shared("gpteacher/roleplay-simple-deduped-roleplay-instruct.json").read_text("utf-8"))
    return [Row(f"{r['instruction']}\n\n{r['input']}".strip(), r["response"]) for r in rows]


def contrasts() -> list[Row]:
    """450 prompts that look harmful, most of them not, and GPT-4's answers."""
    with shared("xstest/xstest_v2_completions_gpt4.csv").open(encoding="utf-8") as file:
        return [Row(r["prompt"], r["completion"]) for r in csv.DictReader(file)]


def documents(folder: str) -> list[Row]:
    """Markdown pages full of code."""
    return [Row("문서", file.read_text("utf-8")) for file in sorted(shared(folder).rglob("*.md*"))]
