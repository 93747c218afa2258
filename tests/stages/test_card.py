"""Cards: every field is counted from the run, huggingface_hub takes them, and nothing of this machine is in them."""

import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from pipeline.errors import UsageError
from pipeline.records import Check, MadeBy
from pipeline.run import Run
from pipeline.store import pretty
from stages import card_text
from stages.card_croissant import CONFORMS_TO, croissant
from stages.card_data import card
from stages.card_facts import Facts, count, gather, hub_id, public
from stages.card_files import Item, Want, items
from stages.card_model import card as model_card
from stages.card_model import taught
from stages.card_seeds import card_of
from stages.formats.export import rows_of
from stages.licences import chain
from stages.plan import Plan, load
from tests.helpers import record, write_plan
from tests.stages.sealed import GOLDEN, golden, scores, seal, student

EVERYTHING = Want(heldout=True, dropped=True, pairs=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Run]:
    """A run with a judge, pairs, and held-out and dropped rows; tests read it only."""
    return golden("preference", tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copied(finished: tuple[Plan, Run], tmp_path: Path) -> tuple[Plan, Run]:
    """The same, to write to."""
    plan, run = finished
    shutil.copytree(run.path, tmp_path / run.path.name)
    return plan, Run(tmp_path / run.path.name)


@pytest.fixture(scope="module")
def facts(finished: tuple[Plan, Run]) -> Facts:
    plan, run = finished
    return gather(plan, run, rows_of(run))


def data(text: str) -> dict[str, Any]:
    """The front matter, as huggingface_hub reads it."""
    found: dict[str, Any] = DatasetCard(text).data.to_dict()
    return found


def files(facts: Facts, want: Want, config: str, split: str) -> list[Item]:
    return [item for item in items(facts, want) if (item.config, item.split) == (config, split)]


def test_front_matter_is_counted(facts: Facts) -> None:
    """Language by the texts, size by the rows, tasks by the records, licence by what it was made from."""
    found = data(card(facts, Want()))
    assert found["language"] == ["en"] and found["multilinguality"] == "monolingual"
    assert found["size_categories"] == "n<1K" and found["pretty_name"] == "Golden preference"
    assert found["license"] == "unknown", "neither the recording nor its seeds say one"
    assert found["tags"] == ["synthetic", "preference"] and found["source_datasets"] == ["extended"]
    assert found["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.jsonl"}]}
    ]


def test_korean_questions_about_documents(tmp_path: Path) -> None:
    """Other rows give another card: Korean, with question answering among its tasks."""
    write_plan(tmp_path)
    asked = record("달은 지구의 하나뿐인 위성입니다.", prompt="달은 무엇인가요? 문서에서 찾아 주세요.", task="doc_qa")
    run = Run(tmp_path / "runs/tiny")
    version = seal(run, "filter", [asked])
    found = data(card(gather(load(tmp_path / "plan.yaml"), run, version), Want()))
    assert found["language"] == ["ko"] and found["task_categories"] == ["text-generation", "question-answering"]


def test_only_rows_for_training_go_unless_asked(facts: Facts) -> None:
    """Held-out rows, dropped rows and pairs are in the card and among the files only where they are wanted."""
    assert {(item.config, item.split) for item in items(facts, Want())} == {("default", "train")}
    assert sum(item.rows for item in files(facts, EVERYTHING, "default", "heldout")) == 1
    assert sum(item.rows for item in files(facts, EVERYTHING, "dropped", "filter")) == 10
    assert sum(item.rows for item in files(facts, EVERYTHING, "preference", "train")) == 2
    assert not files(facts, Want(pairs=True), "preference", "heldout")
    assert "They are not published." in card(facts, Want()) and "published here" in card(facts, EVERYTHING)


def test_every_file_is_found_by_one_pattern_of_its_split(facts: Facts) -> None:
    """The section `configs` leads to each file once."""
    patterns = [
        (c["config_name"], d["split"], d["path"])
        for c in data(card(facts, EVERYTHING))["configs"]
        for d in c["data_files"]
    ]
    for item in items(facts, EVERYTHING):
        assert [p[:2] for p in patterns if fnmatch(item.path, p[2])] == [(item.config, item.split)]


def test_a_card_says_how_it_was_made(facts: Facts) -> None:
    """Teacher with its revision, prompts, funnel, thresholds, judge, pairs, versions, and what is not known."""
    text = card(facts, EVERYTHING, "me/pairs")
    manifest = facts.version.manifest
    for said in (
        "smollm2-135m-instruct", facts.chain["generate"].manifest.fingerprint[:16], "preference/seeds.jsonl",
        "| filter | judge |", "low_score", "min_score", "Judged by smollm2-135m-instruct", "not recorded",
        'datasets.load_dataset("me/pairs", split="train")', "seeds preference/seeds.jsonl: no licence is said",
        "(no filter `leak`)", "Nobody is known to have read the rows.", manifest.version,
    ):  # fmt: skip
        assert said in text, said
    assert "demo:" not in text and str(facts.run.path) not in text


def test_marks_of_people_are_counted(copied: tuple[Plan, Run]) -> None:
    """Rows that were marked in a review are no longer read by nobody."""
    plan, run = copied
    (run.path / "review").mkdir()
    (run.path / "review/1-gold.jsonl").write_text('{"id": "a"}\n{"id": "b"}\n')
    assert "People have marked 2 rows" in card(gather(plan, run, rows_of(run)), Want())


def test_seeds_are_those_that_the_version_was_made_from(finished: tuple[Plan, Run], tmp_path: Path) -> None:
    """Where the plan names other seeds by now, the card says so and claims nothing."""
    _, run = finished
    shutil.copytree(GOLDEN / "preference", tmp_path / "plan")
    with (tmp_path / "plan/seeds.jsonl").open("a") as file:
        file.write('{"prompt": "one more"}\n')
    plan = load(tmp_path / "plan/plan.yaml")
    (seeds,) = gather(plan, run, rows_of(run)).seeds
    assert "other seeds by now" in seeds.note and not seeds.licence and not seeds.own


@pytest.mark.parametrize(
    ("name", "text", "licence"),
    [
        ("README.md", "---\nlicense: apache-2.0\nsource: a/b\ncount: 175\n---\n# Seeds\n", "apache-2.0"),
        ("CARD.txt", "licence: CC-BY-4.0 (LICENSE beside it)\nlanguage: ko\n", "CC-BY-4.0 (LICENSE beside it)"),
        ("README.md", "# Seeds\nNo word of it.\n", ""),
    ],
)
def test_cards_beside_seeds_are_read(tmp_path: Path, name: str, text: str, licence: str) -> None:
    """A front matter or plain lines; a file, its folder, or a pattern lead to it."""
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / name).write_text(text, encoding="utf-8")
    for path in ("rows.jsonl", "", "*.md", "deep/*.md"):
        assert card_of(tmp_path / "seeds" / path).licence == licence
    assert bool(card_of(tmp_path / "seeds/rows.jsonl").note) == (licence == "")


def test_rows_from_files_and_earlier_runs_are_sources(tmp_path: Path) -> None:
    """A file that was filtered has its own card; a run whose rows went along is named, and its licence not known."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/rows.jsonl").write_text('{"messages": []}\n')
    (tmp_path / "mine/CARD.md").write_text("licence: cc-by-sa-4.0\n")
    replay = {"source": "mine/rows.jsonl", "share": 0.1}
    write_plan(tmp_path, filter={"rules": "story"}, curate={"keep": 2, "replay": [replay]})
    run = Run(tmp_path / "runs/tiny")
    filtered = seal(run, "filter", [record()], of=[tmp_path / "mine/rows.jsonl"])
    curated = seal(run, "curate", [record()], of=[filtered], settings={"curate": {"replay": [replay]}})
    facts = gather(load(tmp_path / "plan.yaml"), run, curated)
    found = [(source.what, source.name, source.licence) for source in facts.sources()]
    assert found == [("seeds", "mine/rows.jsonl", "cc-by-sa-4.0"), ("seeds", "rows.jsonl", "")]
    assert data(card(facts, Want()))["license"] == "unknown"


def test_no_place_of_this_machine_is_published(tmp_path: Path) -> None:
    """A local model goes by its last name; rows that hold its path are counted."""
    write_plan(tmp_path)
    place = tmp_path / "secret/model"
    place.mkdir(parents=True)
    run = Run(tmp_path / "runs/tiny")
    made = MadeBy(engine="vllm", model=str(place), licence="mit")
    rows = [record(id="a", made_by=made), record(id="b", made_by=MadeBy(engine="vllm", model="demo:tiny"))]
    version = seal(run, "generate", rows)
    facts = gather(load(tmp_path / "plan.yaml"), run, version)
    assert facts.counted.paths == 1 and {t.model for t in facts.counted.teachers} == {"model", "tiny"}
    assert "secret" not in card(facts, Want())
    assert (public("Qwen/Q"), hub_id("Qwen/Q"), hub_id(str(place)), hub_id("demo:x")) == ("Qwen/Q", "Qwen/Q", "", "")


def test_rows_of_several_languages() -> None:
    """Languages of every row count; rare ones and those that cannot be told are left out."""
    ko, en = "아주 먼 옛날에 여우가 살았습니다.", "Once upon a time there was a fox in the dark forest."
    rows = [record(ko, id=f"k{n}", prompt="이야기 하나 해 주세요.") for n in range(3)]
    rows += [record(en, id="e", prompt="Tell me a story about a fox, please."), record("12", id="x", prompt="3")]
    counted = count(rows)
    assert counted.spoken() == [("ko", 0.75), ("en", 0.25)] and (counted.rows, counted.told) == (5, 4)


@pytest.mark.parametrize(
    ("rows", "size"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**9, "1B<n<10B")],
)
def test_sizes_are_the_hubs(rows: int, size: str) -> None:
    """The category that the number of rows lies in."""
    assert card_text.size(rows) == size


def test_a_cell_stays_a_cell() -> None:
    """What stands in a table breaks out of neither its cell nor its line, and is no HTML."""
    table = card_text.table(("a", "b"), [("x | y\nz", "<script>")])
    assert table.splitlines()[2:] == ["| x \\| y z | &lt;script> |"]


def test_front_matter_is_safe_from_what_a_plan_says(tmp_path: Path) -> None:
    """A name or a word about the run cannot add fields."""
    write_plan(tmp_path, about="x\n---\nlicense: mit")
    run = Run(tmp_path / "runs/tiny")
    version = seal(run, "filter", [record(made_by=MadeBy(model="a/b", licence="cc-by-4.0"))])
    text = card(gather(load(tmp_path / "plan.yaml"), run, version), Want())
    assert data(text)["license"] == "cc-by-4.0"
    assert yaml.safe_load(text.split("---")[1])["license"] == "cc-by-4.0"


def test_terms_without_an_id_have_a_name_and_a_link(tmp_path: Path) -> None:
    """A hosted teacher's terms are `other` on the Hub, by name."""
    write_plan(tmp_path)
    run = Run(tmp_path / "runs/tiny")
    version = seal(run, "generate", [record(made_by=MadeBy(engine="openai", model="gpt-4o"))])
    found = data(card(gather(load(tmp_path / "plan.yaml"), run, version), Want()))
    assert (found["license"], found["license_name"]) == ("other", "openai-terms")
    assert found["license_link"].startswith("https://")


def test_a_model_card_is_counted_too(copied: tuple[Plan, Run]) -> None:
    """Base model, data set, scores of the trained model as huggingface_hub reads them; settings in the text."""
    plan, run = copied
    student(run)
    scores(run, bits_per_byte=1.25, tokens_per_second=271.5)
    text = model_card(taught(plan, run), "me/stories-small", "me/stories")
    told = data(text)
    assert told["base_model"] == "Qwen/Qwen2.5-0.5B-Instruct" and told["datasets"] == ["me/stories"]
    assert (told["library_name"], told["pipeline_tag"]) == ("transformers", "text-generation")
    assert told["tags"] == ["distillation", "sft"] and told["language"] == ["en"]
    results = ModelCard(text).data.eval_results  # type: ignore[attr-defined]  # what its template class adds
    assert {r.metric_type: r.metric_value for r in results} == {"perplexity": 12.5, "bits_per_byte": 1.25}
    assert "| perplexity, held out | 5.25 | 12.5 (11.5 to 13.5) |" in text
    assert "learning_rate 1e-05" in text and "2.500 to 1.250" in text and "Privacy" not in text


def test_scores_of_another_training_are_not_its_own(copied: tuple[Plan, Run]) -> None:
    """Without an evaluation of this very version there is no score, and the card says so."""
    plan, run = copied
    student(run)
    text = model_card(taught(plan, run))
    assert "model-index" not in text and "nobody knows how good it is" in text and "base_model" in text


def test_privacy_is_told_as_it_was_kept(copied: tuple[Plan, Run]) -> None:
    """Figures of differentially private training stand in the card and among the tags."""
    plan, run = copied
    student(run, base=str(run.path), privacy={"epsilon": 2.98, "delta": 1e-05, "unit": "row"})
    text = model_card(taught(plan, run))
    assert "| epsilon | 2.98 |" in text and "differential-privacy" in text
    assert "base_model" not in text and str(run.path) not in text


def test_a_model_that_is_not_there(finished: tuple[Plan, Run]) -> None:
    """No training, no card."""
    with pytest.raises(UsageError, match="train has not been run"):
        taught(*finished)


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


@pytest.fixture
def described(facts: Facts) -> dict[str, Any]:
    return croissant(facts, items(facts, EVERYTHING), chain(facts.sources()), "me/pairs")


def test_croissant_has_what_the_specification_requires(described: dict[str, Any], facts: Facts) -> None:
    """The properties required of data sets, files and fields; every reference leads somewhere; ids are unique."""
    required = ("@context", "conformsTo", "description", "license", "name", "url", "creator", "datePublished")
    assert all(described[name] for name in required)
    assert described["@type"] == "sc:Dataset" and described["conformsTo"] == CONFORMS_TO
    nodes = list(walk({name: value for name, value in described.items() if name != "@context"}))
    ids = [node["@id"] for node in nodes if "@type" in node and "@id" in node]
    assert len(ids) == len(set(ids))
    assert {node["@id"] for node in nodes if set(node) == {"@id"}} <= set(ids)
    for file in described["distribution"]:
        assert file["@type"] == "cr:FileObject" and file["encodingFormat"] and len(file["sha256"]) == 64
        assert file["contentUrl"] == f"https://huggingface.co/datasets/me/pairs/resolve/main/{file['@id']}"
    fields = [node for node in nodes if node.get("@type") == "cr:Field"]
    assert all(("source" in field) == ("dataType" in field) == ("subField" not in field) for field in fields)
    assert [s["@id"] for s in described["recordSet"]] == [
        "default-train", "default-heldout", "dropped-generate", "dropped-filter", "preference-train",
        "preference-heldout",
    ]  # fmt: skip


def test_croissant_knows_every_key_of_a_record(described: dict[str, Any], facts: Facts) -> None:
    """The fields are those of the lines, so that a new key of a record is not forgotten."""
    columns = {s["@id"]: [f["@id"].rpartition("/")[2] for f in s["field"]] for s in described["recordSet"]}
    first = next(facts.version.lines("kept"))
    assert columns["default-train"] == list(orjson.loads(first))
    (pairs,) = files(facts, Want(pairs=True), "preference", "train")
    assert columns["preference-train"] == list(orjson.loads(pairs.file.read_bytes().splitlines()[0]))
    inner = {f["@id"]: [s["@id"].rpartition("/")[2] for s in f.get("subField", [])] for f in walk_fields(described)}
    assert inner["default-train/made_by"] == list(MadeBy.model_fields)
    assert inner["default-train/checks"] == list(Check.model_fields)


def walk_fields(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [field for records in described["recordSet"] for field in records["field"]]


def test_several_files_of_a_split_are_a_set(facts: Facts) -> None:
    """Two shards become one record set over both."""
    (item,) = items(facts, Want())
    two = [item, item._replace(path="data/train-00001.jsonl")]
    found = croissant(facts, two, chain(facts.sources()), "me/pairs")
    assert [(d["@type"], d.get("includes")) for d in found["distribution"]] == [
        ("cr:FileObject", None), ("cr:FileObject", None), ("cr:FileSet", "data/train-*.jsonl"),
    ]  # fmt: skip
    assert found["recordSet"][0]["field"][0]["source"]["fileSet"] == {"@id": "default-train-files"}


def test_mlcroissant_reads_the_rows(described: dict[str, Any], facts: Facts, tmp_path: Path) -> None:
    """The reference library, where it is installed, has nothing against the description and reads every row."""
    mlcroissant = pytest.importorskip("mlcroissant")
    for item in items(facts, EVERYTHING):
        (tmp_path / item.path).parent.mkdir(exist_ok=True)
        shutil.copy(item.file, tmp_path / item.path)
    local = orjson.loads(orjson.dumps(described))
    for file in local["distribution"]:
        file["contentUrl"] = file["@id"]
    (tmp_path / "croissant.json").write_bytes(pretty(local))
    found = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    rows = {s.id: sum(1 for _ in found.records(record_set=s.id)) for s in found.metadata.record_sets}
    assert rows["default-train"] == facts.counted.rows and rows["dropped-filter"] == 10
