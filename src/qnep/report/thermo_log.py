"""The thermodynamic output in a LAMMPS log."""

from __future__ import annotations

import re
from pathlib import Path

from qnep.analysis.findings import Chart, Series

_QUANTITIES = {  # column: (name of the chart, title, unit in metal units)
    "Temp": ("log_temperature", "Temperature", "K"),
    "PotEng": ("log_potential_energy", "Potential energy", "eV"),
    "TotEng": ("log_total_energy", "Total energy", "eV"),
    "Press": ("log_pressure", "Pressure", "bar"),
    "Volume": ("log_volume", "Volume", "Å³"),
}
_MOST_POINTS = 2000


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


def timestep_of(path: Path) -> float | None:
    """Return the time step of the run in ps (metal units), where the log echoes it."""
    found = re.search(r"^\s*timestep\s+([0-9.eE+-]+)\s*$", path.read_text(errors="replace"), re.M)
    return float(found.group(1)) if found else None


def thermo_charts(path: Path) -> list[Chart]:
    """Return charts of temperature, energies, pressure and volume against time."""
    columns = read_thermo(path)
    if not columns:
        return []
    timestep = timestep_of(path)
    x, label = columns["Step"], "step"
    if timestep is not None:
        x, label = [round(step * timestep, 6) for step in columns["Step"]], "time / ps"
    every = max(1, len(x) // _MOST_POINTS)
    return [
        Chart(
            name, "History", title, f"From {path.name}.", label, unit,
            [Series(title.lower(), x[::every], columns[column][::every])],
        )
        for column, (name, title, unit) in _QUANTITIES.items()
        if column in columns
    ]  # fmt: skip
