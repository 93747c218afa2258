"""`pipeline ablate PLAN --check`: which arms there are and what is still to be trained. Loads and writes nothing."""

from typing import Any, NamedTuple

from pipeline import console
from pipeline.store import Version
from stages import flow
from stages.ablation.arms import Arm
from stages.ablation.study import Study, laboratory

SETTINGS = ("generate", "filter", "curate", "train")


class Planned(NamedTuple):
    """One arm. `to_train`: students that are not trained; None where its rows have to be made first."""

    name: str
    data: str
    changes: list[str]
    students: int
    to_train: int | None


class Forecast(NamedTuple):
    """All arms, what is compared (first arm, second arm, what it brought), and what to know."""

    arms: list[Planned]
    contrasts: list[tuple[str, str, str]]
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        contrasts = [dict(zip(("first", "second", "brought"), row, strict=True)) for row in self.contrasts]
        return {"arms": [arm._asdict() for arm in self.arms], "contrasts": contrasts, "notes": self.notes}


def forecast(study: Study) -> Forecast:
    """What `pipeline ablate` would do now. Raises UsageError as it would."""
    missing = study.find_sources()
    left = {} if missing else _to_train(study)
    arms = [
        Planned(name, _data(arm, study.sources.get(name)), _changes(study, arm), len(study.seeds), left.get(name))
        for name, arm in study.arms.all.items()
    ]
    contrasts = [(contrast.first, contrast.second, contrast.brought) for contrast in study.arms.contrasts]
    return Forecast(arms, contrasts, _notes(study, arms, missing))


def _to_train(study: Study) -> dict[str, int]:
    """Students that are not trained, by arm; all of them while the plan's own has not said how many tokens."""
    lab, _ = laboratory(study)
    own = lab.student(study.own, study.seeds[0], study.sources[study.arms.own], study.rows, study.section.tokens)
    twin = lab.twin(own)
    if not lab.known(own) and twin is None:
        return dict.fromkeys(study.sources, len(study.seeds))
    budget = twin.manifest.figures["seen"] if twin else own.figures["seen"]
    return {
        name: sum(not lab.known(one) and lab.twin(one) is None for one in study.students(lab, name, budget))
        for name in study.sources
    }


def _data(arm: Arm, source: Version | None) -> str:
    return f"{arm.stage} {source.name.split('-')[0] if source else '(to be made)'}: {arm.words}"


def _changes(study: Study, arm: Arm) -> list[str]:
    stages = [name for name in SETTINGS if name in arm.plan.stages() and name in study.plan.stages()]
    return [
        change
        for name in stages
        for change in flow.changes(study.plan.settings(name), arm.plan.settings(name))
        if not change.startswith("student:")  # follows from train.student
    ]


def _notes(study: Study, arms: list[Planned], missing: list[str]) -> list[str]:
    if missing:
        return [f"rows of {', '.join(missing)} have to be made first, which may ask models"]
    waiting = sum(arm.to_train or 0 for arm in arms)
    trained = study.run.current("train")
    figures = trained.manifest.figures if trained else {}
    if not waiting or not trained or not figures.get("seen") or not figures.get("tokens_per_second"):
        return []
    tokens = study.section.tokens or figures["seen"]
    seconds = waiting * tokens / figures["tokens_per_second"]
    return [f"about {console.clock(seconds)} of training, by the {figures['tokens_per_second']:g} tokens a second of "
            f"train {trained.name}; measuring comes on top"]  # fmt: skip
