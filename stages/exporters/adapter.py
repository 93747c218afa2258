"""The adapters by themselves: many students share one base that is loaded once."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.models import find
from stages.exporters.base import TOKENIZER, Finished, Form, Reader
from stages.exporters.torch_reader import TorchReader, load
from stages.student import Named, Student
from stages.student import load as load_student

BASE = "base"  # folder of a base that is nowhere else


class Adapter(Form):
    """peft's files; with the base beside them where it was made of the teacher's layers."""

    name = "adapter"
    default = False
    packages = ("peft",)

    def require(self, student: Finished) -> None:
        """Adapters, and a base that is as it was."""
        if not (student.adapter / "adapter_config.json").is_file():
            raise UsageError(
                f"adapter: {student.version.name} was trained without lora, so it has no adapters",
                hint="train with `train.objective.lora`, or leave adapter out of --format",
            )
        made, base = _made_of(student)
        if made.init is not None and not made.init.layers:
            raise UsageError(
                "adapter: its base is a model with random weights, which is nowhere on disk",
                hint="export safetensors: the adapters are merged there",
            )
        now = find(base.model)
        if now.local and now.revision != base.revision:
            raise UsageError(
                f"adapter: {base.model} is no longer the model that {student.version.name} was trained on",
                hint="export safetensors: the adapters are merged there",
            )

    def write(self, student: Finished, folder: Path, whole: Mapping[str, Path]) -> str:
        """Adapters and tokenizer; and the base, where the teacher's layers make it."""
        shutil.copytree(student.adapter, folder, dirs_exist_ok=True)
        student.copy(folder, *TOKENIZER)
        made, base = _made_of(student)
        where = find(*base).where
        if made.init is not None:
            model, tokenizer = load_student(**made.made_from(base))
            model.save_pretrained(folder / BASE)
            tokenizer.save_pretrained(folder / BASE)
            where = BASE
        config = folder / "adapter_config.json"
        adapters: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
        adapters["base_model_name_or_path"] = where
        config.write_text(json.dumps(adapters, indent=2) + "\n", encoding="utf-8")
        rank = f" --max-lora-rank {adapters['r']}" if adapters.get("r", 0) > 16 else ""
        more = f"--enable-lora --lora-modules {student.name}=. --tokenizer .{rank}"
        return (
            f"Adapters for `{where}`; requests name the model `{student.name}`.\n\n```bash\nvllm serve {where} {more}\n"
            f"python -m vllm.entrypoints.openai.api_server --model {where} {more}\n```"
        )

    def open(self, student: Finished, folder: Path) -> Reader:
        """With peft, on the base."""
        from peft import PeftModel

        made, base = _made_of(student)
        model = load(folder / BASE) if made.init is not None else load_student(**made.made_from(base))[0].float()
        return TorchReader(PeftModel.from_pretrained(model, folder))


def _made_of(student: Finished) -> tuple[Student, Named]:
    """What the plan said of the student, and the model it was made from, at the revision it had."""
    settings = student.version.manifest.settings
    return Student.model_validate(settings["train"]["student"]), Named(*settings["student"])
