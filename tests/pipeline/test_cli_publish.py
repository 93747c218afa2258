"""dataset, card and push on the command line: rows and cards on stdout, what was left out on stderr."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import cli_publish, console
from pipeline.errors import PipelineError, UsageError
from pipeline.records import Message
from pipeline.run import Run
from tests.helpers import record, write_plan
from tests.stages.sealed import seal


class Shell:
    """Commands over a plan whose filter stage has two rows, one with a system turn."""

    def __init__(self, folder: Path) -> None:
        self.plan = str(write_plan(folder))
        turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "안녕")]
        messages = [Message.model_validate({"role": role, "content": text}) for role, text in turns]
        rows = [record("A <b>story</b>.", id="a"), record(id="b").model_copy(update={"messages": messages})]
        seal(Run(folder / "runs/tiny"), "filter", rows)

    def __call__(self, *words: str) -> tuple[str, str]:
        """stdout and stderr. Raises what the command raises."""
        name, *more = words
        done = CliRunner().invoke(cli_publish.publishing, [name, self.plan, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout, done.stderr


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(console, "_quiet", False)
    return Shell(tmp_path)


def test_rows_go_to_stdout_and_talk_does_not(shell: Shell) -> None:
    """Without --to the rows are the output, and can be read as they come."""
    out, talk = shell("dataset", "--format", "alpaca")
    (row,) = map(json.loads, out.splitlines())
    assert row == {"id": "a", "instruction": "A story.", "input": "", "output": "A <b>story</b>."}
    assert "alpaca: 1 rows of filter/0001-" in talk and "1 rows left out: system_turn" in talk
    out, _ = shell("dataset", "filter")
    assert [json.loads(line)["messages"][-1]["content"] for line in out.splitlines()] == ["A <b>story</b>.", "안녕"]


def test_files_are_named_and_told_as_json(shell: Shell, tmp_path: Path) -> None:
    """With --to the files are the output; a folder is made; --json counts."""
    out, _ = shell("dataset", "--format", "parquet", "--to", str(tmp_path / "here"))
    assert out.split() == [str(tmp_path / "here/tiny.parquet")]
    out, _ = shell("dataset", "--format", "axolotl", "--to", str(tmp_path / "there"), "--json")
    told = json.loads(out)
    assert told["rows"] == 2 and told["files"] == [
        str(tmp_path / "there/tiny.jsonl"), str(tmp_path / "there/tiny.axolotl.yaml"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("dataset", "--format", "sharegtp"), "did you mean sharegpt"),
        (("dataset", "--format", "parquet"), "name a place with --to"),
        (("dataset", "train"), "rows are made by generate, filter, curate"),
        (("dataset", "--json"), "name a place with --to"),
        (("card", "models"), "there are cards of dataset, model and croissant"),
        (("card", "croissant"), "--dataset OWNER/NAME"),
        (("card", "--dataset", "stories"), "write whose it is, too"),
        (("card", "model"), "train has not been run"),
        (("push", "--dataset", "me/x"), "HF_TOKEN is not set"),
        (("push", "--dry-run"), "say what goes where"),
    ],
)
def test_mistakes_are_said(shell: Shell, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str) -> None:
    """Every mistake of the user is a usage error that says what to do."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(UsageError) as raised:
        shell(*words)
    assert says in str(raised.value)


def test_a_file_that_cannot_be_written(shell: Shell, tmp_path: Path) -> None:
    """A place that is none is one message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="cannot write"):
        shell("dataset", "--to", str(tmp_path / "file/rows.jsonl"))


def test_cards_go_to_stdout(shell: Shell) -> None:
    """The card as it would be README.md, and the description for machines."""
    out, _ = shell("card", "--dataset", "me/tiny")
    assert out.startswith("---\n") and 'load_dataset("me/tiny"' in out
    out, _ = shell("card", "croissant", "--dataset", "me/tiny")
    assert json.loads(out)["url"] == "https://huggingface.co/datasets/me/tiny"


def test_a_dry_run_is_read_by_people(shell: Shell) -> None:
    """Files with sizes, the card, and what is unknown."""
    out, talk = shell("push", "--dataset", "me/tiny", "--dry-run")
    assert "dataset me/tiny (public" in out and "data/train-00000.jsonl" in out and "license: unknown" in out
    assert "unknown licence: rows that name no model: no licence is said" in " ".join(talk.split())
