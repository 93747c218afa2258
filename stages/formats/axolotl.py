"""`axolotl`: rows and the piece of a configuration that reads them."""

from pathlib import Path
from typing import Any, ClassVar

import yaml

from pipeline.records import Record
from pipeline.store import write_atomic
from stages.formats.base import Left, Line, OfRecords, Written, reasoned, unfit


class Axolotl(OfRecords):
    """Turns and a piece of YAML for type `chat_template` (axolotl); holds all that messages holds."""

    name: ClassVar[str] = "axolotl"
    folder: ClassVar[bool] = True

    def line(self, record: Record) -> Line | Left:
        """The whole conversation."""
        return unfit(record) or Line({"messages": reasoned(record)})

    def beside(self, written: Written) -> list[Path]:
        """`NAME.axolotl.yaml`: the section `datasets`, to copy into a configuration."""
        section: dict[str, Any] = {
            "path": str(written.file),
            "ds_type": "json",
            "type": "chat_template",
            "field_messages": "messages",
            "message_property_mappings": {"role": "role", "content": "content"},
            "roles_to_train": ["assistant"],
        }
        file = written.file.with_name(f"{written.name}.axolotl.yaml")
        write_atomic(file, yaml.safe_dump({"datasets": [section]}, sort_keys=False, allow_unicode=True).encode())
        return [file]
