"""Runs of qnep's own commands: what their files say beside a trajectory that carries no times."""

from __future__ import annotations

import json
from pathlib import Path

# trajectory: the file of settings in its folder, and the keys that lead to the time step in it
_TIMESTEPS = {
    "trajectory.lammpstrj": ("md.json", ("timestep",)),  # qnep md
    "trajectory.dump": ("state.json", ("protocol", "timestep_fs")),  # qnep deposit
}


def timestep_of_run(trajectory: Path) -> float | None:
    """Return the time step (fs) of the run of `qnep md` or `qnep deposit` that wrote a LAMMPS dump; else None."""
    name, keys = _TIMESTEPS.get(trajectory.name, ("", ()))
    settings = trajectory.with_name(name) if name else None
    if settings is None or not settings.is_file():
        return None
    try:
        value = json.loads(settings.read_text())
        for key in keys:
            value = value[key]
        return float(value)
    except (KeyError, TypeError, ValueError):
        return None  # another program's file of the same name
