"""The page: styles, scripts and data in one file that needs no network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

import qnep
from qnep._optional import require
from qnep.analysis.figures import COLORS
from qnep.analysis.findings import Findings

SECTIONS = (
    "History", "Species", "Reactions", "Bond cleavage", "Gases", "Solvation", "Layers", "Crystals",
    "Deposition",
)  # fmt: skip


@dataclass(frozen=True)
class RunFacts:
    """What is told about a run before its results.

    Parameters
    ----------
    title : of the page.
    facts : {name: value}: what was run.
    model : {name: value}: the model's card.
    texts : {title: text}: input files and model card, shown as they are.
    """

    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def build_page(run: RunFacts, findings: Findings) -> str:
    """Return the HTML of the report.

    The page holds plotly's script and all data, about 5 MB, and asks for nothing from elsewhere.
    """
    plotly = require("plotly.offline", extra="report").get_plotlyjs()
    resources = files("qnep.report")
    scripts = [
        plotly,
        *((resources / name).read_text("utf-8") for name in ("viewer.js", "page.js")),
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(run.title)}</title>",
            f"<style>\n{(resources / 'page.css').read_text('utf-8')}</style>\n</head>\n<body>",
            f"<header><h1>{escape(run.title)}</h1>",
            f"<p>qnep {escape(qnep.__version__)}</p></header>",
            '<nav id="contents" aria-label="contents"></nav>',
            _about(run, findings),
            '<main id="main"></main>',
            f'<script id="data" type="application/json">{_data(findings)}</script>',
            *(f"<script>{_inline(text)}</script>" for text in scripts),
            "</body>\n</html>\n",
        ]
    )


def _inline(script: str) -> str:
    """Keep a script from ending its element."""
    return script.replace("</script", "<\\/script")


def _data(findings: Findings) -> str:
    """Return the data of charts, tables and snapshots as JSON that is safe inside a script element."""
    data = asdict(findings)
    for name in ("origin", "files"):  # of use only beside the files that they name
        del data[name]
    for name in ("charts", "flows"):
        for plain, item in zip(data[name], getattr(findings, name)):
            header, rows = item.rows()
            plain["csv"] = {"header": header, "rows": rows}
    names = [item["section"] for k in ("charts", "flows", "drawings", "tables") for item in data[k]]
    others = [name for name in dict.fromkeys(names) if name not in SECTIONS]
    data["order"] = [*SECTIONS, *others]
    data["colors"] = list(COLORS)
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """Replace nan and infinities, which JSON does not know, by null, and numpy's numbers by plain ones."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _about(run: RunFacts, findings: Findings) -> str:
    """Return the cards before the results: notes, what was run, the model, input files."""
    cards = []
    if findings.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in findings.notes)
        cards.append(f'<div class="card notes"><h3>To know</h3><ul>{items}</ul></div>')
    cards.append(_card("What was run", {**run.facts, **findings.about}))
    cards.append(_card("Model", run.model))
    cards += [
        f'<div class="card"><details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details></div>'
        for title, text in run.texts.items()
    ]
    return f'<div id="about">{"".join(cards)}</div>'


def _card(title: str, facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    return f'<div class="card"><h3>{escape(title)}</h3><dl>{rows}</dl></div>'
