"""Plan files: every mistake is named with its line and, where there is one, the nearest valid name."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import Loader, override_value
from pipeline.errors import UsageError
from stages.plan import Plan, load

HEAD = "name: tiny\n"


def refused(folder: Path, text: str | bytes, *overrides: str) -> str:
    """The message a plan is refused with, the folder left out."""
    path = folder / "plan.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UsageError) as caught:
        load(path, overrides)
    return str(caught.value).replace(f"{folder}/", "")


def accepted(folder: Path, text: str, *overrides: str) -> Plan:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, overrides)


def test_a_misspelt_setting(tmp_path: Path) -> None:
    """An unknown key is named with its line and the nearest setting of the section it stands in."""
    assert refused(tmp_path, "name: a\nabuot: x\n") == "plan.yaml:2 abuot: unknown setting; did you mean about?"
    text = HEAD + "filter:\n  rules:\n    - kind: length\n      mni_chars: 3\n"
    assert refused(tmp_path, text) == ("plan.yaml:5 filter.rules.0.mni_chars: unknown setting; did you mean min_chars?")


def test_a_misspelt_setting_deep_inside(tmp_path: Path) -> None:
    """Sections inside components know their own settings."""
    text = HEAD + (
        "generate:\n  source: {kind: grid, axes: {prompt: [a]}}\n  task: {kind: respond}\n"
        "  sampling:\n    temprature: 1\n"
    )
    assert refused(tmp_path, text) == (
        "plan.yaml:6 generate.sampling.temprature: unknown setting; did you mean temperature?"
    )


def test_a_setting_far_from_any_name(tmp_path: Path) -> None:
    """Where nothing is near, the valid names are listed."""
    message = refused(tmp_path, HEAD + "curate: {keep: 3, zzzzz: 1}\n")
    valid = "embed, dedup, select, keep, score, order, order_by, replay"
    assert message == f"plan.yaml:2 curate.zzzzz: unknown setting; valid here: {valid}"


def test_an_unknown_kind(tmp_path: Path) -> None:
    """A misspelt kind names the nearest, one that is not there is asked for."""
    text = HEAD + "filter:\n  rules:\n    - {kind: lenght}\n    - {min_chars: 1}\n"
    lines = refused(tmp_path, text).splitlines()
    assert lines[0] == "2 problems in plan.yaml"
    assert lines[1] == "  plan.yaml:4 filter.rules.0: unknown kind 'lenght'; did you mean length?"
    assert re.fullmatch(r"  plan\.yaml:5 filter\.rules\.1: needs a `kind`.*", lines[2])


def test_several_problems_at_once(tmp_path: Path) -> None:
    """Every problem is listed in one go, each with its own line."""
    text = "name: a\nseed: x\ncurate: {}\nfilter:\n  rules: []\nnmae: b\n"
    message = refused(tmp_path, text)
    assert message.startswith("4 problems in plan.yaml\n")
    places = re.findall(r"plan\.yaml:(\d+) ([\w.]+):", message)
    assert sorted(places) == [("2", "seed"), ("3", "curate.keep"), ("5", "filter.rules"), ("6", "nmae")]
    assert "curate.keep: is required" in message


def test_a_missing_setting_is_placed_at_its_section(tmp_path: Path) -> None:
    """What is not there has no line of its own; the section's line stands for it."""
    assert refused(tmp_path, "about: x\n") == "plan.yaml:1 name: is required"


def test_a_wrong_value_is_shown(tmp_path: Path) -> None:
    """The message holds the value that was given, cut where it is long."""
    assert refused(tmp_path, HEAD + "seed: -1\n").endswith("(it is -1)")
    message = refused(tmp_path, HEAD + f"seed: {'y' * 300}\n")
    assert len(message) < 200
    assert "..." in message


def test_a_rule_between_settings_is_placed(tmp_path: Path) -> None:
    """What a component itself refuses comes with the component's place."""
    text = HEAD + "filter:\n  rules:\n    - {kind: exact}\n    - {kind: length, min_chars: 9, max_chars: 3}\n"
    assert refused(tmp_path, text) == "plan.yaml:5 filter.rules.1: max_chars is 3, below min_chars 9"


def test_a_key_given_twice(tmp_path: Path) -> None:
    """YAML would silently take the last; here both lines count as a mistake."""
    assert refused(tmp_path, "name: a\nseed: 1\nname: b\n") == "plan.yaml:3 name: given twice"
    text = HEAD + "curate:\n  keep: 1\n  keep: 2\n"
    assert refused(tmp_path, text) == "plan.yaml:4 curate.keep: given twice"


def test_two_rules_of_one_name(tmp_path: Path) -> None:
    """Two rules of a kind need names, else their checks overwrite each other."""
    text = HEAD + "filter:\n  rules:\n    - {kind: length}\n    - {kind: length, max_chars: 9}\n"
    assert "two rules are called 'length': give one a `name`" in refused(tmp_path, text)
    named = text.replace("max_chars: 9", "name: short")
    assert accepted(tmp_path, named).filter is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [a", "plan.yaml is not YAML: "),
        ("name: a\n\tseed: 1", "plan.yaml is not YAML: "),
        ("name: a\nabout: 2024-13-45", "plan.yaml is not YAML: month must be in 1..12"),
        ("", "plan.yaml holds no settings"),
        ("- name", "plan.yaml holds no settings"),
        ("tiny", "plan.yaml holds no settings"),
        (b"\xff\xfe\x00", "cannot read the plan plan.yaml: "),
    ],
)
def test_what_is_no_plan(tmp_path: Path, text: str | bytes, says: str) -> None:
    """A file that is no YAML mapping is refused in one line."""
    message = refused(tmp_path, text)
    assert message.startswith(says)
    assert "\n" not in message


def test_yaml_cannot_build_objects(tmp_path: Path) -> None:
    """Tags that would run code are refused."""
    assert "is not YAML" in refused(tmp_path, "name: !!python/object/apply:os.getcwd []\n")


def test_a_missing_plan_says_how_to_begin(tmp_path: Path) -> None:
    """No file: the message names it and the hint names `pipeline init`."""
    with pytest.raises(UsageError, match=r"cannot read the plan .*none\.yaml: No such file") as caught:
        load(tmp_path / "none.yaml")
    assert "pipeline init NAME" in caught.value.hint
    with pytest.raises(UsageError, match="Is a directory"):
        load(tmp_path)


def test_files_named_in_a_plan(tmp_path: Path) -> None:
    """A file or prompt that is not there is refused with the path that was looked for, or the nearest prompt."""
    text = HEAD + (
        "generate:\n  source:\n    kind: jsonl\n    path: seeds.jsonl\n  task: {kind: template, prompt: story/enn}\n"
    )
    message = refused(tmp_path, text)
    assert "plan.yaml:5 generate.source.path: no such file: seeds.jsonl" in message
    assert "plan.yaml:6 generate.task.prompt: no prompt story/enn" in message
    assert "did you mean story/en?" in message


def test_a_file_is_looked_for_beside_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder the command runs in does not matter."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "seeds.jsonl").write_text('{"prompt": "a"}\n')
    text = HEAD + "generate:\n  source: {kind: jsonl, path: seeds.jsonl}\n  task: {kind: respond}\n"
    assert accepted(tmp_path, text).generate is not None


@pytest.mark.parametrize("name", ["../a", "a/b", "", "a..b", ".hidden", "a b", "/abs"])
def test_a_name_cannot_leave_the_runs_folder(tmp_path: Path, name: str) -> None:
    """The plan's name is a folder's name and nothing more."""
    assert "plan.yaml:1 name: " in refused(tmp_path, f'name: "{name}"\n')


def test_a_name_may_be_korean(tmp_path: Path) -> None:
    """Letters of any script name a run."""
    assert accepted(tmp_path, "name: 동화-1.5b\n").name == "동화-1.5b"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed", "write it as place=value"),
        ("=1", "write it as place=value"),
        ("seed=[1", "the value is not YAML"),
        ("about=2024-13-45", "the value is not YAML"),
        ("filter.rules.4.kind=exact", "filter.rules.4 is not one of 0 to 0"),
        ("filter.rules.x=1", "filter.rules.x is not one of 0 to 0"),
        ("filter.rules.\u00b2=1", "is not one of 0 to 0"),
        ("filter.rules.0.kind.x=1", "filter.rules.0.kind is a value, not a section"),
    ],
)
def test_an_override_that_cannot_be_set(tmp_path: Path, override: str, says: str) -> None:
    """A --set that has no place or no value is refused and repeated in the message."""
    message = refused(tmp_path, HEAD + "filter: {rules: [{kind: exact}]}\n", override)
    assert message.startswith(f"--set {override}: ")
    assert says in message


def test_an_override_is_checked_like_the_plan(tmp_path: Path) -> None:
    """A misspelt place of --set is an unknown setting."""
    assert "nmae: unknown setting; did you mean name?" in refused(tmp_path, HEAD, "nmae=x")
    assert "seed: input should be a valid integer" in refused(tmp_path, HEAD, "seed=x")


def test_overrides_reach_everywhere(tmp_path: Path) -> None:
    """Lists by number, sections that are not there yet, values as YAML; the last of two wins."""
    plan = accepted(
        tmp_path,
        HEAD + "filter: {rules: [{kind: length}, {kind: exact}]}\n",
        "filter.rules.0.min_chars=300", "filter.rules.1={kind: words, banned: [AI, 로봇]}",
        "curate.keep=1", "curate.keep=2", "about=a=b",
    )  # fmt: skip
    assert plan.filter is not None and plan.curate is not None
    assert plan.filter.rules[0].model_dump()["min_chars"] == 300
    assert plan.filter.rules[1].model_dump()["banned"] == ("AI", "로봇")
    assert (plan.curate.keep, plan.about) == (2, "a=b")


def test_an_override_leaves_its_neighbours(tmp_path: Path) -> None:
    """Setting one value changes that value only."""
    data = {"a": {"b": 1, "c": [1, {"d": 2}]}}
    override_value(data, "a.c.1.d=3")
    assert data == {"a": {"b": 1, "c": [1, {"d": 3}]}}


def test_an_alias_of_itself_is_refused(tmp_path: Path) -> None:
    """A plan that contains itself is no plan."""
    assert "plan.yaml" in refused(tmp_path, "name: &x [*x]\n")


@pytest.mark.parametrize("value", ['"\\ud800"', "99999999999999999999999", "!!binary aGk=", "!!set {a}", "{1.5: 2}"])
def test_a_value_that_cannot_be_written_is_refused(tmp_path: Path, value: str) -> None:
    """Seeds are written as JSON, so what JSON cannot hold is refused with its place."""
    axes = f"{{kind: grid, axes: {{prompt: [{value}]}}}}"
    assert "generate.source" in refused(tmp_path, HEAD + f"generate:\n  source: {axes}\n  task: {{kind: respond}}\n")


def test_on_is_a_word(tmp_path: Path) -> None:
    """Keys and values that YAML 1.1 takes for truths are words here; `true` and `false` are truths."""
    found = yaml.load("{on: both, off: no, yes: true, n: FALSE}", Loader)
    assert found == {"on": "both", "off": "no", "yes": True, "n": False}


def test_other_libraries_cannot_change_how_plans_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some add constructors to SafeLoader for the whole process; a plan means the same after they are imported."""
    changed = dict(yaml.SafeLoader.yaml_constructors) | {"tag:yaml.org,2002:timestamp": lambda *_: "a date"}
    for tag, constructor in changed.items():
        monkeypatch.setitem(yaml.SafeLoader.yaml_constructors, tag, constructor)
    with pytest.raises(ValueError, match="month must be"):
        yaml.load("about: 2024-13-45", Loader)


def test_whole_numbers_are_keys(tmp_path: Path) -> None:
    """A setting by length of n-gram is written as people write it; its place in a message, too."""
    rule = "filter:\n  rules:\n    - kind: repetition\n      max_top: {2: 0.3, 3: %s}\n"
    (tmp_path / "plan.yaml").write_text(HEAD + rule % "0.2")
    plan = load(tmp_path / "plan.yaml", ("filter.rules.0.max_top.2=0.4",))
    assert plan.filter is not None and plan.filter.rules[0].model_dump()["max_top"] == {2: 0.4, 3: 0.2}
    assert "filter.rules.0.max_top.3" in refused(tmp_path, HEAD + rule % "7")


def test_a_setting_goes_by_the_name_that_plans_use(tmp_path: Path) -> None:
    """`lambda` is no name in Python; messages say it all the same."""
    message = refused(tmp_path, HEAD + "curate: {keep: 1, select: {kind: dpp, lamda: 0.5}}\n")
    assert "did you mean lambda?" in message
