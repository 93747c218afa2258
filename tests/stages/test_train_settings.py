"""What a student can be made from."""

from pathlib import Path

import pytest

from pipeline.engines.openai import OpenAI
from pipeline.engines.vllm import Vllm
from pipeline.errors import UsageError
from stages.student import Init, Student
from tests.helpers import stub_model


def test_a_student_cannot_be_cut_from_a_teacher_on_a_server() -> None:
    """Layers can be kept only of weights that are here; the message names the other way."""
    student = Student(init=Init(layers=[0]))
    with pytest.raises(UsageError, match=r"none here\nhint: give train\.student\.model"):
        student.base(OpenAI(model="big", base_url="http://localhost/v1"))


def test_a_student_is_one_of_two_things(tmp_path: Path) -> None:
    """Either a model by name or layers of the teacher: both, or neither, is refused."""
    teacher = Vllm(model=str(stub_model(tmp_path / "model")))
    assert Student(init=Init(layers=[0])).base(teacher) == (teacher.model, "")
    assert Student(model="org/small").base(teacher) == ("org/small", "")
    for wrong in ({}, {"model": "org/small", "init": {"layers": [0]}}):
        with pytest.raises(ValueError, match="give either"):
            Student.model_validate(wrong)
