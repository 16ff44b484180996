"""What a run decided and why, as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qnep.learn.finding import Finding
from qnep.learn.state import State, read_decisions

OVERHEAD = ("gates", "disk")
"""Times that neither calculators nor training account for."""


def explain(folder: Path) -> Iterator[str]:
    """Return the lines of the account of a run; steps at which nothing objected are counted, not listed.

    Raises
    ------
    StateError : there is no run in the folder.
    """
    n_accepted = 0
    for decision in read_decisions(folder):
        if decision["action"] == "accept":
            n_accepted += 1
            continue
        if n_accepted:
            yield f"  {n_accepted} looks without objection"
            n_accepted = 0
        yield from describe_decision(decision)
    if n_accepted:
        yield f"  {n_accepted} looks without objection"
    yield from summarise(State.load(folder))


def describe_decision(decision: dict[str, Any]) -> Iterator[str]:
    """Return a headline and a line for each finding; `!` marks those that object."""
    line = f"step {decision['step']}, generation {decision['generation']}: {decision['action']} - {decision['why']}"
    if "error" in decision:
        line += f"; true error {decision['error']:.3f} eV/Å"
    if decision.get("failed_at", decision["step"]) != decision["step"]:
        line += f"; found at step {decision['failed_at']}"
    yield line
    for values in decision["findings"]:
        yield f"    {Finding.from_dict(values)}"


def summarise(state: State) -> Iterator[str]:
    """Return how often what was done, and where the time went."""
    counts = ", ".join(f"{name} {count}" for name, count in sorted(state.counts.items()))
    yield f"in all: {counts}; {len(state.training)} labels in the training set"
    total = sum(state.seconds.values())
    if total > 0:
        times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in state.seconds.items())
        overhead = sum(state.seconds.get(name, 0.0) for name in OVERHEAD)
        yield f"time: {times}; overhead of the loop {100 * overhead / total:.1f} %"
    yield (
        "the run has reached its end"
        if state.is_done
        else "the run is not at its end: --resume goes on"
    )
