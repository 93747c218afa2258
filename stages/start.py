"""init: a commented plan to start from, with seeds and a prompt beside it."""

import re
from pathlib import Path

from pipeline.errors import UsageError

PLAN = """\
# A run from seeds to a student. Every setting: `pipeline kinds`; what would run: `pipeline check {folder}/plan.yaml`.
name: "{name}"
about: what this run is for
seed: 0

teacher:
  kind: vllm
  model: demo:smollm2-135m-instruct     # a Hub id, a local folder, or a demo model
  max_model_len: 2048

generate:
  source:
    kind: jsonl
    path: seeds.jsonl                   # one object a line; its keys fill the prompt's slots
  task:
    kind: template
    prompt: prompt.md
  sampling: {{temperature: 0.8, top_p: 0.95, max_tokens: 256}}
  samples: 4                            # answers per seed
  heldout: 0.2                          # share of the seeds kept for evaluation

filter:
  rules:                                # in order, cheap ones first; the first "no" is the reason
    - {{kind: length, min_chars: 20}}
    - {{kind: repetition}}
    - {{kind: echo}}
    - {{kind: exact}}
    - {{kind: judge, prompt: judge/quality, min_score: 2}}

curate:
  select: {{kind: cluster}}
  keep: 40

train:
  student:
    init: {{layers: [0, 1, 10, 20, 29]}} # layers of the teacher; or `model: ...` for another model
  objective: {{kind: sft, learning_rate: 1.0e-3}}

evaluate: {{}}
"""

PROMPT = """\
---
about: One question about a topic, answered for a beginner.
needs: [topic]
language: en
licence: Apache-2.0
---
>>> user
Explain {{ topic }} to a beginner in three sentences.
"""

SEEDS = """\
{"topic": "why the sky is blue"}
{"topic": "how bread rises"}
{"topic": "what a prime number is"}
{"topic": "how a bicycle stays upright"}
{"topic": "why we sleep"}
{"topic": "how a rainbow forms"}
{"topic": "what a database is"}
{"topic": "how bees make honey"}
{"topic": "why the sea is salty"}
{"topic": "what a budget is"}
{"topic": "how a lock works"}
{"topic": "what a metaphor is"}
{"topic": "why leaves turn red"}
{"topic": "how a battery stores energy"}
{"topic": "what a vaccine does"}
{"topic": "how to read a map"}
{"topic": "why ice floats"}
{"topic": "what an algorithm is"}
{"topic": "how a camera takes a picture"}
{"topic": "what makes a good question"}
"""


def write(folder: Path) -> list[Path]:
    """Write plan, prompt and seeds. Raises UsageError where the folder holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not empty", hint="choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w-]+", "-", folder.resolve().name).strip("-") or "plan"
    files = {"plan.yaml": PLAN.format(name=name, folder=folder), "prompt.md": PROMPT, "seeds.jsonl": SEEDS}
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return [folder / file for file in files]
