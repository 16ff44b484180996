"""The thermodynamic output in a LAMMPS log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qnep.analysis.findings import Chart, Series

_QUANTITIES = {  # column: (name of the chart, title, quantity)
    "Temp": ("log_temperature", "Temperature", "temperature"),
    "PotEng": ("log_potential_energy", "Potential energy", "energy"),
    "TotEng": ("log_total_energy", "Total energy", "energy"),
    "Press": ("log_pressure", "Pressure", "pressure"),
    "Volume": ("log_volume", "Volume", "volume"),
}
_MOST_POINTS = 2000


@dataclass(frozen=True)
class UnitStyle:
    """What LAMMPS's command ``units`` means for a log.

    Parameters
    ----------
    picoseconds : of the unit of time; None where times are not shown.
    units : {quantity: its unit}.
    """

    picoseconds: float | None
    units: dict[str, str]


_UNIT_STYLES = {  # docs.lammps.org/units.html
    "metal": UnitStyle(
        1.0, {"temperature": "K", "energy": "eV", "pressure": "bar", "volume": "Å³"}
    ),
    "real": UnitStyle(
        1e-3, {"temperature": "K", "energy": "kcal/mol", "pressure": "atm", "volume": "Å³"}
    ),
}


def read_thermo(path: Path) -> dict[str, list[float]]:
    """Return the columns of all thermo tables of a log, one behind the other: those that every table has.

    Rows cut off in the middle are left out, as are, of rows with the same step (the end of one run and the start of the
    next), all but the first.
    """
    tables: list[tuple[list[str], list[list[float]]]] = []
    in_table = False
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if words and words[0] == "Step":
            tables.append((words, []))
            in_table = True
        elif in_table:
            header, rows = tables[-1]
            values = _numbers(words)
            if values is None:
                in_table = not line.startswith("Loop time")  # warnings may stand between rows
            elif len(values) == len(header):
                rows.append(values)
    tables = [(header, rows) for header, rows in tables if rows]
    if not tables:
        return {}
    names = [name for name in tables[0][0] if all(name in header for header, _ in tables)]
    columns: dict[str, list[float]] = {name: [] for name in names}
    for header, rows in tables:
        for row in rows:
            values_of = dict(zip(header, row))
            if columns["Step"] and columns["Step"][-1] == values_of["Step"]:
                continue
            for name in names:
                columns[name].append(values_of[name])
    return columns


def _numbers(words: list[str]) -> list[float] | None:
    try:
        return [float(word) for word in words] or None
    except ValueError:
        return None


def unit_style_of(log: str) -> UnitStyle:
    """Return the units that the text of a log tells; metal, which qnep needs, where it tells none."""
    found = re.search(r"^\s*(?:units|Unit style *:)\s+(\w+)", log, re.M)
    name = found.group(1) if found else "metal"
    return _UNIT_STYLES.get(name) or UnitStyle(None, {})


def timestep_of(log: str) -> float | None:
    """Return the time step, in the unit of time of the run, where the text of a log tells one for all of the run."""
    found = re.findall(r"^\s*(?:timestep|Time step *:)\s+([0-9.eE+-]+)\s*(?:#.*)?$", log, re.M)
    steps = {float(step) for step in found}
    return steps.pop() if len(steps) == 1 else None


def join_legs(logs: Sequence[Path]) -> tuple[list[Path], dict[str, list[float]]]:
    """Return the columns of a run over its logs, oldest first, and the logs that they are from.

    A resumed run goes back to its last restart file: of steps that two legs have, those of the later one count. Columns
    are those that every leg has.
    """
    used: list[Path] = []
    columns: dict[str, list[float]] = {}
    for log in logs:
        leg = read_thermo(log)
        if not leg:  # it failed before its first step
            continue
        n_before = len(columns.get("Step", ()))
        while n_before and columns["Step"][n_before - 1] >= leg["Step"][0]:
            n_before -= 1
        if n_before == 0:
            used, columns = [], {name: [] for name in leg}
        used.append(log)
        columns = {
            name: values[:n_before] + leg[name] for name, values in columns.items() if name in leg
        }
    return used, columns


def thermo_charts(*logs: Path) -> list[Chart]:
    """Return charts of temperature, energies, pressure and volume against time, of the legs of one run, oldest first.

    Time is in ps for units metal and real with one time step, else steps are shown; values are in the units of the log,
    whose names stay blank for other units.
    """
    used, columns = join_legs(logs)
    if not columns:
        return []
    log = "\n".join(path.read_text(errors="replace") for path in used)
    caption = f"From {', '.join(path.name for path in used)}."
    style, timestep = unit_style_of(log), timestep_of(log)
    x, label = columns["Step"], "step"
    if timestep is not None and style.picoseconds is not None:
        interval = timestep * style.picoseconds
        x, label = [round(step * interval, 6) for step in columns["Step"]], "time / ps"
    every = max(1, len(x) // _MOST_POINTS)
    return [
        Chart(
            name, "History", title, caption, label, style.units.get(quantity, ""),
            [Series(title.lower(), x[::every], columns[column][::every])],
        )
        for column, (name, title, quantity) in _QUANTITIES.items()
        if column in columns
    ]  # fmt: skip
