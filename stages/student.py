"""The student: a model by name, or one made from the teacher: some of its layers, or its configuration changed."""

import contextlib
import re
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from pipeline.component import Component
from pipeline.engines import Engine
from pipeline.errors import ModelError, UsageError
from pipeline.models import find

LAYER = re.compile(r"^(.*\.(?:layers|h|blocks|block)\.)(\d+)(\..+)$")


class Named(NamedTuple):
    """A model by name and revision."""

    model: str
    revision: str = ""


class Init(Component):
    """How a student is made from the teacher: exactly one of `layers` and `config`."""

    layers: Annotated[
        list[int],
        Field(description="teacher layers to keep, in order, from 0 (DistilBERT, arXiv 1910.01108)"),
    ] = []
    config: Annotated[
        dict[str, Any],
        Field(description="settings of the teacher's config.json that differ; the weights are random"),
    ] = {}

    @model_validator(mode="after")
    def _one(self) -> "Init":
        if bool(self.layers) == bool(self.config):
            raise ValueError("give either `layers` (the teacher's, kept) or `config` (from scratch)")
        if fixed := sorted({"vocab_size", "model_type", "architectures"} & self.config.keys()):
            raise ValueError(f"config: {', '.join(fixed)} stays the teacher's, whose tokenizer the student has")
        return self


class Student(Component):
    """Exactly one of `model` and `init`."""

    model: Annotated[str, Field(description="Hub id, local path or demo: name")] = ""
    revision: str = ""
    init: Init | None = None

    @model_validator(mode="after")
    def _one(self) -> "Student":
        if bool(self.model) == bool(self.init):
            raise ValueError("give either `model` (a Hub id or path) or `init` (made from the teacher)")
        return self

    def base(self, teacher: Engine | None) -> Named:
        """The model whose weights are loaded."""
        if self.init is None:
            return Named(self.model, self.revision)
        if teacher is None:
            raise UsageError("train.student.init makes the student from the teacher, but the plan has no teacher")
        if teacher.remote:
            raise UsageError(
                f"train.student.init makes the student from the teacher's weights, and {teacher.model} has none here",
                hint="give train.student.model instead",
            )
        return Named(teacher.model, teacher.revision)

    def spec(self, teacher: Engine | None) -> dict[str, Any]:
        """What `load` takes, as plain JSON."""
        return self.made_from(self.base(teacher))

    def made_from(self, base: Named) -> dict[str, Any]:
        """What `load` takes where the student is, or is made from, `base`."""
        init = {"layers": self.init.layers, "config": self.init.config} if self.init else {}
        return {"model": base.model, "revision": base.revision, **{name: how for name, how in init.items() if how}}


def load(
    model: str,
    revision: str = "",
    layers: list[int] | None = None,
    config: dict[str, Any] | None = None,
    attention: str | None = None,
) -> tuple[Any, Any]:
    """A causal language model and its tokenizer; of the chosen layers only, or from scratch with settings that differ.

    On a CPU in float32. Random weights come from torch's seed. `attention`: the implementation, None for the model's
    own. Raises ModelError where it cannot be loaded, UsageError for a layer or setting it has not.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    where, more, how = place = _place(model, revision, attention)
    with _loading(model):
        if config:
            return _fresh(place, config=config, dtype=dtype), _tokenizer(model, revision)
        whole = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, use_safetensors=True, **more, **how)
    return (keep_layers(whole, layers) if layers else whole), _tokenizer(model, revision)


def blank(
    model: str,
    revision: str = "",
    layers: list[int] | None = None,
    config: dict[str, Any] | None = None,
    attention: str | None = None,
) -> tuple[Any, Any]:
    """What `load` gives, without any weights: what a trainer prepares rows with, and what its shape is read from.

    Takes no memory and reads no weights. Raises ModelError where it cannot be made, UsageError as `load` does.
    """
    import torch
    from transformers import GenerationConfig

    place = _place(model, revision, attention)
    with _loading(model), torch.device("meta"):
        made = _fresh(place, layers, config)
    with contextlib.suppress(OSError):  # it is optional, and from_config does not read it
        made.generation_config = GenerationConfig.from_pretrained(place.where, **place.more)
    made.hf_device_map = {"": "meta"}  # a trainer leaves a model where this says it is
    return made, _tokenizer(model, revision)


def count(model: Any) -> int:
    """Parameters of a model, those that it shares with itself once."""
    return sum(p.numel() for p in model.parameters())


class _Place(NamedTuple):
    """Where a model's files are, and what else they are read with and its class is made with."""

    where: str
    more: dict[str, str]
    how: dict[str, str]


def _place(model: str, revision: str, attention: str | None = None) -> _Place:
    found = find(model, revision)
    more = {} if found.local or not revision else {"revision": revision}
    return _Place(found.where, more, {"attn_implementation": attention} if attention else {})


@contextlib.contextmanager
def _loading(model: str) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise ModelError(f"cannot load {model}: {' '.join(str(error).split())[:400]}") from error


def _tokenizer(model: str, revision: str) -> Any:
    from transformers import AutoTokenizer

    place = _place(model, revision)
    with _loading(model):
        tokenizer = AutoTokenizer.from_pretrained(place.where, **place.more)
    if tokenizer.chat_template is None:
        raise ModelError(f"{model} has no chat template; a teacher and a student need one")
    return tokenizer


def _fresh(place: _Place, layers: list[int] | None = None, config: dict[str, Any] | None = None, **dtype: Any) -> Any:
    """A model of this configuration, of the chosen layers alone or with settings that differ; no weights are read."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = AutoConfig.from_pretrained(place.where, **place.more)
    settings = _cut(settings, layers) if layers else _changed(settings, config) if config else settings
    return AutoModelForCausalLM.from_config(settings, **dtype, **place.how)


def _changed(config: Any, settings: dict[str, Any]) -> Any:
    """A configuration with other settings. Raises UsageError for one it has not: it would be ignored."""
    have = config.to_dict()
    if unknown := sorted(settings.keys() - have.keys()):
        known = [name for name in have if isinstance(have[name], int) and not isinstance(have[name], bool)]
        raise UsageError(
            f"train.student.init.config: the teacher's configuration has no {', '.join(unknown)}",
            hint=f"among what it has: {', '.join(sorted(known))}",
        )
    have.pop("layer_types", None)  # one entry a layer: made anew
    if "head_dim" not in settings and settings.keys() & {"hidden_size", "num_attention_heads"}:
        have.pop("head_dim", None)  # follows from the two
    return type(config).from_dict(have | settings)


def _cut(config: Any, layers: list[int]) -> Any:
    """The configuration of the chosen layers alone. Raises UsageError for one there is not."""
    have = int(config.num_hidden_layers)
    for layer in layers:
        if not 0 <= layer < have:
            raise UsageError(f"train.student.init.layers: {layer} is not one of the teacher's 0 to {have - 1}")
    cut = type(config).from_dict(config.to_dict())
    cut.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        cut.layer_types = [config.layer_types[i] for i in layers]
    return cut


def keep_layers(teacher: Any, layers: list[int]) -> Any:
    """A model like `teacher` with only the named layers, weights copied, embeddings and norms included."""
    from transformers import AutoModelForCausalLM

    student = AutoModelForCausalLM.from_config(
        _cut(teacher.config, layers), dtype=teacher.dtype, attn_implementation=teacher.config._attn_implementation
    )
    state = {}
    for key, tensor in teacher.state_dict().items():
        if match := LAYER.match(key):
            head, number, tail = match.groups()
            state.update({f"{head}{i}{tail}": tensor for i, n in enumerate(layers) if n == int(number)})
        else:
            state[key] = tensor
    student.load_state_dict(state)
    student.generation_config = teacher.generation_config
    return student
