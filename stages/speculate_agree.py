"""How alike teacher and draft are along given answers. Called as `python -m stages.speculate_agree`.

One forward pass of both models with transformers; in float32 on a CPU.
"""

import os
from typing import Any

from stages import child
from stages.student import load


def agree(job: dict[str, Any], advance: child.Advance) -> dict[str, Any]:
    """For every answer what `compare` gives; and for the tokens named `instead` their texts and `less`.

    `less`: by how many nats the teacher likes such a token less than the one in its place.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    (teacher, tokenizer), (draft, _) = load(**job["teacher"]), load(**job["draft"])
    teacher.to(device).eval()
    draft.to(device).eval()
    rows = []
    for row in job["rows"]:
        prompt, answer = row["prompt"], torch.tensor(row["answer"], device=device)
        p, q = (_logits(model, prompt, answer) for model in (teacher, draft))
        width = min(p.shape[-1], q.shape[-1])  # a padded embedding is wider; vLLM lets no draft say the padding
        p, q = p.log_softmax(-1)[:, :width], q[:, :width].log_softmax(-1)
        rows.append(
            compare(p, q, answer)
            | {"less": [float(p[at, answer[at]] - p[at, token]) for at, token in row["instead"]]}
            | {"texts": [[tokenizer.decode([t]) for t in (row["answer"][at], to)] for at, to in row["instead"]]}
        )
        advance(1)
    return {"rows": rows}


def compare(p_T_V: Any, q_T_V: Any, answer_T: Any) -> dict[str, Any]:  # noqa: N803
    """Log-probabilities of teacher p and draft q at each of an answer's tokens, against the answer.

    `overlap`: the sum over tokens of sum_x min(p(x), q(x)), what drafts drawn from q pass at temperature 1 (arXiv
    2211.17192); `liked`: the sum of p at q's likeliest token, what greedy drafts pass there; `matches`: whether q's
    likeliest token is the answer's, what greedy decoding accepts.
    """
    import torch

    likeliest = q_T_V.argmax(-1)
    return {
        "overlap": torch.minimum(p_T_V, q_T_V).exp().sum(-1).clamp(max=1).sum().item(),
        "liked": p_T_V.gather(-1, likeliest[:, None]).exp().sum().item(),
        "matches": (likeliest == answer_T).tolist(),
    }


def _logits(model: Any, prompt: list[int], answer: Any) -> Any:
    """What decides each token of the answer; float32, shape (T, V)."""
    import torch

    ids = torch.cat([torch.tensor(prompt, device=answer.device), answer])[None]
    with torch.inference_mode():
        return model(ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1].float()


if __name__ == "__main__":
    child.serve(agree)
