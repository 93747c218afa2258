"""The report of a run: one page with every section, whole in itself, on which nothing that a model wrote is more than
text."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import UsageError
from pipeline.run import Run
from stages import report
from stages.explain import histogram
from stages.plan import load
from stages.report import chart, evaluation, page
from stages.report.base import figure
from tests.stages import reported

EVIL = (
    "<script>document.title = 'taken over'</script>",
    "</script><script>document.title = 'taken over'</script>",
    "<img src=x onerror=\"document.title = 'taken over'\">",
    '[a link](javascript:alert(1)) <a href="javascript:alert(1)">click</a>',
    "</div></section></main><!-- <style>* { display: none }</style> <svg onload=alert(1)>",
    '" onmouseover="document.title = \'taken over\'" x="',
    "{{ 7 * 7 }} {% for x in y %} &lt;b&gt; ]]> \x1b[31m\u202e 안녕하세요, 세상에",
)
MARK = re.compile(r"\bon\w+$")


class Reader(HTMLParser):
    """What a browser would make of a page, roughly: elements, attributes, text outside scripts, and the data."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.scripts: list[str] = []
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self._in = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._in:
            self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts.append(data)
        elif not self._in:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.said)


def read(file: Path) -> Reader:
    reader = Reader()
    reader.feed(file.read_text(encoding="utf-8"))
    return reader


class Made:
    """A folder with a plan, a run, and its report."""

    def __init__(self, folder: Path, texts: list[str], **evaluated: Any) -> None:
        self.path = reported.plan(folder)
        self.run = Run(folder / "runs/tiny")
        if texts:
            reported.everything(folder, texts, self.run, **evaluated)

    def write(self, *overrides: str) -> Path:
        return report.write(load(self.path, overrides), self.run, self.path, overrides)


@pytest.fixture
def harmless(tmp_path: Path) -> Made:
    return Made(tmp_path, [f"The {n}th tale of a fox, 여우 이야기 {n}." for n in range(40)])


@pytest.fixture
def hostile(tmp_path: Path) -> Made:
    """Every text, name, note and setting that somebody else chose is an attack."""
    made = Made(tmp_path, [f"{EVIL[n % len(EVIL)]} and more of it {n}" for n in range(40)], note=EVIL[0])
    topic = {"name": EVIL[1], "rows": 1, "chosen": 1, "central": [], "example": EVIL[2]}
    version = made.run.current("curate")
    assert version is not None
    changed = version.manifest.model_copy(
        update={"notes": list(EVIL), "figures": version.manifest.figures | {"topics": [topic] * 3}}
    )
    (version.path / "manifest.json").write_bytes(orjson.dumps(changed.model_dump()))
    plan = yaml.safe_load(made.path.read_text(encoding="utf-8")) | {"about": EVIL[0]}
    made.path.write_text(yaml.safe_dump(plan) + f"# {EVIL[1]}\n", encoding="utf-8")
    return made


def test_a_report_has_every_section(harmless: Made) -> None:
    """All that was asked for stands in it, with the run's own numbers, and nothing is said to be missing."""
    reader = read(harmless.write())
    ids = {value for _, name, value in reader.attributes if name == "id"}
    assert ids >= {make.__module__.rpartition(".")[2] for make in report.SECTIONS}
    for piece in ("low_score 10", "From 40 different seeds", "pipeline run plan.yaml", "fox, boat", "달, 친구", "kd",
                  "75% of the rows", "abc123", "rules.1.kind", "rubric.md", "random choices"):  # fmt: skip
        assert piece in reader.text, piece
    assert "has not been run" not in reader.text


def test_stages_that_were_not_run_are_said_to_be_so(tmp_path: Path) -> None:
    """A run of one stage gives a report, too; a stage that the plan has not is told apart."""
    made = Made(tmp_path, [])
    reported.seal(made.run, "generate", [reported.judged("a tale of a fox and a boat", 1, 3)])
    text = read(made.write()).text
    assert "train has not been run." in text and "filter has not been run." in text
    plan = yaml.safe_load(made.path.read_text(encoding="utf-8"))
    made.path.write_text(yaml.safe_dump({k: v for k, v in plan.items() if k not in ("evaluate", "train")}))
    assert "The plan has no section train." in read(made.write()).text


def test_a_run_without_versions_has_no_report(tmp_path: Path) -> None:
    """Nothing is written, and the next step is named."""
    made = Made(tmp_path, [])
    with pytest.raises(UsageError, match="no version to report on"):
        made.write()
    assert not (made.run.path / report.FILE).exists()


def test_a_page_is_whole_in_itself(harmless: Made) -> None:
    """Nothing is loaded, from anywhere: no address but places in the page, and a policy that forbids the rest."""
    file = harmless.write()
    reader = read(file)
    addresses = [value for _, name, value in reader.attributes if name in ("href", "src", "action", "data", "srcset")]
    assert addresses and all(value.startswith("#") for value in addresses)
    policy = next(value for tag, name, value in reader.attributes if tag == "meta" and "default-src" in value)
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    style = file.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_what_models_wrote_stays_text(hostile: Made) -> None:
    """Markup that was planted gives no element, attribute, link or script; it is there to be read."""
    reader = read(hostile.write())
    assert reader.elements["script"] == 2 and reader.elements["style"] == 1 and reader.elements["canvas"] == 1
    assert not {"img", "iframe", "object", "embed", "form", "base", "link"} & reader.elements.keys()
    assert not [mark for mark in reader.attributes if MARK.match(mark[1]) or mark[1] == "style"]
    assert not [value for _, name, value in reader.attributes if name == "href" and not value.startswith("#")]
    for attack in EVIL[:5]:
        assert attack in reader.text, attack
    assert "{{ 7 * 7 }}" in reader.text and "\x1b" not in reader.text and "\u202e" not in reader.text


def test_the_data_of_the_map_is_the_records(hostile: Made) -> None:
    """The script's data is JSON whole, every point with its text, though the texts try to end it."""
    reader = read(hostile.write())
    data = next(orjson.loads(script) for script in reader.scripts if script.startswith("{"))
    lengths = {name: len(data[name]) for name in ("x", "y", "topic", "fate", "id", "text")}
    assert len(set(lengths.values())) == 1 and lengths["x"] > 20
    assert any("</script><script>" in text for text in data["text"])
    assert set(data["fate"]) == {0, 1}


@given(st.text())
def test_json_inside_a_script_means_the_same(text: str) -> None:
    """Escaped for the place where it stands, it neither ends a script nor says anything else."""
    found = page.in_script({"text": text})
    assert not set("<>&\u2028\u2029") & set(found)
    assert orjson.loads(str(found)) == {"text": text}


def test_every_template_escapes(monkeypatch: pytest.MonkeyPatch, hostile: Made) -> None:
    """The test above can fail: without autoescaping the same page is full of what was planted."""
    made: Environment = page._environment()
    loose = made.overlay(autoescape=False)
    monkeypatch.setattr(page, "_environment", lambda: loose)
    assert read(hostile.write()).elements["script"] > 2


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_a_browser_runs_nothing_that_was_planted(hostile: Made, tmp_path: Path) -> None:
    """Headless Chromium: the title stays, no element was planted, the page's own script drew its map."""
    file = hostile.write()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'browser'}", file.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (tmp_path / "dom.html").write_text(done.stdout, encoding="utf-8")
    reader = read(tmp_path / "dom.html")
    assert "<title>tiny: report</title>" in done.stdout
    assert reader.elements["script"] == 2 and not reader.elements["img"]
    assert ("canvas", "style") in {mark[:2] for mark in reader.attributes}  # its height: the script has run


def test_ten_thousand_records_give_a_small_page(tmp_path: Path) -> None:
    """Under 5 MB, Korean texts and all, and with every record of the choice on the map."""
    texts = [f"{n}번째 이야기: " + "작은 여우가 달빛 아래에서 배를 찾아 강을 건넜어요. " * 4 for n in range(10_000)]
    file = Made(tmp_path, texts).write()
    assert 1e6 < file.stat().st_size < 5e6
    data = next(orjson.loads(script) for script in read(file).scripts if script.startswith("{"))
    assert len(data["x"]) > 6000 and all(text.startswith(tuple("0123456789")) for text in data["text"])


def test_a_map_of_many_draws_some_of_both_sorts(harmless: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for all, half of what is drawn at least are chosen ones, and the page says so."""
    monkeypatch.setattr("stages.report.landscape.DRAWN", 10)
    reader = read(harmless.write())
    data = next(orjson.loads(script) for script in reader.scripts if script.startswith("{"))
    assert Counter(data["fate"]) == {0: 5, 1: 5}
    assert "Drawn are 10 of 28" in reader.text


def test_the_command_prints_where_the_page_is(harmless: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By default the run's folder; `--to` names another file, in folders that need not be there."""
    monkeypatch.setenv("PIPELINE_RUNS", str(harmless.run.path.parent))
    done = CliRunner().invoke(app, ["report", str(harmless.path), "-q"])
    assert done.exit_code == 0 and done.stdout.strip() == str(harmless.run.path / "report.html")
    target = tmp_path / "new/page.html"
    done = CliRunner().invoke(app, ["report", str(harmless.path), "--to", str(target), "--set", "about=hello", "-q"])
    assert done.exit_code == 0 and "--set about=hello" in read(target).text
    done = CliRunner().invoke(app, ["report", str(harmless.path), "--to", str(tmp_path)])
    assert isinstance(done.exception, UsageError)


def test_a_judge_stands_beside_peoples_marks(harmless: Made) -> None:
    """Marks that `review --read` wrote: agreement with an interval, and how many rows were marked; nobody is asked."""
    assert "Not compared with people" in read(harmless.write()).text
    marks = [{"id": f"r{n:05d}", "score": 1 if n % 4 == 3 else 3 + n % 5} for n in range(40)]
    folder = harmless.run.path / "review"
    folder.mkdir()
    lines = b"".join(orjson.dumps(mark, option=orjson.OPT_APPEND_NEWLINE) for mark in marks)
    (folder / "0001-00000001-40-gold.jsonl").write_bytes(lines)
    text = " ".join(read(harmless.write()).text.split())
    assert "Beside 40 rows that people marked" in text
    assert re.search(r"spearman 1\.00 1\.00 to 1\.00", text)
    (folder / "broken-gold.jsonl").write_text('{"id": "r00001", "score": "much"}\n', encoding="utf-8")
    assert "'much' is no number" in read(harmless.write()).text


def test_no_password_or_folder_of_this_machine_is_told(harmless: Made) -> None:
    """An address's user and password, and the folders that files lie in, stay here."""
    plan = yaml.safe_load(harmless.path.read_text(encoding="utf-8"))
    plan["filter"]["rules"][1]["engine"] = {
        "kind": "openai", "model": "m", "base_url": "https://me:secret@example.org/v1"
    }  # fmt: skip
    harmless.path.write_text(yaml.safe_dump(plan), encoding="utf-8")
    text = harmless.write().read_text(encoding="utf-8")
    assert "secret" not in text and "example.org" in text
    shown = text.partition('id="reproduce"')[0]
    assert str(harmless.path.parent) not in shown


METRICS: list[Mapping[str, Any]] = [
    {"name": "rouge", "label": "ROUGE-L", "style": "share", "better": "higher",
     "difference": {"untrained": {"value": 0.2, "low": 0.1, "high": 0.3, "n": 9}, "teacher": None},
     "gap": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}},
]  # fmt: skip


def test_an_evaluation_shows_whatever_it_holds() -> None:
    """Numbers, intervals kept inside or apart, labels, gaps, and figures that nobody knew of."""
    models: list[Mapping[str, Any]] = [
        {"model": "teacher", "rouge": 0.61, "intervals": {"rouge": [0.5, 0.7]}, "peak_memory": 2**30},
        {"model": "trained", "rouge": 0.4, "new": {"value": 3, "low": 1.0, "high": 5.5}, "deep": {"a": {"b": 1}}},
    ]
    table = evaluation.side_by_side(models, METRICS)
    assert table.head == ["", "teacher", "trained", "gap recovered"]
    assert table.rows == [
        ["ROUGE-L", ("61%", "50% to 70%"), ("40%", ""), ("50%", "40% to 60%")],
        ["peak memory", ("1,024 MiB", ""), "", ""],
        ["new", "", ("3", "1 to 5.5"), ""],
        ["deep a b", "", "1", ""],
    ]
    beside = evaluation.differences(METRICS)
    assert beside is not None and beside.rows == [["ROUGE-L", ("+20.0 points", "+10.0 to +30.0"), ""]]
    assert evaluation.differences([]) is None


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["value", "low", "high", "model", "intervals", "a"]), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_no_figure_of_an_evaluation_breaks_the_page(value: Any) -> None:
    """Whatever JSON stands there."""
    evaluation._table(value, "x")
    evaluation._text(value, "x")
    evaluation.side_by_side([{"model": "m", "x": value}], [])


@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=50), st.floats(-2e6, 2e6))
def test_a_threshold_is_drawn_on_its_side_of_every_bar(values: list[float], bound: float) -> None:
    """Bars lie within the drawing, and the mark parts bins whose values it parts."""
    edges, counts = histogram(sorted(values))
    drawn = chart.histogram(edges, counts, bound, "min")
    assert all(bar.x >= 0 and bar.x + bar.width <= chart.WIDTH and bar.y >= 0 for bar in drawn.bars)
    assert sum(bar.height > 0 for bar in drawn.bars) == sum(count > 0 for count in counts)
    for bar, low, high in zip(drawn.bars, edges[:-1], edges[1:], strict=True):
        if low < high:
            assert (high > bound or bar.x + bar.width <= drawn.mark + 1.5) and (
                low < bound or bar.x >= drawn.mark - 1.5
            )


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    """At most six, ascending, between the ends."""
    found = chart.ticks(low, low + width)
    slack = 1e-6 * max(abs(low), width)
    assert len(found) <= 6 and found == sorted(found)
    assert all(low - slack <= tick <= low + width + slack for tick in found)


def test_curves_over_many_decades_stand_on_a_logarithmic_axis() -> None:
    """A perplexity that falls from thousands is readable at its end; a line of many points is thinned."""
    drawn = chart.plot({"a": [(n, 10_000 / n**2) for n in range(1, 1001)]})
    assert drawn.log and len(drawn.lines[0].path.split("L")) <= chart.POINTS + 1
    assert not chart.plot({"a": [(1, 2.0), (2, 1.0)], "b": [(1, 3.0), (2, 2.0)]}).log
    flat = chart.plot({"a": [(1, 2.0), (2, 2.0)]})
    assert len({y for _, y, _ in flat.lines[0].dots}) == 1


def test_figures_are_short() -> None:
    """Four digits that matter, and no traceback for what is no number."""
    shown = [figure(v) for v in (0.123456, 12690.4, 7.0, None, True, float("inf"), float("nan"), "x")]
    assert shown == ["0.1235", "12,690", "7", "", "yes", "without end", "undefined", "x"]
    assert figure(3 * 2**20, "disk") == "3 MiB" and figure(46_000_000, "parameters") == "46.0 M"
