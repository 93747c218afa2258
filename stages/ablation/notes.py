"""What to know before trusting an ablation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.ablation.study import Study

CHANCE = 0.05


def notes(study: "Study", figures: dict[str, Any]) -> list[str]:
    """In the order of their weight."""
    found = []
    tested = [c for c in figures["contrasts"] if c["verdict"] not in ("", "the same")]
    if len(study.seeds) == 1:
        found.append("one seed: the intervals are over prompts alone; another training would end elsewhere")
    filtered = {name for name, arm in study.arms.all.items() if arm.stage != "generate"}
    mixed = any((c.first in filtered) != (c.second in filtered) for c in study.arms.contrasts)
    if mixed and study.heldout().manifest.stage == "filter":
        found.append(
            "perplexity is of held-out answers that the filters passed, which favours students of filtered rows: "
            "judges, probes and human texts do not (ablate.heldout: generate measures on all)"
        )
    for arm in figures["arms"]:
        rows, draw = arm["rows"], figures["draw"]
        if study.arms.all[arm["arm"]].draws and rows < draw:
            found.append(f"{arm['arm']} has {rows:,} rows and not {draw:,}: its students see each more often")
    if len(tested) > 1:
        found.append(
            f"{len(tested)} differences were tested: about {len(tested) * CHANCE:.1f} of them would be shown by chance "
            "alone if there were none"
        )
    for judge in study.evaluate.judges:
        found += judge.notes(study.plan.teacher)
    if figures["leaks"]:
        found.append(f"{figures['leaks']} held-out rows ask what some arm trains on, and are left out")
    return found
