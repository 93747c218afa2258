"""The report on a narrow screen: its tables stand under one another, and nothing has to be pushed sideways."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.run import Run
from stages import report
from stages.plan import load
from tests.stages import reported
from tests.stages.test_report import EVIL, read

ENDS = [10738.7, 15536.01]
MODELS: list[dict[str, Any]] = [
    {"model": name, "perplexity": 12690.45, "judge_score": 2.75, "intervals": {"perplexity": ENDS}}
    for name in ("teacher", "untrained", "trained")
]
METRICS = [
    {"name": "perplexity", "label": "perplexity", "style": "perplexity", "gap": {"value": 0.8, "low": 0.7, "high": 0.9},
     "difference": {"untrained": {"value": 0.526, "low": 0.31, "high": 0.73}, "teacher": {"value": 4.8}}},
]  # fmt: skip
DUEL = {"judge": "judge", "first": "trained", "second": "untrained", "metric": "judge_vs_untrained", "won": 18,
        "tied": 0, "lost": 1, "flipped": 0, "no_verdict": 0}  # fmt: skip
PROBE = """
<iframe id="seen" width="%d" height="900" src="page.html"></iframe>
<script>
seen.onload = () => {
  const page = seen.contentDocument, shown = (table) => getComputedStyle(table).display
  const wide = [...page.querySelectorAll(".wide")].filter((one) => one.scrollWidth > one.clientWidth + 1)
  document.title = JSON.stringify({
    over: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    sideways: wide.map((one) => one.closest("section").id),
    models: shown(page.querySelector("table.models")),
    label: seen.contentWindow.getComputedStyle(page.querySelector(".models td"), "::before").content,
  })
}
</script>
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A report with an evaluation whose tables are wide; the policy, which lets nobody look at it, is off."""
    path, run = reported.plan(tmp_path), Run(tmp_path / "runs/tiny")
    texts = [f"The {n}th tale of a fox, 여우 이야기 {n}." for n in range(40)]
    reported.everything(tmp_path, texts, run, models=MODELS, metrics=METRICS, duels=[DUEL, DUEL])
    file = report.write(load(path), run, path, to=tmp_path / "page.html")
    whole = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", whole), encoding="utf-8")
    return file


def seen(page: Path, width: int) -> dict[str, Any]:
    """What a browser makes of a page that is so many pixels wide."""
    frame = page.with_name("frame.html")
    frame.write_text(PROBE % width, encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
             "--virtual-time-budget=3000", "--dump-dom", f"--user-data-dir={page.parent / 'browser'}"]  # fmt: skip
    command = ["chromium", *flags, frame.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (title,) = re.findall("<title>(.*)</title>", done.stdout)
    found: dict[str, Any] = orjson.loads(title)
    return found


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_nothing_is_pushed_sideways_on_a_phone(page: Path) -> None:
    """At 360 px every table of many columns is blocks, each line under its column's name; on a desk it is a table."""
    phone = seen(page, 360)
    assert (phone["over"], phone["sideways"], phone["models"], phone["label"]) == (0, [], "block", '"teacher"')
    desk = seen(page, 1280)
    assert (desk["over"], desk["sideways"], desk["models"], desk["label"]) == (0, [], "table", "none")


def test_lines_of_a_block_carry_their_columns_names(page: Path) -> None:
    """Of tables of many columns every cell does; a name that is an attack stays one."""
    reader = read(page)
    names = [value for tag, name, value in reader.attributes if name == "data-name"]
    assert {"teacher", "trained", "gap recovered", "the untrained", "metric", "no verdict"} <= set(names)
    run = Run(page.parent / "runs/tiny")
    reported.seal(run, "evaluate", figures={"models": [m | {"model": f"{EVIL[5]} {EVIL[0]}"} for m in MODELS]})
    plan = page.parent / "plan.yaml"
    hostile = read(report.write(load(plan), run, plan, to=page))
    assert hostile.elements["script"] == 2 and not [1 for _, name, _ in hostile.attributes if name.startswith("on")]
