"""The data in other trainers' formats: their shapes, what they cannot hold, and the way back."""

from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.records import Message, Record
from pipeline.run import Run
from stages.formats import FORMATS
from stages.formats.base import Left, Line, OfRecords
from stages.formats.export import Exported, export, format_of, rows_of
from stages.intake import to_record
from tests.helpers import record
from tests.stages.sealed import golden, seal

RECORDS = {name: form for name, form in FORMATS.items() if isinstance(form, OfRecords)}
BACK = ("messages", "prompt_completion", "sharegpt", "alpaca")
SYSTEM, USER, ANSWER, TOOL = "system", "user", "assistant", "tool"


def said(*roles: str, reasoning: str = "", id: str = "r1") -> Record:
    """A conversation of these roles; every turn says its number, in Korean."""
    turns = [Message.model_validate({"role": role, "content": f"{n}번"}) for n, role in enumerate(roles)]
    return record(id=id).model_copy(update={"messages": turns, "reasoning": reasoning})


def line(name: str, one: Record) -> dict[str, Any]:
    """A record as a format writes it."""
    found = RECORDS[name].line(one)
    assert isinstance(found, Line)
    return found.value


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def test_each_format_has_its_consumers_shape() -> None:
    """What the consumers' own documents show, for a conversation with a system turn and reasoning."""
    one = said(SYSTEM, USER, ANSWER, reasoning="생각")
    asked, plain = turns((SYSTEM, "0번"), (USER, "1번")), turns((ANSWER, "2번"))
    thought = [{**plain[0], "reasoning_content": "생각"}]
    assert line("messages", one) == {"id": "r1", "messages": asked + thought}
    assert line("prompt_completion", one) == {"id": "r1", "prompt": asked, "completion": thought}
    assert line("axolotl", one) == {"messages": asked + thought}
    assert line("openai", one) == {"messages": asked + plain}
    folded = turns((ANSWER, "<think>\n생각\n</think>\n\n2번"))
    assert line("llama_factory", one) == {"messages": asked + folded}
    names = [("system", "0번"), ("human", "1번"), ("gpt", "2번")]
    assert line("sharegpt", one) == {"id": "r1", "conversations": [{"from": f, "value": v} for f, v in names]}
    short = {"id": "r1", "instruction": "0번", "input": "", "output": "1번"}
    assert line("alpaca", said(USER, ANSWER)) == short
    assert line("parquet", one)["made_by"]["engine"] == "" and line("parquet", one)["reasoning"] == "생각"


@pytest.mark.parametrize(
    ("roles", "cannot"),
    [
        ((SYSTEM, USER, ANSWER), {"alpaca": "system_turn"}),
        ((USER, ANSWER, USER, ANSWER), {"alpaca": "several_turns"}),
        ((USER, USER, ANSWER), {"alpaca": "several_turns", "llama_factory": "turns_do_not_alternate"}),
        ((USER, ANSWER, SYSTEM, ANSWER), {"alpaca": "system_turn", "llama_factory": "turns_do_not_alternate"}),
        ((USER, ANSWER, TOOL, ANSWER), {"alpaca": "tool_turn", "openai": "tool_turn", "sharegpt": "tool_turn"}),
        ((USER, ANSWER, USER), dict.fromkeys(RECORDS.keys() - {"parquet"}, "no_answer")),
        ((ANSWER,), dict.fromkeys(RECORDS.keys() - {"parquet"}, "no_prompt")),
    ],
)
def test_what_a_format_cannot_hold_is_left_out_by_name(roles: tuple[str, ...], cannot: dict[str, str]) -> None:
    """Every format takes what it has a place for, and says why it does not take the rest."""
    found = {name: form.line(said(*roles)) for name, form in RECORDS.items()}
    assert {name: left.reason for name, left in found.items() if isinstance(left, Left)} == cannot


def test_reasoning_without_a_place_is_named() -> None:
    """The row is written, and its reasoning counted as lost, where the format has none."""
    found = {name: form.line(said(USER, ANSWER, reasoning="because")) for name, form in RECORDS.items()}
    lost = {name for name, one in found.items() if isinstance(one, Line) and one.lost == ("reasoning",)}
    assert lost == {"sharegpt", "alpaca", "openai"}
    assert all(isinstance(one, Line) for one in found.values())


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """A system turn or none, then exchanges; any text."""
    roles = [SYSTEM] * draw(st.integers(0, 1)) + [USER, ANSWER] * draw(st.integers(1, 3))
    return [Message.model_validate({"role": role, "content": draw(TEXT)}) for role in roles]


@given(conversations(), st.sampled_from(BACK))
def test_our_own_input_reads_the_same_conversation_back(messages: list[Message], name: str) -> None:
    """What `--input` understands it understands as it was, whatever the text."""
    found = RECORDS[name].line(record().model_copy(update={"messages": messages}))
    if isinstance(found, Left):
        assert name == "alpaca"
        return
    again = to_record(orjson.loads(orjson.dumps(found.value)), "here:1")
    assert again.messages == messages and again.id == "r1"


def made(tmp_path: Path, name: str, *rows: Record, to: str = "out") -> tuple[Exported, Path]:
    """Rows of a filter version as a format writes them to a folder."""
    run = Run(tmp_path / "runs/동화")
    version = seal(run, "filter", rows)
    return export(run, version, FORMATS[name], tmp_path / to), tmp_path / to


def test_rows_are_counted_and_none_goes_silently(tmp_path: Path) -> None:
    """Written and left out make all; held-out and dropped rows are no part of it."""
    rows = [said(USER, ANSWER, id="a", reasoning="so"), said(SYSTEM, USER, ANSWER, id="b"), said(ANSWER, id="c")]
    aside = said(USER, ANSWER, id="d").model_copy(update={"split": "heldout"})
    done, folder = made(tmp_path, "alpaca", *rows, aside)
    assert (done.rows, done.left, done.lost) == (1, {"system_turn": 1, "no_prompt": 1}, {"reasoning": 1})
    assert done.files == [folder / "동화.jsonl"] and len(done.files[0].read_bytes().splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["동화.jsonl"]


def test_nothing_is_overwritten_and_nothing_half_is_left(tmp_path: Path) -> None:
    """A file that is there stays; no row that fits is an error and leaves no file."""
    run = Run(tmp_path / "runs/x")
    version = seal(run, "filter", [said(ANSWER)])
    with pytest.raises(UsageError, match=r"no row of filter/.* can be written as messages: 1 no_prompt"):
        export(run, version, FORMATS["messages"], tmp_path / "out/rows.jsonl")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out/rows.jsonl").write_text("mine")
    with pytest.raises(UsageError, match=r"rows\.jsonl is there already"):
        export(run, version, FORMATS["messages"], tmp_path / "out/rows.jsonl")
    assert (tmp_path / "out/rows.jsonl").read_text() == "mine"


def test_parquet_holds_every_row_in_its_order(tmp_path: Path) -> None:
    """Texts with zero bytes, quotes and Korean come back as they were, dates stay text."""
    texts = ["a\x00b", "2024-01-02", '"quoted", 따옴표', "줄\n바꿈"]
    rows = [record(text, id=f"2024-01-{n:02d}", meta={"n": n}) for n, text in enumerate(texts, 10)]
    done, _ = made(tmp_path, "parquet", *rows)
    (file,) = done.files
    assert file.name == "동화.parquet"
    read = duckdb.execute(f"select id, messages[-1].content, meta from '{file}'").fetchall()
    assert read == [(row.id, row.answer, f'{{"n":{n}}}') for n, row in enumerate(rows, 10)]
    assert polars.read_parquet(file).schema["id"] == polars.String


def test_reasoning_in_some_rows_makes_no_trouble_to_readers(tmp_path: Path) -> None:
    """A column that only later rows have is read all the same."""
    rows = [said(USER, ANSWER, id="a"), said(USER, ANSWER, id="b", reasoning="so")]
    done, _ = made(tmp_path, "messages", *rows)
    thought = duckdb.execute(f"select messages[-1].reasoning_content from read_json('{done.files[0]}')").fetchall()
    assert thought == [(None,), ("so",)]


def test_llama_factory_has_its_entry_beside_others(tmp_path: Path) -> None:
    """`dataset_info.json` names the file and the roles; what was in it stays; a broken one is refused."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dataset_info.json").write_text('{"identity": {"file_name": "identity.json"}}')
    done, folder = made(tmp_path, "llama_factory", said(USER, ANSWER, TOOL, ANSWER))
    info = orjson.loads((folder / "dataset_info.json").read_bytes())
    assert list(info) == ["identity", "동화"] and done.files == [folder / "동화.jsonl", folder / "dataset_info.json"]
    entry = info["동화"]
    row = orjson.loads((folder / entry["file_name"]).read_bytes())
    tags = entry["tags"]
    roles = [turn[tags["role_tag"]] for turn in row[entry["columns"]["messages"]]]
    assert roles == [tags["user_tag"], tags["assistant_tag"], tags["observation_tag"], tags["assistant_tag"]]
    (tmp_path / "out/동화.jsonl").unlink()
    (tmp_path / "out/dataset_info.json").write_text("{")
    with pytest.raises(UsageError, match=r"dataset_info\.json is not JSON"):
        made(tmp_path, "llama_factory", said(USER, ANSWER))
    assert not (tmp_path / "out/동화.jsonl").exists()


def test_axolotl_has_a_section_that_reads_the_file(tmp_path: Path) -> None:
    """The piece of YAML names a file that is there, and fields that its rows have."""
    done, folder = made(tmp_path, "axolotl", said(USER, ANSWER))
    (section,) = yaml.safe_load((folder / "동화.axolotl.yaml").read_text(encoding="utf-8"))["datasets"]
    row = orjson.loads(Path(section["path"]).read_bytes())
    assert Path(section["path"]) == done.files[0] and section["type"] == "chat_template"
    fields = set(section["message_property_mappings"].values())
    assert fields <= row[section["field_messages"]][0].keys()


def test_openai_asks_for_ten_rows(tmp_path: Path) -> None:
    """A file that would be refused there is written, and the reason said; an empty turn is no example."""
    few, _ = made(tmp_path, "openai", said(USER, ANSWER), record("  ", id="r2"), to="few")
    assert few.notes == ["OpenAI takes files of 10 rows and more; this one has 1"] and few.left == {"empty_turn": 1}
    enough, _ = made(tmp_path, "openai", *(said(USER, ANSWER, id=f"r{n}") for n in range(10)), to="enough")
    assert enough.notes == []


def test_pairs_are_those_of_the_filter(tmp_path: Path) -> None:
    """`preference` writes what the filter paired; rows that no filter has seen hold none."""
    _, run = golden("preference", tmp_path)
    done = export(run, rows_of(run), FORMATS["preference"], tmp_path / "pairs.jsonl")
    pairs = [orjson.loads(row) for row in done.files[0].read_bytes().splitlines()]
    assert done.rows == len(pairs) == 2 and done.left == {"no_pair": 1}
    assert all(pair.keys() == {"id", "prompt", "chosen", "rejected"} for pair in pairs)
    with pytest.raises(UsageError, match="come from no filter version"):
        export(run, rows_of(run, "generate"), FORMATS["preference"], tmp_path / "none.jsonl")


def test_the_last_rows_are_taken_where_nothing_is_named(tmp_path: Path) -> None:
    """The last stage that has rows; a stage, an ordinal, or both; and what cannot be."""
    run = Run(tmp_path / "runs/x")
    with pytest.raises(UsageError, match="no stage has been run that makes rows"):
        rows_of(run)
    first = seal(run, "generate", [said(USER, ANSWER)])
    second, third = (seal(run, "filter", [said(USER, ANSWER, id=str(n))]) for n in range(2))
    assert rows_of(run).name == third.name and rows_of(run, "generate").name == first.name
    assert rows_of(run, "filter", "1").name == rows_of(run, name="filter/0001").name == second.name
    for stage, name in (("train", ""), ("filter", "generate/0001"), ("filter", "0009"), ("curate", "")):
        with pytest.raises(UsageError):
            rows_of(run, stage, name)
    with pytest.raises(UsageError, match="did you mean"):
        format_of("sharegtp")
