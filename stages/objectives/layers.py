"""What a student can learn from inside its teacher: hidden states and attention, layer by layer."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.component import Component
from pipeline.errors import UsageError
from stages.objectives.base import Model

Layers = Annotated[
    list[tuple[int, int]],
    Field(
        min_length=1, description="[student's, teacher's] layer, from 0; -1 is the last", examples=[[[0, 5], [1, 11]]]
    ),
]


class Features(Component):
    """Hidden states (FitNets, arXiv 1412.6550): what a student's layer puts out against what the teacher's does.

    Where the widths differ, a learned linear projector takes the student's to the teacher's.
    """

    layers: Layers
    loss: Annotated[
        Literal["cosine", "mse"],
        Field(description="cosine: 1 - cos (DistilBERT); mse: a few huge activations decide it, so weigh it low"),
    ] = "cosine"
    weight: Annotated[float, Field(gt=0, description="beside cross-entropy and soft labels")] = 1.0


class Attention(Component):
    """Attention transfer: where the teacher looks, as a student's layer against the teacher's.

    rows: KL of the attention weights averaged over the heads; relations: KL of query-query, key-key and value-value
    relations over as many relation heads in both (MiniLMv2, arXiv 2012.15828), for any number of heads and any width.
    """

    layers: Layers
    of: Literal["rows", "relations"] = "rows"
    relation_heads: Annotated[int, Field(ge=1, description="for relations; must divide all widths")] = 1
    weight: Annotated[float, Field(gt=0, description="beside cross-entropy and soft labels")] = 1.0


def require_layers(name: str, layers: list[tuple[int, int]], student: Model, teacher: Model) -> None:
    """Refuse a layer that one of the two has not. Raises UsageError."""
    for pair in layers:
        for who, layer, model in zip(("student", "teacher"), pair, (student.model, teacher.model), strict=True):
            have = int(model.config.get_text_config().num_hidden_layers)
            if not -have <= layer < have:
                raise UsageError(f"train.objective.{name}.layers: the {who} has no layer {layer}, but 0 to {have - 1}")


def require_relations(attention: Attention, student: Model, teacher: Model) -> None:
    """Refuse models without queries, keys and values of their own, or of other widths. Raises UsageError."""
    for place in (0, 1):
        who, model = ("student", student.model) if place == 0 else ("teacher", teacher.model)
        for pair in attention.layers:
            for part, module in projections(model, pair[place]).items():
                if module.out_features % attention.relation_heads:
                    raise UsageError(
                        f"train.objective.attention.relation_heads: {attention.relation_heads} does not divide the "
                        f"{module.out_features} outputs of the {who}'s {part}"
                    )


def projections(model: Any, layer: int) -> dict[str, Any]:
    """The modules of one layer that make queries, keys and values. Raises UsageError where there are no three."""
    decoder = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = getattr(decoder.get_decoder(), "layers", None)
    attention = getattr(layers[layer], "self_attn", None) if layers is not None else None
    found = {name: getattr(attention, name, None) for name in ("q_proj", "k_proj", "v_proj")}
    if missing := [name for name, module in found.items() if not hasattr(module, "out_features")]:
        raise UsageError(
            f"{type(decoder).__name__} has no {', '.join(missing)} in its layers, and relations are made of those",
            hint="train.objective.attention: {of: rows}",
        )
    return found
