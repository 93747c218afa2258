"""One model on tasks of lm-evaluation-harness, in a process of its own: `python -m stages.harness` (`stages.child`)."""

import itertools
import os
from typing import Any

from pipeline import machine
from pipeline.errors import ModelError, UsageError
from stages import child
from stages.student import load

BATCH = 8
ALL = "none"  # the harness's name for answers that no filter has cut
KEY = ",".join  # its name of a metric of filtered answers: `exact_match,strict-match`


def measure(job: dict[str, Any], advance: child.Advance) -> dict[str, Any]:
    """A task: which way each metric is better, and every item's values. Raises UsageError, ModelError."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = load(**job["model"])
    if not torch.cuda.is_available():
        torch.set_num_threads(machine.cores())
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    try:
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH),
            tasks=[*job["tasks"], *job["files"]],
            task_manager=TaskManager(include_defaults=bool(job["tasks"])),
            limit=job["limit"],
            apply_chat_template=job["chat_template"],
            bootstrap_iters=0,
            random_seed=job["seed"], numpy_random_seed=job["seed"], torch_random_seed=job["seed"],
            fewshot_random_seed=job["seed"],
        )  # fmt: skip
    except KeyError as error:
        raise UsageError(f"evaluate.lm_eval: {error.args[0]}", hint="`lm_eval ls tasks` lists the names") from error
    except Exception as error:  # datasets that are not here, tasks with code of their own: anything
        why = " ".join(str(error).split())[:300]
        raise ModelError(f"lm_eval failed: {type(error).__name__}: {why}", hint="see logs/evaluate.log") from error
    advance(1)
    return {"version": lm_eval.__version__, "tasks": {name: _task(name, found) for name in found["samples"]}}


def _task(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """The items by number, their values by metric; metrics that are no mean of items are named in `left`."""
    items: dict[int, dict[str, float]] = {}
    for sample in found["samples"][name]:
        for metric in sample["metrics"]:
            if isinstance(value := sample[metric], int | float):
                key = metric if sample["filter"] == ALL else KEY([metric, sample["filter"]])
                items.setdefault(sample["doc_id"], {})[key] = float(value)
    metrics = sorted(set(itertools.chain.from_iterable(items.values())))
    named = {key.removesuffix(f",{ALL}") for key in found["results"][name] if "," in key and "_stderr," not in key}
    better = found["higher_is_better"].get(name) or {}
    return {
        "better": {metric: better.get(metric.partition(",")[0]) for metric in metrics},
        "items": dict(sorted((str(number), values) for number, values in items.items())),
        "left": sorted(named - set(metrics)),
    }


if __name__ == "__main__":
    child.serve(measure)
