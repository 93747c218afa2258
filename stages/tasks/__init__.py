"""Tasks: what the teacher is asked. One file each; a new one is one line in `AnyTask`."""

from typing import Annotated

from pydantic import Field

from stages.tasks.respond import Respond
from stages.tasks.template import TemplateTask

AnyTask = Annotated[Respond | TemplateTask, Field(discriminator="kind")]
