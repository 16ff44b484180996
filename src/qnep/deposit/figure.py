"""Figures of a deposition run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qnep._optional import require

PS_PER_NS = 1000.0


def draw_deposition(rows: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw counts by region, the least sodium charge and the losses against time, one above the other."""
    pyplot = require("matplotlib.pyplot", extra="analysis")
    is_long = max(row["time_ps"] for row in rows) >= PS_PER_NS
    unit, ps = ("ns", PS_PER_NS) if is_long else ("ps", 1.0)
    time = [row["time_ps"] / ps for row in rows]
    figure, (counts, charge, losses) = pyplot.subplots(
        3, 1, figsize=(5, 7), sharex=True, layout="constrained"
    )

    def draw(axes: Any, key: str, label: str, color: str, marker: str) -> None:
        axes.plot(
            time, [row[key] for row in rows], marker=marker, markersize=4, color=color, label=label
        )

    draw(counts, "deposited", "deposited", "#bf616a", "o")
    draw(counts, "in_sei", "in the SEI", "#d08770", "s")
    draw(counts, "in_electrolyte", "in the electrolyte", "#5e81ac", "^")
    draw(charge, "min_na_charge", "least", "#444444", "o")
    draw(losses, "na_lost_percent", "sodium", "#b48ead", "o")
    draw(losses, "solvent_lost_percent", "solvent", "#a3be8c", "s")
    draw(losses, "salt_lost_percent", "salt", "#ebcb8b", "^")
    counts.set_ylabel("sodium atoms")
    counts.yaxis.get_major_locator().set_params(integer=True)
    charge.set_ylabel("least Na charge (e)")
    losses.set(xlabel=f"time ({unit})", ylabel="lost (%)")
    losses.locator_params(axis="x", nbins=6)
    for axes in (counts, losses):
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize="small"
        )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
