"""Tasks of lm-evaluation-harness: which ones, and their items' values as columns."""

from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from pipeline.component import Component, PlanFile
from stages.bootstrap import Column, Score
from stages.scores.base import Better, Columns, Metric

WAYS: dict[Any, Better] = {True: "higher", False: "lower"}


class LmEval(Component):
    """Names that the harness knows, and files of tasks of your own; a plain list is sorted into the two."""

    tasks: Annotated[list[str], Field(description="names of tasks, whose data the harness fetches")] = []
    files: Annotated[list[PlanFile], Field(description="YAML files of tasks; the data they name is not counted")] = []
    limit: Annotated[int | None, Field(ge=1, description="items of each task, at most")] = None
    chat_template: Annotated[bool, Field(description="ask in the model's chat format, as it was trained")] = False

    @model_validator(mode="before")
    @classmethod
    def _sorted(cls, value: Any) -> Any:
        """`lm_eval: [arc_easy, tasks/mine.yaml]`."""
        if not isinstance(value, list):
            return value
        files = [name for name in value if str(name).endswith((".yaml", ".yml"))]
        return {"tasks": [name for name in value if name not in files], "files": files}

    @model_validator(mode="after")
    def _any(self) -> "LmEval":
        if not self.tasks and not self.files:
            raise ValueError("name a task")
        return self

    def job(self) -> dict[str, Any]:
        """As `stages.harness` takes it."""
        return self.model_dump(mode="json")


class Item(NamedTuple):
    """One item of a task."""

    task: str
    number: str


def tasks(found: dict[str, Any]) -> Columns:
    """A column a metric and task, a place an item."""
    columns: Columns = {}
    for name, task in found["tasks"].items():
        for metric, better in task["better"].items():
            values = [item.get(metric) for item in task["items"].values()]
            column: Column = [None if value is None else Score(value) for value in values]
            way = WAYS.get(better, "")
            columns[Metric(f"{name}_{metric}", f"{name}: {metric}", way, on=f"lm_eval/{name}")] = column
    return columns


def items(found: dict[str, Any]) -> list[Item]:
    """Every item, task by task, in the order of the columns."""
    return [Item(name, number) for name, task in found["tasks"].items() for number in task["items"]]
