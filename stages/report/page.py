"""The page as one text: the sections' templates, a style and a script, and a policy under which nothing else runs.

Everything is escaped by Jinja's autoescape. Nothing that a model wrote is ever marked as safe; data for the script is
JSON in which no `<` is left. The policy names style and script by their digests and allows no request at all.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from filters import tongues
from pipeline.visible import visible
from stages.report import chart
from stages.report.base import Section

HERE = Path(__file__).resolve().parent
IN_SCRIPT = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
READ = 500  # characters of a text its language is told from


def render(head: dict[str, Any], sections: Sequence[Section]) -> str:
    """The whole page. `head` holds `title` and what else the shell tells."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template("page.html.j2").render(
        head, sections=sections, style=Markup(style), script=Markup(script), policy=policy
    )  # fmt: skip


def in_script(value: Any) -> Markup:
    """JSON that may stand inside a script element: it neither ends it nor opens a comment."""
    text = orjson.dumps(value).decode()
    return Markup(text.translate(IN_SCRIPT))


def language(text: str) -> str:
    """The language of a text as HTML names it, "" where it cannot be told: fonts and line breaks go by it."""
    shares = tongues.shares(text[:READ])
    return max(shares, key=lambda code: (shares[code], code)) if shares else ""


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"in_script": in_script, "language": language, "visible": visible}
    made.globals |= {"chart": chart}
    return made


def _digest(text: str) -> str:
    """How a policy names a style or script that stands in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
