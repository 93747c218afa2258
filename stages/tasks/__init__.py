"""Tasks: what the teacher is asked. One file each; a new one is one line in `AnyTask`."""

from typing import Annotated

from pydantic import Field

from stages.tasks.dialogue import Dialogue
from stages.tasks.doc_qa import DocQA
from stages.tasks.evolve import Evolve
from stages.tasks.magpie import Magpie
from stages.tasks.preference import Preference
from stages.tasks.reason import Reason
from stages.tasks.respond import Respond
from stages.tasks.rewrite import Rewrite
from stages.tasks.self_instruct import SelfInstruct
from stages.tasks.stored import Stored
from stages.tasks.template import TemplateTask

AnyTask = Annotated[
    Dialogue | DocQA | Evolve | Magpie | Preference | Reason | Respond | Rewrite | SelfInstruct | Stored | TemplateTask,
    Field(discriminator="kind"),
]
