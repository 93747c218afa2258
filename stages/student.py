"""The student: a model by name, or one made from the teacher by keeping some of its layers."""

import contextlib
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline.component import Component
from pipeline.engines import Engine
from pipeline.errors import ModelError, UsageError
from pipeline.models import find

LAYER = re.compile(r"^(.*\.(?:layers|h|blocks|block)\.)(\d+)(\..+)$")


class Init(Component):
    """How a student is made from the teacher."""

    layers: Annotated[
        list[int],
        Field(min_length=1, description="teacher layers to keep, in order, from 0 (DistilBERT, arXiv 1910.01108)"),
    ]


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

    def base(self, teacher: Engine | None) -> tuple[str, str]:
        """Name and revision of the model whose weights are loaded."""
        if self.init is None:
            return self.model, self.revision
        if teacher is None:
            raise UsageError("train.student.init makes the student from the teacher, but the plan has no teacher")
        if teacher.remote:
            raise UsageError(
                f"train.student.init makes the student from the teacher's weights, and {teacher.model} has none here",
                hint="give train.student.model instead",
            )
        return teacher.model, teacher.revision

    def spec(self, teacher: Engine | None) -> dict[str, Any]:
        """What `load` takes, as plain JSON."""
        name, revision = self.base(teacher)
        return {"model": name, "revision": revision, "layers": self.init.layers if self.init else None}


def load(model: str, revision: str = "", layers: list[int] | None = None) -> tuple[Any, Any]:
    """A causal language model and its tokenizer, of the chosen layers only where `layers` is given.

    On a CPU in float32. Raises ModelError where it cannot be loaded, UsageError for a layer it has not.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    where, more = _place(model, revision)
    with _loading(model):
        whole = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, use_safetensors=True, **more)
    return (whole if layers is None else keep_layers(whole, layers)), _tokenizer(model, revision)


def blank(model: str, revision: str = "") -> tuple[Any, Any]:
    """The same class and configuration without any weights, and the tokenizer: what a trainer prepares rows with.

    Takes no memory and reads no weights. Raises ModelError where it cannot be made.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    where, more = _place(model, revision)
    with _loading(model), torch.device("meta"):
        made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(where, **more))
    with contextlib.suppress(OSError):  # it is optional, and from_config does not read it
        made.generation_config = GenerationConfig.from_pretrained(where, **more)
    made.hf_device_map = {"": "meta"}  # a trainer leaves a model where this says it is
    return made, _tokenizer(model, revision)


def _place(model: str, revision: str) -> tuple[str, dict[str, str]]:
    found = find(model, revision)
    return found.where, {} if found.local or not revision else {"revision": revision}


@contextlib.contextmanager
def _loading(model: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise ModelError(f"cannot load {model}: {' '.join(str(error).split())[:400]}") from error


def _tokenizer(model: str, revision: str) -> Any:
    from transformers import AutoTokenizer

    where, more = _place(model, revision)
    with _loading(model):
        tokenizer = AutoTokenizer.from_pretrained(where, **more)
    if tokenizer.chat_template is None:
        raise ModelError(f"{model} has no chat template; a teacher and a student need one")
    return tokenizer


def keep_layers(teacher: Any, layers: list[int]) -> Any:
    """A model like `teacher` with only the named layers, weights copied, embeddings and norms included."""
    from transformers import AutoModelForCausalLM

    count = int(teacher.config.num_hidden_layers)
    for layer in layers:
        if not 0 <= layer < count:
            raise UsageError(f"train.student.init.layers: {layer} is not one of the teacher's 0 to {count - 1}")
    config = type(teacher.config).from_dict(teacher.config.to_dict())
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [teacher.config.layer_types[i] for i in layers]
    student = AutoModelForCausalLM.from_config(config, dtype=teacher.dtype)
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
