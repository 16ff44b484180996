"""Charts and flows as PNG and PDF files, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from qnep._optional import require
from qnep.analysis.findings import Chart, Findings, Flow

# Okabe and Ito's colours, told apart by all common kinds of colour vision (jfly.uni-koeln.de/color)
COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B6508",
    "#7F7F7F", "#6A3D9A", "#B15928", "#1B9E77",
)  # fmt: skip
FORMATS = ("png", "pdf")


def draw_chart(chart: Chart) -> Any:
    """Return a matplotlib figure of a chart."""
    figure, axes = _figure()
    draw = {"line": _draw_lines, "scatter": _draw_points, "bar": _draw_bars}[chart.kind]
    draw(axes, chart)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.set_title(chart.title, fontsize=10, loc="left")
    if len(chart.series) > 1:
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _figure() -> tuple[Any, Any]:
    require("matplotlib", extra="analysis")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_lines(axes: Any, chart: Chart) -> None:
    for k, one in enumerate(chart.series):
        marker = "o" if len(one.x) == 1 else None
        axes.plot(
            one.x,
            one.y,
            label=one.name,
            color=COLORS[k % len(COLORS)],
            lw=1.4,
            marker=marker,
            ls="-" if k < len(COLORS) else "--",
        )


def _draw_points(axes: Any, chart: Chart) -> None:
    for k, one in enumerate(chart.series):
        axes.scatter(
            one.x, one.y, label=one.name, color=COLORS[k % len(COLORS)], s=9, alpha=0.6, lw=0
        )


def _draw_bars(axes: Any, chart: Chart) -> None:
    names = list(dict.fromkeys(x for one in chart.series for x in one.x))
    place = {name: k for k, name in enumerate(names)}
    width = 0.8 / len(chart.series)
    for k, one in enumerate(chart.series):
        at = np.array([place[x] for x in one.x]) + (k - 0.5 * (len(chart.series) - 1)) * width
        axes.bar(at, np.nan_to_num(one.y), width, label=one.name, color=COLORS[k % len(COLORS)])
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)


def draw_flow(flow: Flow) -> Any:
    """Return a matplotlib figure of a flow: species on two sides, bands as wide as events are many."""
    figure, axes = _figure()
    total = sum(n for _, _, n in flow.links) or 1.0
    gap = 0.03
    left = _stack(flow, 0, total, gap)
    right = _stack(flow, 1, total, gap)
    for k, (source, target, n) in enumerate(sorted(flow.links, key=lambda link: -link[2])):
        _draw_band(axes, left[source], right[target], n / total, COLORS[k % len(COLORS)])
    for side, places, align in ((0.0, left, "right"), (1.0, right, "left")):
        for node, (bottom, height, _) in places.items():
            axes.plot([side, side], [bottom, bottom + height], color="black", lw=3)
            shift = -0.02 if align == "right" else 0.02
            axes.text(
                side + shift,
                bottom + height / 2,
                flow.nodes[node],
                ha=align,
                va="center",
                fontsize=8,
            )
    axes.set_xlim(-0.5, 1.5)
    axes.axis("off")
    axes.set_title(flow.title, fontsize=10, loc="left")
    return figure


def _stack(flow: Flow, side: int, total: float, gap: float) -> dict[int, list[float]]:
    """Return {node: [bottom, height, height used so far]} of one side."""
    amounts: dict[int, float] = {}
    for source, target, events in flow.links:
        node = target if side else source
        amounts[node] = amounts.get(node, 0.0) + events
    places, bottom = {}, 0.0
    for node, amount in sorted(amounts.items(), key=lambda item: item[1]):
        places[node] = [bottom, amount / total, 0.0]
        bottom += amount / total + gap
    return places


def _draw_band(
    axes: Any, source: list[float], target: list[float], width: float, color: str
) -> None:
    t = np.linspace(0.0, 1.0, 40)
    smooth = t * t * (3 - 2 * t)
    low = (source[0] + source[2]) * (1 - smooth) + (target[0] + target[2]) * smooth
    axes.fill_between(t, low, low + width, color=color, alpha=0.5, lw=0)
    source[2] += width
    target[2] += width


def check_formats(formats: Iterable[str]) -> None:
    """Raise ValueError for a format that is not png, pdf or svg."""
    unknown = sorted(set(formats) - {"png", "pdf", "svg"})
    if unknown:
        raise ValueError(f"pictures can be png, pdf or svg, got {', '.join(unknown)}")


def write_figures(findings: Findings, folder: Path, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write every chart and flow as a picture, and return the files.

    Raises
    ------
    ValueError : see `check_formats`.
    """
    check_formats(formats)
    folder.mkdir(parents=True, exist_ok=True)
    figures = [(one.name, draw_chart(one)) for one in findings.charts]
    figures += [(one.name, draw_flow(one)) for one in findings.flows if one.links]
    written = []
    for name, figure in figures:
        for extension in formats:
            written.append(folder / f"{name}.{extension}")
            figure.savefig(written[-1], dpi=160)
    return written
